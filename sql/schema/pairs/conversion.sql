-- A conversion as SQL that stands in a statement: the converter's own expressions where it is a bare
-- select list, its whole text where it is any other SELECT, else a call.

create or replace function crossfade_private.conversion(
  converter text, source regclass, target regclass
)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_parsed jsonb := crossfade_private.converter_text(converter);
  v_conversion jsonb;
  v_columns jsonb;
begin
  select jsonb_agg(jsonb_build_object('name', a.attname, 'type',
    crossfade_private.base_type_name(a.atttypid), 'composite', exists (
      select from crossfade_private.type_parts(a.atttypid) p(id)
      join pg_catalog.pg_type y on y.oid = p.id and y.typtype = 'c')) order by a.attnum)
  into v_columns
  from pg_catalog.pg_attribute a
  where a.attrelid = target and a.attnum > 0 and not a.attisdropped;
  v_conversion := jsonb_build_object('call', converter, 'target', target::text, 'columns', v_columns,
    'reads', null, 'items', null);
  if v_parsed is null
    or jsonb_array_length(nullif(v_parsed -> 'items', 'null')) <> jsonb_array_length(v_columns)
    -- An explicit cast to a composite would cut its parts; a call assigns them.
    or exists (
      select from jsonb_array_elements(v_columns) c where (c ->> 'composite')::boolean)
  then
    return v_conversion;
  end if;
  v_conversion := v_conversion || v_parsed;
  -- What PostgreSQL would not plan in another statement is called.
  execute format('explain select from %s cf_s cross join %s cf_t cross join lateral %s cf_c',
    source, target, crossfade_private.convert_sql(v_conversion, 'cf_s', 'cf_t'));
  return v_conversion;
exception when others then
  return v_conversion || '{"text": null, "items": null, "reads": null}';
end $$;

comment on function crossfade_private.conversion is
  'How a converter stands in statements: {"call", "target", "columns": [{"name", "type"}], and of a converter whose text can be used "name", "row", "counterpart", "text", "reads", "items"}. Locks both tables ACCESS SHARE.';

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

create or replace function crossfade_private.convert_sql(
  conversion jsonb, row_sql text, counterpart_sql text
)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when conversion -> 'items' <> 'null' then (
      select format('(select %s)', string_agg(format('(%s)::%s as %I',
        crossfade_private.fill_item(i ->> 'text', row_sql, counterpart_sql), c ->> 'type',
        c ->> 'name'), ', ' order by n))
      from jsonb_array_elements(conversion -> 'items') with ordinality u(i, n)
      join jsonb_array_elements(conversion -> 'columns') with ordinality w(c, n) using (n))
    when conversion ->> 'text' is not null then (
      select format(
        '(select %s from (select %s as %I, %s as %I) %I cross join lateral (%s) cf_made(%s))',
        string_agg(format('cf_made.%I::%s as %1$I', c ->> 'name', c ->> 'type'), ', ' order by n),
        row_sql, conversion ->> 'row', counterpart_sql, conversion ->> 'counterpart',
        conversion ->> 'name', conversion ->> 'text',
        string_agg(quote_ident(c ->> 'name'), ', ' order by n))
      from jsonb_array_elements(conversion -> 'columns') with ordinality w(c, n))
    else format('%s(%s, %s)', conversion ->> 'call', row_sql, counterpart_sql)
    end;
$$;

comment on function crossfade_private.convert_sql is
  'An item of FROM, to be written after LATERAL and before an alias, that converts a row: its columns are those of the target, as the base types of these.';

create or replace function crossfade_private.depends_on_settings(
  conversion jsonb, source regclass, target regclass
)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- Anything else than a bare list is taken to depend on them.
  select coalesce(bool_or(case
    when i.safe ~ ('^\((' || chr(3) || '|' || chr(4) || ')\)\.[^ ()]+$') then false
    else i.safe ~ '::"?(date|time|interval|real|double|float|money|bytea|xml|ts|reg)|OPERATOR\(|\.[a-z0-9_]+\('
      or exists (
        select from regexp_matches(i.safe, '\m([a-z_][a-z0-9_]*)\(', 'g') m
        where not exists (
          select from pg_catalog.pg_proc p
          where p.proname = m[1] and p.pronamespace = 'pg_catalog'::regnamespace
            and (p.provolatile = 'i' or p.proname in ('concat', 'concat_ws', 'format', 'to_jsonb',
              'to_json', 'jsonb_build_array', 'jsonb_build_object', 'json_build_array',
              'json_build_object', 'array_to_string'))))
      or exists (
        select from pg_catalog.pg_attribute a
        cross join lateral crossfade_private.type_parts(a.atttypid) p(id)
        join pg_catalog.pg_type y on y.oid = p.id
        where (a.attrelid = source
            and (i.item -> 'reads' = 'null' or i.item -> 'reads' ? a.attname::text)
          or a.attrelid = target
            and (i.item -> 'reads_old' = 'null' or i.item -> 'reads_old' ? a.attname::text))
          and a.attnum > 0 and not a.attisdropped
          and y.typtype = 'b' and y.typcategory <> 'A' and y.oid not in (
            'bool'::regtype, 'int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype,
            'text'::regtype, 'varchar'::regtype, 'bpchar'::regtype, 'uuid'::regtype,
            'json'::regtype, 'jsonb'::regtype))
    end), true)
  from (
    select u.item, p.safe
    from jsonb_array_elements(nullif(conversion -> 'items', 'null')) u(item)
    cross join lateral crossfade_private.protect_text(u.item ->> 'text') p
  ) i;
$$;

comment on function crossfade_private.depends_on_settings is
  'Whether what a converter makes may depend on the session''s time zone, date style and the like: false only for a bare list of columns as they are, and of expressions over types and functions that know no settings.';
