-- The laws of converters as queries: the base laws of single rows, and what becomes of edits.
-- Every query is over rows with keys in ($1, $2], leaves out the rows whose keys are in $3, and
-- gives key, law, columns, stored, converted and edit of what breaks a law.

create or replace function crossfade_private.made_sql(conversion text, condition text)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  -- The condition is no join clause: nothing may be converted that need not be convertible.
  select format('(select cf_x.*, true as cf_is, count(*) over () as cf_number from %s cf_x
    where %s offset 0 limit 1)', conversion, condition);
$$;

comment on function crossfade_private.made_sql is
  'An item of FROM, after LATERAL, with the row that a conversion makes and the number of those it makes.';

create or replace function crossfade_private.shown_columns(shown anyelement, columns text[])
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce((select jsonb_object_agg(c, v -> c) from unnest(columns) c where v ? c), v)
  from crossfade_private.json_value(to_json(shown)) v;
$$;

comment on function crossfade_private.shown_columns is
  'The columns of a row as JSON, for people; all of them when it has none of these names.';

create or replace function crossfade_private.check_pieces(pair crossfade.pairs, side integer)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pieces jsonb;
begin
  -- Of converters or tables that have changed since: what will run when they are registered again.
  if crossfade_private.converter_hash((pair).to_v2, (pair).to_v1) = (pair).converter_hash
    and crossfade_private.table_fingerprint(((pair).v1_table)::regclass,
      ((pair).v2_table)::regclass) = (pair).fingerprint
  then
    v_pieces := crossfade_private.run_pieces(pair, case side when 1 then 'v1_to_v2'
      else 'v2_to_v1' end);
  else
    v_pieces := crossfade_private.make_pieces(pair, side)
      || crossfade_private.inlined_pieces(crossfade_private.pair_conversions(pair), side);
  end if;
  return v_pieces || jsonb_build_object(
    'source_key_names', to_jsonb(case side when 1 then (pair).key_columns
      else (pair).v2_key_columns end),
    'target_key_names', to_jsonb(case side when 1 then (pair).v2_key_columns
      else (pair).key_columns end),
    'skey_4', crossfade_private.key_from_json((pair).key_columns, (v_pieces ->> 'source')::regclass,
      case side when 1 then (pair).key_columns else (pair).v2_key_columns end, '$4'),
    'call', case side when 1 then (pair).to_v2 else (pair).to_v1 end,
    'call_back', case side when 1 then (pair).to_v1 else (pair).to_v2 end,
    'rows', crossfade_private.render($sql$(
      select cf_s as cf_row, {skey_json_s} as cf_key, {skey_s}
      from {source} cf_s
      where ($1 is null or ({skey_s}) > ({skey_1})) and ({skey_s}) <= ({skey_2})
        and {skey_json_s} not in (select jsonb_array_elements($3)) offset 0)$sql$, v_pieces));
end $$;

comment on function crossfade_private.check_pieces is
  'The pieces of a pair with the text of its converters as it would be registered now, and what the laws'' queries need.';

create or replace function crossfade_private.base_laws_sql(pieces jsonb, side integer)
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $outer$
declare
  v_source constant regclass := pieces ->> 'source';
  v_target constant regclass := pieces ->> 'target';
