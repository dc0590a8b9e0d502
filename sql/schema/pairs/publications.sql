-- Who else hears of rows: publications, from which Realtime and replicas read.

create or replace function crossfade_private.publications_of(tab regclass)
returns table (name text, is_named boolean, publishes_changes boolean)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select p.pubname::text, exists (
      select from pg_catalog.pg_publication_rel r where r.prpubid = p.oid and r.prrelid = tab),
    p.pubupdate or p.pubdelete
  from pg_catalog.pg_publication p
  where p.puballtables
    or exists (
      select from pg_catalog.pg_publication_rel r where r.prpubid = p.oid and r.prrelid = tab)
    or exists (
      select from pg_catalog.pg_publication_namespace n
      join pg_catalog.pg_class c on c.oid = tab and c.relnamespace = n.pnnspid
      where n.pnpubid = p.oid)
  order by 1;
$$;

comment on function crossfade_private.publications_of is
  'The publications that a table is in: by name, with its schema or with all tables.';

create or replace function crossfade_private.has_replica_identity(tab regclass)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case c.relreplident
    when 'f' then true
    when 'd' then exists (
      select from pg_catalog.pg_index i where i.indrelid = tab and i.indisprimary)
    when 'i' then exists (
      select from pg_catalog.pg_index i where i.indrelid = tab and i.indisreplident)
    else false end
  from pg_catalog.pg_class c where c.oid = tab;
$$;

comment on function crossfade_private.has_replica_identity is
  'Whether rows of a table can be updated and deleted while it is published.';

create or replace function crossfade_private.replica_identity_command(
  tab regclass, key_columns text[]
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format('alter table %s replica identity %s', tab, coalesce((
    select format('using index %I', c.relname)
    from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid
    where i.indrelid = tab and i.indisunique and i.indimmediate and i.indisvalid
      and i.indpred is null and i.indexprs is null and (
        select bool_and(a.attnotnull and a.attname = any (key_columns))
        from pg_catalog.pg_attribute a
        where a.attrelid = tab and a.attnum = any (i.indkey::smallint[]))
    order by c.relname limit 1), 'full'));
$$;

comment on function crossfade_private.replica_identity_command is
  'The command that gives a table the identity by which published changes name its rows: its key.';

create or replace function crossfade_private.publication_problems(pair crossfade.pairs)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format(
    'V%s %s is in publication "%s" without a replica identity: PostgreSQL refuses every update and delete of it; run: %s',
    t.side, i.id, p.name, crossfade_private.replica_identity_command(i.id, t.key_columns))
  from (values (1, to_regclass((pair).v1_table), (pair).key_columns),
    (2, to_regclass((pair).v2_table), (pair).v2_key_columns)) t(side, tab, key_columns)
  -- Rows are in leaves, and each has an identity of its own.
  cross join lateral crossfade_private.table_tree(t.tab) i
  cross join lateral (
    select p.name, p.publishes_changes from crossfade_private.publications_of(i.id) p
    union
    select p.name, p.publishes_changes from crossfade_private.publications_of(t.tab) p
  ) p
  where i.is_leaf and p.publishes_changes and not crossfade_private.has_replica_identity(i.id);
$$;

comment on function crossfade_private.publication_problems is
  'Publications that make PostgreSQL refuse what the mirror writes.';

create or replace function crossfade_private.publication_warnings(pair crossfade.pairs)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format(
    'publication "%s" has %s and not %s: whoever listens to it does not hear of version 2 in its own format; run: %salter publication %I add table %s',
    p.name, (pair).v1_table, (pair).v2_table,
    case when p.publishes_changes
      and not crossfade_private.has_replica_identity(((pair).v2_table)::regclass)
      then crossfade_private.replica_identity_command(((pair).v2_table)::regclass,
        (pair).v2_key_columns) || '; ' end,
    p.name, (pair).v2_table)
  from crossfade_private.publications_of(((pair).v1_table)::regclass) p
  where p.name not in (
    select q.name from crossfade_private.publications_of(((pair).v2_table)::regclass) q);
$$;

comment on function crossfade_private.publication_warnings is
  'Publications that have V1 and not V2.';
