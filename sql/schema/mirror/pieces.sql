-- The SQL fragments of a pair that stand in the texts of its mirror functions. Every fragment is
-- quoted when it is made; aliases and variables begin with cf_, and columns may not.

create or replace function crossfade_private.key_sql(
  one_sql text, one_key text[], other_sql text, other_key text[]
)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select string_agg(format('%s.%I = %s.%I', one_sql, a, other_sql, b), ' and ' order by n)
  from unnest(one_key, other_key) with ordinality u(a, b, n);
$$;

comment on function crossfade_private.key_sql is
  'SQL that says whether two rows have the same key.';

create or replace function crossfade_private.row_key_sql(row_sql text, key text[])
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select case when cardinality(key) = 1 then k else 'row(' || k || ')' end
  from (select string_agg(format('%s.%I', row_sql, c), ', ' order by n) k
    from unnest(key) with ordinality u(c, n)) q;
$$;

comment on function crossfade_private.row_key_sql is
  'SQL of a row''s key as one value.';

create or replace function crossfade_private.stored_rows_sql(tab regclass, transition text)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- A transition table has nulls for virtual generated columns (PostgreSQL 18).
  select case when bool_or(a.attgenerated = 'v') then
    format('(select %s from %s)', string_agg(case when a.attgenerated = 'v'
      then format('%s as %I', pg_get_expr(d.adbin, d.adrelid), a.attname)
      else quote_ident(a.attname) end, ', ' order by a.attnum), transition)
    else transition end
  from pg_catalog.pg_attribute a
  left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
  where a.attrelid = tab and a.attnum > 0 and not a.attisdropped;
$$;

comment on function crossfade_private.stored_rows_sql is
  'An item of FROM with the rows of a transition table as the table itself shows them.';

