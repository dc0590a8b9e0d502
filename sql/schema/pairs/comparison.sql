-- Comparing the values of a column, whatever its type.

create or replace function crossfade_private.json_value(source json)
returns jsonb
-- Not parallel safe: a subtransaction cannot begin in a worker.
language plpgsql immutable strict
set search_path = pg_catalog, pg_temp
as $$
begin
  return source::jsonb;
exception when others then
  -- json holds what jsonb refuses, such as \u0000: that text is its own value.
  return to_jsonb(source::text);
end $$;

comment on function crossfade_private.json_value is
  'A json value to compare by; never raises.';

create or replace function crossfade_private.comparable(type_id oid, collation_id oid default 0)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- `=` must mean equality and must be found with our search_path: operators of extensions are
  -- not, and some types have none or (boxes) one that compares areas, or (intervals) one by which
  -- 30 days are a month. The others are compared by their binary form, which no session setting
  -- rounds, or by their text. A collation may find different texts equal; C does not.
  select case
    when exists (
      select from pg_catalog.pg_collation c
      where c.oid = collation_id and not c.collisdeterministic
    ) then '(%s) collate pg_catalog."C"'
    when y.typtype not in ('b', 'd') then '%s'
    when coalesce(b.oid, y.oid) = 'pg_catalog.json'::regtype then 'crossfade_private.json_value(%s)'
    when e.has_equality and (e.is_builtin or y.typcategory = 'A') then '%s'
    when y.typcategory = 'A' then 'pg_catalog.array_send(%s)'
    when y.typcategory = 'S' or y.typsend = 0 or coalesce(b.oid, y.oid) = 'pg_catalog.xml'::regtype
      then '(%s)::text'
    else format('%I.%I(%%s)', n.nspname, f.proname)
  end
  from pg_catalog.pg_type y
  left join pg_catalog.pg_type b on b.oid = y.typbasetype
  left join pg_catalog.pg_proc f on f.oid = y.typsend
  left join pg_catalog.pg_namespace n on n.oid = f.pronamespace
  cross join lateral (
    select i.typnamespace = 'pg_catalog'::regnamespace is_builtin, i.typtype not in ('b', 'd')
      or exists (
        select from pg_catalog.pg_opclass c
        join pg_catalog.pg_am m on m.oid = c.opcmethod and m.amname in ('btree', 'hash')
        where c.opcintype in (i.oid, i.typbasetype) and c.opcdefault
          and c.opcintype <> 'pg_catalog.interval'::regtype) has_equality
    from pg_catalog.pg_type i
    where i.oid = case when coalesce(b.typcategory, y.typcategory) = 'A'
      then coalesce(nullif(b.typelem, 0), nullif(y.typelem, 0)) else coalesce(b.oid, y.oid) end
  ) e
  where y.oid = type_id;
$$;

comment on function crossfade_private.comparable is
  'Template (%s for the column) of an expression by which values of a type can be compared.';

create or replace function crossfade_private.column_pieces(source regclass)
returns table (columns text[], compared text[])
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select
    array_agg(a.attname::text order by a.attnum) filter (where a.attgenerated = ''),
    array_agg(
      replace(crossfade_private.comparable(a.atttypid, a.attcollation), '%s',
        '%1$s.' || replace(quote_ident(a.attname), '%', '%%'))
      order by a.attnum
    ) filter (where a.attgenerated = '')
  from pg_catalog.pg_attribute a
  where a.attrelid = source and a.attnum > 0 and not a.attisdropped;
$$;

comment on function crossfade_private.column_pieces is
  'Writable columns of a table, and the expressions to compare them by (with %1$s for the alias).';

create or replace function crossfade_private.always_identity(tab regclass)
returns text[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_agg(a.attname::text), '{}')
  from pg_catalog.pg_attribute a where a.attrelid = tab and a.attidentity = 'a';
$$;

comment on function crossfade_private.always_identity is
  'Columns that are GENERATED ALWAYS AS IDENTITY.';
