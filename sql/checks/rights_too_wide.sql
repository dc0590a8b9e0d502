-- May anybody but service_role use crossfade, or may service_role do more than it needs? Signed-in
-- users may call crossfade.operate and read what the policies show, which both ask for an operator,
-- and crossfade.my_backend.
with ours as (
  select n.oid, n.nspname from pg_catalog.pg_namespace as n
  where n.nspname in ('crossfade', 'crossfade_private')
),

granted as (
  select
    'schema' as kind, n.nspname as schema_name, n.nspname::text as object,
    x.grantee, x.privilege_type
  from ours as n
  inner join pg_catalog.pg_namespace as s on n.oid = s.oid
  cross join lateral aclexplode(s.nspacl) as x
  union all
  select 'function', n.nspname, p.oid::regprocedure::text, x.grantee, x.privilege_type
  from ours as n
  inner join pg_catalog.pg_proc as p on n.oid = p.pronamespace
  -- A function nobody has granted or revoked has the built-in grant to PUBLIC.
  cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as x
  union all
  select 'table', n.nspname, c.oid::regclass::text, x.grantee, x.privilege_type
  from ours as n
  inner join pg_catalog.pg_class as c on n.oid = c.relnamespace
  cross join lateral aclexplode(c.relacl) as x
  where c.relkind in ('r', 'p', 'v', 'm', 'S')
)

select
  'rights_too_wide' as check_name, g.object,
  format(
    '%s has %s on this %s', coalesce(r.rolname, 'PUBLIC'), g.privilege_type, g.kind
  ) as problem,
  'Apply the newest migration of crossfade again; it revokes and grants everything.' as hint
from granted as g
left join pg_catalog.pg_roles as r on g.grantee = r.oid
where
  coalesce(r.rolname, 'PUBLIC') in ('PUBLIC', 'anon', 'authenticated', 'service_role')
  and not coalesce(
    r.rolname = 'service_role' and g.schema_name = 'crossfade' and (
      g.kind = 'schema' and g.privilege_type = 'USAGE'
      or g.kind = 'function' and g.privilege_type = 'EXECUTE'
      or g.kind = 'table' and g.privilege_type = 'SELECT'
      or g.privilege_type in ('INSERT', 'UPDATE', 'DELETE')
      and g.object in (
        'crossfade.settings', 'crossfade.flags', 'crossfade.cohorts', 'crossfade.kill_switches'
      )
    ), false
  )
  and not coalesce(
    r.rolname = 'authenticated' and (
      g.kind = 'schema' and g.object = 'crossfade' and g.privilege_type = 'USAGE'
      or g.kind = 'table' and g.schema_name = 'crossfade' and g.privilege_type = 'SELECT'
      or g.object in (
        'crossfade.operate(text,jsonb)', 'crossfade_private.operate(text,jsonb)',
        'crossfade.my_backend(text)', 'crossfade_private.my_backend(text)',
        'crossfade_private.has_role(text)'
      )
    ), false
  )
order by g.object, problem;
