-- Repair of what the mirror could not carry over and of what a verify run found.

create or replace function crossfade_private.repair_part(
  pair crossfade.pairs, turns jsonb, follower_only text, reason text
)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_group record;
  v_done jsonb;
  v_left jsonb[];
  v_stuck constant jsonb[] := crossfade_private.move_counterparts(
    pair, array(select t -> 'key' from jsonb_array_elements(turns) t));
  v_repaired integer := 0;
  v_failed integer;
begin
  select count(*) into v_failed
  from jsonb_array_elements(turns) t where t -> 'key' = any (v_stuck);
  for v_group in
    select t.side, t.has_failure, array_agg(t.key) as keys
    from jsonb_to_recordset(turns) t(key jsonb, side integer, has_failure boolean)
    where t.key <> all (v_stuck)
    group by t.side, t.has_failure order by t.has_failure desc, t.side
  loop
    -- An open failure is the evidence that a row which its side does not have is to be deleted.
    v_done := crossfade_private.repair_keys(pair, v_group.keys, v_group.side, v_group.has_failure,
      case when v_group.has_failure then 'delete' else follower_only end, reason);
    v_repaired := v_repaired + (v_done ->> 'repaired')::integer;
    v_failed := v_failed + (v_done ->> 'failed')::integer;
    v_left := array(select jsonb_array_elements(v_done -> 'left_alone'));
    if follower_only = 'copy' and cardinality(v_left) > 0 then
      v_done := crossfade_private.repair_keys(
        pair, v_left, 3 - v_group.side, false, 'keep', reason);
      v_repaired := v_repaired + (v_done ->> 'repaired')::integer;
      v_failed := v_failed + (v_done ->> 'failed')::integer;
    end if;
  end loop;
  return jsonb_build_object('repaired', v_repaired, 'failed', v_failed);
end $$;

comment on function crossfade_private.repair_part is
  'Repair some turns, [{"key", "side", "has_failure"}]: {"repaired", "failed"}.';

create or replace function crossfade.repair(
  pair text, max_rows integer default 500, reason text default null,
  follower_only text default 'keep'
)
returns jsonb
language plpgsql volatile
security definer -- writes the owner's tables; only service_role may call it
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
  v_reason text := crossfade_private.release_reason(v_pair);
  v_started constant timestamptz := clock_timestamp();
  v_turns jsonb;
  v_part jsonb;
  v_done jsonb;
  v_repaired integer := 0;
  v_failed integer := 0;
begin
  if follower_only is null or follower_only not in ('keep', 'delete', 'copy')
    or max_rows is null or max_rows < 1 then
    perform crossfade_private.fail(400, 'CF012',
      format('Invalid follower_only "%s" or max_rows %s', follower_only, max_rows),
      jsonb_build_object('follower_only', follower_only, 'max_rows', max_rows),
      'follower_only is keep, delete or copy, max_rows at least 1.');
  end if;
  if v_pair.stage = 'off' then
    perform crossfade_private.fail(409, 'CF005',
      format('Cannot repair "%s": its writes are not mirrored (stage off)', pair),
      jsonb_build_object('pair', pair, 'stage', v_pair.stage),
      'What is copied now would be out of date with the next write. crossfade stage set PAIR dualwrite, then backfill.');
  end if;
  if v_reason is not null then
    perform crossfade_private.fail(409, 'CF011', format('Cannot repair "%s": %s', pair, v_reason),
      jsonb_build_object('pair', pair), 'Refresh the pair, or try again when it is installed.');
  end if;
  select coalesce(jsonb_agg(to_jsonb(t)), '[]') into v_turns
  from crossfade_private.repair_turns(v_pair, max_rows, follower_only <> 'keep') t;
  perform crossfade_private.begin_engine_write(pair);
  for v_part in
    -- All at once; what ran into a timeout alone, behind the others.
    select jsonb_agg(t - '{why,is_slow}'::text[] order by n)
    from jsonb_array_elements(v_turns) with ordinality u(t, n)
    group by case when (t ->> 'is_slow')::boolean then n end
    order by min(n) filter (where (t ->> 'is_slow')::boolean) nulls first
  loop
    exit when clock_timestamp() > v_started + interval '4 s';
    begin
      v_done := crossfade_private.repair_part(v_pair, v_part, follower_only, reason);
    exception when query_canceled then
      -- The clock of PostgreSQL has rung and does not ring twice: nothing more in this call.
      perform crossfade_private.mark_tried(pair, crossfade_private.same_error(
        array(select t -> 'key' from jsonb_array_elements(v_part) t),
        format('%s: %s', sqlstate, sqlerrm)), true);
      v_failed := v_failed + jsonb_array_length(v_part);
      exit;
    end;
    v_repaired := v_repaired + (v_done ->> 'repaired')::integer;
    v_failed := v_failed + (v_done ->> 'failed')::integer;
  end loop;
  perform crossfade_private.end_engine_write(pair);
  perform crossfade_private.open_or_close(pair);
  return crossfade_private.repair_counts(v_pair) || jsonb_build_object(
    'repaired', v_repaired, 'failed', v_failed, 'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.repair is
  'Settle up to max_rows open mirror failures and mismatches, all at once, those that ran into a timeout before one by one for about four seconds: {"repaired", "failed", "undecided", "remaining"}. A recorded failure says which side was written; else the leader of the stage wins. A row that only the follower has, and that no failure explains, is undecided and left alone unless follower_only says delete, or copy (into the leader). Those never tried come first, then those whose last try is longest ago. What is replaced or deleted is kept in crossfade.audit (repair.row). Locks both rows of each key and waits for nobody: a row that somebody holds, or that cannot be repaired, stays open, counts as failed and says why in its message. plan_repair shows it before. CF001, CF005 in stage off, CF012.';
