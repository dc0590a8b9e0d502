-- Is row-level security on for every table, without a policy that lets everybody write?
select
  'row_level_security' as check_name, c.oid::regclass::text as object,
  'row-level security is off' as problem,
  format('alter table %s enable row level security;', c.oid::regclass) as hint
from pg_catalog.pg_class as c
where
  c.relnamespace in (
    select n.oid from pg_catalog.pg_namespace as n
    where n.nspname in ('crossfade', 'crossfade_private')
  )
  and c.relkind in ('r', 'p')
  and not c.relrowsecurity
union all
select
  'row_level_security', format('%I.%I', p.schemaname, p.tablename),
  format('policy "%s" lets %s write every row', p.policyname, array_to_string(p.roles, ', ')),
  format('drop policy %I on %I.%I;', p.policyname, p.schemaname, p.tablename)
from pg_catalog.pg_policies as p
where
  p.schemaname in ('crossfade', 'crossfade_private')
  and p.roles && array['public', 'anon', 'authenticated']::name[]
  and p.cmd <> 'SELECT'
  and 'true' in (p.qual, p.with_check)
order by object, problem;
