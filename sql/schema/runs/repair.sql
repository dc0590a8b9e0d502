-- Repair of the rows that a verify run found.

create or replace function crossfade.repair(
  pair text, max_rows integer default 500, reason text default null
)
returns jsonb
language plpgsql volatile
security definer -- writes the owner's tables; only service_role may call it
set search_path = pg_catalog, pg_temp
set lock_timeout = '2s' -- a writer may hold a row for long: it stays open then
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_reason text := crossfade_private.release_reason(v_pair);
  v_leader integer := crossfade_private.leader(v_pair.stage);
  v_open record;
  v_failure crossfade.mirror_failures;
  v_repaired bigint := 0;
  v_failed bigint := 0;
  v_equal boolean;
  v_error text;
begin
  if v_reason is not null then
    perform crossfade_private.fail(409, 'CF011', format('Cannot repair "%s": %s', pair, v_reason),
      jsonb_build_object('pair', pair), 'Refresh the pair, or try again when it is installed.');
  end if;
  perform crossfade_private.begin_engine_write(pair);
  for v_open in
    select f.key from crossfade.mirror_failures f
    where f.pair = repair.pair and f.resolved_at is null
    union
    select m.key from crossfade.mismatches m
    where m.pair = repair.pair and m.resolved_at is null
    order by key limit repair.max_rows
  loop
    v_error := null;
    begin
      -- Order matters: rows first, as writers do, then the failure, which may have been recorded
      -- anew since the list was made. Only this one, held until we commit, is settled below.
      perform crossfade_private.lock_both(crossfade_private.run_pieces(
        v_pair, case v_leader when 1 then 'v1_to_v2' else 'v2_to_v1' end), v_open.key);
      select f.* into v_failure from crossfade.mirror_failures f
      where f.pair = repair.pair and f.key = v_open.key and f.resolved_at is null for update;
      v_equal := crossfade_private.repair_one(
        v_pair, v_open.key, coalesce(v_failure.written_side, v_leader), reason);
    exception when others then
      v_equal := false;
      v_error := format('%s: %s', sqlstate, sqlerrm);
    end;
    if v_equal then
      v_repaired := v_repaired + 1;
      update crossfade.mirror_failures f set resolved_at = clock_timestamp(),
        resolution = 'repaired'
      where f.id = v_failure.id and f.resolved_at is null;
      update crossfade.mismatches m set resolved_at = clock_timestamp(), resolution = 'repaired'
      where m.pair = repair.pair and m.key = v_open.key and m.resolved_at is null;
    else
      v_failed := v_failed + 1;
      update crossfade.mirror_failures f
      set attempts = f.attempts + 1, message = coalesce(v_error,
        'the rows still differ after the repair')
      where f.pair = repair.pair and f.key = v_open.key and f.resolved_at is null;
    end if;
  end loop;
  perform crossfade_private.end_engine_write(pair);
  perform crossfade_private.open_or_close(pair);
  return jsonb_build_object(
    'repaired', v_repaired, 'failed', v_failed, 'remaining', (
      select count(distinct k.key) from (
        select f.key from crossfade.mirror_failures f where f.pair = repair.pair
          and f.resolved_at is null
        union all
        select m.key from crossfade.mismatches m where m.pair = repair.pair
          and m.resolved_at is null) k),
    'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.repair is
  'Settle up to max_rows open mirror failures and mismatches: {"repaired", "failed", "remaining"}. A recorded failure says which side was written; else the leader of the stage wins. Locks both rows of each key; a row that cannot be repaired stays open and is counted as failed. Call until remaining is 0 or nothing is repaired.';
