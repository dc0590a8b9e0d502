-- Does every table and function say what it is?
select
  'comments' as check_name, c.oid::regclass::text as object,
  'table has no comment' as problem,
  format('comment on table %s is ''...'';', c.oid::regclass) as hint
from pg_catalog.pg_class as c
where
  c.relnamespace in (
    select n.oid from pg_catalog.pg_namespace as n
    where n.nspname in ('crossfade', 'crossfade_private')
  )
  and c.relkind in ('r', 'p', 'v', 'm')
  and obj_description(c.oid, 'pg_class') is null
union all
select
  'comments', p.oid::regprocedure::text,
  'function has no comment',
  format('comment on function %s is ''...'';', p.oid::regprocedure)
from pg_catalog.pg_proc as p
where
  p.pronamespace in (
    select n.oid from pg_catalog.pg_namespace as n
    where n.nspname in ('crossfade', 'crossfade_private')
  )
  -- Generated for a pair; the template they come from is commented.
  and p.proname !~ '^mirror_.+_v[12]_[a-z]+$'
  and obj_description(p.oid, 'pg_proc') is null
order by object;