create or replace function crossfade_private.any_differs_sql(
  tab regclass, columns text[], one_sql text, other_sql text
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(string_agg(crossfade_private.differs_sql(a.atttypid,
    format('%s.%I', one_sql, a.attname), format('%s.%I', other_sql, a.attname)), ' or '
    order by a.attnum), 'false')
  from pg_catalog.pg_attribute a
  where a.attrelid = tab and a.attnum > 0 and not a.attisdropped
    and (columns is null or a.attname = any (columns));
$$;

comment on function crossfade_private.any_differs_sql is
  'SQL that says whether two rows of a table differ in any of the columns; null means all.';

create or replace function crossfade_private.unique_key_names(tab regclass, key text[])
returns text[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_agg(c.relname::text order by c.relname), '{}')
  from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid
  where i.indrelid = tab and i.indisunique and i.indexprs is null
    and (select array_agg(a.attname::text order by a.attname)
         from pg_catalog.pg_attribute a
         where a.attrelid = tab and a.attnum = any (i.indkey[0:i.indnkeyatts - 1]))
      = (select array_agg(k order by k) from unnest(key) k);
$$;

comment on function crossfade_private.unique_key_names is
  'Names of the unique indexes, which are those of their constraints, on exactly the key.';

create or replace function crossfade_private.edited_columns(
  conversion jsonb, source regclass, target regclass, target_key text[]
)
returns table (name text, edited text, made text, differs text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- In an update cf_o is the row before, cf_s the row read again and cf_t its counterpart.
  select c.name,
    crossfade_private.any_differs_sql(source,
      (select array_agg(r) from jsonb_array_elements_text(c.reads) r), '(cf_o)', '(cf_s)'),
    c.made,
    crossfade_private.differs_sql(a.atttypid, format('(cf_t).%I', c.name), c.made)
  from (
    select w.c ->> 'name' as name, nullif(i -> 'reads', 'null') as reads,
      format('(%s)::%s', crossfade_private.fill_item(i ->> 'text', 'cf_s', 'cf_t'),
        w.c ->> 'type') as made, n
    from jsonb_array_elements(nullif(conversion -> 'items', 'null')) with ordinality u(i, n)
    join jsonb_array_elements(conversion -> 'columns') with ordinality w(c, n) using (n)
  ) c
  join pg_catalog.pg_attribute a on a.attrelid = target and a.attname = c.name
  where c.reads is distinct from '[]' and a.attgenerated = '' and a.attidentity <> 'a'
    and c.name <> all (target_key)
  order by c.n;
$$;

comment on function crossfade_private.edited_columns is
  'For a converter that is a bare select list: the target''s columns that are made of the source''s, SQL whether an update edited what they are made of, what they become, and whether that differs from what is there.';

create or replace function crossfade_private.update_pieces(
  conversion jsonb, source regclass, target regclass, target_key text[]
)
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_columns text[] := crossfade_private.writable_columns(
    target, target_key || crossfade_private.always_identity(target));
  v_pieces jsonb;
begin
  if conversion -> 'items' <> 'null' then
    -- SAFETY: only what was edited. Whole rows would put old values over edits of the counterpart
    -- that are under way, by another client or by an outer statement of this one.
    select jsonb_build_object(
      'edits', coalesce(string_agg(format('%I = case when %s then %s else (cf_t).%1$I end', e.name,
        e.edited, e.made), ', '), format('%I = (cf_t).%1$I', target_key[1])),
      'edited', coalesce(string_agg(format('(%s) and %s', e.edited, e.differs), ' or '), 'false'),
      'edited_names', coalesce(array_to_json(array_agg(e.name)), '[]'),
      'edited_each', coalesce(string_agg(format('bool_or((%s) and %s)', e.edited, e.differs), ', '),
        'null::boolean'),
      'edited_texts', coalesce(json_agg(format('%I = case when %s then %s else (cf_t).%1$I end',
        e.name, e.edited, e.made)), '[]'))
    into v_pieces
    from crossfade_private.edited_columns(conversion, source, target, target_key) e;
    return v_pieces;
  end if;
  return (
    select jsonb_build_object(
      'edits', format('(%s) = (select %s from %s)', string_agg(quote_ident(a.attname), ', '
        order by a.attnum), string_agg(format('case when %s then cf_c.%I else (cf_t).%2$I end',
        d.edited, a.attname), ', ' order by a.attnum), f.both_rows),
      'edited', format('exists (select from %s where %s)', f.both_rows, string_agg(
        format('(%s) and %s', d.edited, d.differs), ' or ' order by a.attnum)),
      'edited_names', json_agg(a.attname order by a.attnum),
      'edited_each', string_agg(format('bool_or(exists (select from %s where (%s) and %s))',
        f.both_rows, d.edited, d.differs), ', ' order by a.attnum),
      'edited_texts', json_agg(format(
        '%I = (select case when %s then cf_c.%1$I else (cf_t).%1$I end from %s)', a.attname,
        d.edited, f.both_rows) order by a.attnum))
    from pg_catalog.pg_attribute a
    cross join lateral (
      select crossfade_private.differs_sql(a.atttypid,
          format('cf_b.%I', a.attname), format('cf_c.%I', a.attname)) edited,
        crossfade_private.differs_sql(a.atttypid,
          format('(cf_t).%I', a.attname), format('cf_c.%I', a.attname)) differs
    ) d
    cross join (
      select format('%s cf_c left join lateral %s cf_b on true',
        'lateral ' || crossfade_private.convert_sql(conversion, 'cf_s', 'cf_t'),
        crossfade_private.convert_sql(conversion, 'cf_o', 'cf_t')) both_rows
    ) f
    where a.attrelid = target and a.attname = any (v_columns)
    group by f.both_rows);
end $$;

comment on function crossfade_private.update_pieces is
  'Fragments that bring edits of a source row (cf_o before, cf_s now) to its counterpart cf_t: edits (for SET), edited (for WHERE), and the same column by column.';

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
  v_any text := (crossfade_private.writable_columns(
    target, target_key || crossfade_private.always_identity(target)))[1];
begin
  if crossfade_private.always_identity(target) && target_key then
    -- The trigger function mirror_key_text sets the key: an UPDATE may not.
    return jsonb_build_object(
      'move_statement', format(
        'perform set_config(%L, (%s)::text, true);
      update %s cf_t set %I = (cf_t).%4$I where %s;', v_setting,
        crossfade_private.key_to_json((pair).key_columns, source, key, '(cf_to)'),
        target, coalesce(v_any, target_key[1]), v_from),
      'move_further_statement', format(
        'perform set_config(%L, cf_further::text, true);
        update %s cf_t set %I = (cf_t).%3$I where %s;', v_setting, target,
        coalesce(v_any, target_key[1]), v_to));
  end if;
  return (
    select jsonb_build_object(
      'move_statement', format('update %s cf_t set %s where %s;', target,
        string_agg(format('%I = (cf_to).%I', t, s), ', ' order by n), v_from),
      'move_further_statement', format('update %s cf_t set %s where %s;', target,
        string_agg(format('%I = (cf_further ->> %L)::%s', t, name,
          format_type(a.atttypid, a.atttypmod)), ', ' order by n), v_to))
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
      order by a.attnum) filter (where a.attname = any (key)
        or conversion -> 'items' = 'null' or i.item -> 'reads' <> '[]'), 'null;'),
    'assign_key', coalesce(string_agg(format('new.%I := (cf_key ->> %L)::%s;', a.attname,
      names[array_position(key, a.attname::text)], format_type(a.atttypid, a.atttypmod)),
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

create or replace function crossfade_private.mirror_pieces(pair crossfade.pairs, side integer)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_tables text[] := array[(pair).v1_table, (pair).v2_table];
  v_keys jsonb := jsonb_build_array((pair).key_columns, (pair).v2_key_columns);
  v_source regclass := v_tables[side];
  v_target regclass := v_tables[3 - side];
  v_key text[] := array(select jsonb_array_elements_text(v_keys -> (side - 1)));
  v_target_key text[] := array(select jsonb_array_elements_text(v_keys -> (2 - side)));
  v_there jsonb := crossfade_private.conversion(
    case side when 1 then (pair).to_v2 else (pair).to_v1 end, v_source, v_target);
  v_back jsonb := crossfade_private.conversion(
    case side when 1 then (pair).to_v1 else (pair).to_v2 end, v_target, v_source);
  v_columns text[] := crossfade_private.writable_columns(v_target, '{}');
  v_settable text[] := crossfade_private.writable_columns(
    v_target, v_target_key || crossfade_private.always_identity(v_target));
  v_settable_back text[] := crossfade_private.writable_columns(
    v_source, v_key || crossfade_private.always_identity(v_source));
begin
  return jsonb_build_object(
    'pair', (pair).name, 'pair_literal', quote_literal((pair).name),
    'side', side, 'other', 3 - side,
    'source', v_tables[side], 'target', v_tables[3 - side],
    'source_literal', quote_literal(v_tables[side]),
    'target_literal', quote_literal(v_tables[3 - side]),
    'function', format('crossfade_private.mirror_%s_v%s', (pair).name, side),
    'made_by', format('crossfade %s: mirror of pair "%s"', crossfade_private.generator(),
      (pair).name),
    'mark', quote_literal('crossfade.mark_' || (pair).name),
    'state', format('case when pg_sequence_last_value(%L) = %s_change() then %2$s_state()
    else crossfade_private.read_state(%L, %s) end',
      format('crossfade_private.mirror_%s_changes', (pair).name),
      format('crossfade_private.mirror_%s_v%s', (pair).name, side), (pair).name, side),
    'kept', quote_literal(format('crossfade.kept_%s_v%s_', (pair).name, side)),
    'new_key', quote_literal(format('crossfade.key_%s_v%s', (pair).name, side)),
    'moves', quote_literal(format('crossfade.moves_%s_v%s', (pair).name, side)),
    'old_rows', crossfade_private.stored_rows_sql(v_source, 'cf_old'),
    'new_rows', crossfade_private.stored_rows_sql(v_source, 'cf_new'),
    'target_columns', (
      select string_agg(quote_ident(c), ', ' order by n) from unnest(v_columns) with ordinality u(c, n)),
    'made_columns', (
      select string_agg(format('cf_c.%I', c), ', ' order by n)
      from unnest(v_columns) with ordinality u(c, n)),
    'convert_new', crossfade_private.convert_sql(v_there, 'cf_n', format('null::%s', v_target)),
    'convert_now', crossfade_private.convert_sql(v_there, 'cf_s', format('null::%s', v_target)),
    'convert', crossfade_private.convert_sql(v_there, 'cf_s', 'cf_t'),
    'convert_old', crossfade_private.convert_sql(v_there, 'cf_o', format('null::%s', v_target)),
    'convert_back', crossfade_private.convert_sql(v_back, 'cf_t', 'cf_s'),
    'convert_alone', crossfade_private.convert_sql(v_back, 'cf_t', format('null::%s', v_source)),
    'whole', coalesce(format('(%s) = (select %s from lateral %s cf_c)', (
        select string_agg(quote_ident(c), ', ' order by n)
        from unnest(v_settable) with ordinality u(c, n)), (
        select string_agg(format('cf_c.%I', c), ', ' order by n)
        from unnest(v_settable) with ordinality u(c, n)),
      crossfade_private.convert_sql(v_there, 'cf_s', 'cf_t')),
      format('%I = (cf_t).%1$I', v_target_key[1])),
    'whole_back', coalesce(format('(%s) = (select %s from lateral %s cf_c)', (
        select string_agg(quote_ident(c), ', ' order by n)
        from unnest(v_settable_back) with ordinality u(c, n)), (
        select string_agg(format('cf_c.%I', c), ', ' order by n)
        from unnest(v_settable_back) with ordinality u(c, n)),
      crossfade_private.convert_sql(v_back, 'cf_t', 'cf_s')),
      format('%I = (cf_s).%1$I', v_key[1])),
    'differs', crossfade_private.any_differs_sql(v_target, v_settable, '(cf_t)', 'cf_c'),
    'differs_back', crossfade_private.any_differs_sql(v_source, v_settable_back, '(cf_s)', 'cf_c'),
    'read_differs', crossfade_private.any_differs_sql(v_source,
      (select array_agg(distinct r) from (
        select jsonb_array_elements_text(nullif(v_there -> 'reads', 'null')) union all
        select unnest(v_key) where v_there -> 'reads' <> 'null') u(r)), '(cf_o)', '(cf_s)'),
    'target_key_names', format('%L::text[]',
      crossfade_private.unique_key_names(v_target, v_target_key)),
    'same_key_t_s', crossfade_private.key_sql('(cf_t)', v_target_key, '(cf_s)', v_key),
    'same_key_s_o', crossfade_private.key_sql('(cf_s)', v_key, '(cf_o)', v_key),
    'same_key_s_n', crossfade_private.key_sql('(cf_s)', v_key, '(cf_n)', v_key),
    'same_key_s_r', crossfade_private.key_sql('(cf_s)', v_key, '(cf_r)', v_key),
    'same_key_t_r', crossfade_private.key_sql('(cf_t)', v_target_key, '(cf_r)', v_key),
    'same_key_s_t', crossfade_private.key_sql('(cf_s)', v_key, '(cf_t)', v_target_key),
    'same_key_t_from', crossfade_private.key_sql(
      '(cf_t)', v_target_key, '(cf_from)', v_key),
    'same_key_t_to', crossfade_private.key_sql('(cf_t)', v_target_key, '(cf_to)', v_key),
    'same_key_s_to', crossfade_private.key_sql('(cf_s)', v_key, '(cf_to)', v_key),
    'same_key_moved', crossfade_private.key_sql(
      '(cf_from)', v_key, '(cf_to)', v_key),
    'key_x', crossfade_private.row_key_sql('cf_x', v_key),
    'key_json_r', crossfade_private.key_to_json((pair).key_columns, v_source, v_key, 'cf_r'),
    'key_json_x', crossfade_private.key_to_json((pair).key_columns, v_source, v_key, 'cf_x'),
    'key_json_s', crossfade_private.key_to_json((pair).key_columns, v_source, v_key, 'cf_s'),
    'key_json_t', crossfade_private.key_to_json((pair).key_columns, v_target, v_target_key, 'cf_t'),
    'key_json_row', crossfade_private.key_to_json(
      (pair).key_columns, v_source, v_key, '(cf_rows[1])'),
    'key_json_from', crossfade_private.key_to_json(
      (pair).key_columns, v_source, v_key, '(cf_from)'),
    'key_json_to', crossfade_private.key_to_json(
      (pair).key_columns, v_source, v_key, '(cf_to)'))
    || crossfade_private.update_pieces(v_there, v_source, v_target, v_target_key)
    || crossfade_private.move_pieces(pair, side, v_source, v_target, v_key, v_target_key)
    || crossfade_private.settle_pieces(v_back, v_source, v_key, (pair).key_columns)
    || jsonb_build_object('filters', v_there -> 'items' = 'null');
end $$;

comment on function crossfade_private.mirror_pieces is
  'Everything that the texts of a pair''s mirror functions ask for, with side (1 or 2) as the source.';
