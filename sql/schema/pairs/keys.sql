-- A key as JSON, and JSON as a key.

create or replace function crossfade_private.key_from_json(
  names text[], source regclass, source_key text[], expression text
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- As the widest type of its family, without a length: a key that only the other table can hold
  -- must find no row here, neither raise nor, cut, find a wrong one. Indexes serve all the same.
  select string_agg(
    format('(%s ->> %L)::%s', expression, u.name, case crossfade_private.base_type(a.atttypid)
      when 'int2'::regtype then 'bigint' when 'int4'::regtype then 'bigint'
      when 'varchar'::regtype then 'text'
      else crossfade_private.base_type_name(a.atttypid) end), ', ' order by u.n)
  from unnest(names, source_key) with ordinality u(name, source_name, n)
  join pg_catalog.pg_attribute a on a.attrelid = source and a.attname = u.source_name;
$$;

comment on function crossfade_private.key_from_json is
  'Key columns read from a JSON key, typed to be compared with those of either table, as a list of SQL expressions in key order.';

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
    case when coalesce(nullif(y.typbasetype, 0), y.oid)
      in ('timestamptz'::regtype, 'bytea'::regtype)
      then 'crossfade_private.key_part(%s.%I)' else '%s.%I' end, alias, u.c)), ', ' order by u.n))
  from unnest(names, columns) with ordinality u(name, c, n)
  join pg_catalog.pg_attribute a on a.attrelid = tab and a.attname = u.c
  join pg_catalog.pg_type y on y.oid = a.atttypid;
$$;

comment on function crossfade_private.key_to_json is
  'SQL expression that makes the JSON key, with the V1 names, of a row.';
