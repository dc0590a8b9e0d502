-- Proving converters on stored rows, with the text that runs. The functions are stable so that all
-- their queries see one snapshot: a row that somebody edits between two looks proves nothing.

create or replace function crossfade_private.run_check(
  query text, keys jsonb[], first integer, last integer, after_key jsonb, dirty jsonb
)
returns setof jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
-- As in the mirror and in runs; a session may have others.
set timezone = 'UTC'
set datestyle = 'ISO, MDY'
set intervalstyle = 'postgres'
set extra_float_digits = 1
set bytea_output = 'hex'
as $$
declare
  v_middle constant integer := (first + last) / 2;
begin
  if first > last then
    return;
  end if;
  begin
    return query execute format('select to_jsonb(x) || ''{"error": null}'' from (%s) x', query)
    using case when first = 1 then after_key else keys[first - 1] end, keys[last], dirty,
      keys[cardinality(keys)];
    return;
  exception when others or assert_failure then
    if crossfade_private.is_transient(sqlstate) then
      raise;
    elsif first = last then
      return next jsonb_build_object('key', keys[first], 'law', 5, 'columns', '[]'::jsonb,
        'stored', null, 'converted', null, 'edit', null,
        'error', format('%s: %s', sqlstate, sqlerrm));
      return;
    end if;
  end;
  -- Something raises. For which rows?
  return query
    select crossfade_private.run_check(query, keys, first, v_middle, after_key, dirty);
  return query
    select crossfade_private.run_check(query, keys, v_middle + 1, last, after_key, dirty);
end $$;

comment on function crossfade_private.run_check is
  'What a query of runs/laws.sql finds among the rows first to last of keys; a row for which it raises breaks law 5.';

create or replace function crossfade_private.run_check_elsewhere(
  query text, keys jsonb[], after_key jsonb, dirty jsonb
)
returns setof jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
-- What a session, a role or the header of a request may set. The engine's statements have their own
-- values of the first ones, and none of the others.
set timezone = 'Asia/Kathmandu'
set datestyle = 'German'
set intervalstyle = 'sql_standard'
set extra_float_digits = -15
set bytea_output = 'escape'
set lc_monetary = 'C'
set lc_numeric = 'C'
set lc_time = 'C'
set default_text_search_config = 'pg_catalog.simple'
set xmlbinary = 'hex'
set xmloption = 'document'
set array_nulls = off
set transform_null_equals = on
set quote_all_identifiers = on
as $$
declare
  v_claims constant text := current_setting('request.jwt.claims', true);
begin
  perform set_config('request.jwt.claims',
    '{"sub": "00000000-0000-4000-8000-00000000cf06", "role": "authenticated"}', true);
  return query
    select crossfade_private.run_check(query, keys, 1, cardinality(keys), after_key, dirty);
  perform set_config('request.jwt.claims', coalesce(v_claims, ''), true);
end $$;

comment on function crossfade_private.run_check_elsewhere is
  'run_check for a session of another user, in another place.';

create or replace function crossfade_private.check_rows(
  pieces jsonb, side integer, keys jsonb[], after_key jsonb
)
returns setof jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_last constant integer := cardinality(keys);
  v_found jsonb[] := array(select crossfade_private.run_check(
    crossfade_private.base_laws_sql(pieces, side), keys, 1, v_last, after_key, '[]'));
  v_dirty jsonb;
  v_here jsonb[];
begin
  -- What follows from a broken law is no news: such a row is not edited, nor another one by it.
  v_dirty := coalesce((select jsonb_agg(distinct f -> 'key') from unnest(v_found) f), '[]');
  v_found := v_found || array(select crossfade_private.run_check(
    crossfade_private.edit_laws_sql(pieces, side, true) || ' union all '
      || crossfade_private.edit_laws_sql(pieces, side, false),
    keys, 1, v_last, after_key, v_dirty));
  v_here := array(select crossfade_private.run_check(crossfade_private.digests_sql(pieces, side),
    keys, 1, v_last, after_key, v_dirty));
  return query
    select distinct on (f -> 'key', f -> 'law') f from unnest(v_found) f
    union all
    select (f - 'made') || jsonb_build_object('law', 6, 'error', coalesce(f ->> 'error',
      'the result is another one in a session with other settings, or at another time'))
    from crossfade_private.run_check_elsewhere(crossfade_private.digests_sql(pieces, side), keys,
      after_key, v_dirty) f
    left join unnest(v_here) h on h -> 'key' = f -> 'key'
    where f -> 'made' is distinct from h -> 'made';
