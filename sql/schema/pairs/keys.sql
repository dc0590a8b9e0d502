-- A key as JSON, and JSON as a key.

create or replace function crossfade_private.key_from_json(
  names text[], source regclass, source_key text[], expression text
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- As the widest type of the family and without a length: the key may be one that only the other
  -- table can hold, and must then find nothing instead of failing or, cut, finding another row.
  select string_agg(format('(%s ->> %L)::%s', expression, u.name, case
      when b.id in ('int2'::regtype, 'int4'::regtype) then 'bigint'
      when b.id = 'varchar'::regtype then 'text'
      else format_type(b.id, -1) end), ', ' order by u.n)
  from unnest(names, source_key) with ordinality u(name, source_name, n)
  join pg_catalog.pg_attribute a on a.attrelid = source and a.attname = u.source_name
  cross join lateral crossfade_private.base_type(a.atttypid) b(id);
$$;

comment on function crossfade_private.key_from_json is
  'Typed key columns read from a JSON key, as a list of SQL expressions in key order.';

create or replace function crossfade_private.key_part(value timestamptz)
returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
  select to_jsonb(value);
$$;

comment on function crossfade_private.key_part(timestamptz) is
  'A part of a key as JSON that is the same whatever the session''s time zone: keys are compared as JSON.';

create or replace function crossfade_private.key_part(value bytea)
returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
set bytea_output = 'hex'
as $$
  select to_jsonb(value);
$$;

comment on function crossfade_private.key_part(bytea) is
  'A part of a key as JSON that is the same whatever the session''s bytea_output.';

create or replace function crossfade_private.key_to_json(
  names text[], tab regclass, columns text[], alias text
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format('jsonb_build_object(%s)', string_agg(format('%L, %s', u.name, format(
    case when crossfade_private.base_type(a.atttypid)
      in ('timestamptz'::regtype, 'bytea'::regtype)
      then 'crossfade_private.key_part(%s.%I)' else '%s.%I' end, alias, u.c)), ', ' order by u.n))
  from unnest(names, columns) with ordinality u(name, c, n)
  join pg_catalog.pg_attribute a on a.attrelid = tab and a.attname = u.c;
$$;

comment on function crossfade_private.key_to_json is
  'SQL expression that makes the JSON key, with the V1 names, of a row.';
