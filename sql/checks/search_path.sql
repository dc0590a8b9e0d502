-- Does every function pin its search_path? Temporary objects come last: a domain of that schema
-- must not stand in for a type of ours.
select
  'search_path' as check_name, p.oid::regprocedure::text as object,
  'search_path is not pinned to pg_catalog, pg_temp' as problem,
  format('alter function %s set search_path = pg_catalog, pg_temp;', p.oid::regprocedure) as hint
from pg_catalog.pg_proc as p
where
  p.pronamespace in (
    select n.oid from pg_catalog.pg_namespace as n
    where n.nspname in ('crossfade', 'crossfade_private')
  )
  and not coalesce('search_path=pg_catalog, pg_temp' = any(p.proconfig), false)
order by object;
