-- Everything that the texts of a pair's mirror functions ask for.

create or replace function crossfade_private.own_frame(
  pair text, writer_side integer, name text, body text, marker text
)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  -- Lines are counted from the first one, which is empty.
  select format('PL/pgSQL function crossfade_private.mirror_%s_v%s_%s() line %s at SQL statement',
    pair, writer_side, name, length(head) - length(replace(head, e'\n', '')) + 1)
  from (select split_part(body, marker, 1) head) h;
$$;

comment on function crossfade_private.own_frame is
  'The outermost line of the call stack while a mirror trigger runs its common statement, which is the one behind a marker in its text. Where a line is not the same (other words for messages, names with line breaks) is_own_write finds out more slowly.';

create or replace function crossfade_private.raise_dropped_sql(target_table text)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select format('raise exception using errcode = ''CF017'', message = %L;',
    format('a trigger or rule of %s dropped a mirrored write', target_table));
$$;

comment on function crossfade_private.raise_dropped_sql is
  'The statement that tells that fewer rows were written than should have been.';

create or replace function crossfade_private.name_pieces(pair crossfade.pairs, side integer)
returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'pair', (pair).name, 'pair_literal', quote_literal((pair).name),
    'side', side, 'other', 3 - side,
    'source', t.names[side], 'target', t.names[3 - side],
    'source_literal', quote_literal(t.names[side]),
    'target_literal', quote_literal(t.names[3 - side]),
    'raise_dropped', crossfade_private.raise_dropped_sql(t.names[3 - side]),
    'raise_dropped_back', crossfade_private.raise_dropped_sql(t.names[side]),
    'function', format('crossfade_private.mirror_%s_v%s', (pair).name, side),
    'made_by', format('crossfade %s: mirror of pair "%s"', crossfade_private.generator(),
      (pair).name),
    'mark', quote_literal('crossfade.mark_' || (pair).name),
    'state', format('case when pg_sequence_last_value(%L) = %s_change() then %2$s_state()
    else crossfade_private.read_state(%L, %s) end',
      format('crossfade_private.mirror_%s_changes', (pair).name),
      format('crossfade_private.mirror_%s_v%s', (pair).name, side), (pair).name, side),
    'nested', format('(cf_depth > 1 or coalesce(current_setting(%1$L, true), '''') <> '''')
    and crossfade_private.note_nested(%1$L, cf_depth)', 'crossfade.mark_' || (pair).name),
    -- One line: own_frame counts those of the texts.
    'is_plain', format('pg_sequence_last_value(%L) = %s_change() and %2$s_state() = ''on'' '
      'and coalesce(current_setting(%L, true), '''') = ''''',
      format('crossfade_private.mirror_%s_changes', (pair).name),
      format('crossfade_private.mirror_%s_v%s', (pair).name, side),
      'crossfade.mark_' || (pair).name),
    'counter', crossfade_private.counter_sql((pair).name, side),
    -- What a trigger of the owner's writes meanwhile, deeper, is news.
    'engine_write', format('cf_depth = 1
    and coalesce(current_setting(%L, true), '''') = ''engine''
    and crossfade_private.is_engine_write(%L)', 'crossfade.mark_' || (pair).name, (pair).name),
    -- A session that wants every name in quotes compiles functions with such names. In quotes of
    -- their own these would be doubled, so no other name can look like it.
    'read_context', format('get diagnostics cf_context = pg_context;
    if strpos(cf_context, %L) > 0 then
      cf_context := regexp_replace(cf_context, %L, %L, ''g'');
    end if;', format('"crossfade_private"."mirror_%s_v', (pair).name),
      format('"crossfade_private"\."(mirror_%s_v[12]_[a-z]+)"\(', (pair).name),
      'crossfade_private.\1('),
    -- The same as is_own_write finds at depth 2, without a call.
    'own_write', format('cf_depth = 2 and strpos(split_part(cf_context, e''\n'', -1), %L) > 0
      and strpos(split_part(cf_context, e''\n'', -1), ''"'') = 0
      or crossfade_private.is_own_write(cf_context, cf_depth, %L, %s)',
      format(' crossfade_private.mirror_%s_v%s_', (pair).name, 3 - side), (pair).name, 3 - side),
    'own_insert', quote_literal(crossfade_private.own_frame((pair).name, 3 - side, 'insert',
      crossfade_private.mirror_insert_text(), 'insert into {target}')),
    'own_update', quote_literal(crossfade_private.own_frame((pair).name, 3 - side, 'update',
      replace(crossfade_private.mirror_update_text(), '{single_update}',
        crossfade_private.single_update_text()), 'update {target} cf_t set {edits_by_flag}')),
    'kept', quote_literal(format('crossfade.kept_%s_v%s_', (pair).name, side)),
    'new_key', quote_literal(format('crossfade.key_%s_v%s', (pair).name, side)),
    'moves', quote_literal(format('crossfade.moves_%s_v%s', (pair).name, side)))
  from (select array[(pair).v1_table, (pair).v2_table] names) t;
$$;

comment on function crossfade_private.name_pieces is
  'Names of a pair''s tables, functions and settings, and the questions that a trigger asks first.';

create or replace function crossfade_private.key_pieces(
  names text[], source regclass, key text[], target regclass, target_key text[]
)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'same_key_t_s', crossfade_private.key_sql('(cf_t)', target_key, '(cf_s)', key),
    'same_key_given_s_o', crossfade_private.key_sql('(cf_s)', key, '(cf_o)', key),
    'same_key_s_o', crossfade_private.key_sql('(cf_s)', key, '(cf_o)', key) || r.is_real,
    'same_key_s_n', crossfade_private.key_sql('(cf_s)', key, '(cf_n)', key) || r.is_real,
    'same_key_s_r', crossfade_private.key_sql('(cf_s)', key, '(cf_r)', key) || r.is_real,
    'same_key_t_r', crossfade_private.key_sql('(cf_t)', target_key, '(cf_r)', key),
    'same_key_s_t', crossfade_private.key_sql('(cf_s)', key, '(cf_t)', target_key) || r.is_real,
    'same_key_t_from', crossfade_private.key_sql(
      '(cf_t)', target_key, '(cf_from)', key),
    'written_beside',
      'crossfade_private.is_written_beside(cf_t.xmin, cf_t.cmin, cf_s.cmin)',
    'same_key_t_to', crossfade_private.key_sql('(cf_t)', target_key, '(cf_to)', key),
    'same_key_s_to', crossfade_private.key_sql('(cf_s)', key, '(cf_to)', key) || r.is_real,
    'same_key_moved', crossfade_private.key_sql(
      '(cf_from)', key, '(cf_to)', key),
    'key_x', crossfade_private.row_key_sql('cf_x', key),
    'key_r', crossfade_private.row_key_sql('cf_r', key),
    'key_changes', (
      select string_agg(format('old.%I is distinct from new.%1$I', k), ' or ' order by n)
      from unnest(key) with ordinality u(k, n)),
    'key_json_r', crossfade_private.key_to_json(names, source, key, 'cf_r'),
    'key_json_x', crossfade_private.key_to_json(names, source, key, 'cf_x'),
    'key_json_s', crossfade_private.key_to_json(names, source, key, 'cf_s'),
    'key_json_t', crossfade_private.key_to_json(names, target, target_key, 'cf_t'),
    'key_json_row', crossfade_private.key_to_json(
      names, source, key, '(cf_rows[1])'),
    'key_json_from', crossfade_private.key_to_json(
      names, source, key, '(cf_from)'),
    'key_json_to', crossfade_private.key_to_json(
      names, source, key, '(cf_to)'))
  -- SAFETY: what stands under a key that this transaction wrote is of this transaction. Above READ
  -- COMMITTED its snapshot may show beside that a row which another one has deleted since.
  from (select ' and (current_setting(''transaction_isolation'') = ''read committed'''
    || ' or crossfade_private.is_of_this_transaction(cf_s.xmin))' as is_real) r;
$$;

comment on function crossfade_private.key_pieces is
  'Whether two rows have the same key, and keys as JSON, for every alias in the texts: s the source''s row now (given: of a transition table), o before, n after, r of a list; t the counterpart.';

create or replace function crossfade_private.mirror_pieces(
  pair crossfade.pairs, side integer, conversions jsonb
)
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_tables text[] := array[(pair).v1_table, (pair).v2_table];
  v_keys jsonb := jsonb_build_array((pair).key_columns, (pair).v2_key_columns);
  v_source regclass := v_tables[side];
  v_target regclass := v_tables[3 - side];
  v_key text[] := array(select jsonb_array_elements_text(v_keys -> (side - 1)));
  v_target_key text[] := array(select jsonb_array_elements_text(v_keys -> (2 - side)));
  v_there jsonb := conversions -> (side - 1);
  v_back jsonb := conversions -> (2 - side);
  v_columns text[] := crossfade_private.writable_columns(v_target, '{}');
  v_settable text[] := crossfade_private.writable_columns(
    v_target, v_target_key || crossfade_private.always_identity(v_target));
  v_settable_back text[] := crossfade_private.writable_columns(
    v_source, v_key || crossfade_private.always_identity(v_source));
begin
  return jsonb_build_object(
    'is_untouched', format(case when crossfade_private.is_partitioned(v_target)
      then 'crossfade_private.is_untouched(%1$L::regclass)'
      else 'current_setting(''track_counts'') = ''on''
          and pg_stat_get_xact_tuples_inserted(%1$L::regclass)
            + pg_stat_get_xact_tuples_updated(%1$L::regclass)
            + pg_stat_get_xact_tuples_deleted(%1$L::regclass) = 0' end, v_tables[3 - side]),
    'old_rows', crossfade_private.stored_rows_sql(v_source, 'cf_old'),
    'new_rows', crossfade_private.stored_rows_sql(v_source, 'cf_new'),
    'target_columns', (
      select string_agg(quote_ident(c), ', ' order by n)
      from unnest(v_columns) with ordinality u(c, n)),
    'made_columns', (
      select string_agg(format('cf_c.%I', c), ', ' order by n)
      from unnest(v_columns) with ordinality u(c, n)),
    'convert_new', crossfade_private.convert_sql(v_there, 'cf_n', format('null::%s', v_target)),
    'convert_now', crossfade_private.convert_sql(v_there, 'cf_s', format('null::%s', v_target)),
    'convert', crossfade_private.convert_sql(v_there, 'cf_s', 'cf_t'),
    'convert_old', crossfade_private.convert_sql(v_there, 'cf_o', format('null::%s', v_target)),
    'convert_back', crossfade_private.convert_sql(v_back, 'cf_t', 'cf_s'),
    'convert_back_alone', crossfade_private.convert_sql(
      v_back, 'cf_t', format('null::%s', v_source)),
    'whole', case when v_settable = '{}' then format('%I = (cf_t).%1$I', v_target_key[1])
      else format('(%s) = (select %s from lateral %s cf_c)', (
        select string_agg(quote_ident(c), ', ' order by n)
        from unnest(v_settable) with ordinality u(c, n)), (
        select string_agg(format('cf_c.%I', c), ', ' order by n)
        from unnest(v_settable) with ordinality u(c, n)),
      crossfade_private.convert_sql(v_there, 'cf_s', 'cf_t')) end,
    'whole_back', case when v_settable_back = '{}' then format('%I = (cf_s).%1$I', v_key[1])
      else format('(%s) = (select %s from lateral %s cf_c)', (
        select string_agg(quote_ident(c), ', ' order by n)
        from unnest(v_settable_back) with ordinality u(c, n)), (
        select string_agg(format('cf_c.%I', c), ', ' order by n)
        from unnest(v_settable_back) with ordinality u(c, n)),
      crossfade_private.convert_sql(v_back, 'cf_t', 'cf_s')) end,
    'differs', crossfade_private.any_differs_sql(v_target, v_settable, '(cf_t)', 'cf_c'),
    'differs_back', crossfade_private.any_differs_sql(v_source, v_settable_back, '(cf_s)', 'cf_c'),
    'read_differs', crossfade_private.any_differs_sql(v_source,
      (select array_agg(distinct r) from (
        select jsonb_array_elements_text(nullif(v_there -> 'reads', 'null')) union all
        select unnest(v_key) where v_there -> 'reads' <> 'null') u(r)), '(cf_o)', '(cf_s)'),
    -- An error names the index of a partition, and there may be new ones.
    'target_key_names', case when crossfade_private.is_partitioned(v_target)
      then format('crossfade_private.unique_key_names(%L::regclass, %L::text[])',
        v_tables[3 - side], v_target_key)
      else format('%L::text[]', crossfade_private.unique_key_names(v_target, v_target_key)) end)
    || crossfade_private.name_pieces(pair, side)
    || crossfade_private.key_pieces((pair).key_columns, v_source, v_key, v_target, v_target_key)
    || crossfade_private.update_pieces(v_there, v_source, v_target, v_target_key)
    || crossfade_private.move_pieces(pair, side, v_source, v_target, v_key, v_target_key)
    || crossfade_private.settle_pieces(v_back, v_source, v_key, (pair).key_columns)
    || jsonb_build_object('filters', v_there -> 'items' = 'null',
      'filters_back', v_back -> 'items' = 'null', 'settings', case
      when crossfade_private.depends_on_settings(v_there, v_source, v_target)
        or crossfade_private.depends_on_settings(v_back, v_target, v_source)
      then crossfade_private.text_settings() else '' end);
end $$;

comment on function crossfade_private.mirror_pieces is
  'Everything that the texts of a pair''s mirror functions ask for, with side (1 or 2) as the source; conversions are those of pair_conversions.';
