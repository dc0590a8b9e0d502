-- What goes on while a pair stands between dualwrite and rampdown: pausing the mirror, looking at a
-- few rows all the time, comparing who may see what.

-- A real pause for an overloaded database ---------------------------------------------------------

create or replace function crossfade.set_mirror(pair text, mode text, reason text)
returns jsonb
language plpgsql volatile
security definer -- pairs are changed by functions only
set search_path = ''
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_before text;
begin
  if mode is null or mode not in ('both', 'log_only') then
    perform crossfade_private.fail(400, 'CF012', format('Unknown mirror mode "%s"', mode),
      jsonb_build_object('mode', mode), 'Use both or log_only.');
  end if;
  perform crossfade_private.require_reason(reason,
    format('set the mirror of "%s" to %s', pair, mode));
  select p.* into v_pair from crossfade.pairs p where p.name = set_mirror.pair for no key update;
  if v_pair.stage not in ('dualwrite', 'shadow') then
    perform crossfade_private.fail(409, 'CF005',
      format('Cannot set the mirror of "%s" to %s: in stage %s users depend on it', pair, mode,
        v_pair.stage),
      jsonb_build_object('pair', pair, 'stage', v_pair.stage, 'blockers', jsonb_build_array(
        crossfade_private.blocker('stage', format('the stage is %s', v_pair.stage),
          'crossfade stage set PAIR shadow'))),
      'Go back to shadow first; that takes milliseconds.');
  end if;
  select m.mirror into v_before from crossfade_private.mirror_state m
    where m.pair = set_mirror.pair;
  if v_before <> mode then
    update crossfade_private.mirror_state m set mirror = set_mirror.mode
      where m.pair = set_mirror.pair;
    perform crossfade_private.bump_version();
    perform crossfade_private.audit('pair.mirror', pair, reason,
      jsonb_build_object('mirror', v_before), jsonb_build_object('mirror', mode));
  end if;
  return jsonb_build_object('pair', pair, 'before', v_before, 'after', mode,
    'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.set_mirror is
  'Pause the mirror of a pair (log_only: writers only note the keys of changed rows, as open failures) or resume it (both; then call repair until nothing remains). Only in dualwrite and shadow (CF005): later, users read what is mirrored. CF001, CF007, CF012.';

-- Continuous verification -------------------------------------------------------------------------

create table if not exists crossfade_private.verify_cursors (
  pair text primary key references crossfade.pairs on delete cascade on update cascade,
  cursor_key jsonb,
  rows_checked bigint not null default 0,
  passes bigint not null default 0,
  checked_at timestamptz not null default clock_timestamp()
);

comment on table crossfade_private.verify_cursors is
  'Where verify_some stands; passes counts how often it has come to the end.';

create or replace function crossfade.verify_some(pair text, max_rows integer default 200)
returns jsonb
language plpgsql volatile
security definer -- reads the owner's tables; only service_role may call it
set search_path = ''
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_pieces jsonb := crossfade_private.run_pieces(v_pair, 'v1_to_v2');
  v_cursor crossfade_private.verify_cursors;
  v_boundary jsonb;
  v_mismatches bigint := 0;
begin
  if max_rows is null or max_rows not between 1 and 10000 then
    perform crossfade_private.fail(400, 'CF012', format('Invalid max_rows %s', max_rows),
      jsonb_build_object('max_rows', max_rows), 'Use 1 to 10000.');
  end if;
  -- Before the backfill has finished most rows are missing, and that is no news.
  if v_pair.stage not in ('dualwrite', 'shadow', 'live', 'rampdown')
    or v_pair.last_backfill_at is null then
    return jsonb_build_object('pair', pair, 'state', 'waiting', 'mismatches', 0);
  end if;
  insert into crossfade_private.verify_cursors (pair) values (verify_some.pair)
  on conflict on constraint verify_cursors_pkey do nothing;
  select c.* into v_cursor from crossfade_private.verify_cursors c
  where c.pair = verify_some.pair for update skip locked;
  if not found then
    return jsonb_build_object('pair', pair, 'state', 'busy', 'mismatches', 0);
  end if;
  v_boundary := crossfade_private.next_key(v_pieces, v_cursor.cursor_key, max_rows);
  v_mismatches := crossfade_private.record_mismatches(
    v_pair.name, null, v_pieces, v_cursor.cursor_key, v_boundary);
  update crossfade_private.verify_cursors c
  set cursor_key = v_boundary, rows_checked = c.rows_checked + max_rows,
    passes = c.passes + case when v_boundary is null then 1 else 0 end,
      checked_at = clock_timestamp()
  where c.pair = verify_some.pair
  returning * into v_cursor;
  return jsonb_build_object('pair', pair, 'state', 'running', 'mismatches', v_mismatches,
    'passes', v_cursor.passes, 'rows_checked', v_cursor.rows_checked);
end $$;

comment on function crossfade.verify_some is
  'Compare the next max_rows rows and go on there next time, round and round: {"pair", "state": running|waiting|busy, "mismatches", "passes", "rows_checked" (about)}. What differs after a second look under lock becomes an open mismatch, which blocks the next stage and feeds the monitor. Meant for a call every few seconds. CF001, CF012.';

-- Who may see what --------------------------------------------------------------------------------

create table if not exists crossfade.rls_checks (
  pair text primary key references crossfade.pairs on delete cascade on update cascade,
  at timestamptz not null default clock_timestamp(),
  users integer not null,
  differences integer not null
);

comment on table crossfade.rls_checks is
  'The last comparison of what users may see in both tables; differences above 0 block stage live.';

create or replace function crossfade.visible_keys_sql(pair text)
returns text
language plpgsql stable
security definer -- the caller acts as an ordinary user by then and may not read the pair
set search_path = ''
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
set search_path = ''
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
set search_path = ''
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
