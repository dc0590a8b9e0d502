-- Comparing both tables through the converters, by value.

create or replace function crossfade_private.compare_sql()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $outer$
  -- cf_here and not `cf_row is null`: a composite with one null column is neither null nor not
  -- null.
  -- Both directions: to_v2(v1, v2) = v2 and to_v1(v2, v1) = v1. A row for which its converter gives
  -- none has no counterpart, and that is how it should be. OFFSET 0 keeps PostgreSQL from computing
  -- what a converter would raise for a row that it filters out. {range_a} and {range_b} choose the
  -- rows.
  select $sql$
    select case when cf_a.cf_here then {skey_json_a} else {tkey_json_b} end as key,
      case when cf_b.cf_here is null then 'missing_v2' when cf_a.cf_here is null then 'missing_v1'
        else 'different' end as kind,
      cf_a.cf_row as v1, cf_b.cf_row as v2, row(cf_c.*)::{target} as made_v2,
      row(cf_d.*)::{source} as made_v1
    from (select cf_t as cf_row, true as cf_here, {skey_t} from {source} cf_t where {range_a}) cf_a
    full join (select cf_t as cf_row, true as cf_here, {tkey_t} from {target} cf_t
      where {range_b}) cf_b
      on ({skey_a}) = ({tkey_b})
    left join lateral (
      select cf_e.* from {convert} cf_a.cf_row {with} cf_b.cf_row {converted} cf_e
      where cf_a.cf_here and cf_b.cf_here offset 0) cf_c on true
    left join lateral (
      select cf_e.*
      from {convert_back} cf_b.cf_row {with_back} cf_a.cf_row {converted_back} cf_e
      where cf_a.cf_here and cf_b.cf_here offset 0) cf_d on true
    where case
      when cf_b.cf_here is null then exists (
        select from {convert} cf_a.cf_row {with} null::{target} {converted} cf_e)
      when cf_a.cf_here is null then exists (
        select from {convert_back} cf_b.cf_row {with_back} null::{source} {converted_back} cf_e)
      else row({tcompare_c}) is distinct from row({tfields_b})
        or row({scompare_d}) is distinct from row({sfields_a}) end$sql$;
$outer$;

comment on function crossfade_private.compare_sql is
  'Template of the comparison; one row per differing key with both rows and what the converters make of them.';

create or replace function crossfade_private.diff_sql(
  tab regclass, found text, made text, prefix text
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format('array_remove(array[%s]::text[], null)', string_agg(format(
    'case when %s is distinct from %s then %L end', format(u.compared, diff_sql.found),
    format(u.compared, made), prefix || u.name), ', ' order by u.name))
  from crossfade_private.column_pieces(tab) p
  cross join lateral unnest(p.columns, p.compared) u(name, compared);
$$;

comment on function crossfade_private.diff_sql is
  'SQL expression for the names of the columns in which two rows of a table differ, with a prefix. Columns that PostgreSQL computes are left out: converters need not fill them.';

create or replace function crossfade_private.find_mismatches(
  pieces jsonb, range_a text, range_b text, lower_key jsonb, upper_key jsonb,
  keys jsonb[] default null
)
returns table (key jsonb, kind text, columns text[])
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
begin
  return query execute format($sql$
    select m.key, m.kind, case m.kind when 'different' then %s || %s else '{}' end
    from (%s) m order by m.key$sql$,
    crossfade_private.diff_sql((pieces ->> 'source')::regclass, '(m.v1)', '(m.made_v1)', ''),
    crossfade_private.diff_sql((pieces ->> 'target')::regclass, '(m.v2)', '(m.made_v2)', 'v2.'),
    crossfade_private.render(
      replace(replace(crossfade_private.compare_sql(), '{range_a}', range_a), '{range_b}', range_b),
        pieces))
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
