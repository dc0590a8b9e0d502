-- What must not change unseen: the columns of a table, the text of a converter.

create or replace function crossfade_private.table_fingerprint(v1 regclass, v2 regclass)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off -- format_type writes by it
as $$
  select md5(string_agg(
    format('%s.%s %s %s %s', a.attrelid = v1, a.attname, format_type(a.atttypid, a.atttypmod),
      a.attnotnull, a.attgenerated),
    ';' order by a.attrelid = v1, a.attnum))
  from pg_catalog.pg_attribute a
  where a.attrelid in (v1, v2) and a.attnum > 0 and not a.attisdropped;
$$;

comment on function crossfade_private.table_fingerprint is
  'Hash of names, types and nullability of the columns of both tables.';

create or replace function crossfade_private.settled_text(definition text)
returns text
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  -- What PostgreSQL prints of `x in ('a', 'b')` with a varchar x: an array whose cast it gives to
  -- the elements when it reads its own text, as in a restore. All else that it prints stays as it
  -- is.
  v_cast constant text := '\(ARRAY\[((?:[^][]|\[[^][]*\])*)\]\)::([^][(),]+?)\[\]';
  v_text record;
  v_found text[];
  v_items text[];
begin
  if definition !~ v_cast then
    return definition;
  end if;
  select * into v_text from crossfade_private.protect_text(definition);
  loop
    v_found := regexp_match(v_text.safe, v_cast);
    v_items := crossfade_private.split_select_list(v_found[1]);
    exit when v_found is null or v_items is null;
    v_text.safe := regexp_replace(v_text.safe, v_cast, (
      select 'ARRAY[' || string_agg(format('(%s)::%s', i, v_found[2]), ', ' order by n) || ']'
      from unnest(v_items) with ordinality u(i, n)));
  end loop;
  return crossfade_private.restore_text(v_text.safe, v_text.tokens);
end $$;

comment on function crossfade_private.settled_text is
  'A definition as PostgreSQL prints it once it has read what it printed: a dump restores it so.';

create or replace function crossfade_private.converter_hash(to_v2 text, to_v1 text)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
-- Bodies are printed by these.
set timezone = 'UTC'
set datestyle = 'ISO, MDY'
set intervalstyle = 'postgres'
set extra_float_digits = 1
set bytea_output = 'hex'
set quote_all_identifiers = off
set standard_conforming_strings = on
as $$
  select md5(string_agg(
    coalesce(crossfade_private.settled_text(pg_catalog.pg_get_functiondef(c.id)), '-'), ';'
    order by c.id::pg_catalog.regprocedure::text collate "C"))
  from crossfade_private.called_functions(array[to_v2, to_v1]) c(id)
  join pg_catalog.pg_proc p on p.oid = c.id and p.prokind <> 'a';
$$;

comment on function crossfade_private.converter_hash is
  'Hash of the definitions of both converters and of all functions they call by their qualified names. Calls without a schema or by dynamic SQL are not seen.';
