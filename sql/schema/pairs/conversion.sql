-- A conversion as SQL that stands in a statement: the converter's own expressions where it is a
-- bare select list ("items"), its whole query where it is any other ("text"), else a call.

create or replace function crossfade_private.convert_sql(
  conversion jsonb, row_sql text, counterpart_sql text
)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when conversion -> 'items' <> 'null' then (
      select format('(select %s)', string_agg(format('%s as %I',
        crossfade_private.fill_item(i ->> 'text', row_sql, counterpart_sql), c ->> 'name'), ', '
        order by n))
      from jsonb_array_elements(conversion -> 'items') with ordinality u(i, n)
      join jsonb_array_elements(conversion -> 'columns') with ordinality w(c, n) using (n))
    when conversion ->> 'text' is not null then (
      select format('(select %s from (select %s as cf_row, %s as cf_counterpart) cf_given
          cross join lateral (%s) cf_made(%s))',
        string_agg(format('%s as %I', c ->> 'made', c ->> 'name'), ', ' order by n),
        row_sql, counterpart_sql, conversion ->> 'text',
        string_agg(quote_ident(c ->> 'name'), ', ' order by n))
      from jsonb_array_elements(conversion -> 'columns') with ordinality w(c, n))
    else format('%s(%s, %s)', conversion ->> 'call', row_sql, counterpart_sql)
    end;
$$;

comment on function crossfade_private.convert_sql is
  'An item of FROM, to be written after LATERAL and before an alias, that converts a row: its columns are those of the target, assigned as an INSERT would, as the base types of these.';

create or replace function crossfade_private.conversion(
  converter text, source regclass, target regclass
)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_parsed constant jsonb := crossfade_private.converter_text(converter);
  v_paths constant text[] := array[
    crossfade_private.owner_search_path(source), crossfade_private.owner_search_path(target)];
  v_both constant text := format('%s cf_s cross join %s cf_t', source, target);
  v_columns jsonb;
  v_called jsonb;
  v_conversion jsonb;
  v_form text;
  v_why text := v_parsed ->> 'why';
begin
  select jsonb_agg(jsonb_build_object('name', a.attname, 'id', a.atttypid, 'typmod', a.atttypmod,
    'type', crossfade_private.base_type_name(a.atttypid)) order by a.attnum)
  into v_columns
  from pg_catalog.pg_attribute a
  where a.attrelid = target and a.attnum > 0 and not a.attisdropped;
  v_called := jsonb_build_object('call', converter, 'columns', v_columns, 'reads', null,
    'items', null, 'text', null);
  foreach v_form in array case when v_why is not null then '{}'::text[]
    when jsonb_array_length(nullif(v_parsed -> 'items', 'null')) = jsonb_array_length(v_columns)
      then '{items,text}' else '{text}' end
  loop
    begin
      v_conversion := v_called || jsonb_build_object('reads', v_parsed -> 'reads')
        || case v_form
          when 'items' then crossfade_private.standing_items(v_parsed, v_columns, v_both, v_paths)
          else crossfade_private.standing_text(v_parsed, v_columns, v_both, v_paths) end;
      -- What PostgreSQL would not plan in another statement is called.
      execute format('explain select from %s cross join lateral %s cf_c cross join lateral %s cf_d',
        v_both, crossfade_private.convert_sql(v_conversion, 'cf_s', 'cf_t'),
        crossfade_private.convert_sql(v_conversion, 'cf_s', format('null::%s', target)));
      return v_conversion;
    exception when others then
      v_why := format('PostgreSQL refuses its text in another statement: %s', sqlerrm);
    end;
  end loop;
  return v_called || jsonb_build_object('why', v_why);
end $$;

comment on function crossfade_private.conversion is
  'How a converter stands in statements: {"call", "columns": [{"name", "type"}], and "items", or "text" and the columns'' "made", or "why" it has to be called, "reads"}. Locks both tables ACCESS SHARE.';

create or replace function crossfade_private.depends_on_settings(
  conversion jsonb, source regclass, target regclass
)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
set jit = off -- it looks dear and is not: to compile it would take most of a registration's time
as $$
  -- Anything else than a bare list is taken to depend on them.
  select coalesce(bool_or(case
    -- Copied as it is, and compared without its text.
    when (i.item ->> 'copies' is not null or i.item ->> 'keeps' is not null)
      and crossfade_private.base_type(i.id) in (
        'bool'::regtype, 'int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'oid'::regtype,
        'uuid'::regtype, 'date'::regtype, 'time'::regtype, 'timestamp'::regtype,
        'timestamptz'::regtype, 'bytea'::regtype, 'text'::regtype, 'varchar'::regtype,
        'bpchar'::regtype, 'json'::regtype, 'jsonb'::regtype, 'numeric'::regtype) then false
    else i.safe ~
        '::"?(date|time|interval|real|double|float|money|bytea|xml|ts|reg)|OPERATOR\(|\.[a-z0-9_]+\('
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
    select u.item, p.safe, (w.c ->> 'id')::oid as id
    from jsonb_array_elements(nullif(conversion -> 'items', 'null')) with ordinality u(item, n)
    join jsonb_array_elements(conversion -> 'columns') with ordinality w(c, n) using (n)
    cross join lateral crossfade_private.protect_text(u.item ->> 'text') p
  ) i;
$$;

comment on function crossfade_private.depends_on_settings is
  'Whether what a converter makes may depend on the session''s time zone, date style and the like: false only for a bare list of columns as they are, and of expressions over types and functions that know no settings.';

create or replace function crossfade_private.pair_conversions(pair crossfade.pairs)
returns jsonb
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_array(
    crossfade_private.conversion((pair).to_v2, t.v1, t.v2),
    crossfade_private.conversion((pair).to_v1, t.v2, t.v1))
  from (select ((pair).v1_table)::regclass, ((pair).v2_table)::regclass) t(v1, v2);
$$;

comment on function crossfade_private.pair_conversions is
  'What conversion says of both converters, by the side that they read. Takes most of the time of a registration.';
