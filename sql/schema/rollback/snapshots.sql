-- Snapshots: the control state saved whole.

create or replace function crossfade_private.control_state()
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'flags_version', crossfade.flags_version(),
    'wal_lsn', pg_catalog.pg_current_wal_lsn()::text,
    'flags', (select coalesce(jsonb_agg(to_jsonb(f) order by f.name), '[]') from crossfade.flags f),
    'kill_switches', (
      select coalesce(jsonb_agg(to_jsonb(k) order by k.name), '[]') from crossfade.kill_switches k),
    'cohorts', (
      select coalesce(jsonb_agg(to_jsonb(c) order by c.pair), '[]') from crossfade.cohorts c),
    'pairs', (
      select coalesce(jsonb_agg(to_jsonb(p) || jsonb_build_object(
        'v1_rows', crossfade_private.planner_rows(to_regclass(p.v1_table))::bigint,
        'v2_rows', crossfade_private.planner_rows(to_regclass(p.v2_table))::bigint,
        'open_failures', (
          select count(*) from crossfade.mirror_failures m
          where m.pair = p.name and m.resolved_at is null)
      ) order by p.name), '[]')
      from crossfade.pairs p));
$$;

comment on function crossfade_private.control_state is 'What a snapshot saves. Reads only.';

create or replace function crossfade_private.save_snapshot(reason text)
returns jsonb
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  insert into crossfade.snapshots (actor, reason, state)
  values (crossfade_private.actor(), save_snapshot.reason, crossfade_private.control_state())
  returning jsonb_build_object('id', id, 'at', at, 'actor', actor, 'reason', reason);
$$;

comment on function crossfade_private.save_snapshot is
  'Insert a snapshot and return {"id", "at", "actor", "reason"}.';

create or replace function crossfade.take_snapshot(reason text)
returns jsonb
language plpgsql volatile
-- Definer: API roles hold no right on the tables it writes.
security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_snapshot jsonb;
begin
  perform crossfade_private.require_reason(take_snapshot.reason, 'take a snapshot');
  v_snapshot := crossfade_private.save_snapshot(take_snapshot.reason);
  perform crossfade_private.audit('snapshot.insert', v_snapshot ->> 'id', null, null, null);
  return jsonb_build_object('snapshot', v_snapshot, 'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.take_snapshot is
  'Save flags, cohorts, kill switches and pairs as they are now. Returns {"snapshot": {id, at, actor, reason}, "flags_version"}. CF007 no reason.';
