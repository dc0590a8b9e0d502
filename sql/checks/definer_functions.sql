-- Can anybody but service_role run a function that works with its owner's rights? Operators may run
-- the two that ask for their role first, and users the one that tells about themselves.
select
  'definer_functions' as check_name, p.oid::regprocedure::text as object,
  format('%s may execute this SECURITY DEFINER function', r.rolname) as problem,
  format('revoke execute on function %s from public, %I;', p.oid::regprocedure, r.rolname) as hint
from pg_catalog.pg_proc as p
cross join (
  select o.rolname from pg_catalog.pg_roles as o
  where o.rolname in ('anon', 'authenticated')
) as r
where
  p.pronamespace in (
    select n.oid from pg_catalog.pg_namespace as n
    where n.nspname in ('crossfade', 'crossfade_private')
  )
  and p.prosecdef
  and has_function_privilege(r.rolname, p.oid, 'execute')
  and not (
    r.rolname = 'authenticated'
    and p.oid in (
      to_regprocedure('crossfade_private.operate(text,jsonb)'),
      to_regprocedure('crossfade_private.has_role(text)'),
      to_regprocedure('crossfade_private.my_backend(text)')
    )
  )
order by object, problem;
