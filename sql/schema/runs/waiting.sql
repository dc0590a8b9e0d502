-- Reasons to wait before the next batch.

create or replace function crossfade_private.throttle_reason()
returns text
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select case
    when a.active > crossfade_private.setting_number('throttle_active_sessions')
      then format('%s sessions are active (limit %s)', a.active,
        crossfade_private.setting_number('throttle_active_sessions'))
    when a.waiting > crossfade_private.setting_number('throttle_lock_waits')
      then format('%s sessions wait for a lock (limit %s)', a.waiting,
        crossfade_private.setting_number('throttle_lock_waits'))
    when l.lag_s > crossfade_private.setting_number('throttle_replay_lag_s')
      then format('a replica is %s s behind (limit %s)', round(l.lag_s, 1),
        crossfade_private.setting_number('throttle_replay_lag_s'))
  end
  from (
    select count(*) filter (where s.state = 'active') active,
      count(*) filter (where s.wait_event_type = 'Lock') waiting
    from pg_catalog.pg_stat_activity s
    where s.backend_type = 'client backend' and s.pid <> pg_backend_pid()
  ) a
  cross join (
    select extract(epoch from max(r.replay_lag))::numeric lag_s
      from pg_catalog.pg_stat_replication r
  ) l;
$$;

comment on function crossfade_private.throttle_reason is
  'Why a batch should wait (sessions, lock waits, replication lag against the settings throttle_*), or null.';

create or replace function crossfade_private.release_reason(pair crossfade.pairs)
returns text
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select case
    when not pg_try_advisory_xact_lock_shared(crossfade_private.release_lock_key())
      then 'a release of crossfade is being installed'
    when (pair).generator <> crossfade_private.generator()
      then format('its mirror is that of crossfade %s, the database has %s; run: crossfade pair refresh %s',
        (pair).generator, crossfade_private.generator(), (pair).name)
  end;
$$;

comment on function crossfade_private.release_reason is
  'Why nothing may work on a pair''s rows now, or null: a release is being installed, or it has not refreshed the pair. Keeps the next release off until the transaction ends.';

create or replace function crossfade_private.wait_reason(run crossfade.runs)
returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_since bigint;
  v_reason text;
begin
  select crossfade_private.release_reason(p) into v_reason from crossfade.pairs p
  where p.name = (run).pair;
  if v_reason is not null then
    return v_reason;
  end if;
  -- Transactions that wrote before mirroring was on may still commit rows that nobody mirrored. The
  -- last of them got its number before the switch was committed, which it is by now.
  update crossfade.pairs p set stage_xid = pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
    stage_server_started_at = pg_postmaster_start_time()
  where p.name = (run).pair and p.stage_xid is null;
  select p.stage_xid into v_since from crossfade.pairs p
  where p.name = (run).pair and p.stage_server_started_at = pg_postmaster_start_time();
  if pg_snapshot_xmin(pg_current_snapshot())::text::bigint < v_since then
    return 'transactions older than the switch to dualwrite are still open';
  end if;
  return null;
end $$;

comment on function crossfade_private.wait_reason is
  'Why the first batches of a run must wait, or null. Uses the oldest open writing transaction of the cluster.';
