-- Proving converters on stored rows.

create or replace function crossfade_private.check_sql(pieces jsonb, side integer)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $outer$
  -- Law 1: to_v1(to_v2(a, null), null) = a. Law 2: to_v2(to_v1(b, null), b) = b. Law 7: what
  -- comes out
  -- satisfies the other table's CHECK and NOT NULL constraints; their expressions name plain
  -- columns.
  select crossfade_private.render(
    replace(replace(replace($sql$
      select {skey_json_n} as key,
        case when cf_q.broken is not null then 7 else <<side>> end as law,
        coalesce(cf_q.broken, <<different>>) as columns,
        -- What is stored, and what came back (law 7: what would be written), for people.
        case when cf_q.broken is null then (
          select jsonb_object_agg(u.c, to_jsonb(cf_n) -> u.c) from unnest(<<different>>) u(c)
        ) end as stored,
        case when cf_q.broken is not null then to_jsonb(cf_c) else (
          select jsonb_object_agg(u.c, to_jsonb(cf_d) -> u.c) from unnest(<<different>>) u(c)
        ) end as converted
      from (select cf_s.* from {source} cf_s where ($1 is null or ({skey_s}) > ({skey_1}))
        order by {skey_s} limit $2) cf_n
      left join lateral {convert} row(cf_n.*)::{source} {with} null::{target} {converted} cf_c
        on true
      left join lateral (select <<broken>> as broken from (select (cf_c).*) made) cf_q on true
      -- Not called with a row that could not be stored: it need not be able to convert that.
      left join lateral (
        select cf_e.*
        from {convert_back} cf_c {with_back} case when <<side>> = 2
          then row(cf_n.*)::{source} end {converted_back} cf_e
        where cf_q.broken is null offset 0) cf_d on true
      where cf_q.broken is not null or row({scompare_d}) is distinct from row({scompare_n})
      limit 100
    $sql$, '<<side>>', side::text), '<<different>>',
      crossfade_private.diff_sql((pieces ->> 'source')::regclass, 'cf_n', 'cf_d', '')),
    '<<broken>>', coalesce((
      select format('nullif(array_remove(array[%s], null), ''{}'')', string_agg(k.test, ', '))
      from (
        select format('case when not (%s) then %L end', pg_get_expr(o.conbin, o.conrelid),
          o.conname) test
        from pg_catalog.pg_constraint o
        where o.conrelid = (pieces ->> 'target')::regclass and o.contype = 'c'
        union all
        select format('case when made.%I is null then %L end', a.attname,
          a.attname || ' is not null')
        from pg_catalog.pg_attribute a
        where a.attrelid = (pieces ->> 'target')::regclass and a.attnum > 0 and a.attnotnull
          and not a.attisdropped and a.attgenerated = ''
        union all
        -- Mirror, backfill and verify find a counterpart by its key.
        select 'case when row({tkey_c}) is distinct from row({skey_n}) then ''the same key'' end'
      ) k), 'null::text[]')), pieces);
$outer$;

comment on function crossfade_private.check_sql is
  'The query that finds rows of one side whose conversion breaks a law.';

create or replace function crossfade_private.next_key(
  pieces jsonb, after_key jsonb, max_rows integer
)
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_key jsonb;
begin
  execute crossfade_private.render($sql$
    select {skey_json_s} from {source} cf_s where $1 is null or ({skey_s}) > ({skey_1})
    order by {skey_s} offset $2 - 1 limit 1
  $sql$, pieces) into v_key using after_key, max_rows;
  return v_key;
end $$;

comment on function crossfade_private.next_key is
  'Key of the max_rows-th row after a key; null when fewer are left.';

create or replace function crossfade_private.check_rows(
  pieces jsonb, side integer, after_key jsonb, max_rows integer
)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_found jsonb;
  v_key jsonb;
  v_all jsonb := '[]'::jsonb;
begin
  begin
    execute format(
      'select coalesce(jsonb_agg(to_jsonb(x) || ''{"error": null}''), ''[]'') from (%s) x',
      crossfade_private.check_sql(pieces, side)) into v_found using after_key, max_rows;
    return v_found;
  exception when others or assert_failure then
    null; -- Law 5 is broken somewhere: find the rows one by one.
  end;
  v_key := after_key;
  for i in 1..max_rows loop
    exit when jsonb_array_length(v_all) >= 100;
    begin
      execute format(
        'select coalesce(jsonb_agg(to_jsonb(x) || ''{"error": null}''), ''[]'') from (%s) x',
        crossfade_private.check_sql(pieces, side)) into v_found using v_key, 1;
    exception when others or assert_failure then
      v_found := jsonb_build_array(jsonb_build_object(
        'key', crossfade_private.next_key(pieces, v_key, 1), 'law', 5, 'columns', '[]'::jsonb,
        'error', format('%s: %s', sqlstate, sqlerrm)));
    end;
    v_all := v_all || v_found;
    v_key := crossfade_private.next_key(pieces, v_key, 1);
    exit when v_key is null;
  end loop;
  return v_all;
end $$;

comment on function crossfade_private.check_rows is
  'Violations among the next max_rows rows, at most 100.';

create or replace function crossfade.check_conversion(
  pair text, side integer default 1, after jsonb default null, max_rows integer default 1000
)
returns jsonb
language plpgsql volatile
security definer -- reads the owner's tables; only service_role may call it
set search_path = pg_catalog, pg_temp
-- As the mirror converts, whatever the session has set.
set timezone = 'UTC'
set datestyle = 'ISO, MDY'
set intervalstyle = 'postgres'
set extra_float_digits = 1
set bytea_output = 'hex'
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_pieces jsonb;
  v_rows bigint := max_rows;
  v_last jsonb;
  v_violations jsonb;
begin
  if side not in (1, 2) or max_rows not between 1 and 100000 then
    perform crossfade_private.fail(400, 'CF012',
      format('Invalid side %s or max_rows %s', side, max_rows),
      jsonb_build_object('side', side, 'max_rows', max_rows),
        'side is 1 or 2, max_rows 1 to 100000.');
  end if;
  v_pieces := crossfade_private.make_pieces(v_pair, side);
  v_violations := crossfade_private.check_rows(v_pieces, side, after, max_rows);
  v_last := crossfade_private.next_key(v_pieces, after, max_rows);
  if v_last is null then
    execute crossfade_private.render(
      'select count(*) from {source} cf_s where $1 is null or ({skey_s}) > ({skey_1})',
      v_pieces) into v_rows using after;
  end if;
  return jsonb_build_object(
    'rows_checked', v_rows, 'violations', v_violations, 'last_key', v_last, 'done', v_last is null,
    'rows_total', (
      select greatest(c.reltuples, 0)::bigint from pg_catalog.pg_class c
      where c.oid = (v_pieces ->> 'source')::regclass));
end $$;

comment on function crossfade.check_conversion is
  'Prove the laws of both converters on the next max_rows live rows of a side: {"rows_checked", "violations": [{"key", "law", "columns", "error", "stored", "converted"}], "last_key", "done", "rows_total" (estimate)}. Laws: 1 V1 round trip, 2 V2 round trip, 5 a converter raised, 7 a constraint of the other table (columns names it; "the same key": the converter changes it). Reads only. CF001, CF012.';
