-- What keeps a table from becoming a partition, and what its owner should know before.

create or replace function crossfade_private.relabel_shape_problems(
  tab regclass, column_name text
)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with t as (select c.* from pg_catalog.pg_class c where c.oid = tab),
  a as (
    select a.* from pg_catalog.pg_attribute a
    where a.attrelid = tab and a.attname = column_name and a.attnum > 0 and not a.attisdropped
  )
  select format('%s is %s; only a plain table becomes a partition', tab, case t.relkind
    when 'v' then 'a view' when 'm' then 'a materialized view' when 'f' then 'a foreign table'
    else 'partitioned already, in another way; a pair can copy it' end)
  from t where t.relkind <> 'r'
  union all
  select format('%s is %s: make it an ordinary table first', tab,
    case t.relpersistence when 'u' then 'unlogged' else 'temporary' end)
  from t where t.relpersistence <> 'p'
  union all
  select format('%s is a partition, inherits, or is made of a type: let a pair copy it', tab)
  from t where t.relispartition or t.reloftype <> 0 or t.relkind = 'r' and exists (
    select from pg_catalog.pg_inherits i where tab in (i.inhrelid, i.inhparent))
  union all
  select format(
    '%s belongs to %s, of which %s is not a member; run: alter table %1$s owner to %3$I', tab,
    t.relowner::regrole, current_user)
  from t where not pg_has_role(t.relowner, 'usage')
  union all
  select format('%s has no primary key; give it one', tab)
  from t where t.relkind = 'r' and crossfade_private.primary_key(tab) is null
  union all
  select format('%s has no column "%s"; name another one: --by', tab, column_name)
  where not exists (select from a)
  union all
  select format('%s: column "%s" is generated, by which PostgreSQL does not partition; --by', tab,
    column_name)
  from a where a.attgenerated <> ''
  union all
  select crossfade_private.key_type_problems(tab, 'table', array[column_name])
  union all
  select format(
    '%s belongs to pair "%s": its V2 can be partitioned instead (see sql/pairs/events.sql), or remove the pair first: crossfade pair remove %2$s',
    tab, p.name)
  from crossfade.pairs p
  where tab in (to_regclass(p.v1_table), to_regclass(p.v2_table), to_regclass(p.v1_view))
  union all
  select format('%s is fed by logical replication, which knows it by its name; end that first', tab)
  from pg_catalog.pg_subscription_rel r where r.srrelid = tab
  union all
  select format('%s exists already; rename it', n.name)
  from t
  cross join lateral (
    select crossfade_private.first_part(tab) as name
    union all
    select crossfade_private.rest_part(tab)
    union all
    select crossfade_private.first_part(i.indexrelid::regclass)
    from pg_catalog.pg_index i where i.indrelid = tab
    union all
    select crossfade_private.first_part(
      crossfade_private.default_sequence(tab, a.attname))
    from pg_catalog.pg_attribute a
    where a.attrelid = tab and a.attidentity <> '' and a.attnum > 0
    union all
    -- That of an index that cannot be the key.
    select crossfade_private.relabel_index_name(tab, column_name)
    where not exists (select from crossfade_private.relabel_indexes(tab, column_name))
  ) n
  where t.relkind = 'r' and to_regclass(n.name) is not null;
$$;

comment on function crossfade_private.relabel_shape_problems is
  'Why a table is none that could be partitioned by this column, one sentence a row.';

create or replace function crossfade_private.relabel_problems(tab regclass, column_name text)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select q.problem
  from (
    select crossfade_private.relabel_shape_problems(tab, column_name)
    union all
    select crossfade_private.relabel_index_problems(tab, column_name)
    union all
    select crossfade_private.relabel_part_problems(tab)
    union all
    select crossfade_private.relabel_bound(tab, column_name)
  ) q(problem)
  where not crossfade_private.is_relabelled(tab, column_name);
$$;

comment on function crossfade_private.relabel_problems is
  'What keeps a table from becoming the first partition of a root of its name, one sentence a row.';

create or replace function crossfade_private.relabel_notes(tab regclass, column_name text)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format(
    'the primary key becomes (%s): PostgreSQL no longer refuses a second row with the same (%s), and an upsert names both: on_conflict=%s',
    array_to_string(k.new, ', '), array_to_string(k.old, ', '), array_to_string(k.new, ','))
  from (select crossfade_private.relabel_key(tab, column_name),
    crossfade_private.primary_key(tab)) k(new, old)
  where k.new <> k.old
  union all
  select
    'from the file "check" on until the swap a row at or beyond the bound is refused (23514); after it such rows go to the partition _rest'
  union all
  select format(
    'column %I of %s is an identity: before PostgreSQL 17 a partitioned table has none, so it becomes a default from a sequence of the same name%s',
    a.attname, tab, case a.attidentity
      when 'a' then ', and a client may then write its own number there' end)
  from pg_catalog.pg_attribute a
  where a.attrelid = tab and a.attidentity <> '' and a.attnum > 0
    and current_setting('server_version_num')::integer < 170000
  union all
  select format(
    'trigger %I of %s may not change "%s" so that a row belongs to another partition (0A000)',
    g.tgname, tab, column_name)
  from pg_catalog.pg_trigger g
  where g.tgrelid = tab and not g.tgisinternal and g.tgtype & 3 = 3
  union all
  select format('statistics %I.%I stay with the first partition', n.nspname, x.stxname)
  from pg_catalog.pg_statistic_ext x
  join pg_catalog.pg_namespace n on n.oid = x.stxnamespace
  where x.stxrelid = tab;
$$;

comment on function crossfade_private.relabel_notes is
  'What an owner should know before a table is partitioned, one sentence a row.';
