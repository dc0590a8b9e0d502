-- Self-drive: where pg_cron is installed, a job of it does the batches of a run, with no client.

create or replace function crossfade_private.note_drive(run bigint, reason text)
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  -- The prefix tells our words from those of the person who resumed the run.
  update crossfade.runs r set reason = 'self-drive: ' || note_drive.reason
  where r.id = note_drive.run and r.state = 'running'
    and r.reason is distinct from 'self-drive: ' || note_drive.reason
    and (note_drive.reason is not null or r.reason like 'self-drive: %');
$$;

comment on function crossfade_private.note_drive is
  'Say in the run why nothing happens; null when something does again. Writes only what is new.';

create or replace function crossfade_private.drive_once(
  run bigint, started_at timestamptz, seconds integer
)
returns double precision
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_run crossfade.runs;
  v_batch jsonb;
  v_wait_s double precision := 0;
begin
  select r.* into v_run from crossfade.runs r where r.id = drive_once.run;
  if not found or v_run.state in ('finished', 'cancelled') then
    perform crossfade_private.unschedule_run(run);
    return null;
  end if;
  begin
    v_batch := case v_run.kind when 'backfill' then crossfade.backfill_batch(run)
      else crossfade.verify_batch(run) end;
    perform crossfade_private.note_drive(run, (v_batch ->> 'state') || ': '
      || (v_batch ->> 'reason'));
    v_wait_s := case when v_batch ->> 'state' in ('waiting', 'throttled') then 1
      else greatest((v_batch ->> 'wait_ms')::double precision / 1000,
        case when (v_batch ->> 'rows_read')::bigint = 0 then 0.2 else 0 end) end;
  exception when others then
    -- Deadlocks, locks, memory, connections: the next try may work, as for a client that drives.
    if not crossfade_private.is_transient(sqlstate) then
      perform crossfade.control_run(run, 'pause', format('self-drive: %s (%s)', sqlerrm, sqlstate));
      return null;
    end if;
    perform crossfade_private.note_drive(run, format('%s (%s)', sqlerrm, sqlstate));
    v_wait_s := 1;
  end;
  if v_batch ->> 'state' in ('finished', 'cancelled', 'paused')
    or clock_timestamp() >= started_at + make_interval(secs => seconds) then
    return null;
  end if;
  return v_wait_s;
end $$;

comment on function crossfade_private.drive_once is
  'Do one batch: seconds to wait before the next one, or null when this turn is over. An error that would come again pauses the run with the error as its reason; any other is noted there and tried again.';

create or replace function crossfade_private.drive_command(run bigint, seconds integer)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  -- A DO block and not a procedure: each batch has to be a transaction of its own, or locks would
  -- pile up and a crash undo the whole turn, and a procedure with a pinned search_path may not
  -- COMMIT. In the block every name is qualified, no operator is used, and all that decides is in
  -- drive_once.
  select format($command$do $drive$
declare
  v_started timestamptz := pg_catalog.clock_timestamp();
  v_wait_s double precision;
begin
  loop
    v_wait_s := crossfade_private.drive_once(%s, v_started, %s);
    commit;
    exit when v_wait_s is null;
    perform pg_catalog.pg_sleep(v_wait_s);
    commit; -- the next batch must not see with the eyes of before the wait
  end loop;
end $drive$;
$command$, run, seconds);
$$;

comment on function crossfade_private.drive_command is
  'What the job of a run executes: batches, each its own transaction, for about so many seconds. Runs as the role that scheduled it, the owner of drive_run. Outside a transaction only.';

create or replace function crossfade_private.schedule_run(run bigint)
returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_schedule text := '5 seconds';
begin
  begin
    execute 'select cron.schedule($1, $2, $3)'
    using crossfade_private.drive_job(run), v_schedule, crossfade_private.drive_command(run, 30);
  exception when invalid_parameter_value then
    -- Before 1.5 pg_cron knew only minutes: let each turn fill its minute.
    v_schedule := '* * * * *';
    execute 'select cron.schedule($1, $2, $3)'
    using crossfade_private.drive_job(run), v_schedule, crossfade_private.drive_command(run, 55);
  end;
  return v_schedule;
end $$;

comment on function crossfade_private.schedule_run is
  'Make the job of a run, or make it again; returns its schedule. pg_cron never runs a job beside itself, so a turn may be longer than the interval.';

create or replace function crossfade.drive_run(run bigint, enabled boolean default true)
returns jsonb
language plpgsql volatile
security definer -- the job must belong to the owner, who may run the batches
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_run crossfade.runs := crossfade_private.get_run(run);
  v_schedule text;
begin
  if enabled and not crossfade_private.has_cron() then
    perform crossfade_private.fail(409, 'CF018',
      format('Cannot drive run %s inside the database: pg_cron is not installed', run),
      jsonb_build_object('run', run),
      'Run: create extension pg_cron, or drive the run with the crossfade command.');
  end if;
  -- Not while somebody ends it: a job for a run that is over would be left.
  select r.* into v_run from crossfade.runs r where r.id = drive_run.run for update;
  if enabled and v_run.state not in ('running', 'paused') then
    perform crossfade_private.fail(409, 'CF010',
      format('Cannot drive run %s: it is %s', run, v_run.state),
      jsonb_build_object('run', run, 'state', v_run.state), 'Start a new run.');
  end if;
  if enabled then
    v_schedule := crossfade_private.schedule_run(run);
    perform crossfade_private.audit(v_run.kind || '.drive', v_run.pair, null, null,
      crossfade_private.run_json(run));
  elsif crossfade_private.unschedule_run(run) then
    perform crossfade_private.audit(v_run.kind || '.undrive', v_run.pair, null, null,
      crossfade_private.run_json(run));
  end if;
  return jsonb_build_object('run', crossfade_private.run_json(run), 'driven', enabled,
    'job', crossfade_private.drive_job(run), 'schedule', v_schedule,
    'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.drive_run is
  'Let a job of pg_cron do the batches of a backfill or verify run, or (enabled: false) no longer: {"run", "driven", "job", "schedule"}. The job belongs to the owner of crossfade, skips a paused run and goes when the run is over; crossfade.runs.reason says why it waits. Clients may work on the same run. Safe to repeat. CF009, CF010 when the run is over, CF018 without pg_cron.';
