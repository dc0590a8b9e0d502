-- Latency histograms of recorded requests.

create or replace function crossfade_private.quantile_ms(
  histogram bigint[], quantile double precision
)
returns double precision
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
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
