-- Does every function pin an empty search_path?
select
  'search_path' as check_name, p.oid::regprocedure::text as object,
  'search_path is not pinned to the empty string' as problem,
  format('alter function %s set search_path = '''';', p.oid::regprocedure) as hint
from pg_catalog.pg_proc as p
where
  p.pronamespace in (
    select n.oid from pg_catalog.pg_namespace as n
    where n.nspname in ('crossfade', 'crossfade_private')
  )
  and not coalesce('search_path=""' = any(p.proconfig), false)
order by object;
