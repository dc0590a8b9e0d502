-- The requests of a stretch of time.

create or replace function crossfade_private.backend_window(
  pair text, step bigint, backend_version integer, since timestamptz
)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
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
set search_path = pg_catalog, pg_temp
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
set search_path = pg_catalog, pg_temp
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
