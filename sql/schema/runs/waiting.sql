-- Who was writing before mirroring was on: batches wait for them.

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
