-- Comparing who may see and who may write what.

create or replace function crossfade.visible_keys_sql(pair text, role_name text)
returns text
language plpgsql stable
security definer -- the caller acts as an ordinary user by then and may not read the pair
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_sides text[];
begin
  -- Who has no right to read sees nothing; asking would be an error.
  select array_agg(case when has_any_column_privilege(role_name, t.name::regclass, 'select')
    then format('select %s as k from %s cf_t',
      crossfade_private.key_to_json(v_pair.key_columns, t.name::regclass, t.key, 'cf_t'), t.name)
    else 'select null::jsonb as k where false' end order by t.side)
  into v_sides
  from (
    select 1 as side, v_pair.v1_table as name, v_pair.key_columns as key
    union all
    select 2, v_pair.v2_table, v_pair.v2_key_columns
  ) t;
  return format('select coalesce(a.k, b.k) as key, ''select'' as command,
      case when b.k is null then 1 else 2 end as visible_in
    from (%s) a full join (%s) b on a.k = b.k
    where a.k is null or b.k is null limit 100', v_sides[1], v_sides[2]);
end $$;

comment on function crossfade.visible_keys_sql is
  'Text of the query that lists keys of which the caller, acting as a role, sees only one side. CF001.';

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

create or replace function crossfade.ask_as(
  user_id text, query text, rows_1 text default null, rows_2 text default null
)
returns setof jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_role text := coalesce(current_setting('role', true), 'none');
  v_claims text := coalesce(current_setting('request.jwt.claims', true), '');
  v_acting text := case when user_id is null then 'anon' else 'authenticated' end;
begin
  -- Invoker, because a SECURITY DEFINER function may not change its role: the policies are asked as
  -- the user they are written for.
  perform set_config('request.jwt.claims',
    jsonb_strip_nulls(jsonb_build_object('sub', user_id, 'role', v_acting))::text, true);
  perform set_config('role', v_acting, true);
  return query execute format('select jsonb_build_object(''user_id'', coalesce($3, ''anon''),
    ''key'', q.key, ''command'', q.command, ''visible_in'', q.visible_in) from (%s) q', query)
  using rows_1, rows_2, user_id;
  perform set_config('role', v_role, true);
  perform set_config('request.jwt.claims', v_claims, true);
end $$;

comment on function crossfade.ask_as is
  'The rows (key, command, visible_in) of a query asked as a signed-in user, null for anon. 42501 when the caller may not act as that role.';

create or replace function crossfade.check_rls(pair text, user_ids jsonb)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_users text[] := array(select jsonb_array_elements_text(user_ids)) || null::text;
  v_user text;
  v_1 text;
  v_2 text;
  v_found jsonb := '[]'::jsonb;
  v_seen jsonb;
begin
  foreach v_user in array v_users loop
    v_found := v_found || coalesce((
      select jsonb_agg(d)
      from crossfade.ask_as(v_user, crossfade.visible_keys_sql(pair,
        case when v_user is null then 'anon' else 'authenticated' end)) d), '[]');
  end loop;
  for v_1, v_2 in execute crossfade.row_pages_sql(pair) loop
    foreach v_user in array v_users loop
      select jsonb_agg(d) into v_seen
      from crossfade.ask_as(v_user, crossfade.write_rights_sql(pair,
        case when v_user is null then 'anon' else 'authenticated' end), v_1, v_2) d;
      v_found := v_found || coalesce(v_seen, '[]');
    end loop;
    exit when jsonb_array_length(v_found) > 100 * cardinality(v_users);
  end loop;
  perform crossfade.record_rls_check(
    pair, jsonb_array_length(user_ids), jsonb_array_length(v_found));
  return jsonb_build_object(
    'pair', pair, 'users', jsonb_array_length(user_ids), 'differences', v_found);
end $$;

comment on function crossfade.check_rls is
  'Ask the policies of both tables as each of these users (role authenticated) and as anon, which rows they see and which they may insert, update, make by an update ("update to") or delete: {"pair", "users", "differences": [{"user_id", "key", "command", "visible_in": 1|2, the table where it is allowed}]}, some hundred at most. A difference blocks stage live until a later check finds none. Reads both tables once a user. CF001; 42501 when the caller may not act as authenticated or read the tables.';
