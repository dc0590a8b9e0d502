-- Watching without Python (R12): where pg_cron is installed, a job of it evaluates R1, R1s, R1k and
-- R12 whenever no monitor is alive, and goes back by itself. It never goes forward.

create or replace function crossfade_private.wilson_lower(
  hits bigint, n bigint, z double precision
)
returns double precision
language sql immutable parallel safe
set search_path = ''
as $$
  select case when wilson_lower.n = 0 then 0 else greatest(0, (
    r.rate + z * z / (2 * n) - z * sqrt(r.rate * (1 - r.rate) / n + z * z / (4.0 * n * n)))
    / (1 + z * z / n)) end
  from (select hits::double precision / nullif(n, 0) as rate) r;
$$;

comment on function crossfade_private.wilson_lower is
  'One-sided lower Wilson bound of the true rate; 0 without data.';

create or replace function crossfade_private.breach_since(
  rule text, sample jsonb, previous jsonb, settings jsonb
)
returns timestamptz
language sql immutable
set search_path = ''
as $$
  -- A breach last seen long ago, or in an earlier step, is over: it begins now.
  select coalesce(case
    when b.at < (sample ->> 'at')::timestamptz - make_interval(secs => greatest(120,
      4 * (settings ->> 'monitor_interval_s')::double precision)) then null
    when b.at < (sample ->> 'step_started_at')::timestamptz then null
    else (previous -> rule ->> 'since')::timestamptz end,
    (sample ->> 'at')::timestamptz)
  from (select (previous -> rule ->> 'at')::timestamptz as at) b;
$$;

comment on function crossfade_private.breach_since is
  'When the breach of a rule that is seen now began: as the verdict before says, or now.';

