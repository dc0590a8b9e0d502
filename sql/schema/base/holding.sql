-- Batches wait while a release is installed: a migration locks tables of crossfade until it
-- commits, and at its end those of every pair. A batch that has written one of these and waits for
-- one of those would deadlock with it.

create or replace function crossfade_private.release_lock_key()
returns bigint
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
  select 7161727193022002::bigint;
$$;

comment on function crossfade_private.release_lock_key is
  'Advisory lock: batches hold it shared, a migration exclusively.';

create or replace function crossfade_private.hold_batches()
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '15s'
as $$
begin
  perform pg_advisory_xact_lock(crossfade_private.release_lock_key());
exception when lock_not_available then
  raise warning 'crossfade: a batch has not ended in 15 s, the release is installed beside it';
end $$;

comment on function crossfade_private.hold_batches is
  'Wait for the batches that have begun, and let none begin until the transaction ends: they say so and try again.';

do $$
begin
  perform crossfade_private.hold_batches();
end $$;
