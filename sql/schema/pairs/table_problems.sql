-- What keeps a table from being mirrored, by name and with the reason.

create or replace function crossfade_private.table_problems(
  tab regclass, label text, key_columns text[]
)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with t as (select c.* from pg_catalog.pg_class c where c.oid = tab)
  select format('%s %s is %s; only ordinary tables can be mirrored', label, tab,
    case t.relkind when 'p' then 'partitioned' when 'v' then 'a view' when 'm'
      then 'a materialized view'
      when 'f' then 'a foreign table' else 'not a table' end)
  from t where t.relkind <> 'r'
  union all
  select format('%s %s is %s: a crash would empty it, and no trigger sees that', label, tab,
    case t.relpersistence when 'u' then 'unlogged' else 'temporary' end)
  from t where t.relpersistence <> 'p'
  union all
  select format('%s %s is a partition or inherits: its rows would be written without our triggers',
    label, tab)
  from t where t.relispartition or exists (
    select from pg_catalog.pg_inherits i where tab in (i.inhrelid, i.inhparent))
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
  -- Keys are noted as JSON, by one session, and read by another one.
  select format('%s %s: key column "%s" is %s, whose text depends on the session''s settings',
    label, tab, a.attname, format_type(a.atttypid, a.atttypmod))
  from pg_catalog.pg_attribute a
  where a.attrelid = tab and a.attname = any (key_columns)
    and a.atttypid in ('float4'::regtype, 'float8'::regtype, 'interval'::regtype, 'money'::regtype)
  union all
  select format(
    '%s %s: key column "%s" has the nondeterministic collation "%s", by which different keys are equal',
    label, tab, a.attname, c.collname)
  from pg_catalog.pg_attribute a
  join pg_catalog.pg_collation c on c.oid = a.attcollation
  where a.attrelid = tab and a.attname = any (key_columns) and not c.collisdeterministic
  union all
  select format('%s %s is fed by logical replication, which fires no statement triggers',
    label, tab)
  where exists (select from pg_catalog.pg_subscription_rel r where r.srrelid = tab)
  union all
  select format('%s %s: no immediate unique constraint or index on exactly (%s), not null', label,
    tab,
    array_to_string(key_columns, ', '))
  where cardinality(key_columns) > 0 and not exists (
    select from pg_catalog.pg_index i
    where i.indrelid = tab and i.indisunique and i.indimmediate and i.indisvalid
      and i.indpred is null and i.indexprs is null
      and (select array_agg(a.attname::text order by a.attname)
           from pg_catalog.pg_attribute a
           where a.attrelid = tab and a.attnum = any (i.indkey[0:i.indnkeyatts - 1])
             and a.attnotnull)
        = (select array_agg(k order by k) from unnest(key_columns) k))
  union all
  select format('%s %s has the deferrable trigger "%s": it could write after our triggers have run',
    label, tab, g.tgname)
  from pg_catalog.pg_trigger g
  where g.tgrelid = tab and not g.tgisinternal and g.tgdeferrable
  union all
  select format(
    '%s %s: foreign key "%s" is initially deferred: a mirrored row could fail at COMMIT', label,
    tab, c.conname)
  from pg_catalog.pg_constraint c where c.conrelid = tab and c.contype = 'f' and c.condeferred
  union all
  select format('%s %s: %s may not write it past row-level security (owner %s%s)', label, tab,
    current_user,
    t.relowner::regrole, case when t.relforcerowsecurity then ', FORCE' else '' end)
  from t
  where t.relrowsecurity and (t.relforcerowsecurity or not pg_has_role(t.relowner, 'usage'))
    and not (select r.rolbypassrls or r.rolsuper from pg_catalog.pg_roles r
      where r.rolname = current_user)
  union all
  select format('%s %s belongs to %s, of which %s is not a member: its triggers cannot be created',
    label, tab,
    t.relowner::regrole, current_user)
  from t where not pg_has_role(t.relowner, 'usage');
$$;

comment on function crossfade_private.table_problems is
  'What keeps a table from being mirrored, one sentence a row.';