create or replace function crossfade_private.judge_error_rate(
  sample jsonb, previous jsonb, settings jsonb
)
returns table (
  rule text, verdict text, message text, value double precision, n bigint, bound double precision,
  threshold double precision, level text, since timestamptz, details jsonb
)
language sql immutable
set search_path = ''
as $$
  with q as (
    select coalesce((sample #>> '{backends,2,requests}')::bigint, 0) as n,
      coalesce((sample #>> '{backends,2,errors}')::bigint, 0) as k,
      coalesce((sample #>> '{backends,1,requests}')::bigint, 0) as n1,
      coalesce((sample #>> '{backends,1,errors}')::bigint, 0) as k1
  ),
  w as (
    select q.*, case when q.n = 0 then 0 else q.k::double precision / q.n end as rate,
      crossfade_private.wilson_lower(q.k, q.n, (settings ->> 'wilson_z')::double precision) as bound
    from q
  ),
  b as (
    select r.rule, r.threshold, r.level, r.hold_s, w.*, r.breach,
      r.breach and w.n1 >= (settings ->> 'r1_min_requests')::bigint
        and w.k1::double precision / nullif(w.n1, 0)
          >= w.rate - (settings ->> 'shared_cause_margin_rate')::double precision as shared,
      case when r.breach
        then crossfade_private.breach_since(r.rule, sample, previous, settings) end as since
    from w
    cross join lateral (
      values
      ('R1', (settings ->> 'r1_error_rate')::double precision, 'COMPLETE',
        (settings ->> 'r1_hold_s')::double precision,
        w.n >= (settings ->> 'r1_min_requests')::bigint
        and w.rate >= (settings ->> 'r1_error_rate')::double precision
        and w.bound >= (settings ->> 'r1_lower_bound_rate')::double precision),
      ('R1s', (settings ->> 'r1s_lower_bound_rate')::double precision, 'EMERGENCY', 0,
        w.n >= (settings ->> 'r1s_min_requests')::bigint
        and w.bound >= (settings ->> 'r1s_lower_bound_rate')::double precision)
    ) as r (rule, threshold, level, hold_s, breach)
  )
  select b.rule, case
      when not b.breach then 'PASS'
      when b.shared and settings ->> 'shared_cause' = 'suppress' then 'HOLD'
      when extract(epoch from (sample ->> 'at')::timestamptz - b.since) >= b.hold_s then 'FAIL'
      else 'HOLD' end,
    format('%s of %s V2 requests failed%s', b.k, b.n, case when b.shared then ', V1 as well'
      else '' end),
    b.rate, b.n, b.bound, b.threshold, b.level, b.since,
    jsonb_build_object('errors', b.k, 'shared_cause', coalesce(b.shared, false))
  from b;
$$;

comment on function crossfade_private.judge_error_rate is 'R1 and R1s, as the control plane has them.';

create or replace function crossfade_private.judge(sample jsonb, previous jsonb, settings jsonb)
returns jsonb
language sql immutable
set search_path = ''
as $$
  with v as (
    select * from crossfade_private.judge_error_rate(sample, previous, settings)
    union all
    select 'R1k', case when s.streak >= s.wanted then 'FAIL' else 'PASS' end,
      case when s.streak > 0 then format('the last %s V2 requests failed', s.streak)
        else 'the last V2 request worked' end,
      s.streak::double precision, s.streak, null, s.wanted::double precision, 'EMERGENCY',
      case when s.streak >= s.wanted
        then crossfade_private.breach_since('R1k', sample, previous, settings) end, '{}'
    from (select coalesce((sample ->> 'streak')::bigint, 0) as streak,
      (settings ->> 'r1k_streak')::bigint as wanted) s
    union all
    select 'R12', case when h.dead then 'HOLD' else 'PASS' end,
      case when h.age_s is null then 'no monitor runs'
        else format('the monitor was heard %s s ago', round(h.age_s::numeric)) end,
      h.age_s, null, null, h.limit_s, null,
      case when h.dead then crossfade_private.breach_since('R12', sample, previous, settings) end,
      jsonb_build_object('page', h.dead)
    from (
      select a.age_s, a.limit_s,
        -- Nobody ever started one: that is news only while a plan relies on it.
        coalesce(a.age_s > a.limit_s, sample #>> '{rollout,state}' = 'running', false) as dead
      from (
        select extract(epoch from (sample ->> 'at')::timestamptz
          - (sample ->> 'heartbeat_at')::timestamptz)::double precision as age_s,
          (settings ->> 'r12_dead_s')::double precision as limit_s
      ) a
    ) h
  )
  select jsonb_agg(jsonb_build_object(
    'rule', v.rule, 'verdict', v.verdict, 'mode', m.mode, 'value', v.value, 'n', v.n,
    'bound', v.bound, 'threshold', v.threshold, 'level', v.level,
    'window_s', extract(epoch from (sample ->> 'at')::timestamptz - coalesce(
      (sample ->> 'window_from')::timestamptz, (sample ->> 'at')::timestamptz
        - (settings ->> 'health_window_s')::double precision * interval '1 s')),
    'rule_version', settings -> 'rule_version',
    'details', v.details || jsonb_build_object('message', v.message, 'since', v.since))
    order by v.rule)
  from v
  cross join lateral (
    select coalesce(settings #>> array['rule_modes', v.rule], 'enforce') as mode
  ) m
  where m.mode <> 'off';
$$;

comment on function crossfade_private.judge is
  'Verdicts of R1, R1s, R1k and R12 on a health sample, equal to those of the control plane (tests/vectors/health_rules.json): rows for record_verdicts, with "level". previous: rule -> {"at", "since"} of the verdict before. settings: name -> value.';

create or replace function crossfade_private.watch_pair(pair text)
returns jsonb
language plpgsql volatile
set search_path = ''
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
  select max(v ->> 'level'),  -- EMERGENCY comes after COMPLETE, by luck of the alphabet
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
set search_path = ''
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
set search_path = ''
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
set search_path = ''
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
set search_path = ''
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
