-- What a repair would do, by key.

create or replace function crossfade.plan_repair(pair text, max_rows integer default 100)
returns jsonb
language plpgsql stable
security definer -- reads the owner's tables; only service_role may call it
set search_path = pg_catalog, pg_temp
set jit = off
-- As the mirror converts, whatever the session has set.
set timezone = 'UTC'
set datestyle = 'ISO, MDY'
set intervalstyle = 'postgres'
set extra_float_digits = 1
set bytea_output = 'hex'
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_rows jsonb;
begin
  if max_rows is null or max_rows not between 1 and 10000 then
    perform crossfade_private.fail(400, 'CF012', format('Invalid max_rows %s', max_rows),
      jsonb_build_object('max_rows', max_rows), 'Use 1 to 10000.');
  end if;
  with turn as materialized (
    select t.*, row_number() over () as n
    from crossfade_private.repair_turns(v_pair, max_rows, true) t
  ),
  plan as materialized (
    select g.side, crossfade_private.judge_keys(crossfade_private.run_pieces(
      v_pair, case g.side when 1 then 'v1_to_v2' else 'v2_to_v1' end), g.keys) as plan
    from (select t.side, array_agg(t.key) as keys from turn t group by t.side) g
  )
  select coalesce(jsonb_agg(jsonb_build_object(
    'key', q.key, 'table', case q.side when 1 then v_pair.v2_table else v_pair.v1_table end,
    'action', case when q.action <> 'gone' then q.action when q.has_failure then 'delete'
      else 'choose' end,
    'why', case
      when q.error is not null then format('%s; cannot be compared: %s', q.why, q.error)
      when q.action = 'gone' and not q.has_failure
        then format('only V%s has it, and nothing says which side was written', 3 - q.side)
      when q.action = 'delete' then q.why || '; the converter gives no row for it'
      else q.why end) order by q.n), '[]')
  into v_rows
  from (
    select t.*, p.plan -> t.key::text ->> 'action' as action,
      p.plan -> t.key::text ->> 'error' as error
    from turn t join plan p on p.side = t.side
  ) q where q.action is not null;
  return jsonb_build_object('rows', v_rows,
    'remaining', crossfade_private.repair_counts(v_pair) -> 'remaining',
    'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.plan_repair is
  'What repair would do to the next max_rows (1 to 10000) keys: {"rows": [{"key", "table": which is written, "action": insert|update|delete|choose, "why"}], "remaining": open keys}. choose: only the follower has the row, and no record explains it. Keys whose rows agree by now are left out. Reads only. CF001, CF012.';
