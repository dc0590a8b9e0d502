-- Keys and indexes: of the root, and what those of the first partition are called then.

create or replace function crossfade_private.key_statements(tab regclass, column_name text)
returns table (place integer, sql text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with k as (
    select o.conname, o.conindid, column_name = any (crossfade_private.primary_key(tab)) as keeps,
      (parse_ident(crossfade_private.first_part(o.conindid::regclass)))[2] as first_name,
      crossfade_private.relabel_index_name(tab, column_name) as index_name,
      (select string_agg(quote_ident(n.name), ', ' order by n.n)
        from unnest(crossfade_private.relabel_key(tab, column_name))
          with ordinality n(name, n)) as columns
    from pg_catalog.pg_constraint o where o.conrelid = tab and o.contype = 'p'
  ),
  -- All but the one that makes the new key.
  i as (
    select i.indexrelid::regclass as id, i.indisprimary, o.conname, o.oid as constraint_id
    from k
    join pg_catalog.pg_index i on i.indrelid = tab
    left join pg_catalog.pg_constraint o on o.conindid = i.indexrelid and o.contype = 'u'
      and o.conrelid = tab
    where k.keeps or not i.indisprimary
      and i.indexrelid is distinct from to_regclass(k.index_name)
  )
  select 30, format('alter table %s drop constraint %I', tab, k.conname) from k where not k.keeps
  union all
  select 31, format('alter table %s alter column %I set not null', tab, column_name)
  union all
  select 32, format('alter table %s add constraint %I primary key using index %I', tab,
    k.first_name, (parse_ident(k.index_name))[2]) from k where not k.keeps
  union all
  select 33, format('alter index %s rename to %I', i.id,
    (parse_ident(crossfade_private.first_part(i.id)))[2]) from i
  union all
  select 51, format('alter table %s add constraint %I primary key (%s)', tab, k.conname, k.columns)
  from k
  union all
  select 52, case when i.conname is null then pg_get_indexdef(i.id)
    else format('alter table %s add constraint %I %s', tab, i.conname,
      pg_get_constraintdef(i.constraint_id)) end
  from i where not i.indisprimary
  union all
  select 53, format('alter table %s add constraint %I %s', tab, o.conname,
    pg_get_constraintdef(o.oid))
  from pg_catalog.pg_constraint o where o.conrelid = tab and o.contype = 'f'
  union all
  select 87, format('comment on constraint %I on %s is %L', o.conname, tab, c.text)
  from pg_catalog.pg_constraint o
  cross join lateral obj_description(o.oid, 'pg_constraint') c(text)
  where o.conrelid = tab and o.contype in ('p', 'u', 'f') and c.text is not null
  union all
  select 87, format('comment on index %s is %L', i.id, obj_description(i.id, 'pg_class'))
  from i where obj_description(i.id, 'pg_class') is not null;
$$;

comment on function crossfade_private.key_statements is
  'Keys, indexes and foreign keys of the root, like those of the table, so that attaching it builds none.';
