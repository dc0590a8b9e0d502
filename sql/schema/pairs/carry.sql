-- A key of another type is carried: V1 gets a uuid column beside its key, without a rewrite and
-- without a long lock. What has been done the catalog says; only how far the rows are filled is
-- kept, in crossfade_private.key_fills.

create or replace function crossfade_private.key_indexes(tab regclass, key_columns text[])
returns table (id regclass, is_valid boolean)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select i.indexrelid::regclass, i.indisvalid
  from pg_catalog.pg_index i
  join pg_catalog.pg_class c on c.oid = i.indexrelid
  join pg_catalog.pg_am m on m.oid = c.relam and m.amname = 'btree'
  where i.indrelid = tab and i.indisunique and i.indimmediate and i.indpred is null
    and i.indexprs is null and not i.indisexclusion
    and (
      select array_agg(a.attname::text order by a.attname)
      from pg_catalog.pg_attribute a
      where a.attrelid = tab and a.attnum = any (i.indkey[0:i.indnkeyatts - 1]))
    = (select array_agg(k order by k) from unnest(key_columns) k);
$$;

comment on function crossfade_private.key_indexes is
  'Immediate unique indexes on exactly these columns; one that is not valid was left behind, or is being built.';

create or replace function crossfade_private.is_never_null(tab regclass, column_name text)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- PostgreSQL 18 sets attnotnull for a constraint that nobody has validated, too.
  select a.attnotnull and not exists (
    select from pg_catalog.pg_constraint o
    where o.conrelid = tab and o.contype = 'n' and o.conkey = array[a.attnum]
      and not o.convalidated)
  from pg_catalog.pg_attribute a
  where a.attrelid = tab and a.attname = column_name and a.attnum > 0;
$$;

comment on function crossfade_private.is_never_null is
  'Whether PostgreSQL knows that no row has null there; null without such a column.';

