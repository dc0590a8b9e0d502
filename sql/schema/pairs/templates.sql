-- Filling a template with pieces of SQL.

create or replace function crossfade_private.render(template text, pieces jsonb)
returns text
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_piece constant text := '\{([a-z][a-z0-9_]*)\}';
  -- What lies between the pieces, one more than there are pieces.
  v_between text[] := regexp_split_to_array(template, v_piece);
  v_name text;
  v_number integer := 1;
  v_sql text := v_between[1];
begin
  -- Once through the template and not piece by piece: a fragment may hold braces of its own.
  for v_name in select m[1] from regexp_matches(template, v_piece, 'g') m loop
    if not pieces ? v_name then
      raise exception 'crossfade: template has an unknown piece: {%}', v_name;
    end if;
    v_number := v_number + 1;
    v_sql := v_sql || (pieces ->> v_name) || v_between[v_number];
  end loop;
  return v_sql;
end $$;

comment on function crossfade_private.render is
  'Fill {piece} by its SQL fragment. Every fragment is quoted with format(%I, %L) when it is made. Raises P0001 for a piece that is not there.';
