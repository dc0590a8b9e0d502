-- Comparing who may see what.

create or replace function crossfade.visible_keys_sql(pair text)
returns text
language plpgsql stable
security definer -- the caller acts as an ordinary user by then and may not read the pair
set search_path = pg_catalog, pg_temp
as $$
begin
  return crossfade_private.render($sql$
    select coalesce(a.k, b.k) as key, case when b.k is null then 1 else 2 end as visible_in
    from (select {skey_json_s} as k from {source} cf_s) a
    full join (select {tkey_json_t} as k from {target} cf_t) b on a.k = b.k
    where a.k is null or b.k is null
    limit 100
  $sql$, crossfade_private.run_pieces(crossfade_private.get_pair(pair), 'v1_to_v2'));
end $$;

comment on function crossfade.visible_keys_sql is
  'Text of the query that lists keys of which the caller sees only one side. CF001.';

create or replace function crossfade.record_rls_check(pair text, users integer, differences integer)
returns void
language sql volatile
security definer -- written by check_rls only
set search_path = pg_catalog, pg_temp
as $$
  insert into crossfade.rls_checks as r (pair, users, differences)
  values (record_rls_check.pair, record_rls_check.users, record_rls_check.differences)
  on conflict on constraint rls_checks_pkey do update
  set at = clock_timestamp(), users = excluded.users, differences = excluded.differences;
$$;

comment on function crossfade.record_rls_check is 'Keep the outcome of check_rls.';

create or replace function crossfade.check_rls(pair text, user_ids jsonb)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_sql text := crossfade.visible_keys_sql(pair);
  v_role text := current_setting('role', true);
  v_claims text := coalesce(current_setting('request.jwt.claims', true), '');
  v_user text;
  v_key jsonb;
  v_visible_in integer;
  v_found jsonb := '[]'::jsonb;
begin
  -- Invoker, because a SECURITY DEFINER function may not change its role: the policies are asked as
  -- the user they are written for.
  for v_user in select u from jsonb_array_elements_text(user_ids) u loop
    perform set_config('request.jwt.claims',
      json_build_object('sub', v_user, 'role', 'authenticated')::text, true);
    perform set_config('role', 'authenticated', true);
    for v_key, v_visible_in in execute v_sql loop
      v_found := v_found || jsonb_build_array(jsonb_build_object(
        'user_id', v_user, 'key', v_key, 'visible_in', v_visible_in));
    end loop;
    perform set_config('role', coalesce(v_role, 'none'), true);
    perform set_config('request.jwt.claims', v_claims, true);
  end loop;
  perform crossfade.record_rls_check(
    pair, jsonb_array_length(user_ids), jsonb_array_length(v_found));
  return jsonb_build_object(
    'pair', pair, 'users', jsonb_array_length(user_ids), 'differences', v_found);
end $$;

comment on function crossfade.check_rls is
  'Ask the policies of both tables as each of these users (role authenticated): {"pair", "users", "differences": [{"user_id", "key", "visible_in": 1|2}]}, at most 100 a user. A difference blocks stage live until a later check finds none. Scans both tables once a user. CF001; 42501 when the caller may not act as authenticated.';
