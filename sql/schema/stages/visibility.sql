-- Comparing who may see and who may write what.

create or replace function crossfade.rls_questions(pair text)
returns jsonb
language plpgsql volatile
security definer -- the caller acts as an ordinary user by then and may not read the pair
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
begin
  -- What a call without the rest of the check, or another cluster, has left behind.
  delete from crossfade_private.rights_checks c
  where c.transaction_id < pg_snapshot_xmin(pg_current_snapshot())
    or c.transaction_id > pg_current_xact_id();
  insert into crossfade_private.rights_checks (transaction_id)
  values (pg_current_xact_id()) on conflict on constraint rights_checks_pkey do nothing;
  return (
    select jsonb_build_object('pages', crossfade_private.row_pages_sql(v_pair))
      || jsonb_object_agg(r.name, jsonb_build_object(
        'visible', crossfade_private.visible_keys_sql(v_pair, r.name),
        'writable', crossfade_private.write_rights_sql(v_pair, r.name)))
    from unnest(array['anon', 'authenticated']) r(name));
end $$;

comment on function crossfade.rls_questions is
  'Texts of the queries of check_rls: {"pages": rows of both tables, for each role {"visible", "writable"}}. Until the transaction ends or record_rls_check is called, my_backend keeps nobody from V2. CF001.';

create or replace function crossfade.record_rls_check(pair text, users integer, differences integer)
returns void
language sql volatile
security definer -- written by check_rls only
set search_path = pg_catalog, pg_temp
set jit = off
as $$
  delete from crossfade_private.rights_checks c where c.transaction_id = pg_current_xact_id();
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
set jit = off
as $$
declare
  v_questions jsonb := crossfade.rls_questions(pair);
  v_role text := coalesce(current_setting('role', true), 'none');
  v_claims text := coalesce(current_setting('request.jwt.claims', true), '');
  v_user text;
  v_acting text;
  v_1 text;
  v_2 text;
  v_difference jsonb;
  v_found jsonb := '[]'::jsonb;
begin
  -- Invoker, because a SECURITY DEFINER function may not change its role: the policies are asked as
  -- the user they are written for. First what is visible, then what is writable, by the page.
  for v_1, v_2 in
    execute 'select null::text, null::text union all ' || format('select * from (%s) q',
      v_questions ->> 'pages')
  loop
    for v_user, v_acting in
      select u, 'authenticated' from jsonb_array_elements_text(user_ids) u
      union all select 'anon', 'anon'
    loop
      perform set_config('request.jwt.claims', json_build_object('sub', nullif(v_user, 'anon'),
        'role', v_acting)::text, true);
      perform set_config('role', v_acting, true);
      for v_difference in
        execute format('select to_jsonb(q) from (%s) q', v_questions -> v_acting
          ->> case when v_1 is null then 'visible' else 'writable' end)
        using v_1, v_2
      loop
        v_found := v_found || jsonb_build_array(
          jsonb_build_object('user_id', v_user) || v_difference);
      end loop;
      perform set_config('role', v_role, true);
      perform set_config('request.jwt.claims', v_claims, true);
    end loop;
    exit when jsonb_array_length(v_found) > 1000;
  end loop;
  perform crossfade.record_rls_check(
    pair, jsonb_array_length(user_ids), jsonb_array_length(v_found));
  return jsonb_build_object(
    'pair', pair, 'users', jsonb_array_length(user_ids), 'differences', v_found);
end $$;

comment on function crossfade.check_rls is
  'Ask the policies of both tables as each of these users (role authenticated) and as anon, which rows they see and which they may insert, update, make by an update ("update to") or delete: {"pair", "users", "differences": [{"user_id", "key", "command", "visible_in": 1|2, the table where it is allowed}]}, some hundred at most. A difference blocks stage live until a later check finds none. Reads both tables once a user. CF001; 42501 when the caller may not act as authenticated or read the tables.';