begin
  return crossfade_private.render($sql$
    select cf_n.cf_key as key, cf_v.*, null::jsonb as edit
    from {rows} cf_n
    left join lateral {made} cf_c on true
    left join lateral {stored} cf_m on cf_c.cf_is
    left join lateral {made_back} cf_d on true
    left join lateral {called} cf_e on true
    left join lateral {called_back} cf_f on true
    cross join lateral (
      -- Law 0 is none: the row has no counterpart.
      select 0 as law, '{}'::text[] as columns, null::jsonb as stored, null::jsonb as converted
      where cf_c.cf_is is null
      union all
      select {side}, '{"no counterpart"}', crossfade_private.shown_columns(cf_n.cf_row, '{}'), null
      where cf_c.cf_is is null and exists (
        select from {target} cf_t cross join lateral {convert_back} cf_t {with_back} cf_n.cf_row
          {converted_back} cf_x where ({tkey_t}) = ({skey_n}))
      union all
      select 7,
        cf_m.cf_broken || case when cf_c.cf_number > 1 then '{"one row"}'::text[] else '{}' end,
        null, crossfade_private.shown_columns(cf_c, '{}') - 'cf_is'::text - 'cf_number'::text
      where cf_m.cf_broken <> '{}' or cf_c.cf_number > 1
      union all
      select {side}, cf_w.columns, crossfade_private.shown_columns(cf_n.cf_row, cf_w.columns),
        crossfade_private.shown_columns(cf_d, cf_w.columns)
      from (select case when cf_d.cf_is is null then '{"no row"}' when cf_d.cf_number > 1
        then '{"one row"}' else {different} end) cf_w(columns)
      where cf_m.cf_broken = '{}' and cf_w.columns <> '{}'
      union all
      select 6, cf_w.columns, crossfade_private.shown_columns(cf_c, cf_w.columns),
        crossfade_private.shown_columns(cf_e, cf_w.columns)
      from (select {unlike}) cf_w(columns)
      where (cf_m.cf_broken = '{}' or cf_c.cf_is is null) and cf_w.columns <> '{}'
      union all
      select 6, cf_w.columns, crossfade_private.shown_columns(cf_d, cf_w.columns),
        crossfade_private.shown_columns(cf_f, cf_w.columns)
      from (select {unlike_back}) cf_w(columns)
      where cf_m.cf_broken = '{}' and cf_w.columns <> '{}'
    ) cf_v
  $sql$, pieces || jsonb_build_object('side', side,
    'made', crossfade_private.made_sql(crossfade_private.render(
      '{convert} cf_n.cf_row {with} null::{target} {converted}', pieces), 'true'),
    'stored', crossfade_private.stored_sql(v_target, 'cf_c', array[crossfade_private.render(
      'case when row({tkey_c}) is distinct from row({skey_n}) then ''the same key'' end', pieces)]),
    'made_back', crossfade_private.made_sql(crossfade_private.render(format(
      '{convert_back} cf_m.cf_row {with_back} %s {converted_back}',
      case side when 1 then 'null::{source}' else 'cf_n.cf_row' end), pieces),
      'cf_m.cf_broken = ''{}'''),
    'called', crossfade_private.made_sql(crossfade_private.render(
      '{call}(cf_n.cf_row, null::{target})', pieces),
      'cf_m.cf_broken = ''{}'' or cf_c.cf_is is null'),
    'called_back', crossfade_private.made_sql(crossfade_private.render(format(
      '{call_back}(cf_m.cf_row, %s)', case side when 1 then 'null::{source}'
        else 'cf_n.cf_row' end), pieces), 'cf_m.cf_broken = ''{}'''),
    'different', crossfade_private.differing_columns_sql(
      v_source, '(cf_n.cf_row)', 'cf_d', laws => true),
    'unlike', crossfade_private.differing_columns_sql(v_target, 'cf_c', 'cf_e'),
    'unlike_back', crossfade_private.differing_columns_sql(v_source, 'cf_d', 'cf_f')));
end $outer$;

comment on function crossfade_private.base_laws_sql is
  'Law 1 or 2 (there and back is the same row), 6 (what our statements compute is what a call computes), 7 (constraints, the same key, one row), and 0 for rows without a counterpart.';

create or replace function crossfade_private.digests_sql(pieces jsonb, side integer)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $outer$
  select crossfade_private.render($sql$
    select cf_n.cf_key as key, 6 as law, '{}'::text[] as columns, null::jsonb as stored,
      null::jsonb as converted, null::jsonb as edit,
      md5(concat_ws(',', cf_c::text, cf_d::text)) as made
    from {rows} cf_n
    left join lateral {made} cf_c on true
    left join lateral {stored} cf_m on cf_c.cf_is
    left join lateral {made_back} cf_d on true
  $sql$, pieces || jsonb_build_object(
    'made', crossfade_private.made_sql(crossfade_private.render(
      '{convert} cf_n.cf_row {with} null::{target} {converted}', pieces), 'true'),
    'stored', crossfade_private.stored_sql((pieces ->> 'target')::regclass, 'cf_c', '{}'),
    'made_back', crossfade_private.made_sql(crossfade_private.render(
      '{convert_back} cf_m.cf_row {with_back} null::{source} {converted_back}', pieces),
      'cf_m.cf_broken = ''{}''')));
$outer$;

comment on function crossfade_private.digests_sql is
  'A digest of what the converters make of each row, by which it is seen whether settings make a difference.';
