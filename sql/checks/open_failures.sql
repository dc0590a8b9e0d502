-- Has every write reached both tables?
select
  'open_failures' as check_name, f.pair as object,
  format(
    '%s writes have reached one table only, the first %s (%s: %s)', count(*),
    to_char(min(f.at) at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
    (array_agg(f.error_code order by f.id))[1], (array_agg(f.message order by f.id))[1]
  ) as problem,
  format('crossfade repair %s', f.pair) as hint
from crossfade.mirror_failures as f
where f.resolved_at is null
group by f.pair
order by f.pair;
