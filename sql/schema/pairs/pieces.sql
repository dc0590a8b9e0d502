-- The pieces of SQL that are made of a pair's tables.

create or replace function crossfade_private.make_pieces(pair crossfade.pairs, side integer)
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_source regclass := case side when 1 then pair.v1_table else pair.v2_table end::regclass;
  v_target regclass := case side when 1 then pair.v2_table else pair.v1_table end::regclass;
  v_source_key text[] := case side when 1 then pair.key_columns else pair.v2_key_columns end;
  v_target_key text[] := case side when 1 then pair.v2_key_columns else pair.key_columns end;
  v_target_columns text[];
  -- PostgreSQL lets nobody update these.
  v_target_identity text[] := crossfade_private.always_identity(v_target);
  v_name text;
  v_pieces jsonb;
begin
  v_target_columns := crossfade_private.writable_columns(v_target, '{}');
  v_pieces := jsonb_build_object(
    'pair', pair.name, 'pair_literal', quote_literal(pair.name), 'side', side, 'other', 3 - side,
    'source', case side when 1 then pair.v1_table else pair.v2_table end,
    'target', case side when 1 then pair.v2_table else pair.v1_table end,
    -- Conversions are written {convert} ROW {with} COUNTERPART {converted}: a call, which
    -- install_mirror replaces by the text of the converter where that can be done.
    'convert', case side when 1 then pair.to_v2 else pair.to_v1 end || '(',
    'with', ',', 'converted', ')',
    'convert_back', case side when 1 then pair.to_v1 else pair.to_v2 end || '(',
    'with_back', ',', 'converted_back', ')',
    -- Of rows cf_a.cf_row and cf_b.cf_row, and what the converters make of them, cf_d and cf_c.
    'rows_differ', crossfade_private.rows_differ_sql(v_source, v_target),
    'differing_names', crossfade_private.differing_columns_sql(v_source, '(cf_a.cf_row)', 'cf_d')
      || ' || ' || crossfade_private.differing_columns_sql(
        v_target, '(cf_b.cf_row)', 'cf_c', format('v%s.', 3 - side)),
    'target_columns',
    (select string_agg(quote_ident(c), ', ') from unnest(v_target_columns) c),
    'target_key', (select string_agg(quote_ident(c), ', ') from unnest(v_target_key) c),
    'set_list', coalesce(
      (select string_agg(format('%1$I = cf_c.%1$I', c), ', ')
        from unnest(v_target_columns) c
       where c <> all (v_target_key) and c <> all (v_target_identity)),
      -- A target that is nothing but its key: setting a key column to itself keeps the
      -- statement valid.
      format('%1$I = cf_c.%1$I', v_target_key[1])));
  v_pieces := v_pieces || jsonb_build_object(
    'skey_desc', (select string_agg(format('cf_s.%I desc', c), ', ') from unnest(v_source_key) c),
    -- Keys that come in as JSON: parameters $1 and $2, and column key of a table cf_z.
    'skey_1', crossfade_private.key_from_json(pair.key_columns, v_source, v_source_key, '$1'),
    'skey_2', crossfade_private.key_from_json(pair.key_columns, v_source, v_source_key, '$2'),
    'skey_z',
    crossfade_private.key_from_json(pair.key_columns, v_source, v_source_key, 'cf_z.key'));
  -- The key of a row by the alias that it has in templates. Aliases there begin with cf_: a column
  -- of the owner's with the same name would win over a row.
  foreach v_name in array array['n', 't', 's', 'a', 'b', 'd', 'sample'] loop
    v_pieces := v_pieces || jsonb_build_object('skey_' || v_name,
      (select string_agg(format('cf_%s.%I', v_name, c), ', ') from unnest(v_source_key) c));
  end loop;
  foreach v_name in array array['t', 'o', 'b', 'c'] loop
    v_pieces := v_pieces || jsonb_build_object('tkey_' || v_name,
      (select string_agg(format('cf_%s.%I', v_name, c), ', ') from unnest(v_target_key) c));
  end loop;
  -- Keys travel as JSON with the V1 names, whichever side they were read from.
  return v_pieces || jsonb_build_object(
    'skey_json_s',
    crossfade_private.key_to_json(pair.key_columns, v_source, v_source_key, 'cf_s'),
    'skey_json_a',
    crossfade_private.key_to_json(pair.key_columns, v_source, v_source_key, 'cf_a'),
    'tkey_json_t',
    crossfade_private.key_to_json(pair.key_columns, v_target, v_target_key, 'cf_t'),
    'tkey_json_b',
    crossfade_private.key_to_json(pair.key_columns, v_target, v_target_key, 'cf_b'),
    'tcolumns_c', (select string_agg(format('cf_c.%I', c), ', ') from unnest(v_target_columns) c));
end $$;

comment on function crossfade_private.make_pieces is
  'SQL fragments of a pair with side (1 or 2) as the source and the other one as the target.';
