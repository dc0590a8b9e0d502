-- Verify runs.

create or replace function crossfade.start_verify(pair text, ranges integer default 1)
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
begin
  if ranges not between 1 and 64 then
    perform crossfade_private.fail(400, 'CF012', format('Invalid ranges %s', ranges),
      jsonb_build_object('ranges', ranges), 'Use 1 to 64.');
  end if;
  perform from crossfade.pairs p where p.name = start_verify.pair for no key update;
  select r.id into v_run from crossfade.runs r
  where r.pair = start_verify.pair and r.kind = 'verify' and r.state in ('running', 'paused');
  if found then
    return jsonb_build_object('run', crossfade_private.run_json(v_run), 'already', true);
  end if;
  v_run := crossfade_private.start_run('verify', v_pair, 'v1_to_v2', ranges);
  return jsonb_build_object('run', crossfade_private.run_json(v_run), 'already', false);
end $$;

comment on function crossfade.start_verify is
  'Start a full comparison of both tables, or return the active one (already: true). CF001, CF011, CF012.';

create or replace function crossfade_private.finish_verify(run crossfade.runs, pair crossfade.pairs)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_mismatches bigint;
begin
  if exists (select from crossfade.run_ranges a where a.run = (finish_verify.run).id
    and not a.done) then
    return;
  end if;
  -- The pair before the run, as everywhere.
  perform from crossfade.pairs p where p.name = (pair).name for no key update;
  perform from crossfade.runs r where r.id = (finish_verify.run).id
    and r.state = 'running' for update;
  if not found then
    return;
  end if;
  update crossfade.runs r set state = 'finished', finished_at = clock_timestamp()
  where r.id = (finish_verify.run).id;
  select sum(a.mismatches) into v_mismatches from crossfade.run_ranges a
    where a.run = (finish_verify.run).id;
  if v_mismatches = 0 then
    -- A clean full pass also settles what earlier passes found and something else has mended.
    update crossfade.mismatches m set resolved_at = clock_timestamp(), resolution = 'equal'
    where m.pair = (finish_verify.pair).name and m.resolved_at is null
      and m.found_at < (finish_verify.run).started_at;
    update crossfade.pairs p
    set last_clean_verify_at = (finish_verify.run).started_at,
      verified_converter_hash = (finish_verify.run).converter_hash
    where p.name = (finish_verify.pair).name;
    update crossfade_private.mirror_state m set unproven = false
    from crossfade.pairs p
    where p.name = (finish_verify.pair).name and m.pair = p.name and m.unproven
      and p.last_backfill_at < (finish_verify.run).started_at;
    perform crossfade_private.open_or_close((pair).name);
  end if;
  perform crossfade_private.audit('verify.finish', (pair).name, null, null,
    crossfade_private.run_json((finish_verify.run).id));
end $$;

comment on function crossfade_private.finish_verify is
  'When no range is left: end the run; without a mismatch the pair counts as clean since the run began.';

create or replace function crossfade.verify_batch(run bigint, target_ms integer default null)
returns jsonb
language plpgsql volatile
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
  v_run crossfade.runs := crossfade_private.get_run(run);
  v_pair crossfade.pairs := crossfade_private.get_pair(v_run.pair);
  v_reason text;
  v_done jsonb;
begin
  if v_run.kind <> 'verify' then
    perform crossfade_private.fail(409, 'CF010',
      format('Run %s is a %s, not a verify pass', run, v_run.kind),
      jsonb_build_object('run', run, 'kind', v_run.kind), 'Use crossfade backfill run.');
  end if;
  if v_run.state <> 'running' then
    return crossfade_private.batch_json(run, v_run.state,
      jsonb_build_object('reason', v_run.reason));
  end if;
  v_reason := crossfade_private.release_reason(v_pair);
  if v_reason is not null then
    return crossfade_private.batch_json(run, 'waiting', jsonb_build_object('reason', v_reason));
  end if;
  v_done := crossfade_private.run_batch(
    v_run, v_pair, crossfade_private.run_pieces(v_pair, 'v1_to_v2'), target_ms);
  perform crossfade_private.finish_verify(v_run, v_pair);
  return crossfade_private.batch_json(run, null, null) || v_done;
end $$;

comment on function crossfade.verify_batch is
  'Compare the next batch of a verify run, of about target_ms (null: settings batch_target_ms, or batch_idle_target_ms while nobody else uses the database): {"run", "rows_read", "mismatches", "batch_ms", "wait_ms", "state", "reason", "blocking"} as backfill_batch answers. A row that raises counts as different and is recorded with the error. Locks only rows that differ, for the second look, and waits for none. CF009, CF010, CF011.';
