-- Requests over time for people: counts, error rates and latency quantiles by version.

create or replace function crossfade_private.traffic_window(
  pair text, since timestamptz, upto timestamptz
)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object('since', traffic_window.since, 'upto', traffic_window.upto,
    'backends', jsonb_object_agg(b.version::text, jsonb_build_object(
      'requests', coalesce(s.requests, 0), 'errors', coalesce(s.errors, 0),
      'fallbacks', coalesce(s.fallbacks, 0), 'client_errors', coalesce(s.client_errors, 0),
      'error_rate', round(s.errors / nullif(s.requests, 0), 6),
      'p50_ms', s.p50_ms, 'p95_ms', s.p95_ms, 'p99_ms', s.p99_ms)))
  from generate_series(1, 2) b (version)
  left join crossfade_private.summed_points(
    traffic_window.pair, traffic_window.since, traffic_window.upto, 2147482800) s
    on s.backend_version = b.version;
$$;

comment on function crossfade_private.traffic_window is
  'Both backends over one window, whatever the step: {"since", "upto", "backends": {"1", "2"}}; error_rate and latencies are null without requests.';

create or replace function crossfade_private.traffic_series(pair text, minutes integer)
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_width_s integer := crossfade_private.point_width_s(minutes);
  v_points integer := ceil(minutes * 60.0 / v_width_s);
  v_upto timestamptz := to_timestamp(
    (floor(extract(epoch from now()) / v_width_s) + 1) * v_width_s);
  v_since timestamptz := v_upto - make_interval(secs => v_points * v_width_s);
begin
  return (
    with s as materialized (
      select * from crossfade_private.summed_points(pair, v_since, v_upto, v_width_s)
    ),
    w as materialized (
      select p.point, p.wire_version, sum(p.requests) as requests
      from crossfade_private.request_points(pair, v_since, v_upto, v_width_s) p
      where p.outcome in ('ok', 'error', 'fallback', 'client_error')
      group by 1, 2
    )
    select jsonb_build_object(
      'pair', pair, 'since', v_since, 'upto', v_upto, 'width_s', v_width_s, 'points', v_points,
      'backends', (
        select jsonb_object_agg(b.version::text, (
          select jsonb_build_object(
            'requests', jsonb_agg(coalesce(s.requests, 0) order by g.point),
            'errors', jsonb_agg(coalesce(s.errors, 0) order by g.point),
            'fallbacks', jsonb_agg(coalesce(s.fallbacks, 0) order by g.point),
            'client_errors', jsonb_agg(coalesce(s.client_errors, 0) order by g.point),
            'p50_ms', jsonb_agg(s.p50_ms order by g.point),
            'p95_ms', jsonb_agg(s.p95_ms order by g.point),
            'p99_ms', jsonb_agg(s.p99_ms order by g.point))
          from generate_series(0, v_points - 1) g (point)
          left join s on s.point = g.point and s.backend_version = b.version))
        from generate_series(1, 2) b (version)),
      'wires', (
        select jsonb_object_agg(v.version::text, (
          select jsonb_agg(coalesce(w.requests, 0) order by g.point)
          from generate_series(0, v_points - 1) g (point)
          left join w on w.point = g.point and w.wire_version = v.version))
        from generate_series(1, 2) v (version)),
      'total', crossfade_private.traffic_window(pair, v_since, v_upto)));
end $$;

comment on function crossfade_private.traffic_series is
  'The last minutes of a pair in at most 200 points, oldest first, the last one still filling: per backend arrays of requests, errors, fallbacks, client_errors and latencies (null without requests), per wire version requests, and "total" over all of it.';
