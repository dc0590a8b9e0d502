-- One answer with every number that status, dashboard and metrics show, read at one moment.

create or replace function crossfade_private.changed_values(before jsonb, after jsonb)
returns jsonb
language sql immutable
set search_path = ''
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

create or replace function crossfade_private.last_verdicts(pair text)
returns setof crossfade.verdicts
language sql stable
set search_path = ''
as $$
  -- One index probe a rule, however many verdicts are kept.
  with recursive r (rule) as (
    select min(v.rule) from crossfade.verdicts v where v.pair = last_verdicts.pair
    union all
    select (
      select min(v.rule) from crossfade.verdicts v
      where v.pair = last_verdicts.pair and v.rule > r.rule)
    from r where r.rule is not null
  )
  select l.*
  from r
  cross join lateral (
    select v.* from crossfade.verdicts v
    where v.pair = last_verdicts.pair and v.rule = r.rule
    order by v.id desc limit 1
  ) l;
$$;

comment on function crossfade_private.last_verdicts is 'The newest verdict of each rule on a pair.';

create or replace function crossfade_private.sees_rows()
returns boolean
language sql stable
set search_path = ''
as $$
  select not crossfade_private.is_api_user() or crossfade_private.has_role('operator');
$$;

comment on function crossfade_private.sees_rows is
  'Whether the caller may see keys and values of the user''s tables: everybody but viewers.';

create or replace function crossfade_private.overview_runs(pair text)
returns jsonb
language sql stable
set search_path = ''
as $$
  select coalesce(jsonb_agg(j.run || jsonb_build_object(
    'rows_per_s', round(j.rows_per_s, 1),
    -- Beyond the estimate, or not running: nobody can say.
    'left_s', case when j.run ->> 'state' = 'running' and j.rows_total >= j.rows_done
      then round((j.rows_total - j.rows_done) / nullif(j.rows_per_s, 0), 1) end)
    order by (j.run ->> 'id')::bigint desc), '[]')
  from (
    select l.run, (l.run ->> 'rows_total')::numeric as rows_total,
      (l.run ->> 'rows_done')::numeric as rows_done,
      (l.run ->> 'rows_done')::numeric / nullif(extract(epoch from
        (l.run ->> 'progress_at')::timestamptz - (l.run ->> 'started_at')::timestamptz), 0)
        as rows_per_s
    from (
      select crossfade_private.run_json(max(r.id)) as run from crossfade.runs r
      where r.pair = overview_runs.pair group by r.kind
    ) l
  ) j;
$$;

comment on function crossfade_private.overview_runs is
  'The newest run of each kind with "rows_per_s" (since it began) and "left_s" (null when unknown).';

create or replace function crossfade_private.overview_differences(pair text)
returns jsonb
language sql stable
set search_path = ''
as $$
  select jsonb_build_object(
    'failures', (
      select coalesce(jsonb_agg(to_jsonb(f) - 'pair' - 'resolved_at' - 'resolution'
        order by f.id desc), '[]')
      from (
        select m.* from crossfade.mirror_failures m
        where m.pair = overview_differences.pair and m.resolved_at is null
          and crossfade_private.sees_rows()
        order by m.id desc limit 20
      ) f),
    'mismatches', (
      select coalesce(jsonb_agg(to_jsonb(x)
        - '{pair,resolved_at,resolution,preserved}'::text[] order by x.id desc), '[]')
      from (
        select m.* from crossfade.mismatches m
        where m.pair = overview_differences.pair and m.resolved_at is null
          and crossfade_private.sees_rows()
        order by m.id desc limit 20
      ) x));
$$;

comment on function crossfade_private.overview_differences is
  'The newest 20 open mirror failures and mismatches of a pair; none for viewers, because they hold keys and values.';

create or replace function crossfade_private.overview_pair(pair crossfade.pairs)
returns jsonb
language plpgsql stable
set search_path = ''
as $$
declare
  v_pair crossfade.pairs := pair;
  v_name text := v_pair.name;
  v_now timestamptz := date_trunc('minute', now());
  v_status jsonb;
begin
  begin
    v_status := crossfade_private.pair_json(v_pair)
      || jsonb_build_object('rollout', crossfade_private.rollout_json(v_name));
  exception when others then
    -- A table of the pair may be gone. The rest is then needed more than ever.
    v_status := jsonb_build_object('name', v_name, 'stage', v_pair.stage,
      'v1_table', v_pair.v1_table, 'v2_table', v_pair.v2_table, 'problem', sqlerrm);
  end;
  return v_status || jsonb_build_object(
    'progress', crossfade_private.overview_runs(v_name),
    'traffic', crossfade_private.traffic_window(v_name,
      v_now - crossfade_private.setting_number('health_window_s') * interval '1 s',
      v_now + interval '1 minute'),
    'shadow', (
      select jsonb_build_object('compared', coalesce(sum(m.requests), 0),
        'mismatched', coalesce(sum(m.requests) filter (where m.outcome = 'shadow_mismatch'), 0))
      from crossfade.request_minutes m
      where m.pair = v_name and m.minute >= date_trunc('minute', greatest(v_pair.step_started_at,
          now() - interval '1 day'))
        and m.step = v_pair.step and m.outcome in ('shadow_match', 'shadow_mismatch')
        and v_pair.stage = 'shadow'),
    'streak', coalesce((
      select s.errors from crossfade_private.request_streaks s
      where s.pair = v_name and s.step = v_pair.step), 0),
    'baseline', (select to_jsonb(b) - 'pair' from crossfade.baselines b where b.pair = v_name),
    'newest_request_at', (
      select max(m.last_at) from crossfade.request_minutes m
      where m.pair = v_name and m.minute = (
        select max(n.minute) from crossfade.request_minutes n where n.pair = v_name)),
    'verdicts', (
      select coalesce(jsonb_agg(to_jsonb(v) - 'id' - 'pair' order by v.rule), '[]')
      from crossfade_private.last_verdicts(v_name) v))
    || crossfade_private.overview_differences(v_name);
end $$;

comment on function crossfade_private.overview_pair is
  'pair_status of one pair (or "problem" when it fails) and what is measured of it now. Never raises for what a project may do.';

create or replace function crossfade_private.overview_flags(minutes integer)
returns jsonb
language sql stable
set search_path = ''
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
set search_path = ''
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
set search_path = ''
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
set search_path = ''
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

-- The rows behind a difference --------------------------------------------------------------------

create or replace function crossfade.show_rows(pair text, key jsonb)
returns jsonb
language plpgsql stable
security definer -- reads the owner's tables; operators and the secret key only
set search_path = ''
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_pieces jsonb := crossfade_private.run_pieces(v_pair, 'v1_to_v2');
  v_v1 jsonb;
  v_v2 jsonb;
begin
  execute crossfade_private.render(
    'select to_jsonb(cf_t) from {source} cf_t where ({skey_t}) = ({skey_1})', v_pieces)
  into v_v1 using key;
  execute crossfade_private.render(
    'select to_jsonb(cf_t) from {target} cf_t where ({tkey_t}) = ({skey_1})', v_pieces)
  into v_v2 using key;
  return jsonb_build_object('pair', pair, 'key', key, 'v1', v_v1, 'v2', v_v2);
end $$;

comment on function crossfade.show_rows is
  'Both rows of a key (V1 column names): {"pair", "key", "v1": row or null, "v2": row or null}. Holds the user''s data. CF001; 22P02 for a key of another type.';
