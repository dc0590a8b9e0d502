-- What the health rules look at, and what they said. The rules themselves are in the control plane.

create or replace function crossfade_private.quantile_ms(
  histogram bigint[], quantile double precision
)
returns double precision
language sql immutable parallel safe
set search_path = ''
as $$
  with b as (
    select i - 1 as bucket, n, sum(n) over (order by i) as upto, sum(n) over () * quantile as wanted
    from unnest(histogram) with ordinality h(n, i)
  )
  select case when b.bucket = 0 then (b.wanted - b.upto + b.n) / b.n
    -- Between the bucket's bounds in proportion to its rank, on the log scale of the buckets.
    else power(2, (b.bucket - 1 + (b.wanted - b.upto + b.n) / b.n) / 4) end
  from b where b.n > 0 and b.upto >= b.wanted
  order by b.bucket limit 1;
$$;

comment on function crossfade_private.quantile_ms is
  'Quantile (0 to 1) in ms of a histogram of 80 counts, bucket 0 first; null when it is empty. At most 19 % off, the width of a bucket.';

create or replace function crossfade_private.backend_window(
  pair text, step bigint, backend_version integer, since timestamptz
)
returns jsonb
language sql stable
set search_path = ''
as $$
  with m as (
    select r.outcome, r.latency_bucket, r.requests from crossfade.request_minutes r
    where r.pair = backend_window.pair and r.minute >= backend_window.since
      and r.step = backend_window.step and r.backend_version = backend_window.backend_version
  ),
  n as (
    select
      coalesce(sum(m.requests) filter (where m.outcome in ('ok', 'error', 'fallback')), 0)
        as requests,
      coalesce(sum(m.requests) filter (where m.outcome in ('error', 'fallback')), 0) as errors,
      coalesce(sum(m.requests) filter (where m.outcome = 'client_error'), 0) as client_errors
    from m
  ),
  h as (
    select array_agg(coalesce(c.requests, 0)::bigint order by b) as histogram
    from generate_series(0, 79) b
    left join (
      select m.latency_bucket, sum(m.requests) as requests from m
      where m.outcome in ('ok', 'error', 'fallback') group by m.latency_bucket
    ) c on c.latency_bucket = b
  )
  select jsonb_build_object(
    'requests', n.requests, 'errors', n.errors, 'client_errors', n.client_errors,
    'error_rate', round(n.errors / nullif(n.requests, 0), 6),
    'p50_ms', round(crossfade_private.quantile_ms(h.histogram, 0.5)::numeric, 1),
    'p95_ms', round(crossfade_private.quantile_ms(h.histogram, 0.95)::numeric, 1))
  from n, h;
$$;

comment on function crossfade_private.backend_window is
  'Requests of one backend in a step since a minute: {"requests": ok + errors, "errors": error + fallback, "client_errors", "error_rate", "p50_ms", "p95_ms"}; the last three are null without requests.';

create or replace function crossfade_private.backend_counts(
  pair text, step bigint, backend_version integer, since timestamptz
)
returns jsonb
language sql stable
set search_path = ''
as $$
  select jsonb_build_object(
    'requests', coalesce(sum(r.requests), 0),
    'errors', coalesce(sum(r.requests) filter (where r.outcome <> 'ok'), 0))
  from crossfade.request_minutes r
  where r.pair = backend_counts.pair and r.minute >= date_trunc('minute', backend_counts.since)
    and r.step = backend_counts.step and r.backend_version = backend_counts.backend_version
    and r.outcome in ('ok', 'error', 'fallback');
$$;

comment on function crossfade_private.backend_counts is
  'Requests and errors of one backend in a step, without latencies: cheap enough for weeks.';

create or replace function crossfade_private.window_start(
  pair text, step bigint, step_started_at timestamptz
)
returns timestamptz
language sql stable
set search_path = ''
as $$
  with s as (
    select now() - crossfade_private.setting_number('health_window_s') * interval '1 s' as usual,
      now() - crossfade_private.setting_number('health_window_max_s') * interval '1 s' as longest
  ),
  v2 as (
    select r.minute, sum(sum(r.requests)) over (order by r.minute desc) as upto
    from crossfade.request_minutes r
    where r.pair = window_start.pair and r.step = window_start.step and r.backend_version = 2
      and r.outcome in ('ok', 'error', 'fallback') and r.minute >= (select s.longest from s)
    group by r.minute
  )
  select date_trunc('minute', greatest(
    window_start.step_started_at,
    s.longest,
    least(
      s.usual,
      -- Too few V2 requests in the whole step: then all of it.
      coalesce(
        (select max(v2.minute) from v2
         where v2.upto >= crossfade_private.setting_number('health_window_requests')),
        '-infinity'))))
  from s;
$$;

comment on function crossfade_private.window_start is
  'First minute of the window: the larger of the last 5 min and the last 50 V2 requests, within the step and the last 60 min (settings health_window_*).';

create or replace function crossfade.health_sample(pair text)
returns jsonb
language plpgsql stable
-- Definer: API roles hold no right on crossfade_private.
security definer
set search_path = ''
as $$
declare
  v_pair record := crossfade_private.get_pair(pair);
  v_since timestamptz := crossfade_private.window_start(
    v_pair.name, v_pair.step, v_pair.step_started_at);
  v_recent timestamptz := date_trunc('minute', greatest(v_pair.step_started_at,
    now() - crossfade_private.setting_number('health_window_s') * interval '1 s'));
