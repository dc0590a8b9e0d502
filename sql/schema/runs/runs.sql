-- A run: how it is shown, paused and stopped.

create or replace function crossfade_private.run_json(run bigint)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'id', r.id, 'kind', r.kind, 'pair', r.pair, 'direction', r.direction, 'state', r.state,
    'reason', r.reason, 'rows_total', r.rows_total, 'swept_rows', r.swept_rows,
    'rows_done', g.rows_done, 'rows_written', g.rows_written, 'mismatches', g.mismatches,
    'batches', g.batches, 'batch_rows', g.batch_rows, 'ranges', g.ranges,
    'ranges_done', g.ranges_done,
    'started_at', r.started_at, 'progress_at', g.progress_at, 'finished_at', r.finished_at)
  from crossfade.runs r
  cross join lateral (
    select sum(a.rows_done) rows_done, sum(a.rows_written) rows_written,
      sum(a.mismatches) mismatches,
      sum(a.batches) batches, max(a.batch_rows) batch_rows, count(*) ranges,
      count(*) filter (where a.done) ranges_done, max(a.progress_at) progress_at
    from crossfade.run_ranges a where a.run = r.id
  ) g
  where r.id = run_json.run;
$$;

comment on function crossfade_private.run_json is 'A run with the sums over its ranges.';

create or replace function crossfade_private.get_run(run bigint)
returns crossfade.runs
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_run crossfade.runs;
begin
  select r.* into v_run from crossfade.runs r where r.id = get_run.run;
  if not found then
    perform crossfade_private.fail(404, 'CF009',
      format('Unknown run %s', coalesce(get_run.run::text, 'null')),
      jsonb_build_object('run', get_run.run), 'crossfade backfill status lists the runs.');
  end if;
  return v_run;
end $$;

comment on function crossfade_private.get_run is 'The run''s row; CF009 when there is none.';

create or replace function crossfade.run_status(run bigint)
returns jsonb
language plpgsql stable
security definer -- API roles hold no right on crossfade_private
set search_path = pg_catalog, pg_temp
set jit = off
as $$
begin
  perform crossfade_private.get_run(run);
  return jsonb_build_object('run', crossfade_private.run_json(run), 'flags_version',
    crossfade.flags_version());
end $$;

comment on function crossfade.run_status is 'Progress of a run. CF009 for an unknown id.';

create or replace function crossfade.control_run(run bigint, action text, reason text default null)
returns jsonb
language plpgsql volatile
security definer -- runs are changed by functions only
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_run crossfade.runs := crossfade_private.get_run(run);
  v_state text := case action when 'pause' then 'paused' when 'resume' then 'running' when 'cancel'
    then 'cancelled' end;
begin
  if v_state is null then
    perform crossfade_private.fail(400, 'CF012', format('Unknown action "%s"', action),
      jsonb_build_object('action', action), 'Use pause, resume or cancel.');
  end if;
  -- Locks the run after the batches of all workers: a worker holds it only at the end of a batch.
  select r.* into v_run from crossfade.runs r where r.id = control_run.run for update;
  if v_run.state not in ('running', 'paused') and v_run.state <> v_state then
    perform crossfade_private.fail(409, 'CF010',
      format('Cannot %s run %s: it is %s', action, run, v_run.state),
      jsonb_build_object('run', run, 'state', v_run.state), 'Start a new run.');
  end if;
  if v_run.state <> v_state then
    update crossfade.runs r
    set state = v_state, reason = control_run.reason,
      finished_at = case when v_state = 'cancelled' then clock_timestamp() end
    where r.id = control_run.run;
    perform crossfade_private.audit(format('%s.%s', v_run.kind, action), v_run.pair, reason, null,
      crossfade_private.run_json(run));
  end if;
  return jsonb_build_object('run', crossfade_private.run_json(run));
end $$;

comment on function crossfade.control_run is
  'Pause, resume or cancel a run; a batch under way ends first. Safe to repeat. CF009, CF010 when it has ended, CF012.';

create or replace function crossfade_private.run_pieces(pair crossfade.pairs, direction text)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- With the path that triggers of the owner's see. And not as it is stored: compressed, it would
  -- be unpacked for each piece that is taken of it.
  select q.pieces || jsonb_build_object('target_path',
    crossfade_private.owner_search_path(to_regclass(q.pieces ->> 'target')))
  from crossfade_private.pair_pieces q
  where q.pair = (run_pieces.pair).name
    and q.side = case run_pieces.direction when 'v1_to_v2' then 1 else 2 end;
$$;

comment on function crossfade_private.run_pieces is
  'SQL fragments of the pair with the source of the direction as the source.';

create or replace function crossfade_private.converters_version(pair crossfade.pairs)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select string_agg(p.oid || ' ' || p.xmin, ', ' order by p.oid)
  from pg_catalog.pg_proc p
  where p.oid in (to_regproc((pair).to_v2), to_regproc((pair).to_v1));
$$;

comment on function crossfade_private.converters_version is
  'Which rows of the catalog hold the two converters: another text once one was replaced. Cheaper than their hash, and blind to functions that they call.';
