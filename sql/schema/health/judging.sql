-- The rules that the database judges by itself: R1, R1s, R1k and R12.

create or replace function crossfade_private.wilson_lower(
  hits bigint, n bigint, z double precision
)
returns double precision
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
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
set search_path = pg_catalog, pg_temp
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
set search_path = pg_catalog, pg_temp
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
set search_path = pg_catalog, pg_temp
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
