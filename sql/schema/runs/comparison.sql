-- Comparing both tables through the converters, by value.

create or replace function crossfade_private.compare_sql(
  pieces jsonb, range_a text, range_b text
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $outer$
  -- cf_here and not `cf_row is null`: a composite with one null column is neither null nor not
  -- null. Both directions: to_v2(v1, v2) = v2 and to_v1(v2, v1) = v1. A row of which the converter
  -- makes none has no counterpart, and needs none.
  -- OFFSET 0 keeps PostgreSQL from computing what a converter would raise for a row that it filters
  -- out: a key that the other table cannot hold.
  select crossfade_private.render($sql$
    select case when cf_a.cf_here then {skey_json_a} else {tkey_json_b} end as key,
      case when cf_b.cf_here is null then 'missing_v2' when cf_a.cf_here is null then 'missing_v1'
        else 'different' end as kind,
      case when cf_a.cf_here and cf_b.cf_here then {columns_differ} else '{}' end as columns
    from (select cf_t as cf_row, true as cf_here, {skey_t} from {source} cf_t where {range_a}) cf_a
    full join (select cf_t as cf_row, true as cf_here, {tkey_t} from {target} cf_t
      where {range_b}) cf_b
      on ({skey_a}) = ({tkey_b})
    left join lateral (
      select cf_x.*, true as cf_is
      from {convert} cf_a.cf_row {with} cf_b.cf_row {converted} cf_x
      where cf_a.cf_here offset 0) cf_c on true
    left join lateral (
      select cf_x.*, true as cf_is
      from {convert_back} cf_b.cf_row {with_back} cf_a.cf_row {converted_back} cf_x
      where cf_b.cf_here offset 0) cf_d on true
    where case when cf_b.cf_here is null then cf_c.cf_is when cf_a.cf_here is null then cf_d.cf_is
      when cf_c.cf_is is distinct from cf_d.cf_is then true when cf_c.cf_is is null then false
      else {rows_differ} end
    order by 1$sql$,
    pieces || jsonb_build_object(
      'range_a', crossfade_private.render(range_a, pieces),
      'range_b', crossfade_private.render(range_b, pieces)));
$outer$;

comment on function crossfade_private.compare_sql is
  'The query that compares the rows of two ranges, templates over the rows cf_t: one row per differing key, its kind and the columns. pieces with V1 as the source.';

create or replace function crossfade_private.find_mismatches(
  pieces jsonb, range_a text, range_b text, lower_key jsonb, upper_key jsonb,
  keys jsonb[] default null
)
returns table (key jsonb, kind text, columns text[])
language plpgsql stable
set search_path = pg_catalog, pg_temp
-- By these converters are printed, and values compared; a session may have others.
set timezone = 'UTC'
set datestyle = 'ISO, MDY'
set intervalstyle = 'postgres'
set extra_float_digits = 1
set bytea_output = 'hex'
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
begin
  return query execute crossfade_private.compare_sql(pieces, range_a, range_b)
  using lower_key, upper_key, keys;
end $$;

comment on function crossfade_private.find_mismatches is
  'Differing keys of a range, in one snapshot: both writes of a transaction are seen or neither. pieces with V1 as the source.';

create or replace function crossfade_private.find_in_range(
  pieces jsonb, after_key jsonb, boundary jsonb
)
returns table (key jsonb, kind text, columns text[])
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select f.key, f.kind, f.columns
  from crossfade_private.find_mismatches(
    pieces,
    '($1 is null or ({skey_t}) > ({skey_1})) and ($2 is null or ({skey_t}) <= ({skey_2}))',
    '($1 is null or ({tkey_t}) > ({skey_1})) and ($2 is null or ({tkey_t}) <= ({skey_2}))',
    after_key, boundary) f;
$$;

comment on function crossfade_private.find_in_range is
  'Differing keys in (after_key, boundary]; null is open.';

create or replace function crossfade_private.find_among(pieces jsonb, keys jsonb[])
returns table (key jsonb, kind text, columns text[])
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select f.key, f.kind, f.columns
  from crossfade_private.find_mismatches(
    pieces, '({skey_t}) in (select {skey_z} from unnest($3) cf_z(key))',
    '({tkey_t}) in (select {skey_z} from unnest($3) cf_z(key))', null, null, keys) f;
$$;

comment on function crossfade_private.find_among is 'Those of the keys whose rows differ.';