end $$;

comment on function crossfade_private.check_rows is
  'Everything that breaks a law among the rows with these keys, one for each row and law; law 0: the row has no counterpart.';

create or replace function crossfade_private.next_keys(
  pieces jsonb, after_key jsonb, max_rows integer
)
returns jsonb[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_keys jsonb[];
begin
  execute crossfade_private.render($sql$
    select array(
      select {skey_json_s} from {source} cf_s where $1 is null or ({skey_s}) > ({skey_1})
      order by {skey_s} limit $2)
  $sql$, pieces) into v_keys using after_key, max_rows;
  return v_keys;
end $$;

comment on function crossfade_private.next_keys is
  'Keys of the next rows after a key, in their order.';

create or replace function crossfade.check_conversion(
  pair text, side integer default 1, after jsonb default null, max_rows integer default 1000
)
returns jsonb
language plpgsql volatile
security definer -- reads the owner's tables; only service_role may call it
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_pieces jsonb;
  v_keys jsonb[];
  v_answer jsonb;
begin
  if side not in (1, 2) or max_rows not between 1 and 100000 then
    perform crossfade_private.fail(400, 'CF012',
      format('Invalid side %s or max_rows %s', side, max_rows),
      jsonb_build_object('side', side, 'max_rows', max_rows),
        'side is 1 or 2, max_rows 1 to 100000.');
  end if;
  perform crossfade_private.refuse_retired(v_pair, 'check the converters of');
  v_pieces := crossfade_private.check_pieces(v_pair, side);
  v_keys := crossfade_private.next_keys(v_pieces, after, max_rows);
  select jsonb_build_object(
    'violations', coalesce(jsonb_agg(f.found order by f.place)
      filter (where f.law <> 0 and f.place <= 100), '[]'),
    'violated', coalesce((select jsonb_object_agg(n.law, n.number) from (
      select g ->> 'law', count(*) from unnest(array_agg(f.found)) g
      where g ->> 'law' <> '0' group by 1) n(law, number)), '{}'),
    'no_counterpart', count(*) filter (where f.law = 0))
  into v_answer
  from (
    select r as found, (r -> 'law')::integer as law, row_number() over (
      order by r ->> 'law' = '0', array_position(v_keys, r -> 'key'), r ->> 'law') as place
    from crossfade_private.check_rows(v_pieces, side, v_keys, after) r
  ) f;
  return v_answer || jsonb_build_object(
    'rows_checked', cardinality(v_keys), 'done', cardinality(v_keys) < max_rows,
    'last_key', case when cardinality(v_keys) = max_rows then v_keys[max_rows] end,
    'rows_total', greatest(0, crossfade_private.planner_rows(
      (v_pieces ->> 'source')::regclass))::bigint);
end $$;

comment on function crossfade.check_conversion is
  'Prove the laws of both converters on the next max_rows live rows of a side, with the text that our statements run and by calls: {"rows_checked", "violations": the first 100, [{"key", "law", "columns", "error", "stored", "converted", "edit"}], "violated": {law: rows}, "no_counterpart": rows of which the converter makes none, "last_key", "done", "rows_total" (estimate)}. Laws: 1 V1 round trip, 2 V2 round trip, 3 an edit wins, 4 what it did not touch survives (edits: the values of the next row), 5 a converter raised, 6 settings, the time or a call make a difference, 7 a constraint of the other table (columns names it; "the same key": the converter changes it; "one row": it makes several). Reads only. CF001, CF012.';
