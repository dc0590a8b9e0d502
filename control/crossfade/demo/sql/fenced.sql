-- Direct writes of V2 that committed while a fencing kill switch was engaged. Both times are commit
-- times of PostgreSQL (track_commit_timestamp), not clocks of a client.

with changes as (
  select
    a.object,
    (a.after ->> 'engaged')::boolean as engaged,
    pg_xact_commit_timestamp(a.xmin) as at,
    lead(pg_xact_commit_timestamp(a.xmin)) over (partition by a.object order by a.id) as until
  from crossfade.audit as a
  where
    a.action = 'kill_switch.update'
    and a.before -> 'engaged' is distinct from a.after -> 'engaged'
    and (a.after ->> 'fences')::boolean
)

select
  'written while ' || c.object || ' was engaged' as problem,
  count(*) as number,
  (array_agg(w.key order by w.id))[1:5] as sample
from crossfade_demo.direct_writes as w
join changes as c
  on c.engaged
  and pg_xact_commit_timestamp(w.xmin) > c.at
  and pg_xact_commit_timestamp(w.xmin) < coalesce(c.until, 'infinity')
group by c.object
order by c.object;
