-- The text of a converter, so that it can stand in the engine's own statements: converting many
-- rows is one plan then, and converting one costs no function call. A function with a SET clause is
-- never inlined by PostgreSQL, and the advisors ask for that clause (lint 0011); our statements run
-- with the same settings, so its text means the same there.

create or replace function crossfade_private.printed_body(converter oid)
returns text
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
set check_function_bodies = on
as $$
declare
  v_proc pg_catalog.pg_proc;
  v_body text := pg_catalog.pg_get_function_sqlbody(converter);
begin
  select p.* into v_proc from pg_catalog.pg_proc p where p.oid = converter;
  -- As strict as a call: a column may have changed its type since the converter was made.
  perform pg_catalog.fmgr_sql_validator(converter);
  if v_body is null then
    -- A body that is a string: PostgreSQL parses it, and prints it with every name qualified.
    -- SAFETY: whoever wrote it gains nothing; the mirror runs converters with the same rights.
    execute format(
      E'create function pg_temp.cf_printed(%s %s, %s %s) returns setof %s language sql stable
       begin atomic %s\n; end', coalesce(quote_ident(nullif(v_proc.proargnames[1], '')), ''),
      v_proc.proargtypes[0]::regtype, coalesce(quote_ident(nullif(v_proc.proargnames[2], '')), ''),
      v_proc.proargtypes[1]::regtype, v_proc.prorettype::regtype,
      regexp_replace(v_proc.prosrc, '[\s;]+$', ''));
    v_body := pg_catalog.pg_get_function_sqlbody(to_regprocedure(format(
      'pg_temp.cf_printed(%s, %s)', v_proc.proargtypes[0]::regtype,
      v_proc.proargtypes[1]::regtype)));
    execute format('drop function pg_temp.cf_printed(%s, %s)', v_proc.proargtypes[0]::regtype,
      v_proc.proargtypes[1]::regtype);
    -- Inside queries, parameters are printed with the name of the function.
    v_body := crossfade_private.with_parameters(v_body, v_proc.proargnames[1:2], 'cf_printed');
  else
    v_body := crossfade_private.with_parameters(v_body, v_proc.proargnames[1:2], v_proc.proname);
  end if;
  return substring(v_body from '^BEGIN ATOMIC\s+(.*);\s*END$');
end $$;

comment on function crossfade_private.printed_body is
  'The body of a converter in SQL as PostgreSQL prints it, chr(3) and chr(4) standing for its parameters; null when it is not begin atomic. Raises what PostgreSQL has against it.';

create or replace function crossfade_private.call_reason(converter oid)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when l.lanname <> 'sql' then format('it is written in %s; write it in SQL', l.lanname)
    when p.prosecdef then 'it is SECURITY DEFINER; leave that out, the mirror runs as the owner'
    when not p.proretset then 'it does not return SETOF'
    when coalesce(p.proconfig, '{}') not in ('{}', array['search_path=""'],
        array['search_path=pg_catalog, pg_temp'])
      then format('it has settings of its own (%s); keep search_path = pg_catalog, pg_temp alone',
        array_to_string(p.proconfig, '; '))
    when p.proconfig is null and p.prosqlbody is null
      then 'it has no search_path; set search_path = pg_catalog, pg_temp'
    end
  from pg_catalog.pg_proc p join pg_catalog.pg_language l on l.oid = p.prolang
  where p.oid = converter;
$$;

comment on function crossfade_private.call_reason is
  'Why the text of a converter cannot stand elsewhere, and what to change; null when nothing is known against it.';

create or replace function crossfade_private.text_reason(body text, function_name text)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  with t as (select * from crossfade_private.printed_tokens(body))
  select case
    when body is null or not exists (select from t where n = 1 and token in ('SELECT', 'WITH',
      'VALUES', '(')) then 'it is no query; write one SELECT'
    when exists (select from t where token = ';') then 'it has several statements; write one SELECT'
    -- A call would refuse these, as the function is not volatile.
    when exists (
      select from (select token, lead(token) over (order by n) as after from t) u
      where token = 'FOR' and after in ('UPDATE', 'NO', 'SHARE', 'KEY')) then 'it locks rows'
    -- Such names are ours: none of its own may hide one.
    when exists (select from t where token ~ '^"?cf_')
      then 'a name in it begins with cf_; choose another'
    when exists (
      select from t where token ~ '^[''"]' and token ~ ('[' || chr(3) || chr(4) || ']'))
      then 'it holds the characters 3 or 4; write them as chr(3)'
    when exists (
      select from (select token, lag(token) over (order by n) as before,
        lead(token) over (order by n) as after from t) u
      where token = quote_ident(function_name) and before is distinct from '.' and after <> '(')
      then 'a table in it is named as the function is; choose another alias'
    end;
$$;

comment on function crossfade_private.text_reason is
  'What in the body of a converter, as printed_body gives it, keeps it from standing elsewhere, and what to change.';

create or replace function crossfade_private.converter_text(converter text)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_proc oid := to_regproc(converter);
  v_why text := crossfade_private.call_reason(v_proc);
  v_body text;
begin
  if v_why is null then
    v_body := crossfade_private.printed_body(v_proc);
    v_why := crossfade_private.text_reason(v_body, (
      select p.proname from pg_catalog.pg_proc p
      where p.oid = v_proc and p.prosqlbody is not null));
  end if;
  if v_why is not null then
    return jsonb_build_object('why', v_why);
  end if;
  return jsonb_build_object('text', v_body,
    'reads', crossfade_private.columns_read(v_body, chr(3)), 'items', (
    select jsonb_agg(jsonb_build_object('text', btrim(i, E' \n\t'),
      'reads', crossfade_private.columns_read(i, chr(3)),
      'reads_old', crossfade_private.columns_read(i, chr(4)),
      'copies', crossfade_private.column_copied(i, chr(3)),
      'keeps', crossfade_private.column_copied(i, chr(4))) order by n)
    from unnest(case when v_body like 'SELECT %' then crossfade_private.select_items(v_body) end)
      with ordinality u(i, n)));
exception when others then
  return jsonb_build_object('why', format('PostgreSQL refuses its text: %s', sqlerrm));
end $$;

comment on function crossfade_private.converter_text is
  'A converter''s query taken apart, chr(3) standing for the row and chr(4) for its counterpart: {"text", "reads": columns of the row, null for all, "items": null or, of a bare select list, [{"text", "reads", "reads_old": the same of the counterpart, "copies", "keeps": the column of the row or counterpart that it is}]}, or {"why": what keeps its text from standing elsewhere}.';
