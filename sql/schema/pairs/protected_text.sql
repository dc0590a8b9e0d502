-- SQL in which nothing but SQL is left: constants and quoted names are put aside.

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
  v_items text[] := '{}'::text[];
begin
  for v_part in select m[1] from regexp_matches(safe, '([(),]|\[|\]|[^(),\[\]]+)', 'g') m loop
    v_depth := v_depth + case when v_part in ('(', '[') then 1 when v_part in (')', ']') then -1
      else 0 end;
    -- PostgreSQL prints its words in capitals and other people's in small letters or quotes.
    if v_depth = 0 and v_part ~ ('\m(FROM|WHERE|GROUP|HAVING|UNION|INTERSECT|EXCEPT|ORDER|LIMIT'
        || '|OFFSET|FETCH|WINDOW|FOR|DISTINCT|OVER|FILTER|WITHIN)\M') then
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