create or replace function crossfade_private.fill_triggers(tab regclass, column_name text)
returns table (name text, sql text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- The definition with a condition, where it can have one and has none.
  select g.tgname::text, case when g.tgtype & 1 = 1 and g.tgqual is null and not g.tgisinternal
      and g.tgconstraint = 0 and g.tgtype & 12 = 0
    then regexp_replace(
      regexp_replace(pg_get_triggerdef(g.oid), '^CREATE TRIGGER', 'create or replace trigger'),
      '( FOR EACH ROW)( EXECUTE FUNCTION [^'']*\()',
      format('\1 when (new.%1$I is not distinct from old.%1$I)\2', column_name)) end
  from pg_catalog.pg_trigger g
  join pg_catalog.pg_proc p on p.oid = g.tgfoid
  left join pg_catalog.pg_attribute a
    on a.attrelid = tab and a.attname = fill_triggers.column_name and a.attnum > 0
  where g.tgrelid = tab and not g.tgisinternal and g.tgtype & 16 = 16 and g.tgenabled in ('O', 'A')
    and p.pronamespace <> 'crossfade_private'::regnamespace
    and (cardinality(g.tgattr::smallint[]) = 0 or a.attnum = any (g.tgattr::smallint[]))
    -- One whose condition asks for the column has been told what to do.
    and not (g.tgqual is not null and cardinality(g.tgattr::smallint[]) = 0 and exists (
      select from pg_catalog.pg_depend d
      where d.classid = 'pg_trigger'::regclass and d.objid = g.oid
        and d.refclassid = 'pg_class'::regclass and d.refobjid = tab
        and d.refobjsubid = a.attnum))
  order by g.tgname;
$$;

comment on function crossfade_private.fill_triggers is
  'The owner''s triggers that filling a column would fire, and a statement that keeps them from it (null where there is none: several events, a condition, one for each statement).';

create or replace function crossfade_private.carry_problems(tab regclass, column_name text)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with k as (select coalesce(crossfade_private.primary_key(tab), '{}') as names),
  a as (
    select a.* from pg_catalog.pg_attribute a
    where a.attrelid = tab and a.attname = column_name and a.attnum > 0 and not a.attisdropped
  )
  select crossfade_private.table_problems(tab, 'table', k.names) from k
  union all
  select format(
    'table %s is partitioned: PostgreSQL makes no index of it concurrently, and a unique one must hold the columns it is partitioned by; let a pair copy it to a table that has the key',
    tab)
  from pg_catalog.pg_class c where c.oid = tab and c.relkind = 'p'
  union all
  select format('"%s" is no name for a column', column_name)
  where coalesce(column_name, '') = '' or octet_length(column_name) > 63
    or left(column_name, 3) = 'cf_'
  union all
  select format('table %s: its key "%s" is a uuid already; there is nothing to carry', tab,
    k.names[1])
  from k
  cross join lateral (
    select crossfade_private.base_type(b.atttypid) as id from pg_catalog.pg_attribute b
    where b.attrelid = tab and b.attname = k.names[1]) t
  where cardinality(k.names) = 1 and t.id = 'uuid'::regtype
  union all
  select format('table %s: column "%s" is there and is %s, not uuid; take another name: --column',
    tab, column_name, format_type(a.atttypid, a.atttypmod))
  from a where a.atttypid <> 'uuid'::regtype
  union all
  select format(
    'table %s: column "%s" is generated from other columns; take another name: --column', tab,
    column_name)
  from a where a.attgenerated <> ''
  union all
  select format(
    'table %s belongs to pair "%s", whose converters do not know the column: remove the pair first (crossfade pair remove %s)',
    tab, p.name, p.name)
  from crossfade.pairs p
  where tab in (to_regclass(p.v1_table), to_regclass(p.v2_table)) and not exists (select from a)
  union all
  select format(
    'table %s has no replica identity, and publication %s wants one for every update; run: alter table %1$s replica identity default',
    tab, string_agg(quote_ident(p.pubname), ', ' order by p.pubname))
  from pg_catalog.pg_class c
  join pg_catalog.pg_publication p on p.pubupdate and (p.puballtables or exists (
      select from pg_catalog.pg_publication_tables t
      where t.pubname = p.pubname
        and format('%I.%I', t.schemaname, t.tablename)::regclass = tab))
  where c.oid = tab and (c.relreplident = 'n' or c.relreplident = 'i' and not exists (
      select from pg_catalog.pg_index i where i.indrelid = tab and i.indisreplident))
  having count(*) > 0;
$$;

comment on function crossfade_private.carry_problems is
  'What keeps a table from carrying a uuid column as a key, one sentence a row.';

create or replace function crossfade_private.carry_notes(tab regclass, column_name text)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format(
    '`select *` of %s shows the column "%s", also to its clients; what stores such rows elsewhere meets a column more',
    tab, column_name)
  union all
  select
    'a client that read a row before it was filled and writes it back whole writes null there: before the last step that is filled again, after it it is refused (23502)'
  union all
  select format('publication %s sends every row that is filled to its readers (Realtime, replicas)',
    quote_ident(t.pubname))
  from pg_catalog.pg_publication_tables t
  where format('%I.%I', t.schemaname, t.tablename)::regclass = tab
  union all
  select format(
    '%s may read single columns of %s only; grant select (%I) to whoever reads with `select *`',
    string_agg(distinct g.grantee::regrole::text, ', '), tab, column_name)
  from pg_catalog.pg_attribute a
  cross join lateral pg_catalog.aclexplode(a.attacl) g
  where a.attrelid = tab and a.attnum > 0 and g.privilege_type = 'SELECT' and g.grantee <> 0
    and not has_table_privilege(g.grantee, tab, 'select')
  having count(*) > 0;
$$;

comment on function crossfade_private.carry_notes is
  'What an owner should know before a table gets a column that carries a key, one sentence a row.';

create or replace function crossfade_private.is_filled(tab regclass, column_name text)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_null boolean;
begin
  if crossfade_private.is_never_null(tab, column_name) then
    return true;
  end if;
  -- An index finds what is null at once; without one this would read the whole table.
  if exists (
    select from crossfade_private.key_indexes(tab, array[column_name]) i where i.is_valid
  ) then
    execute format('select exists (select from %s t where t.%I is null)', tab, column_name)
    into v_null;
    return not v_null;
  end if;
  return coalesce((
    select f.done from crossfade_private.key_fills f
    where f.table_name = tab::text and f.column_name = is_filled.column_name), false);
end $$;

comment on function crossfade_private.is_filled is
  'Whether every row has a value there: by the constraint, else by the index, else because the fill came to its end.';

create or replace function crossfade_private.carry_state(tab regclass, column_name text)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'column', a.attnum is not null,
    'default', a.attnum is not null and a.atthasdef,
    'filled', a.attnum is not null and a.atthasdef
      and crossfade_private.is_filled(tab, column_name),
    'index', coalesce(bool_or(i.is_valid), false),
    'broken', (
      select min(b.id::text) from crossfade_private.key_indexes(tab, array[column_name]) b
      where not b.is_valid and not exists (
        select from pg_catalog.pg_stat_progress_create_index g where g.index_relid = b.id)),
    'building', (
      select format('%s: %s, %s of %s blocks', g.index_relid::regclass, g.phase, g.blocks_done,
        g.blocks_total)
      from pg_catalog.pg_stat_progress_create_index g
      join crossfade_private.key_indexes(tab, array[column_name]) b on b.id = g.index_relid
      where not b.is_valid limit 1),
    'check', (
      select case when o.convalidated then 'valid' else 'not valid' end
      from pg_catalog.pg_constraint o
      where o.conrelid = tab and o.contype = 'c' and o.conkey = array[a.attnum]
        and pg_get_expr(o.conbin, tab) = format('(%I IS NOT NULL)', column_name)
      order by o.convalidated desc limit 1),
    'not_null', coalesce(crossfade_private.is_never_null(tab, column_name), false))
  from (values (1)) one(n)
  left join pg_catalog.pg_attribute a
    on a.attrelid = tab and a.attname = carry_state.column_name and a.attnum > 0
  left join lateral crossfade_private.key_indexes(tab, array[carry_state.column_name]) i on true
  group by a.attnum, a.atthasdef;
$$;

comment on function crossfade_private.carry_state is
  'How far the catalog says a table has come with carrying a key: {"column", "default", "filled", "index", "broken": an index that was left behind, "building", "check": valid or not valid, "not_null"}.';
