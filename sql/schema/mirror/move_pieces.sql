-- The SQL fragments that give a counterpart another key, and that keep what the mirror assigned.

create or replace function crossfade_private.move_pieces(
  pair crossfade.pairs, side integer, source regclass, target regclass, key text[],
  target_key text[]
)
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_from text := crossfade_private.key_sql('(cf_t)', target_key, '(cf_from)', key);
  v_to text := crossfade_private.key_sql('(cf_t)', target_key, '(cf_to)', key);
  v_setting text := format('crossfade.key_%s_v%s', (pair).name, 3 - side);
  -- Only to a key that a row of the source has.
  v_further jsonb := jsonb_build_object('same_key_s_further', (
    select string_agg(format('(cf_s).%I = (cf_further ->> %L)::%s', s, name,
      crossfade_private.base_type_name(a.atttypid)), ' and ' order by n)
    from unnest(key, (pair).key_columns) with ordinality u(s, name, n)
    join pg_catalog.pg_attribute a on a.attrelid = source and a.attname = s));
  v_forget text := format('perform set_config(%L, '''', true);', v_setting);
  v_any text := (crossfade_private.writable_columns(
    target, target_key || crossfade_private.always_identity(target)))[1];
begin
  if crossfade_private.always_identity(target) && target_key then
    -- The trigger function mirror_key_text sets the key: an UPDATE may not.
    return v_further || jsonb_build_object(
      'move_statement', format(
        'perform set_config(%L, (%s)::text, true);
      update %s cf_t set %I = (cf_t).%4$I where %s;', v_setting,
        crossfade_private.key_to_json((pair).key_columns, source, key, '(cf_to)'),
        target, coalesce(v_any, target_key[1]), v_from),
      -- Else the next row that the mirror writes would get it.
      'forget_new_key', v_forget || e'\n        ',
      'move_further_statement', format(
        'perform set_config(%L, cf_further::text, true);
        update %s cf_t set %I = (cf_t).%3$I where %s;
        %s', v_setting, target, coalesce(v_any, target_key[1]), v_to, v_forget));
  end if;
  return (
    select v_further || jsonb_build_object(
      'forget_new_key', '',
      'move_statement', format('update %s cf_t set %s where %s;', target,
        string_agg(format('%I = (cf_to).%I', t, s), ', ' order by n), v_from),
      'move_further_statement', format('update %s cf_t set %s where %s;', target,
        string_agg(format('%I = (cf_further ->> %L)::%s', t, name,
          crossfade_private.base_type_name(a.atttypid)), ', ' order by n), v_to))
    from unnest(target_key, key, (pair).key_columns) with ordinality u(t, s, name, n)
    join pg_catalog.pg_attribute a on a.attrelid = target and a.attname = t);
end $$;

comment on function crossfade_private.move_pieces is
  'The statements that give a counterpart another key.';

create or replace function crossfade_private.settle_pieces(
  conversion jsonb, tab regclass, key text[], names text[]
)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'put_back', coalesce(string_agg(format('new.%I := cf_row.%1$I;', a.attname), E'\n    '
      order by a.attnum) filter (where case
        -- Such a key moves by the trigger of mirror_key_text, all of it.
        when a.attname = any (key) then not crossfade_private.always_identity(tab) && key
        else conversion -> 'items' = 'null' or i.item -> 'reads' <> '[]' end), 'null;'),
    'assign_key', coalesce(string_agg(format('new.%I := (cf_key ->> %L)::%s;', a.attname,
      names[array_position(key, a.attname::text)], crossfade_private.base_type_name(a.atttypid)),
      E'\n    ' order by a.attnum) filter (where a.attname = any (key)), 'null;'))
  from pg_catalog.pg_attribute a
  left join (
    select w.c ->> 'name' as name, u.i as item
    from jsonb_array_elements(nullif(conversion -> 'items', 'null')) with ordinality u(i, n)
    join jsonb_array_elements(conversion -> 'columns') with ordinality w(c, n) using (n)
  ) i on i.name = a.attname
  where a.attrelid = tab and a.attnum > 0 and not a.attisdropped and a.attgenerated = '';
$$;

comment on function crossfade_private.settle_pieces is
  'Assignments of the row triggers of a table whose rows the conversion makes: the columns that it makes of the other table''s.';
