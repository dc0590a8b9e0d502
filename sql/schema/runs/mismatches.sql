-- A difference counts when it is still there under lock.

create or replace function crossfade_private.lock_both(pieces jsonb, key jsonb)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '2s'
as $$
begin
  execute crossfade_private.render(
    'select from {source} cf_t where ({skey_t}) = ({skey_1}) for no key update', pieces) using key;
  execute crossfade_private.render(
    'select from {target} cf_t where ({tkey_t}) = ({skey_1}) for no key update', pieces) using key;
end $$;

comment on function crossfade_private.lock_both is
  'Lock both rows of a key, the source''s first. Waits at most 2 s a row (55P03).';

create or replace function crossfade_private.record_mismatches(
  for_pair text, for_run bigint, pieces jsonb, after_key jsonb, boundary jsonb
)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_found record;
  v_again record;
  v_count bigint := 0;
begin
  for v_found in select f.key from crossfade_private.find_in_range(pieces, after_key,
    boundary) f loop
    -- A second look under lock, so that nothing in flight is ever counted.
    begin
      perform crossfade_private.lock_both(pieces, v_found.key);
    exception when lock_not_available or deadlock_detected then
      null; -- Somebody is writing it right now: what a plain read finds is good enough.
    end;
    select f.kind, f.columns into v_again from crossfade_private.find_one(pieces, v_found.key) f;
    -- A copy whose source was deleted while a backfill runs is the sweep's to remove, not news.
    if found and not exists (
      select from crossfade_private.tombstones z
      where z.pair = for_pair and z.key = v_found.key
        and v_again.kind = format('missing_v%s', z.side)
    ) then
      v_count := v_count + 1;
      insert into crossfade.mismatches as m (pair, run, key, kind, columns)
      values (for_pair, for_run, v_found.key, v_again.kind,
        v_again.columns)
      on conflict (pair, key) where resolved_at is null do update
      set run = excluded.run, kind = excluded.kind, columns = excluded.columns,
        found_at = clock_timestamp();
    end if;
  end loop;
  return v_count;
end $$;

comment on function crossfade_private.record_mismatches is
  'Compare a range, look again at what differs with both rows locked, and record what still does, but for copies that wait for the sweep of a backfill. Returns how many.';
