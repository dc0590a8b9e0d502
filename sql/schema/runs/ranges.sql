-- The rows of a batch: a range of keys that nobody else works on, and a part of it.
-- The key has an index, and that is how its rows are read: no statistics are needed for it, which a
-- table may not have, and which can be old.

create or replace function crossfade_private.batch_boundary(
  pieces jsonb, run_range crossfade.run_ranges, both_tables boolean
)
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
declare
  v_boundary jsonb;
begin
  -- JSON is made of one key, not of all that are passed on the way to it.
  execute crossfade_private.render($sql$
    select cf_d.cf_key from (
      select {skey_json_s} as cf_key, {skey_s} from (select {skey_s} from {source} cf_s
      where ($1 is null or ({skey_s}) > ({skey_1})) and ($2 is null or ({skey_s}) <= ({skey_2}))
      order by {skey_s} offset $3 - 1 limit 1) cf_s
      union all
      select {tkey_json_t}, {tkey_t} from (select {tkey_t} from {target} cf_t
      where $4 and ($1 is null or ({tkey_t}) > ({skey_1}))
        and ($2 is null or ({tkey_t}) <= ({skey_2}))
      order by {tkey_t} offset $3 - 1 limit 1) cf_t
    ) cf_d order by {skey_d} limit 1
  $sql$, pieces) into v_boundary
  using (run_range).cursor_key, (run_range).upto_key, (run_range).batch_rows, both_tables;
  return coalesce(v_boundary, (run_range).upto_key);
end $$;

comment on function crossfade_private.batch_boundary is
  'Key up to which the source, or neither table, has more rows than the batch may have; the end of the range when fewer are left (null when it is open).';

create or replace function crossfade_private.claim_range(run crossfade.runs)
returns crossfade.run_ranges
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select a.* from crossfade.run_ranges a
  where a.run = (claim_range.run).id and not a.done
  order by a.range
  limit 1
  for update skip locked;
$$;

comment on function crossfade_private.claim_range is
  'Take a range that no other worker holds, until the transaction ends. A null row when there is none.';

create or replace function crossfade_private.range_rows(
  pieces jsonb, run_range crossfade.run_ranges, boundary jsonb, both_tables boolean
)
returns bigint
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
  v_rows bigint := (run_range).batch_rows;
begin
  -- Of one table, only the last batch of a range can hold other than the rows that were asked for.
  if both_tables or boundary is not distinct from (run_range).upto_key then
    execute crossfade_private.render($sql$
      select greatest((
        select count(*) from {source} cf_s
        where ($1 is null or ({skey_s}) > ({skey_1})) and ($2 is null or ({skey_s}) <= ({skey_2}))
      ), (
        select count(*) from {target} cf_t
        where $3 and ($1 is null or ({tkey_t}) > ({skey_1}))
          and ($2 is null or ({tkey_t}) <= ({skey_2}))))
    $sql$, pieces) into v_rows using (run_range).cursor_key, boundary, both_tables;
  end if;
  return v_rows;
end $$;

comment on function crossfade_private.range_rows is
  'Rows that a batch up to boundary covers: of the source, or of the table that has more.';

create or replace function crossfade_private.range_keys(
  pieces jsonb, after_key jsonb, boundary jsonb, both_tables boolean
)
returns jsonb[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
  v_keys jsonb[];
begin
  execute crossfade_private.render($sql$
    select array_agg(cf_d.cf_key order by {skey_d}) from (
      select {skey_json_s} as cf_key, {skey_s} from {source} cf_s
      where ($1 is null or ({skey_s}) > ({skey_1})) and ($2 is null or ({skey_s}) <= ({skey_2}))
      union
      select {tkey_json_t}, {tkey_t} from {target} cf_t
      where $3 and ($1 is null or ({tkey_t}) > ({skey_1}))
        and ($2 is null or ({tkey_t}) <= ({skey_2}))
    ) cf_d
  $sql$, pieces) into v_keys using after_key, boundary, both_tables;
  return coalesce(v_keys, '{}');
end $$;

comment on function crossfade_private.range_keys is
  'The keys in (after_key, boundary] of the source, or of both tables, in their order; null is open.';
