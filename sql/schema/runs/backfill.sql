-- Backfill: copy the rows that were there before mirroring began.

create or replace function crossfade.start_backfill(
  pair text, direction text default 'v1_to_v2', ranges integer default 1
)
returns jsonb
language plpgsql volatile
security definer -- reads and analyzes the owner's tables; only service_role may call it
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_run bigint;
begin
  if direction not in ('v1_to_v2', 'v2_to_v1') or ranges not between 1 and 64 then
    perform crossfade_private.fail(400, 'CF012',
      format('Invalid direction "%s" or ranges %s', direction, ranges),
      jsonb_build_object('direction', direction, 'ranges', ranges),
        'direction is v1_to_v2 or v2_to_v1, ranges 1 to 64.');
  end if;
  perform from crossfade.pairs p where p.name = start_backfill.pair for no key update;
  select r.id into v_run from crossfade.runs r
  where r.pair = start_backfill.pair and r.kind = 'backfill' and r.state in ('running', 'paused');
  if found then
    return jsonb_build_object('run', crossfade_private.run_json(v_run), 'already', true);
  end if;
  if (select m.mirror from crossfade_private.mirror_state m
    where m.pair = start_backfill.pair) not in ('both', 'reverse') and not (
      v_pair.stage = 'complete' and direction = 'v2_to_v1') then
    perform crossfade_private.fail(409, 'CF005',
      format('Cannot backfill "%s": its writes are not mirrored (stage %s)', pair, v_pair.stage),
      jsonb_build_object('pair', pair, 'stage', v_pair.stage),
        'crossfade stage set PAIR dualwrite, then backfill.');
  end if;
  update crossfade_private.mirror_state m
  set tombstones = true, mirror = case m.mirror when 'archived' then 'reverse' else m.mirror end
  where m.pair = start_backfill.pair;
  delete from crossfade_private.tombstones z where z.pair = start_backfill.pair;
  if v_pair.stage = 'complete' then
    -- The way back from complete begins here: V2 is mirrored again while V1 still refuses writes.
    update crossfade.pairs p set stage_xid = null where p.name = start_backfill.pair;
  end if;
  v_run := crossfade_private.start_run('backfill', v_pair, direction, ranges);
  perform crossfade_private.audit('backfill.start', pair, null, null,
    crossfade_private.run_json(v_run));
  return jsonb_build_object('run', crossfade_private.run_json(v_run), 'already', false);
end $$;

comment on function crossfade.start_backfill is
  'Start copying the rows of one table to the other, or return the active run (already: true). ranges: key ranges that workers can take side by side. CF001, CF005 when not mirrored, CF012.';

create or replace function crossfade.backfill_batch(run bigint, target_ms integer default null)
returns jsonb
language plpgsql volatile
security definer -- copies rows of the owner's tables; only service_role may call it
set search_path = pg_catalog, pg_temp
as $$
declare
  v_run crossfade.runs := crossfade_private.get_run(run);
  v_pair crossfade.pairs := crossfade_private.get_pair(v_run.pair);
  v_range crossfade.run_ranges;
  v_pieces jsonb := crossfade_private.run_pieces(v_pair, v_run.direction);
  v_reason text;
  v_started timestamptz := clock_timestamp();
  v_boundary jsonb;
  v_read bigint := 0;
  v_written bigint := 0;
  v_ms numeric := 0;
begin
  if v_run.kind <> 'backfill' then
    perform crossfade_private.fail(409, 'CF010',
      format('Run %s is a %s, not a backfill', run, v_run.kind),
      jsonb_build_object('run', run, 'kind', v_run.kind), 'Use crossfade verify run.');
  end if;
  if v_run.state <> 'running' then
    return crossfade_private.batch_json(run, v_run.state, v_run.reason);
  end if;
  perform crossfade_private.check_unchanged(v_run, v_pair);
  v_reason := crossfade_private.wait_reason(v_run);
  if v_reason is not null then
    return crossfade_private.batch_json(run, 'waiting', v_reason);
  end if;
  v_reason := crossfade_private.throttle_reason();
  if v_reason is not null then
    return crossfade_private.batch_json(run, 'throttled', v_reason);
  end if;
  perform crossfade_private.begin_engine_write(v_pair.name);
  v_range := crossfade_private.claim_range(v_run);
  if v_range.run is not null then
    v_boundary := crossfade_private.batch_boundary(v_pieces, v_range);
    v_written := crossfade_private.copy_batch(v_pieces, v_range.cursor_key, v_boundary);
    v_read := crossfade_private.range_rows(v_pieces, v_range, v_boundary);
    v_ms := crossfade_private.finish_batch(v_range, v_boundary, v_read, v_written, 0, v_started,
      target_ms);
  end if;
  perform crossfade_private.finish_backfill(v_run, v_pair, v_pieces);
  perform crossfade_private.end_engine_write(v_pair.name);
  return crossfade_private.batch_json(run, null, null) || jsonb_build_object(
    'rows_read', v_read, 'rows_written', v_written, 'batch_ms', v_ms);
end $$;

comment on function crossfade.backfill_batch is
  'Copy the next batch of a run in this transaction, of about target_ms (null: setting batch_target_ms): {"run", "rows_read", "rows_written", "batch_ms", "state", "reason"}. state is running, waiting (older transactions), throttled, paused, finished or cancelled. Call it until it is finished; several workers may. A row that the other table refuses becomes an open mirror failure (operation BACKFILL). Locks the batch''s source rows FOR SHARE. CF009, CF011; 55P03 when a row stays locked for 5 s.';
