-- A difference counts when it is still there under lock.

create or replace function crossfade_private.record_found(
  for_pair text, for_run bigint, pieces jsonb, keys jsonb[]
)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_count bigint;
begin
  -- A second look under lock, so that nothing in flight is ever counted. Of rows that somebody is
  -- writing right now, what a plain read finds is good enough.
  perform crossfade_private.lock_keys(pieces, keys);
  insert into crossfade.mismatches as m (pair, run, key, kind, columns)
  select for_pair, for_run, f.key, f.kind, f.columns
  from crossfade_private.find_among(pieces, keys) f
  -- A copy whose source was deleted while a backfill runs is the sweep's to remove, not news.
  where not exists (
    select from crossfade_private.tombstones z
    where z.pair = for_pair and z.key = f.key and f.kind = format('missing_v%s', z.side))
  order by f.key
  on conflict (pair, key) where resolved_at is null do update
  set run = excluded.run, kind = excluded.kind, columns = excluded.columns, message = null,
    found_at = clock_timestamp();
  get diagnostics v_count = row_count;
  return v_count;
end $$;

comment on function crossfade_private.record_found is
  'Look again at rows that differ, with both rows locked as far as they are free, and record what still does. Returns how many.';

create or replace function crossfade_private.record_incomparable(
  for_pair text, for_run bigint, key jsonb, message text
)
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  insert into crossfade.mismatches as m (pair, run, key, kind, message)
  values (for_pair, for_run, record_incomparable.key, 'different',
    left(record_incomparable.message, 500))
  on conflict (pair, key) where resolved_at is null do update
  set run = excluded.run, kind = excluded.kind, columns = excluded.columns,
    message = excluded.message, found_at = clock_timestamp();
$$;

comment on function crossfade_private.record_incomparable is
  'Record that the rows of a key cannot be compared: nobody knows whether they are equal.';

create or replace function crossfade_private.record_mismatches_of(
  for_pair text, for_run bigint, pieces jsonb, keys jsonb[]
)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_size constant integer := cardinality(keys);
  v_step constant integer := greatest(1, v_size / 16);
  v_count bigint := 0;
begin
  begin
    return crossfade_private.record_found(for_pair, for_run, pieces, keys);
  exception when others or assert_failure then
    if crossfade_private.is_transient(sqlstate) then
      raise;
    elsif v_size = 1 then
      perform crossfade_private.record_incomparable(for_pair, for_run, keys[1],
        format('%s: %s', sqlstate, sqlerrm));
      return 1;
    end if;
  end;
  for v_at in 1..v_size by v_step loop
    v_count := v_count + crossfade_private.record_mismatches_of(
      for_pair, for_run, pieces, keys[v_at : v_at + v_step - 1]);
  end loop;
  return v_count;
end $$;

comment on function crossfade_private.record_mismatches_of is
  'Compare the rows of these keys and record what differs: all at once, then in sixteenths, then one by one. Rows that cannot be compared count as different.';

create or replace function crossfade_private.record_mismatches(
  for_pair text, for_run bigint, pieces jsonb, after_key jsonb, boundary jsonb
)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_keys jsonb[];
begin
  begin
    v_keys := array(
      select f.key from crossfade_private.find_in_range(pieces, after_key, boundary) f);
    if cardinality(v_keys) = 0 then
      return 0;
    end if;
    return crossfade_private.record_found(for_pair, for_run, pieces, v_keys);
  exception when others or assert_failure then
    if crossfade_private.is_transient(sqlstate) then
      raise;
    end if;
  end;
  v_keys := crossfade_private.range_keys(pieces, after_key, boundary, true);
  return case when cardinality(v_keys) = 0 then 0
    else crossfade_private.record_mismatches_of(for_pair, for_run, pieces, v_keys) end;
end $$;

comment on function crossfade_private.record_mismatches is
  'Compare a range, look again at what differs with both rows locked, and record what still does, but for copies that wait for the sweep of a backfill. A row that raises is recorded too and holds up no other. Returns how many.';
