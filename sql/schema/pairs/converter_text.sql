-- The text of a converter, so that it can stand in the engine's own statements: converting many rows
-- is one plan then, and converting one costs no function call.
-- A function with a SET clause is never inlined by PostgreSQL, and the advisors ask for that clause
-- (lint 0011); our statements run with the same settings, so its text means the same there.

create or replace function crossfade_private.converter_text(converter text)
returns jsonb
language plpgsql volatile -- makes a function and removes it again
set search_path = pg_catalog, pg_temp
-- Constants are printed and parsed by these; a session may have others.
set timezone = 'UTC'
set datestyle = 'ISO, MDY'
set intervalstyle = 'postgres'
set extra_float_digits = 1
set bytea_output = 'hex'
set quote_all_identifiers = off
set standard_conforming_strings = on
as $$
declare
  v_proc pg_catalog.pg_proc;
  v_names text[];
  v_text text;
begin
  select p.* into v_proc from pg_catalog.pg_proc p where p.oid = to_regproc(converter);
  if v_proc.prolang <> (select l.oid from pg_catalog.pg_language l where l.lanname = 'sql')
    or v_proc.prosecdef or not v_proc.proretset
    or coalesce(v_proc.proconfig, '{}') not in (
      '{}', array['search_path=""'], array['search_path=pg_catalog, pg_temp']) then
    return null;
  end if;
  v_names := array[
    coalesce(nullif(v_proc.proargnames[1], ''), 'cf_given_1'),
    coalesce(nullif(v_proc.proargnames[2], ''), 'cf_given_2')];
  v_text := pg_catalog.pg_get_function_sqlbody(v_proc.oid);
  if v_text is null then
    -- A body that is a string: PostgreSQL parses it, and prints it with every name qualified.
    -- SAFETY: whoever wrote it gains nothing; the mirror runs converters with the same rights.
    if v_proc.proconfig is null then
      return null; -- names in it are found by the path of the caller
    end if;
    execute pg_catalog.format(
      'create function pg_temp.cf_printed(%I %s, %I %s) returns setof %s language sql stable
       begin atomic %s
       ; end',
      v_names[1], v_proc.proargtypes[0]::regtype, v_names[2], v_proc.proargtypes[1]::regtype,
      v_proc.prorettype::regtype, pg_catalog.rtrim(v_proc.prosrc, E' \n\t\r;'));
    v_text := pg_catalog.pg_get_function_sqlbody(pg_catalog.to_regprocedure(pg_catalog.format(
      'pg_temp.cf_printed(%s, %s)', v_proc.proargtypes[0]::regtype,
      v_proc.proargtypes[1]::regtype)));
    execute pg_catalog.format('drop function pg_temp.cf_printed(%s, %s)',
      v_proc.proargtypes[0]::regtype, v_proc.proargtypes[1]::regtype);
  end if;
  v_text := substring(v_text from '^BEGIN ATOMIC\s+(.*);\s*END$');
  if v_text is null or v_text !~ '^SELECT ' then
    return null;
  end if;
  -- The parameters are printed as columns of the function that was made.
  return crossfade_private.parse_converter(v_text, v_names,
    case when v_proc.prosqlbody is null then 'cf_printed' else v_proc.proname end);
exception when others then
  return null; -- Whatever keeps its text from standing elsewhere: it is called.
end $$;

comment on function crossfade_private.converter_text is
  'The one SELECT of a converter in SQL whose only setting is a pinned search_path, as parse_converter gives it; null for any other, which is called.';

create or replace function crossfade_private.protect_text(text_in text)
returns table (safe text, tokens text[])
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  -- String constants and quoted names: nothing in them is SQL.
  v_token constant text := '''(?:[^'']|'''')*''|"(?:[^"]|"")*"';
  v_between text[] := regexp_split_to_array(text_in, v_token);
  v_found text;
  v_place integer;
  v_number integer := 1;
