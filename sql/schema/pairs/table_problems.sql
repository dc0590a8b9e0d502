-- What keeps a table from being mirrored, by name and with the reason.

create or replace function crossfade_private.table_problems(
  tab regclass, label text, key_columns text[]
)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with t as (select c.* from pg_catalog.pg_class c where c.oid = tab),
  tree as (select m.id from crossfade_private.table_tree(tab) m)
  select format('%s %s is %s; only tables can be mirrored', label, tab,
    case t.relkind when 'v' then 'a view' when 'm' then 'a materialized view'
      when 'f' then 'a foreign table' else 'not a table' end)
  from t where t.relkind not in ('r', 'p')
  union all
  select format('%s %s is %s: a crash would empty it, and no trigger sees that', label,
    c.oid::regclass, case c.relpersistence when 'u' then 'unlogged' else 'temporary' end)
  from tree join pg_catalog.pg_class c on c.oid = tree.id where c.relpersistence <> 'p'
  union all
  select format(
    '%s %s: its partition %s is a foreign table, of whose rows PostgreSQL tells no statement trigger; run: alter table %s detach partition %3$s',
    label, tab, c.oid::regclass, i.inhparent::regclass)
  from tree join pg_catalog.pg_class c on c.oid = tree.id and c.relkind = 'f'
  join pg_catalog.pg_inherits i on i.inhrelid = c.oid and c.relispartition
  union all
  select format('%s %s is a partition of %s: register that, with all its partitions', label, tab,
    pg_partition_root(tab))
  from t where t.relispartition
  union all
  select format('%s %s inherits: its rows would be written without our triggers', label, tab)
  from t where not t.relispartition and exists (
    select from pg_catalog.pg_inherits i
    where i.inhrelid = tab or i.inhparent = tab and t.relkind <> 'p')
  union all
  select format('%s %s has no primary key and no key was given', label, tab)
  where coalesce(cardinality(key_columns), 0) = 0
  union all
  select format('%s %s has no key column "%s"', label, tab, k)
  from unnest(key_columns) k
  where not exists (
    select from pg_catalog.pg_attribute a
    where a.attrelid = tab and a.attname = k and a.attnum > 0 and not a.attisdropped)
  union all
  select format('%s %s: key column "%s" is generated from other columns', label, tab, a.attname)
  from pg_catalog.pg_attribute a
  where a.attrelid = tab and a.attname = any (key_columns) and a.attgenerated <> ''
  union all
  select format(
    '%s %s: key column "%s" has the nondeterministic collation "%s", by which different keys are equal',
    label, tab, a.attname, c.collname)
  from pg_catalog.pg_attribute a
  join pg_catalog.pg_collation c on c.oid = a.attcollation
  where a.attrelid = tab and a.attname = any (key_columns) and not c.collisdeterministic
  union all
  select format('%s %s is fed by logical replication, which fires no statement triggers',
    label, r.srrelid::regclass)
  from pg_catalog.pg_subscription_rel r where r.srrelid in (select tree.id from tree)
  union all
  select format('%s %s: no immediate unique constraint or index on exactly (%s), not null%s', label,
    tab, array_to_string(key_columns, ', '), (
      select '; the key of a partitioned table holds the columns that it is partitioned by'
      from t where t.relkind = 'p'))
  where cardinality(key_columns) > 0 and not exists (
    select from pg_catalog.pg_index i
    join pg_catalog.pg_class c on c.oid = i.indexrelid
    join pg_catalog.pg_am m on m.oid = c.relam and m.amname = 'btree'
    where i.indrelid = tab and i.indisunique and i.indimmediate and i.indisvalid
      and i.indpred is null and i.indexprs is null and not i.indisexclusion
      and (select array_agg(a.attname::text order by a.attname)
           from pg_catalog.pg_attribute a
           where a.attrelid = tab and a.attnum = any (i.indkey[0:i.indnkeyatts - 1])
             and a.attnotnull)
        = (select array_agg(k order by k) from unnest(key_columns) k))
  union all
  select format('%s %s: %s may not write it past row-level security (owner %s%s)', label, tab,
    current_user,
    t.relowner::regrole, case when t.relforcerowsecurity then ', FORCE' else '' end)
  from t
  where t.relrowsecurity and (t.relforcerowsecurity or not pg_has_role(t.relowner, 'usage'))
    and not (select r.rolbypassrls or r.rolsuper from pg_catalog.pg_roles r
      where r.rolname = current_user)
  union all
  select format(
    '%s %s: column "%s" begins with cf_, as the names in our statements do; run: alter table %2$s rename column %3$I to %4$I',
    label, tab, a.attname, concat(
      coalesce(nullif(substr(a.attname, 4), ''), 'renamed'), case when exists (
        select from pg_catalog.pg_attribute b
        where b.attrelid = tab and b.attname = substr(a.attname, 4)) then '_1' end))
  from pg_catalog.pg_attribute a
  where a.attrelid = tab and a.attnum > 0 and not a.attisdropped and left(a.attname, 3) = 'cf_'
  union all
  select crossfade_private.key_type_problems(tab, label, key_columns)
  union all
  select crossfade_private.deferred_problems(tree.id, label) from tree
  union all
  select crossfade_private.table_owner_problems(tree.id, label) from tree;
$$;

comment on function crossfade_private.table_problems is
  'What keeps a table from being mirrored, one sentence a row.';
