-- Has every foreign key of our tables and of paired tables an index that begins with its columns?
-- Without one, each delete in the parent table reads the whole child table, twice when mirrored.
with watched as (
  select c.oid from pg_catalog.pg_class as c
  where c.relnamespace in (
    select n.oid from pg_catalog.pg_namespace as n
    where n.nspname in ('crossfade', 'crossfade_private')
  )
  union
  select t.oid
  from crossfade.pairs as p
  cross join lateral (values (to_regclass(p.v1_table)), (to_regclass(p.v2_table))) as t (oid)
)

select
  'foreign_keys' as check_name, format('%I.%I', n.nspname, c.relname) as object,
  format('foreign key "%s" has no index', k.conname) as problem,
  format(
    'create index concurrently on %I.%I (%s);', n.nspname, c.relname,
    (
      select string_agg(quote_ident(a.attname), ', ' order by u.place)
      from unnest(k.conkey) with ordinality as u (attnum, place)
      inner join pg_catalog.pg_attribute as a on k.conrelid = a.attrelid and u.attnum = a.attnum
    )
  ) as hint
from pg_catalog.pg_constraint as k
inner join pg_catalog.pg_class as c on k.conrelid = c.oid
inner join pg_catalog.pg_namespace as n on c.relnamespace = n.oid
where
  k.contype = 'f'
  and k.conrelid in (select w.oid from watched as w)
  and not exists (
    select i.indexrelid from pg_catalog.pg_index as i
    where
      i.indrelid = k.conrelid
      and i.indisvalid
      and i.indpred is null
      -- The first columns of the index, in any order, are the columns of the key.
      and (i.indkey::smallint[])[0:cardinality(k.conkey) - 1] @> k.conkey
  )
order by object, problem;