begin
  tokens := '{}';
  safe := v_between[1];
  for v_found in select m[1] from regexp_matches(text_in, '(' || v_token || ')', 'g') m loop
    -- A backslash means something only where standard_conforming_strings is off; this way it means
    -- the same everywhere.
    if v_found like '''%\\%' then
      v_found := 'E' || replace(v_found, '\', '\\');
    end if;
    v_place := array_position(tokens, v_found);
    if v_place is null then
      tokens := tokens || v_found;
      v_place := cardinality(tokens);
    end if;
    v_number := v_number + 1;
    safe := safe || chr(1) || v_place || chr(2) || v_between[v_number];
  end loop;
  return next;
end $$;

comment on function crossfade_private.protect_text is
  'SQL in which constants and quoted names are replaced by numbers between chr(1) and chr(2), and what they stand for.';

create or replace function crossfade_private.restore_text(safe text, tokens text[])
returns text
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_between text[] := regexp_split_to_array(safe, chr(1) || '[0-9]+' || chr(2));
  v_text text := v_between[1];
  v_number integer := 1;
  v_place text;
begin
  for v_place in
    select m[1] from regexp_matches(safe, chr(1) || '([0-9]+)' || chr(2), 'g') m
  loop
    v_number := v_number + 1;
    v_text := v_text || tokens[v_place::integer] || v_between[v_number];
  end loop;
  return v_text;
end $$;

comment on function crossfade_private.restore_text is
  'The text of protect_text again.';

create or replace function crossfade_private.split_select_list(safe text)
returns text[]
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_part text;
  v_depth integer := 0;
  v_item text := '';
  v_items text[] := '{}';
begin
  for v_part in select m[1] from regexp_matches(safe, '([(),]|\[|\]|[^(),\[\]]+)', 'g') m loop
    v_depth := v_depth + case when v_part in ('(', '[') then 1 when v_part in (')', ']') then -1
      else 0 end;
    -- PostgreSQL prints its words in capitals and other people's in small letters or quotes.
    if v_depth = 0 and v_part ~ '\m(FROM|WHERE|GROUP|HAVING|UNION|INTERSECT|EXCEPT|ORDER|LIMIT|OFFSET|FETCH|WINDOW|FOR|DISTINCT|OVER|FILTER|WITHIN)\M' then
      return null;
    end if;
    if v_depth = 0 and v_part = ',' then
      v_items := v_items || v_item;
      v_item := '';
    else
      v_item := v_item || v_part;
    end if;
  end loop;
  return (
    select array_agg(regexp_replace(btrim(i, E' \n\t'),
      '\s+AS\s+([a-z_][a-z0-9_$]*|' || chr(1) || '[0-9]+' || chr(2) || ')$', '') order by n)
    from unnest(v_items || v_item) with ordinality u(i, n));
end $$;

comment on function crossfade_private.split_select_list is
  'The expressions of a SELECT that has nothing but its list; null when it has a FROM or any other clause.';

create or replace function crossfade_private.columns_read(
  safe text, tokens text[], parameter text
)
returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when regexp_replace(safe, '\(' || parameter || '\)\.', '', 'g') ~ parameter then null
    else (
      select coalesce(jsonb_agg(distinct case
        when m[1] like chr(1) || '%' then
          replace(btrim(tokens[btrim(m[1], chr(1) || chr(2))::integer], '"'), '""', '"')
        else m[1] end), '[]')
      from regexp_matches(safe, '\(' || parameter || '\)\.([a-z_][a-z0-9_$]*|' || chr(1) || '[0-9]+'
        || chr(2) || ')', 'g') m)
    end;
$$;

comment on function crossfade_private.columns_read is
  'Names of the columns of a parameter that printed SQL reads; null when it reads the row as a whole.';

create or replace function crossfade_private.parse_converter(
  select_text text, names text[], converter_name text
)
returns jsonb
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_safe text;
  v_tokens text[];
  v_names text[];
  v_items text[];
begin
  select p.safe, p.tokens into v_safe, v_tokens
  from crossfade_private.protect_text(select_text) p;
  -- Parameters as they are printed: a plain word, or the number of a quoted name (0: not used).
  select array_agg(case when quote_ident(n) = n then '\m' || n || '\M'
    else chr(1) || coalesce(array_position(v_tokens, quote_ident(n)), 0) || chr(2) end order by o)
  into v_names
  from unnest(names) with ordinality u(n, o);
  v_items := crossfade_private.split_select_list(substr(v_safe, length('SELECT ') + 1));
  return jsonb_build_object(
    'name', converter_name, 'row', names[1], 'counterpart', names[2],
    'text', crossfade_private.restore_text(v_safe, v_tokens),
    'reads', crossfade_private.columns_read(v_safe, v_tokens, v_names[1]),
    'items', (
      select jsonb_agg(jsonb_build_object(
        'text', crossfade_private.restore_text(regexp_replace(regexp_replace(
          i, v_names[1], chr(3), 'g'), v_names[2], chr(4), 'g'), v_tokens),
        'reads', crossfade_private.columns_read(i, v_tokens, v_names[1]),
        'reads_old', crossfade_private.columns_read(i, v_tokens, v_names[2])) order by n)
      from unnest(v_items) with ordinality u(i, n)));
end $$;

comment on function crossfade_private.parse_converter is
  'A converter''s SELECT taken apart: {"name", "row", "counterpart": names of the function and of its parameters, "text", "reads": columns of the row, null for all, "items": null or, of a bare select list, [{"text": expression in which chr(3) stands for the row and chr(4) for its counterpart, "reads"}]}.';
