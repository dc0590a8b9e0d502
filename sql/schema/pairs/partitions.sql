-- Partitioned tables: a pair names the root, and rows are in its leaves.

create or replace function crossfade_private.is_partitioned(tab regclass)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select c.relkind = 'p' from pg_catalog.pg_class c where c.oid = tab;
$$;

comment on function crossfade_private.is_partitioned is
  'Whether a table has its rows in partitions.';

create or replace function crossfade_private.table_tree(tab regclass)
returns table (id regclass, is_leaf boolean)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- Not pg_partition_tree: that waits for whoever locks a partition.
  with recursive member(id) as (
    select tab
    union all
    select i.inhrelid::regclass
    from member m
    join pg_catalog.pg_class c on c.oid = m.id and c.relkind = 'p'
    join pg_catalog.pg_inherits i on i.inhparent = m.id and not i.inhdetachpending
  )
  select m.id, coalesce(not crossfade_private.is_partitioned(m.id), true) from member m;
$$;

comment on function crossfade_private.table_tree is
  'A table and its partitions at every level, the root first; of one that is not partitioned, and of null, only itself. Locks nothing.';

create or replace function crossfade_private.tree_bytes(tab regclass)
returns bigint
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select sum(pg_relation_size(t.id))::bigint from crossfade_private.table_tree(tab) t;
$$;

comment on function crossfade_private.tree_bytes is
  'Bytes of the rows of a table, with all its partitions.';

create or replace function crossfade_private.planner_rows(tab regclass)
returns double precision
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- Nobody analyzes a root by himself: its own number is old or missing.
  select case when bool_or(c.reltuples >= 0) then sum(greatest(c.reltuples, 0)) else -1 end
  from crossfade_private.table_tree(tab) t join pg_catalog.pg_class c on c.oid = t.id
  where t.is_leaf;
$$;

comment on function crossfade_private.planner_rows is
  'The planner''s number of rows of a table, with all its partitions; -1 where nothing was analyzed.';

create or replace function crossfade_private.is_untouched(tab regclass)
returns boolean
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select current_setting('track_counts') = 'on' and sum(pg_stat_get_xact_tuples_inserted(t.id)
    + pg_stat_get_xact_tuples_updated(t.id) + pg_stat_get_xact_tuples_deleted(t.id)) = 0
  from crossfade_private.table_tree(tab) t;
$$;

comment on function crossfade_private.is_untouched is
  'Whether this transaction has written no row of a partitioned table.';

create or replace function crossfade_private.late_partitions(pair crossfade.pairs)
returns table (side integer, name text, is_new boolean)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with member as (
    -- Attaching a table makes the row triggers of the root anew on it, enabled as they are there.
    select s.side, t.id::text as name, t.is_leaf and exists (
      select from pg_catalog.pg_trigger g
      where g.tgrelid = t.id and g.tgname = '~crossfade_late' and g.tgenabled <> 'D') as is_back
    from (values (1, to_regclass((pair).v1_table)), (2, to_regclass((pair).v2_table))) s(side, tab)
    cross join lateral crossfade_private.table_tree(s.tab) t
    where t.id <> s.tab
  )
  select coalesce(m.side, k.side), coalesce(m.name, k.name), case
    when m.name is null then false when k.name is null then true end
  from member m
  full join (
    select p.side, p.name from crossfade_private.partitions p
    where p.pair = (late_partitions.pair).name
  ) k on k.side = m.side and k.name = m.name
  where m.name is null or k.name is null or m.is_back;
$$;

comment on function crossfade_private.late_partitions is
  'What has changed since the mirror of a pair was made: partitions that are new, gone (is_new false), or were detached and attached again (is_new null).';

create or replace function crossfade_private.partition_warnings(pair crossfade.pairs)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format(
    'row-level security of %s does not hold for %s, which %s may use by its name; run: alter table %2$s enable row level security',
    r.tab, t.id, string_agg(o.name, ', ' order by o.name))
  from unnest(array[((pair).v1_table)::regclass, ((pair).v2_table)::regclass]) r(tab)
  join pg_catalog.pg_class root on root.oid = r.tab and root.relrowsecurity
  cross join lateral crossfade_private.table_tree(r.tab) t
  join pg_catalog.pg_class c on c.oid = t.id and not c.relrowsecurity
  cross join (values ('anon'), ('authenticated')) o(name)
  where has_table_privilege(o.name, t.id, 'select, insert, update, delete')
  group by r.tab, t.id
  order by t.id::text;
$$;

comment on function crossfade_private.partition_warnings is
  'Partitions through which API roles get past the policies of their root.';
