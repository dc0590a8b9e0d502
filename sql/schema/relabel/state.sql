-- Where nothing is converted, a plain table becomes the first partition of a root that has its
-- name. How far that is the catalog says.

create or replace function crossfade_private.first_part(tab regclass)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select crossfade_private.beside_name(tab::text, '_first');
$$;

comment on function crossfade_private.first_part is
  'What a table or an index is called when it has become a part of another one of its name.';

create or replace function crossfade_private.rest_part(tab regclass)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select crossfade_private.beside_name(tab::text, '_rest');
$$;

comment on function crossfade_private.rest_part is
  'Name of the partition that takes what no other one takes.';

create or replace function crossfade_private.is_relabelled(tab regclass, column_name text)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select from pg_catalog.pg_partitioned_table p
    join pg_catalog.pg_attribute a on a.attrelid = p.partrelid and a.attnum = p.partattrs[0]
    where p.partrelid = tab and p.partstrat = 'r' and p.partnatts = 1
      and a.attname = column_name);
$$;

comment on function crossfade_private.is_relabelled is
  'Whether a table is partitioned by ranges of this column.';

create or replace function crossfade_private.relabel_key(tab regclass, column_name text)
returns text[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select k.names || case when column_name = any (k.names) then '{}' else array[column_name] end
  from (select crossfade_private.primary_key(tab)) k(names);
$$;

comment on function crossfade_private.relabel_key is
  'The primary key that the partitioned table will have: that of the table, and the column.';

create or replace function crossfade_private.relabel_indexes(tab regclass, column_name text)
returns table (id regclass, is_valid boolean)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- One that can become the primary key as it is: in that order, and nobody else's constraint.
  select k.id, k.is_valid
  from crossfade_private.key_indexes(tab, crossfade_private.relabel_key(tab, column_name)) k
  join pg_catalog.pg_index i on i.indexrelid = k.id
  cross join lateral (select array_agg(a.attname::text order by u.n) as names
    from unnest(i.indkey::smallint[]) with ordinality u(attnum, n)
    join pg_catalog.pg_attribute a on a.attrelid = tab and a.attnum = u.attnum) c
  where c.names = crossfade_private.relabel_key(tab, column_name)
    and (i.indisprimary or not exists (
        select from pg_catalog.pg_constraint o where o.conindid = k.id)
      and not exists (select from unnest(i.indoption::smallint[]) u(bits) where u.bits <> 0));
$$;

comment on function crossfade_private.relabel_indexes is
  'Unique indexes of a table that can be the primary key of the partition that it becomes.';

create or replace function crossfade_private.relabel_index_name(tab regclass, column_name text)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(min(i.id::text), (
    select format('%I.%I', n.nspname, crossfade_private.carry_index_name(tab, array_to_string(
      crossfade_private.relabel_key(tab, column_name), '_')))
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.oid = tab))
  from crossfade_private.relabel_indexes(tab, column_name) i where i.is_valid;
$$;

comment on function crossfade_private.relabel_index_name is
  'The index that can be the key, or the name that it will have.';

create or replace function crossfade_private.bound_name(tab regclass)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select left(c.relname, 50) || '_first_bound' from pg_catalog.pg_class c where c.oid = tab;
$$;

comment on function crossfade_private.bound_name is
  'Name of the constraint that says where the first partition ends.';

create or replace function crossfade_private.relabel_state(tab regclass, column_name text)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set datestyle = 'ISO'
as $$
  select jsonb_build_object(
    'done', crossfade_private.is_relabelled(tab, column_name),
    'index', (
      select min(i.id::text) from crossfade_private.relabel_indexes(tab, column_name) i
      where i.is_valid),
    'broken', (
      select min(i.id::text) from crossfade_private.relabel_indexes(tab, column_name) i
      where not i.is_valid and not exists (
        select from pg_catalog.pg_stat_progress_create_index g where g.index_relid = i.id)),
    'building', (
      select format('%s: %s, %s of %s blocks', g.index_relid::regclass, g.phase, g.blocks_done,
        g.blocks_total)
      from pg_catalog.pg_stat_progress_create_index g
      join crossfade_private.relabel_indexes(tab, column_name) i on i.id = g.index_relid
      where not i.is_valid limit 1),
    'check', case when o.convalidated then 'valid' when not o.convalidated then 'not valid' end,
    -- SAFETY: it runs as a bound. A constant is taken, and no expression of the table's owner.
    'bound', case when starts_with(e.text, h.text) then substring(
      substr(e.text, length(h.text) + 1, length(e.text) - length(h.text) - 2)
      from '^(?:''(?:[^'']|'''')*''::[\w ."]+|-?\d+|\(-\d+\))$') end)
  from format('((%1$I IS NOT NULL) AND (%1$I < ', column_name) h(text)
  left join pg_catalog.pg_constraint o
    on o.conrelid = tab and o.contype = 'c' and o.conname = crossfade_private.bound_name(tab)
  left join lateral pg_get_expr(o.conbin, tab) e(text) on true;
$$;

comment on function crossfade_private.relabel_state is
  'How far the catalog says a table has come with becoming a partition: {"done", "index": that can be its key, "broken": one that was left behind, "building", "check": valid or not valid, "bound": SQL of the value at which the first partition ends}.';
