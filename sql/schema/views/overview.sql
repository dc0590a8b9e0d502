-- One answer with every number that status, dashboard and metrics show, read at one moment.

create or replace function crossfade_private.changed_values(before jsonb, after jsonb)
returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_object_agg(coalesce(b.key, a.key),
    jsonb_build_array(b.value, a.value)), '{}')
  from jsonb_each(case jsonb_typeof(before) when 'object' then before else '{}' end) b
  full join jsonb_each(case jsonb_typeof(after) when 'object' then after else '{}' end) a
    on a.key = b.key
  where a.value is distinct from b.value
    and coalesce(b.key, a.key) not in ('updated_at', 'updated_by', 'engaged_at', 'engaged_by');
$$;

comment on function crossfade_private.changed_values is
  'What differs between two JSON objects: key -> [before, after]; {} when nothing does.';

create or replace function crossfade_private.overview_flags(minutes integer)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(jsonb_build_object(
    'name', f.name, 'description', f.description, 'enabled', f.enabled,
    'percentage', f.percentage, 'killed_by', (
      select coalesce(jsonb_agg(k.name order by k.name), '[]') from crossfade.kill_switches k
      where k.engaged and (k.overrides_all or k.name = any (f.killed_by))),
    'on', coalesce(x.is_on, 0), 'off', coalesce(x.is_off, 0)) order by f.name), '[]')
  from crossfade.flags f
  left join (
    select e.flag, sum(e.exposures) filter (where e.variant = 'on') as is_on,
      sum(e.exposures) filter (where e.variant = 'off') as is_off
    from crossfade.flag_exposures e
    where e.minute > now() - make_interval(mins => overview_flags.minutes)
    group by e.flag
  ) x on x.flag = f.name;
$$;

comment on function crossfade_private.overview_flags is
  'Every flag with how often it was answered on and off in the last minutes; killed_by: engaged switches that turn it off now.';

create or replace function crossfade_private.overview_timeline(events integer)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(jsonb_build_object(
    'id', a.id, 'at', a.at, 'actor', a.actor, 'action', a.action, 'object', a.object,
    'reason', a.reason, 'changes', crossfade_private.changed_values(a.before, a.after))
    order by a.id desc), '[]')
  from (
    select u.* from crossfade.audit u order by u.id desc limit overview_timeline.events
  ) a;
$$;

comment on function crossfade_private.overview_timeline is
  'The newest audit rows: who did what, when and why, and which values changed.';

create or replace function crossfade_private.overview_totals()
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(to_jsonb(t)), '[]')
  from (
    select c.pair, c.backend_version, c.wire_version, c.outcome, sum(c.requests) as requests,
      jsonb_object_agg(c.latency_bucket, c.requests) as histogram
    from (
      select u.pair, u.backend_version, u.wire_version, u.outcome, u.latency_bucket,
        sum(u.requests) as requests
      from (
        select * from crossfade.request_totals
        union all
        select m.pair, m.backend_version, m.wire_version, m.outcome, m.latency_bucket, m.requests
        from crossfade_private.counted_pairs() p
        join crossfade.request_minutes m
          on m.pair = p.p and m.minute >= crossfade_private.rolled_up_to()
      ) u
      group by 1, 2, 3, 4, 5
    ) c
    group by 1, 2, 3, 4
    order by 1, 2, 3, 4
  ) t;
$$;

comment on function crossfade_private.overview_totals is
  'All requests ever counted, by pair, versions and outcome, with "histogram": latency bucket -> requests.';

create or replace function crossfade.overview(
  minutes integer default 60, series text default null, totals boolean default false
)
returns jsonb
language plpgsql stable
security definer -- one door to what an operator may see
set search_path = pg_catalog, pg_temp
set jit = off
as $$
begin
  if minutes is null or minutes not between 1 and 44640 then
    perform crossfade_private.fail(400, 'CF012', format('Invalid minutes %s', minutes),
      jsonb_build_object('minutes', minutes), 'Use 1 to 44640 (31 days).');
  end if;
  if series is not null then
    perform crossfade_private.get_pair(series);
  end if;
  return jsonb_build_object(
    'at', clock_timestamp(), 'flags_version', crossfade.flags_version(), 'minutes', minutes,
    'pairs', (
      select coalesce(jsonb_agg(crossfade_private.overview_pair(p) order by p.name), '[]')
      from crossfade.pairs p),
    'series', case when series is not null
      then crossfade_private.traffic_series(series, minutes) end,
    'kill_switches', (
      select coalesce(jsonb_agg(to_jsonb(k) order by k.name), '[]')
      from crossfade.kill_switches k),
    'flags', crossfade_private.overview_flags(least(minutes, 1440)),
    'settings', (select jsonb_object_agg(t.name, t.value) from crossfade.settings t),
    'throttle', crossfade_private.throttle_reason(),
    'monitor', (select to_jsonb(m) - 'singleton' from crossfade.monitors m),
    'rollbacks', jsonb_build_object(
      'count', (select count(*) from crossfade.rollbacks),
      'newest', (
        select coalesce(jsonb_agg(to_jsonb(r) order by r.id desc), '[]')
        from (
          select b.id, b.at, b.actor, b.level, b.scope, b.reason, b.automatic, b.snapshot
          from crossfade.rollbacks b order by b.id desc limit 20
        ) r)),
    'timeline', crossfade_private.overview_timeline(60),
    'rolled_up_to', nullif(crossfade_private.rolled_up_to(), '-infinity'),
    'totals', case when totals then crossfade_private.overview_totals() end);
end $$;

comment on function crossfade.overview is
  'Everything that status, dashboard and metrics show, at one moment: {"at", "flags_version", "pairs": [pair_status with "traffic" of the last health_window_s, "verdicts", "progress" of the newest runs, "failures", "mismatches", ...], "series": traffic of one pair over the last minutes, null unless asked for, "kill_switches", "flags" with exposures of the last minutes (at most a day), "settings": name -> value, "throttle": why batches wait, "monitor", "rollbacks": {"count", "newest"}, "timeline", "rolled_up_to", "totals": counters since the beginning, null unless asked for}. Reads only. CF001, CF012.';
