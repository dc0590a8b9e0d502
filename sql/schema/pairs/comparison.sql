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

create or replace function crossfade_private.has_true_equality(type_id oid)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- Every part must have an equality of PostgreSQL's own: operators of extensions are not found
  -- with our search_path, some types have none or (boxes) one that compares areas, and by
  -- that of intervals 30 days are a month.
  select not exists (
    select from crossfade_private.type_parts(type_id) p(id)
    join pg_catalog.pg_type y on y.oid = p.id
    where y.typtype = 'c' or y.oid = 'pg_catalog.interval'::regtype
      or y.typtype = 'b' and y.typcategory <> 'A' and not exists (
        select from pg_catalog.pg_opclass c
        join pg_catalog.pg_am m on m.oid = c.opcmethod and m.amname in ('btree', 'hash')
        where c.opcdefault and c.opcintype = coalesce(
          (select 'text'::regtype::oid where y.oid = 'varchar'::regtype), y.oid)
          and y.typnamespace = 'pg_catalog'::regnamespace));
$$;

comment on function crossfade_private.has_true_equality is
  'Whether = says of two values of a type, found without extensions, that nothing differs.';

create or replace function crossfade_private.comparable(type_id oid, collation_id oid default 0)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- The others are compared by their binary form, which no session setting rounds, or by their
  -- text. A collation may find different texts equal; C does not.
  select case
    when exists (
      select from pg_catalog.pg_collation c
      where c.oid = collation_id and not c.collisdeterministic
    ) then '(%s) collate pg_catalog."C"'
    when y.oid = 'pg_catalog.json'::regtype then 'crossfade_private.json_value(%s)'
    when crossfade_private.has_true_equality(y.oid) then '%s'
    when y.typcategory = 'S' or y.typsend = 0 or y.oid = 'pg_catalog.xml'::regtype
      then '(%s)::text'
    else format('%I.%I(%%s)', n.nspname, f.proname)
  end
  from pg_catalog.pg_type y
  left join pg_catalog.pg_proc f on f.oid = y.typsend
  left join pg_catalog.pg_namespace n on n.oid = f.pronamespace
  where y.oid = crossfade_private.base_type(type_id);
$$;

comment on function crossfade_private.comparable is
  'Template (%s for the column) of an expression by which values of a type can be compared.';

create or replace function crossfade_private.differs_sql(
  type_id oid, collation_id oid, one_sql text, other_sql text
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when b.id in ('bool'::regtype, 'int2'::regtype, 'int4'::regtype, 'int8'::regtype,
        'uuid'::regtype, 'date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype,
        'jsonb'::regtype)
      or b.id in ('text'::regtype, 'varchar'::regtype) and not exists (
        select from pg_catalog.pg_collation c
        where c.oid = collation_id and not c.collisdeterministic)
      then format('%s is distinct from %s', one_sql, other_sql)
    -- Images are right for every type, and need no operator; both sides must be of one type.
    else format('row((%1$s)::%3$s)::record operator(pg_catalog.*<>) row((%2$s)::%3$s)::record',
      one_sql, other_sql, pg_catalog.format_type(b.id, -1))
    end
  from (select crossfade_private.base_type(type_id) id) b;
$$;

comment on function crossfade_private.differs_sql is
  'SQL that says whether two values of a column differ in anything at all, also in what equality hides (the scale of a number, 30 days and a month).';

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
