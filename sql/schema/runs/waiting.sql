-- What batches wait for: the end of a release's installation, and those who were writing before
-- mirroring was on.

create or replace function crossfade_private.release_reason(pair crossfade.pairs)
returns text
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select case
    when not pg_try_advisory_xact_lock_shared(crossfade_private.release_lock_key())
      then 'a release of crossfade is being installed'
    when (pair).generator <> crossfade_private.generator()
      then format('its mirror is of crossfade %s and not of %s; run: crossfade pair refresh %s',
        (pair).generator, crossfade_private.generator(), (pair).name)
  end;
$$;

comment on function crossfade_private.release_reason is
  'Why nothing may work on a pair''s rows now, or null: a release is being installed, or it has not refreshed the pair. Keeps the next release off until the transaction ends.';

create or replace function crossfade_private.older_writers(run crossfade.runs)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_since bigint;
  v_older xid[];
  v_blocking jsonb;
begin
  -- Transactions that wrote before mirroring was on may still commit rows that nobody mirrored. The
  -- last of them got its number before the switch was committed, which it is by now.
  update crossfade.pairs p set stage_xid = pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
    stage_server_started_at = pg_postmaster_start_time()
  where p.name = (run).pair and p.stage_xid is null;
  select p.stage_xid into v_since from crossfade.pairs p
  where p.name = (run).pair and p.stage_server_started_at = pg_postmaster_start_time();
  if pg_snapshot_xmin(pg_current_snapshot())::text::bigint >= v_since or v_since is null then
    return null;
  end if;
  v_older := array(
    select x::xid from pg_snapshot_xip(pg_current_snapshot()) x where x::text::bigint < v_since);
  v_blocking := crossfade_private.sessions(array(
    select a.pid from pg_catalog.pg_stat_activity a where a.backend_xid = any (v_older)))
    || crossfade_private.prepared_transactions(v_older);
  return jsonb_build_object('blocking', v_blocking, 'reason', concat_ws(': ',
    'transactions older than the switch to dualwrite are still open',
    crossfade_private.name_sessions(v_blocking)));
end $$;

comment on function crossfade_private.older_writers is
  'Why the first batches of a run must wait, {"reason", "blocking"}, or null. Sees the open writing transactions of the cluster.';
