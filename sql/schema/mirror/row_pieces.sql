-- SQL fragments about rows, keys and columns, quoted when they are made. Aliases and variables
-- begin with cf_; columns may not.

create or replace function crossfade_private.text_settings()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select 'set timezone = ''UTC'' set datestyle = ''ISO, MDY'' set intervalstyle = ''postgres''
    set extra_float_digits = 1 set bytea_output = ''hex'''::text;
$$;

comment on function crossfade_private.text_settings is
  'The settings on which the text of values depends, as clauses of a function: those by which converters are printed.';

create or replace function crossfade_private.key_sql(
  one_sql text, one_key text[], other_sql text, other_key text[]
)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select string_agg(format('%s.%I = %s.%I', one_sql, a, other_sql, b), ' and ' order by n)
  from unnest(one_key, other_key) with ordinality u(a, b, n);
$$;

comment on function crossfade_private.key_sql is
  'SQL that says whether two rows have the same key.';

create or replace function crossfade_private.row_key_sql(row_sql text, key text[])
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select case when cardinality(key) = 1 then k else 'row(' || k || ')' end
  from (select string_agg(format('%s.%I', row_sql, c), ', ' order by n) k
    from unnest(key) with ordinality u(c, n)) q;
$$;

comment on function crossfade_private.row_key_sql is
  'SQL of a row''s key as one value.';

create or replace function crossfade_private.stored_rows_sql(tab regclass, transition text)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- A transition table has nulls for virtual generated columns (PostgreSQL 18), and that of a
  -- partition may have the columns in another order.
  select case when bool_or(a.attgenerated = 'v') or crossfade_private.is_partitioned(tab) then
    format('(select %s from %s)', string_agg(case when a.attgenerated = 'v'
      then format('%s as %I', pg_get_expr(d.adbin, d.adrelid), a.attname)
      else quote_ident(a.attname) end, ', ' order by a.attnum), transition)
    else transition end
  from pg_catalog.pg_attribute a
  left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
  where a.attrelid = tab and a.attnum > 0 and not a.attisdropped;
$$;

comment on function crossfade_private.stored_rows_sql is
  'An item of FROM with the rows of a transition table as the table itself shows them.';

create or replace function crossfade_private.any_differs_sql(
  tab regclass, columns text[], one_sql text, other_sql text
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(string_agg(crossfade_private.differs_sql(a.atttypid,
    format('%s.%I', one_sql, a.attname), format('%s.%I', other_sql, a.attname)), ' or '
    order by a.attnum), 'false')
  from pg_catalog.pg_attribute a
  where a.attrelid = tab and a.attnum > 0 and not a.attisdropped
    and (columns is null or a.attname = any (columns));
$$;

comment on function crossfade_private.any_differs_sql is
  'SQL that says whether two rows of a table differ in any of the columns; null means all.';

create or replace function crossfade_private.unique_key_names(tab regclass, key text[])
returns text[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_agg(c.relname::text order by c.relname), '{}')
  from crossfade_private.table_tree(tab) t
  join pg_catalog.pg_index i on i.indrelid = t.id
  join pg_catalog.pg_class c on c.oid = i.indexrelid
  where i.indisunique and i.indexprs is null
    and (select array_agg(a.attname::text order by a.attname)
         from pg_catalog.pg_attribute a
         where a.attrelid = t.id and a.attnum = any (i.indkey[0:i.indnkeyatts - 1]))
      = (select array_agg(k order by k) from unnest(key) k);
$$;

comment on function crossfade_private.unique_key_names is
  'Names of the unique indexes, which are those of their constraints, on exactly the key: of a table, and of its partitions.';
