-- Watching without Python (R12): where pg_cron is installed, a job of it evaluates the rules of
-- health/judging.sql whenever no monitor is alive, and goes back by itself. It never goes forward.

create or replace function crossfade_private.watch_pair(pair text)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_sample jsonb := crossfade.health_sample(pair);
  v_verdicts jsonb;
  v_level text;
  v_reason text;
begin
  v_verdicts := crossfade_private.judge(v_sample,
    (
      select coalesce(jsonb_object_agg(l.rule,
        jsonb_build_object('at', l.at, 'since', l.details -> 'since')), '{}')
      from (
        select distinct on (o.rule) o.rule, o.at, o.details from crossfade.verdicts o
        where o.pair = watch_pair.pair and o.rule in ('R1', 'R1s', 'R1k', 'R12')
        order by o.rule, o.id desc
      ) l),
    (select jsonb_object_agg(s.name, s.value) from crossfade.settings s));
  perform crossfade.record_verdicts(pair, v_verdicts);
  -- The larger level has the later name: COMPLETE, EMERGENCY.
  select max(v ->> 'level'),
    string_agg(format('%s: %s', v ->> 'rule', v #>> '{details,message}'), '; ')
  into v_level, v_reason
  from jsonb_array_elements(v_verdicts) v
  where v ->> 'verdict' = 'FAIL' and v ->> 'mode' = 'enforce';
  if v_level is null or v_sample ->> 'stage' not in ('live', 'rampdown') then
    return jsonb_build_object('pair', pair, 'verdicts', v_verdicts, 'rollback', null);
  end if;
  return jsonb_build_object('pair', pair, 'verdicts', v_verdicts, 'rollback',
    crossfade.rollback(v_level, pair, 'watched by pg_cron: ' || v_reason, true, false,
      (v_sample ->> 'step')::bigint));
end $$;

comment on function crossfade_private.watch_pair is
  'Evaluate one pair as the monitor would, with the rules that SQL has, and go back when they say so.';

create or replace function crossfade_private.watch_once()
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair text;
  v_done jsonb := '[]'::jsonb;
begin
  if (select m.heartbeat_at from crossfade.monitors m) >= clock_timestamp()
    - crossfade_private.setting_number('r12_dead_s') * interval '1 s' then
    return jsonb_build_object('idle', true, 'pairs', v_done);
  end if;
  perform crossfade.apply_due_changes();
  for v_pair in
    select p.name from crossfade.pairs p where p.stage in ('live', 'rampdown') order by p.name
  loop
    begin
      v_done := v_done || crossfade_private.watch_pair(v_pair);
    exception when others then
      -- One pair that cannot be judged must not keep the others from being watched.
      raise warning 'crossfade: cannot watch %: % (%)', v_pair, sqlerrm, sqlstate;
    end;
  end loop;
  return jsonb_build_object('idle', false, 'pairs', v_done);
end $$;

comment on function crossfade_private.watch_once is
  'One evaluation of every pair that serves V2, unless a monitor is alive (setting r12_dead_s).';

create or replace function crossfade_private.watch_command(seconds integer)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  -- A DO block for the same reason as in crossfade_private.drive_command.
  select format($command$do $watch$
declare
  v_until timestamptz := pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => %s);
  v_interval interval;
begin
  loop
    perform crossfade_private.watch_once();
    commit;
    v_interval := pg_catalog.make_interval(
      secs => crossfade_private.setting_number('monitor_interval_s')::double precision);
    exit when pg_catalog.clock_timestamp() + v_interval > v_until;
    perform pg_catalog.pg_sleep(extract(epoch from v_interval)::double precision);
    commit;
  end loop;
end $watch$;
$command$, seconds);
$$;

comment on function crossfade_private.watch_command is
  'What the pg_cron job executes: evaluations every monitor_interval_s for about so many seconds. Outside a transaction only.';

create or replace function crossfade_private.unschedule_watch()
returns boolean
language plpgsql volatile
security definer -- pg_cron shows a job only to the role that scheduled it
set search_path = pg_catalog, pg_temp
as $$
declare
  v_jobs bigint := 0;
begin
  if crossfade_private.has_cron() then
    execute 'select count(cron.unschedule(j.jobid)) from cron.job j where j.jobname = $1
      and j.username = current_user'
    into v_jobs using 'crossfade_monitor';
  end if;
  return v_jobs > 0;
end $$;

comment on function crossfade_private.unschedule_watch is
  'Remove the job that watches; false when there is none.';

create or replace function crossfade.drive_monitor(enabled boolean default true)
returns jsonb
language plpgsql volatile
security definer -- the job must belong to the owner, who may judge and go back
set search_path = pg_catalog, pg_temp
set jit = off
as $$
begin
  if enabled and not crossfade_private.has_cron() then
    perform crossfade_private.fail(409, 'CF018',
      'Cannot watch inside the database: pg_cron is not installed', '{}',
      'Run: create extension pg_cron, or keep crossfade monitor running.');
  end if;
  if enabled then
    -- Every minute, for a minute: works with every version of pg_cron, which never runs a job
    -- beside itself.
    execute 'select cron.schedule($1, $2, $3)'
    using 'crossfade_monitor', '* * * * *', crossfade_private.watch_command(55);
    perform crossfade_private.audit('monitor.drive', 'crossfade_monitor', null, null, null);
  elsif crossfade_private.unschedule_watch() then
    perform crossfade_private.audit('monitor.undrive', 'crossfade_monitor', null, null, null);
  end if;
  return jsonb_build_object('driven', enabled, 'job', 'crossfade_monitor',
    'schedule', case when enabled then '* * * * *' end,
    'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.drive_monitor is
  'Let a job of pg_cron watch while no monitor is alive, or (enabled: false) no longer: {"driven", "job", "schedule", "flags_version"}. It has R1, R1s, R1k and R12 and goes back by itself. Safe to repeat. CF018 without pg_cron.';
