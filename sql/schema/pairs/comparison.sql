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

create or replace function crossfade_private.differs_sql(
  type_id oid, one_sql text, other_sql text
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case
    -- Types whose = hides nothing. It is pg_catalog's own, whatever an extension brings.
    when b.id in ('bool'::regtype, 'int2'::regtype, 'int4'::regtype, 'int8'::regtype,
        'oid'::regtype, 'uuid'::regtype, 'date'::regtype, 'time'::regtype, 'timestamp'::regtype,
        'timestamptz'::regtype, 'bytea'::regtype)
      then format('%s is distinct from %s', one_sql, other_sql)
    -- C: other collations may find different texts equal, and two of them cannot be compared.
    when b.id in ('text'::regtype, 'varchar'::regtype)
      then format('%s collate pg_catalog."C" is distinct from %s', one_sql, other_sql)
    when b.id = 'jsonb'::regtype
      then format('(%s and (%s is distinct from %s or %s))', i.image, one_sql, other_sql, i.texts)
    -- Their text is what is stored, or hides blanks at the end.
    when b.id in ('bpchar'::regtype, 'json'::regtype) then i.image
    -- Equal images are equal values, found without any operator. Values with other images may still
    -- be the same: arrays that once held a null, NaN, numbers of an older release.
    else format('(%s and %s)', i.image, i.texts)
    end
  from crossfade_private.base_type(type_id) b(id)
  cross join lateral (
    select format('row((%1$s)::%3$s)::record operator(pg_catalog.*<>) row((%2$s)::%3$s)::record',
        one_sql, other_sql, pg_catalog.format_type(b.id, -1)) as image,
      format('(%1$s)::%3$s::text collate pg_catalog."C" is distinct from (%2$s)::%3$s::text',
        one_sql, other_sql, pg_catalog.format_type(b.id, -1)) as texts
  ) i;
$$;

comment on function crossfade_private.differs_sql is
  'SQL that says whether two values of a column differ in anything at all, also in what equality hides (the scale of a number, 30 days and a month, the sign of zero). Statements with it run with pinned settings: it compares texts.';

create or replace function crossfade_private.has_equality(type_id oid)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- Every part must have an equality of PostgreSQL's own. Operators of extensions are not found
  -- with our search_path, and some types have none or (boxes) one that compares areas.
  select not exists (
    select from crossfade_private.type_parts(type_id) p(id)
    join pg_catalog.pg_type y on y.oid = p.id
    where y.typtype = 'b' and y.typcategory <> 'A' and (
      y.typnamespace <> 'pg_catalog'::regnamespace or not exists (
        select from pg_catalog.pg_opclass c
        join pg_catalog.pg_am m on m.oid = c.opcmethod and m.amname in ('btree', 'hash')
        where c.opcdefault and c.opcintype = case y.oid when 'varchar'::regtype
          then 'text'::regtype else y.oid end)));
$$;

comment on function crossfade_private.has_equality is
  'Whether two values of a type can be compared by =, found without extensions.';

create or replace function crossfade_private.unequal_sql(
  type_id oid, one_sql text, other_sql text
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when b.id in ('text'::regtype, 'varchar'::regtype)
      then crossfade_private.differs_sql(type_id, one_sql, other_sql)
    when b.id = 'pg_catalog.json'::regtype then format(
      '(%s and crossfade_private.json_value(%s) is distinct from crossfade_private.json_value(%s))',
      crossfade_private.differs_sql(type_id, one_sql, other_sql), one_sql, other_sql)
    when crossfade_private.has_equality(b.id) then format(
      '(%1$s)::%3$s%4$s is distinct from (%2$s)::%3$s',
      one_sql, other_sql, pg_catalog.format_type(b.id, -1),
      case when y.typcollation <> 0 then ' collate pg_catalog."C"' else '' end)
    else crossfade_private.differs_sql(type_id, one_sql, other_sql)
    end
  from crossfade_private.base_type(type_id) b(id)
  join pg_catalog.pg_type y on y.oid = b.id;
$$;

comment on function crossfade_private.unequal_sql is
  'SQL that says whether two values of a column are unequal by their type: as differs_sql, but for what only looks different (1.1 and 1.10, 30 days and a month, json with other blanks).';

create or replace function crossfade_private.column_differences(
  tab regclass, one_sql text, other_sql text
)
returns table (name text, differs text, unequal text, breaks text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select a.attname::text, d.differs, d.unequal,
    case when exists (
      select from crossfade_private.type_parts(a.atttypid) p(id) where p.id = 'interval'::regtype)
      then d.differs else d.unequal end
  from pg_catalog.pg_attribute a
  cross join lateral (
    select crossfade_private.differs_sql(a.atttypid, v.one, v.other) as differs,
      crossfade_private.unequal_sql(a.atttypid, v.one, v.other) as unequal
    from (values (format('%s.%I', one_sql, a.attname), format('%s.%I', other_sql, a.attname)))
      v(one, other)
  ) d
  where a.attrelid = tab and a.attnum > 0 and not a.attisdropped and a.attgenerated = '';
$$;

comment on function crossfade_private.column_differences is
  'For each column that is not computed, SQL that says of two rows of a table whether they differ there, are unequal, and whether that breaks a law: numbers may come back with other places, intervals not.';

create or replace function crossfade_private.differing_columns_sql(
  tab regclass, one_sql text, other_sql text, prefix text default '', laws boolean default false
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format('array_remove(array[%s]::text[], null)', string_agg(
    format('case when %s then %L end',
      case when laws then d.breaks else d.differs end, prefix || d.name),
    ', ' order by d.name))
  from crossfade_private.column_differences(tab, one_sql, other_sql) d;
$$;

comment on function crossfade_private.differing_columns_sql is
  'SQL expression for the names of the columns in which two rows of a table differ, or break a law, with a prefix. Columns that PostgreSQL computes are left out: converters need not fill them.';

create or replace function crossfade_private.rows_differ_sql(source regclass, target regclass)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- What equality hides (1.1 and 1.10) counts when neither row makes the other: then it was written
  -- in one table only, and repair settles it.
  select format('case when (%s) then (%s) or (%s) else (%s) end', b.differs, a.differs, b.unequal,
    a.unequal)
  from (
    select string_agg(d.differs, ' or ') as differs, string_agg(d.unequal, ' or ') as unequal
    from crossfade_private.column_differences(source, '(cf_a.cf_row)', 'cf_d') d
  ) a
  cross join (
    select string_agg(d.differs, ' or ') as differs, string_agg(d.unequal, ' or ') as unequal
    from crossfade_private.column_differences(target, '(cf_b.cf_row)', 'cf_c') d
  ) b;
$$;

comment on function crossfade_private.rows_differ_sql is
  'SQL that says whether the rows of both tables, cf_a.cf_row and cf_b.cf_row, are not what the converters make of them, cf_d and cf_c.';

create or replace function crossfade_private.writable_columns(tab regclass, without text[])
returns text[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_agg(a.attname::text order by a.attnum), '{}')
  from pg_catalog.pg_attribute a
  where a.attrelid = tab and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
    and a.attname <> all (without);
$$;

comment on function crossfade_private.writable_columns is
  'Columns that are not generated, but for some, in their order.';

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
