-- The rows of a batch: a range of keys that nobody else works on, and a part of it.

create or replace function crossfade_private.batch_boundary(
  pieces jsonb, run_range crossfade.run_ranges
)
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_boundary jsonb;
begin
  execute crossfade_private.render($sql$
    select {skey_json_s} from {source} cf_s
    where ($1 is null or ({skey_s}) > ({skey_1})) and ($2 is null or ({skey_s}) <= ({skey_2}))
    order by {skey_s} offset $3 - 1 limit 1
  $sql$, pieces) into v_boundary
  using (run_range).cursor_key, (run_range).upto_key, (run_range).batch_rows;
  return coalesce(v_boundary, (run_range).upto_key);
end $$;

comment on function crossfade_private.batch_boundary is
  'Key of the last row of the next batch; the end of the range when fewer rows are left (null when it is open).';

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
  pieces jsonb, run_range crossfade.run_ranges, boundary jsonb
)
returns bigint
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_rows bigint := (run_range).batch_rows;
begin
  -- Only the last batch of a range can hold another number of rows than was asked for.
  if boundary is not distinct from (run_range).upto_key then
    execute crossfade_private.render($sql$
      select count(*) from {source} cf_s
      where ($1 is null or ({skey_s}) > ({skey_1})) and ($2 is null or ({skey_s}) <= ({skey_2}))
    $sql$, pieces) into v_rows using (run_range).cursor_key, boundary;
  end if;
  return v_rows;
end $$;

comment on function crossfade_private.range_rows is
  'Rows of the source that a batch up to boundary covers.';