begin
  return (
    select jsonb_build_object(
      'pair', v_pair.name, 'at', clock_timestamp(), 'stage', v_pair.stage,
      'percentage', coalesce(
        (select c.percentage from crossfade.cohorts c where c.pair = v_pair.name), 0),
      'step', v_pair.step, 'step_started_at', v_pair.step_started_at,
      'latched', v_pair.latched_at is not null, 'window_from', v_since,
      'backends', (
        select jsonb_object_agg(b,
          crossfade_private.backend_window(v_pair.name, v_pair.step, b, v_since)
          || jsonb_build_object('recent',
            crossfade_private.backend_window(v_pair.name, v_pair.step, b, v_recent),
            'whole', crossfade_private.backend_counts(
              v_pair.name, v_pair.step, b, v_pair.step_started_at)))
        from generate_series(1, 2) b),
      'streak', coalesce((
        select s.errors from crossfade_private.request_streaks s
        where s.pair = v_pair.name and s.step = v_pair.step), 0),
      -- Not through pair_status: its blockers may fail when a table has gone, and this must not.
      'open_failures', (
        select count(*) from crossfade.mirror_failures f
        where f.pair = v_pair.name and f.resolved_at is null),
      'open_mismatches', (
        select count(*) from crossfade.mismatches x
        where x.pair = v_pair.name and x.resolved_at is null),
      'drift_count', (select count(*) from crossfade.mirror_failures f where f.pair = v_pair.name),
      'runs', (
        select coalesce(jsonb_agg(crossfade_private.run_json(r.id) order by r.id), '[]')
        from crossfade.runs r where r.pair = v_pair.name and r.state in ('running', 'paused')),
      'shadow', (
        select jsonb_build_object('compared', coalesce(sum(r.requests), 0),
          'mismatched', coalesce(sum(r.requests) filter (where r.outcome = 'shadow_mismatch'), 0))
        from crossfade.request_minutes r
        where r.pair = v_pair.name and r.step = v_pair.step
          and r.outcome in ('shadow_match', 'shadow_mismatch')
          and r.minute >= date_trunc('minute', v_pair.step_started_at)),
      'newest_request_at', (
        select max(r.last_at) from crossfade.request_minutes r
        where r.pair = v_pair.name and r.minute >= now() - interval '1 day'),
      'flags_version', crossfade.flags_version())
      || crossfade_private.health_inputs(v_pair.name));
end $$;

comment on function crossfade.health_sample is
  'What the rules decide on, read at one moment, of the current step only: stage, percentage, "backends": {"1", "2"} each with requests, errors (error + fallback; client errors count in neither), error_rate, p50_ms, p95_ms and the same as "recent" (at most the last 5 min) and "whole" (counts of the whole step), streak of V2 errors now, open failures and mismatches, drift, shadow reads of the whole step, newest_request_at (of the last day), active runs, the last verify run (checked), lost_rows, memory_bytes of the last r6_window_s, baseline of V1, heartbeat_at of the monitor, engaged fences, rollout. Windows begin at a full minute. CF001.';

create or replace function crossfade.record_verdicts(pair text, verdicts jsonb)
returns jsonb
language plpgsql volatile
-- Definer: API roles hold no right on the table it writes.
security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_pair record := crossfade_private.get_pair(record_verdicts.pair);
  v_answer jsonb;
begin
  if jsonb_typeof(verdicts) is distinct from 'array' then
    perform crossfade_private.fail(
      400, 'CF012', 'Cannot record verdicts: verdicts must be a JSON array',
      jsonb_build_object('field', 'verdicts', 'value', verdicts));
  end if;
  with given as (
    select v.* from jsonb_to_recordset(verdicts) as v(
      rule text, verdict text, mode text, value double precision, n bigint, bound double precision,
      threshold double precision, window_s double precision, rule_version integer, details jsonb)
  ),
  stored as (
    insert into crossfade.verdicts (
      pair, rule, verdict, mode, value, n, bound, threshold, window_s, rule_version, details,
      breach_since)
    select v_pair.name, g.rule, g.verdict, coalesce(g.mode, 'enforce'), g.value, g.n, g.bound,
      g.threshold, g.window_s, coalesce(g.rule_version, 1), coalesce(g.details, '{}'),
      case when g.verdict in ('HOLD', 'FAIL') then coalesce(l.breach_since, clock_timestamp()) end
    from given g
    left join lateral (
      select o.breach_since from crossfade.verdicts o
      -- A breach of an earlier step says nothing about this one.
      where o.pair = v_pair.name and o.rule = g.rule and o.at >= v_pair.step_started_at
      order by o.id desc limit 1
    ) l on true
    returning id, rule, breach_since
  )
  select coalesce(jsonb_agg(
    jsonb_build_object('rule', s.rule, 'breach_since', s.breach_since) order by s.id), '[]')
  into v_answer
  from stored s;
  return jsonb_build_object('verdicts', v_answer);
exception when check_violation or not_null_violation or invalid_text_representation then
  perform crossfade_private.fail(
    400, 'CF012', format('Cannot record verdicts of "%s": %s', record_verdicts.pair, sqlerrm),
    jsonb_build_object('field', 'verdicts', 'value', verdicts));
end $$;

comment on function crossfade.record_verdicts is
  'Store one evaluation: array of {"rule", "verdict", "mode", "value", "n", "bound", "threshold", "window_s", "rule_version", "details"}. Returns {"verdicts": [{"rule", "breach_since"}]}: since when the rule has said HOLD or FAIL without a break in this step, else null. CF001, CF012.';
