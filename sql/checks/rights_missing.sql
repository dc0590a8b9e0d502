-- Can service_role, which edge functions and the control plane use, do what it must?
with ours as (
  select n.oid from pg_catalog.pg_namespace as n
  where n.nspname = 'crossfade'
),

needed as (
  select p.oid::regprocedure::text as object, 'EXECUTE' as privilege
  from pg_catalog.pg_proc as p
  where
    p.pronamespace in (select o.oid from ours as o)
    and not has_function_privilege('service_role', p.oid, 'execute')
  union all
  select c.oid::regclass::text, v.privilege
  from pg_catalog.pg_class as c
  cross join lateral (values ('SELECT'), ('INSERT'), ('UPDATE'), ('DELETE')) as v (privilege)
  where
    c.relnamespace in (select o.oid from ours as o)
    and c.relkind in ('r', 'p')
    and (
      v.privilege = 'SELECT'
      or c.relname in ('settings', 'flags', 'cohorts', 'kill_switches')
    )
    and not has_table_privilege('service_role', c.oid, v.privilege)
  union all
  select 'crossfade', 'USAGE'
  from ours as o
  where not has_schema_privilege('service_role', o.oid, 'usage')
)

select
  'rights_missing' as check_name, n.object,
  format('service_role has no %s', n.privilege) as problem,
  'Apply the newest migration of crossfade again; it revokes and grants everything.' as hint
from needed as n
order by n.object, n.privilege;
