-- What of a converter can stand in another statement: its expressions or its query, with what it
-- gives assigned to the columns as a table would do it.

create or replace function crossfade_private.fill_item(
  item text, row_sql text, counterpart_sql text
)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select replace(replace(item, chr(3), row_sql), chr(4), counterpart_sql);
$$;

comment on function crossfade_private.fill_item is
  'An expression of a converter with the SQL of the row and of its counterpart in it.';

create or replace function crossfade_private.query_types(query text, paths text[])
returns table (type_id oid, typmod integer)
language plpgsql volatile -- makes a view and removes it again
set search_path = pg_catalog, pg_temp
as $$
declare
  v_path text;
  v_text text;
  v_first text;
begin
  foreach v_path in array 'pg_catalog, pg_temp'::text || paths loop
    perform set_config('search_path', v_path, true);
    execute 'create temporary view cf_typed as ' || query;
    perform set_config('search_path', 'pg_catalog, pg_temp', true);
    v_text := pg_catalog.pg_get_viewdef('pg_temp.cf_typed'::regclass);
    if v_first is null then
      v_first := v_text;
      return query
        select a.atttypid, a.atttypmod from pg_catalog.pg_attribute a
        where a.attrelid = 'pg_temp.cf_typed'::regclass and a.attnum > 0 order by a.attnum;
    elsif v_text <> v_first then
      raise exception 'a name in it means something else where %', v_path;
    end if;
    execute 'drop view pg_temp.cf_typed';
  end loop;
end $$;

comment on function crossfade_private.query_types is
  'Types and lengths of the columns of a query. Raises when PostgreSQL refuses it, or when a name in it means something else under another search_path, where a function or operator may fit its arguments better.';

create or replace function crossfade_private.assigned_items(
  items text[], columns jsonb, query text, paths text[]
)
returns text[]
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_items text[] := '{}'::text[];
  v_column record;
begin
  for v_column in
    select u.c ->> 'name' as name, crossfade_private.assigned_sql(items[u.n], (u.c ->> 'id')::oid,
        (u.c ->> 'typmod')::integer, t.type_id, t.typmod) as item
    from jsonb_array_elements(columns) with ordinality u(c, n)
    join rows from (crossfade_private.query_types(query, paths)) with ordinality
      t(type_id, typmod, n) using (n)
    order by u.n
  loop
    if v_column.item is null then
      raise exception
        'column "%" has another type in the converter, and only a call can assign that',
        v_column.name;
    end if;
    v_items := v_items || v_column.item;
  end loop;
  return v_items;
end $$;

comment on function crossfade_private.assigned_items is
  'Expressions as they are assigned to the columns of a table; query selects them. Raises where that takes a call.';

create or replace function crossfade_private.standing_items(
  parsed jsonb, columns jsonb, both_tables text, paths text[]
)
returns jsonb
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'items', jsonb_agg(i || jsonb_build_object('text', a.items[n]) order by n))
  from (
    select crossfade_private.assigned_items(array_agg(i ->> 'text' order by n), columns,
      -- Where an aggregate or a set would be refused: in an UPDATE, each column gets its
      -- expression.
      format('select %s from %s where row(%s) is null', string_agg(format('%s as cf_%s', f.item, n),
        ', ' order by n), both_tables, string_agg(f.item, ', ' order by n)), paths)
    from jsonb_array_elements(parsed -> 'items') with ordinality u(i, n)
    cross join lateral (
      select format('(%s)', crossfade_private.fill_item(i ->> 'text', 'cf_s', 'cf_t'))) f(item)
  ) a(items)
  cross join jsonb_array_elements(parsed -> 'items') with ordinality u(i, n);
$$;

comment on function crossfade_private.standing_items is
  'The items of converter_text, assigned to the columns. Raises when they are no plain expressions.';

create or replace function crossfade_private.standing_text(
  parsed jsonb, columns jsonb, both_tables text, paths text[]
)
returns jsonb
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  with query(text, names) as (
    select crossfade_private.fill_item(parsed ->> 'text', 'cf_given.cf_row',
        'cf_given.cf_counterpart'), (
      select string_agg(quote_ident(c ->> 'name'), ', ' order by n)
      from jsonb_array_elements(columns) with ordinality u(c, n))
  )
  select jsonb_build_object('text', q.text, 'columns', jsonb_agg(
    c || jsonb_build_object('made', a.items[n]) order by n))
  from query q
  cross join lateral (
    select crossfade_private.assigned_items(array(
        select format('cf_made.%I', c ->> 'name')
        from jsonb_array_elements(columns) with ordinality u(c, n) order by n), columns,
      format('select cf_made.* from %s cross join lateral
          (select cf_s as cf_row, cf_t as cf_counterpart) cf_given
        cross join lateral (%s) cf_made(%s)', both_tables, q.text, q.names), paths)
  ) a(items)
  cross join jsonb_array_elements(columns) with ordinality u(c, n)
  group by q.text;
$$;

comment on function crossfade_private.standing_text is
  'The query of converter_text, and how the columns that it gives as cf_made are assigned.';
