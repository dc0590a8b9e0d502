-- Requests as the points of a curve.

create or replace function crossfade_private.point_width_s(minutes integer)
returns integer
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
  select min(w.minutes) * 60
  from (values (1), (2), (5), (10), (15), (30), (60), (120), (240), (360), (720), (1440))
    as w (minutes)
  where ceil(point_width_s.minutes::numeric / w.minutes) <= 200;
$$;

comment on function crossfade_private.point_width_s is
  'Seconds of one point, so that a window has at most 200 points.';

create or replace function crossfade_private.request_points(
  pair text, since timestamptz, upto timestamptz, width_s integer
)
returns table (
  point integer, backend_version smallint, wire_version smallint, outcome text,
  latency_bucket smallint, requests numeric
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  -- Hours hold only whole hours; a narrower point needs minutes.
  v_hours timestamptz := case when width_s % 3600 = 0 and since = date_trunc('hour', since)
    then greatest(crossfade_private.rolled_up_to(), request_points.since)
    else request_points.since end;
begin
  return query
  select floor(extract(epoch from r.minute - request_points.since) / width_s)::integer,
    r.backend_version, r.wire_version, r.outcome, r.latency_bucket, sum(r.requests)
  from (
    select h.hour as minute, h.backend_version, h.wire_version, h.outcome, h.latency_bucket,
      h.requests
    from crossfade.request_hours h
    where h.pair = request_points.pair and h.hour >= request_points.since
      and h.hour < least(v_hours, request_points.upto)
    union all
    select m.minute, m.backend_version, m.wire_version, m.outcome, m.latency_bucket, m.requests
    from crossfade.request_minutes m
    where m.pair = request_points.pair and m.minute >= v_hours and m.minute < request_points.upto
  ) r
  group by 1, 2, 3, 4, 5;
end $$;

comment on function crossfade_private.request_points is
  'Requests of [since, upto) summed over points of width_s seconds, 0 first. Minutes and hours give the same.';

create or replace function crossfade_private.summed_points(
  pair text, since timestamptz, upto timestamptz, width_s integer
)
returns table (
  point integer, backend_version smallint, requests numeric, errors numeric, fallbacks numeric,
  client_errors numeric, p50_ms numeric, p95_ms numeric, p99_ms numeric
)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with r as materialized (
    select p.point, p.backend_version, p.outcome, p.latency_bucket, sum(p.requests) as requests
    from crossfade_private.request_points(
      summed_points.pair, summed_points.since, summed_points.upto, summed_points.width_s) p
    where p.outcome in ('ok', 'error', 'fallback', 'client_error')
    group by 1, 2, 3, 4
  ),
  n as (
    select r.point, r.backend_version,
      coalesce(sum(r.requests) filter (where r.outcome <> 'client_error'), 0) as requests,
      coalesce(sum(r.requests) filter (where r.outcome in ('error', 'fallback')), 0) as errors,
      coalesce(sum(r.requests) filter (where r.outcome = 'fallback'), 0) as fallbacks,
      coalesce(sum(r.requests) filter (where r.outcome = 'client_error'), 0) as client_errors
    from r group by 1, 2
  ),
  h as (
    select b.*, sum(b.n) over (partition by b.point, b.backend_version order by b.latency_bucket)
        as upto,
      sum(b.n) over (partition by b.point, b.backend_version) as total
    from (
      select r.point, r.backend_version, r.latency_bucket, sum(r.requests) as n
      from r where r.outcome <> 'client_error'
      group by 1, 2, 3
    ) b
  ),
  -- As quantile_ms, but for all points at once.
  q as (
    select h.point, h.backend_version, v.quantile, round((case when h.latency_bucket = 0
      then (h.total * v.quantile - h.upto + h.n) / h.n
      else power(2::double precision,
        ((h.latency_bucket - 1 + (h.total * v.quantile - h.upto + h.n) / h.n) / 4)
          ::double precision) end)::numeric, 1) as ms
    from h
    join (values (0.5), (0.95), (0.99)) as v (quantile)
      on h.upto >= h.total * v.quantile and h.upto - h.n < h.total * v.quantile
  )
  select n.point, n.backend_version, n.requests, n.errors, n.fallbacks, n.client_errors,
    max(q.ms) filter (where q.quantile = 0.5), max(q.ms) filter (where q.quantile = 0.95),
    max(q.ms) filter (where q.quantile = 0.99)
  from n
  left join q on q.point = n.point and q.backend_version = n.backend_version
  group by 1, 2, 3, 4, 5, 6;
$$;

comment on function crossfade_private.summed_points is
  'One row a point and backend that had requests. requests = ok + error + fallback; errors = error + fallback; fallbacks: V2 failed and V1 answered.';
