-- SQL as PostgreSQL prints it, taken apart. It prints its words in capitals, types and other
-- people's names in small letters or quotes, every name that could mean something else with what it
-- belongs to, and no comments.

create or replace function crossfade_private.printed_tokens(printed text)
returns table (n bigint, space text, token text)
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select u.n, m[1], m[2]
  from regexp_matches(printed,
    '(\s*)(''(?:[^'']|'''')*''|"(?:[^"]|"")*"|[A-Za-z_][A-Za-z0-9_$]*|\$[0-9]+|::|=>|\S)', 'g')
    with ordinality u(m, n);
$$;

comment on function crossfade_private.printed_tokens is
  'Words, constants, quoted names and signs of printed SQL, with the space before each.';

create or replace function crossfade_private.is_name(token text)
returns boolean
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select token ~ '^[a-z_][a-z0-9_$]*$' or left(token, 1) = '"';
$$;

comment on function crossfade_private.is_name is
  'Whether a token of printed SQL is a name and no word of PostgreSQL''s.';

create or replace function crossfade_private.marked_tokens(
  printed text, names text[], function_name text
)
returns table (n bigint, space text, token text, parameter integer)
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  with near as (
    select t.*, coalesce(lag(t.token) over w, '') as before,
      coalesce(lag(t.token, 2) over w, '') as before_2,
      coalesce(lag(t.token, 3) over w, '') as before_3, coalesce(lead(t.token) over w, '') as after,
      coalesce(lead(t.token, 2) over w, '') as after_2,
      case when t.token ~ '^\$[12]$' then substr(t.token, 2)::integer
        else array_position(array(
          select quote_ident(u.name) from unnest(names) with ordinality u(name, place)
          order by u.place), t.token) end as place
    from crossfade_private.printed_tokens(printed) t
    window w as (order by t.n)
  ),
  judged as (
    select near.*, before = '.' and before_2 = quote_ident(function_name)
        and before_3 not in ('.', '::') as is_qualified
    from near
  )
  select judged.n, judged.space, judged.token,
    case when is_qualified or token ~ '^\$' or not (
        -- A column, type, function, table, label or keyword argument of the same name.
        before in ('.', '::', ')', 'AS', 'FROM', 'JOIN', 'WITH', 'RECURSIVE', 'ORDINALITY',
          'LATERAL', 'ONLY', 'COLLATE', 'WINDOW', 'OVER', 'OF', 'NAME', 'COLUMNS')
        or after in ('.', '(', '=>') or after = 'AS' and after_2 in ('(', 'MATERIALIZED', 'NOT')
        or before = '(' and before_2 in ('EXTRACT', 'USING') or before ~ '^[0-9]$'
        or crossfade_private.is_name(before) or crossfade_private.is_name(after))
      then place end
  from judged;
$$;

comment on function crossfade_private.marked_tokens is
  'printed_tokens, and which of them are the parameters (1, 2) of a function; inside a query they are printed with the name of the function before them.';

create or replace function crossfade_private.with_parameters(
  printed text, names text[], function_name text
)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  with marked as (
    select m.*, lead(m.parameter) over w as parameter_1, lead(m.parameter, 2) over w as parameter_2,
      lead(m.token) over w as after, m.token = quote_ident(function_name) as is_function
    from crossfade_private.marked_tokens(printed, names, function_name) m
    window w as (order by m.n)
  )
  select string_agg(case
    when parameter is not null then space || chr(2 + parameter)
    when is_function and after = '.' and parameter_2 is not null then space
    when token = '.' and parameter_1 is not null then ''
    -- What a backslash means hangs on standard_conforming_strings, but for this form.
    when token like '''%\\%' then space || 'E' || replace(token, '\', '\\')
    else space || token end, '' order by n)
  from marked;
$$;

comment on function crossfade_private.with_parameters is
  'Printed SQL in which chr(3) and chr(4) stand for the parameters of the function it is the body of.';

create or replace function crossfade_private.select_items(printed text)
returns text[]
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_token record;
  v_depth integer := 0;
  v_items text[] := '{}'::text[];
  v_item text := '';
  v_before text := '';
begin
  for v_token in
    select t.space, t.token, lead(t.token) over (order by t.n) as after
    from crossfade_private.printed_tokens(substr(printed, length('SELECT ') + 1)) t order by t.n
  loop
    v_depth := v_depth + case when v_token.token in ('(', '[') then 1
      when v_token.token in (')', ']') then -1 else 0 end;
    if v_depth = 0 and (v_token.token = ';' or v_token.token = any ('{FROM,WHERE,GROUP,HAVING,UNION,
        INTERSECT,EXCEPT,ORDER,LIMIT,OFFSET,FETCH,WINDOW,FOR,DISTINCT,OVER,FILTER,WITHIN}')) then
      return null;
    elsif v_depth = 0 and v_token.token = ',' then
      v_items := v_items || v_item;
      v_item := '';
    elsif not (v_depth = 0 and (v_token.token = 'AS' or v_before = 'AS')) then
      v_item := v_item || v_token.space || v_token.token;
    end if;
    v_before := v_token.token;
  end loop;
  return v_items || v_item;
end $$;

comment on function crossfade_private.select_items is
  'The expressions of a SELECT that has nothing but its list, without their labels; null when it has a FROM or any other clause.';

create or replace function crossfade_private.unquoted(name text)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select case when left(name, 1) = '"' then replace(substr(name, 2, length(name) - 2), '""', '"')
    else name end;
$$;

comment on function crossfade_private.unquoted is 'The name that a printed name stands for.';

create or replace function crossfade_private.columns_read(expression text, parameter text)
returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when regexp_replace(expression, '\(' || parameter || '\)\.', '', 'g') ~ parameter then null
    else (
      select coalesce(jsonb_agg(distinct crossfade_private.unquoted(m[1])), '[]')
      from regexp_matches(expression,
        '\(' || parameter || '\)\.([a-z_][a-z0-9_]*|"(?:[^"]|"")*")', 'g') m)
    end;
$$;

comment on function crossfade_private.columns_read is
  'Names of the columns of a parameter (chr(3) or chr(4)) that an expression reads; null when it reads the row as a whole.';

create or replace function crossfade_private.column_copied(expression text, parameter text)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select crossfade_private.unquoted(substring(expression from
    '^\s*\(' || parameter || '\)\.([a-z_][a-z0-9_]*|"(?:[^"]|"")*")\s*$'));
$$;

comment on function crossfade_private.column_copied is
  'The column of a parameter that an expression is, if it is nothing else.';
