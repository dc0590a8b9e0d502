-- Backfill: copy the rows that were there before mirroring began.

create or replace function crossfade.start_backfill(
  pair text, direction text default 'v1_to_v2', ranges integer default 1
)
returns jsonb
language plpgsql volatile
security definer -- reads and analyzes the owner's tables; only service_role may call it
set search_path = pg_catalog, pg_temp
set jit = off
set timezone = 'UTC' -- keys are kept as text
set datestyle = 'ISO, MDY'
set intervalstyle = 'postgres'
set extra_float_digits = 1
set bytea_output = 'hex'
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_run bigint;
  v_mirror text;
begin
  if direction not in ('v1_to_v2', 'v2_to_v1') or ranges not between 1 and 64 then
    perform crossfade_private.fail(400, 'CF012',
      format('Invalid direction "%s" or ranges %s', direction, ranges),
      jsonb_build_object('direction', direction, 'ranges', ranges),
        'direction is v1_to_v2 or v2_to_v1, ranges 1 to 64.');
  end if;
  -- Read again: its stage may have changed while we waited.
  select p.* into v_pair from crossfade.pairs p where p.name = start_backfill.pair
  for no key update;
  select r.id into v_run from crossfade.runs r
  where r.pair = start_backfill.pair and r.kind = 'backfill' and r.state in ('running', 'paused');
  if found then
    return jsonb_build_object('run', crossfade_private.run_json(v_run), 'already', true);
  end if;
  if v_pair.stage = 'complete' and direction = 'v1_to_v2' then
    perform crossfade_private.fail(409, 'CF005',
      format(
        'Cannot backfill "%s" from version 1: it is an archive (stage complete), and rows that version 2 has deleted since would come back',
        pair),
      jsonb_build_object('pair', pair, 'stage', v_pair.stage, 'direction', direction),
        'crossfade backfill run PAIR --direction v2_to_v1 brings version 1 up to date.');
  end if;
  select m.mirror into v_mirror from crossfade_private.mirror_state m
  where m.pair = start_backfill.pair;
  if v_pair.stage = 'off' or v_mirror = 'log_only' then
    perform crossfade_private.fail(409, 'CF005',
      format('Cannot backfill "%s": its writes are not mirrored (stage %s)', pair, v_pair.stage),
      jsonb_build_object('pair', pair, 'stage', v_pair.stage),
        'crossfade stage set PAIR dualwrite, then backfill.');
  end if;
  perform crossfade_private.require_parents(v_pair, direction);
  if v_mirror = 'waiting' then
    perform crossfade_private.require_parents(v_pair, 'v1_to_v2');
  end if;
  update crossfade_private.mirror_state m
  set tombstones = true, mirror = case m.mirror when 'archived' then 'reverse' when 'waiting'
    then 'both' else m.mirror end
  where m.pair = start_backfill.pair;
  delete from crossfade_private.tombstones z where z.pair = start_backfill.pair;
  if v_mirror in ('archived', 'waiting') then
    -- Mirroring begins here: on the way back from complete, of V2 while V1 still refuses writes; in
    -- dualwrite, of a pair that had to wait for the pairs its rows refer to.
    update crossfade.pairs p set stage_xid = null where p.name = start_backfill.pair;
  end if;
  v_run := crossfade_private.start_run('backfill', v_pair, direction, ranges);
  perform crossfade_private.audit('backfill.start', pair, null, null,
    crossfade_private.run_json(v_run));
  return jsonb_build_object('run', crossfade_private.run_json(v_run), 'already', false);
end $$;

comment on function crossfade.start_backfill is
  'Start copying the rows of one table to the other, or return the active run (already: true). ranges: key ranges that workers can take side by side. CF001, CF005 when it is not mirrored or refers to rows of a pair that has to be copied first, CF012.';

create or replace function crossfade.backfill_batch(run bigint, target_ms integer default null)
returns jsonb
language plpgsql volatile
security definer -- copies rows of the owner's tables; only service_role may call it
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
  v_run crossfade.runs := crossfade_private.get_run(run);
  v_pair crossfade.pairs := crossfade_private.get_pair(v_run.pair);
  v_pieces jsonb := crossfade_private.run_pieces(v_pair, v_run.direction);
  v_reason text;
  v_wait jsonb;
  v_done jsonb;
begin
  if v_run.kind <> 'backfill' then
    perform crossfade_private.fail(409, 'CF010',
      format('Run %s is a %s, not a backfill', run, v_run.kind),
      jsonb_build_object('run', run, 'kind', v_run.kind), 'Use crossfade verify run.');
  end if;
  if v_run.state <> 'running' then
    return crossfade_private.batch_json(run, v_run.state,
      jsonb_build_object('reason', v_run.reason));
  end if;
  v_reason := crossfade_private.release_reason(v_pair);
  if v_reason is not null then
    return crossfade_private.batch_json(run, 'waiting', jsonb_build_object('reason', v_reason));
  end if;
  v_wait := crossfade_private.older_writers(v_run);
  if v_wait is not null then
    return crossfade_private.batch_json(run, 'waiting', v_wait);
  end if;
  perform crossfade_private.bound_run(v_run, v_pieces);
  perform crossfade_private.begin_engine_write(v_pair.name);
  v_done := crossfade_private.run_batch(v_run, v_pair, v_pieces, target_ms);
  begin
    perform crossfade_private.finish_backfill(v_run, v_pair, v_pieces);
  exception when lock_not_available then
    -- The rows are copied; the next call ends the run.
    v_done := v_done || '{"state": "waiting"}' || crossfade_private.locked_reason(
      'all rows are copied, and the end of the run is locked',
      array[v_pair.v1_table, v_pair.v2_table, 'crossfade_private.mirror_state',
        'crossfade.pairs']::regclass[]);
  end;
  perform crossfade_private.end_engine_write(v_pair.name);
  return crossfade_private.batch_json(run, null, null) || v_done;
end $$;

comment on function crossfade.backfill_batch is
  'Copy the next batch of a run in this transaction, of about target_ms (null: settings batch_target_ms, or batch_idle_target_ms while nobody else uses the database): {"run", "rows_read", "rows_written", "batch_ms", "wait_ms": time to wait before the next call, "state", "reason", "blocking": sessions waited for}. state is running, waiting (older transactions, a lock), throttled, shrunk (a timeout: what was done before it is kept, the next batch is smaller), paused, finished or cancelled. Call it until it is finished; several workers may. A row that the other table refuses, whatever it raises, becomes an open mirror failure (operation BACKFILL). Locks the batch''s source rows FOR SHARE, waits at most 0.5 s for one. CF009, CF010, CF011.';
