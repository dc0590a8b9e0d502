-- The fence: a lock that makes a kill exact.

create or replace function crossfade_private.fence_lock_key()
returns bigint
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
  select 7161727193022001::bigint;
$$;

comment on function crossfade_private.fence_lock_key is
  'Advisory lock: direct V2 writers hold it shared, engaging a fencing kill switch holds it exclusively, so that no V2 write that began before a kill commits after it.';

create or replace function crossfade_private.fence_engaged(pair text)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return exists (
    select from crossfade.kill_switches k
    where k.engaged and k.fences
      and (k.overrides_all or coalesce(k.pair = fence_engaged.pair, true)));
end $$;

comment on function crossfade_private.fence_engaged is
  'Whether direct V2 writes of this pair are refused now. Reads one page; called once per direct V2 statement.';

create or replace function crossfade_private.close_fence()
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_started timestamptz := clock_timestamp();
  v_wait integer := crossfade_private.setting_number('kill_wait_ms');
  v_before text := current_setting('lock_timeout');
  v_in_flight boolean := false;
begin
  -- Direct V2 writers hold this lock shared until they end. New ones queue behind us and then see
  -- the engaged switch, so that nothing which began before the kill commits after it.
  begin
    if v_wait = 0 then
      v_in_flight := not pg_try_advisory_xact_lock(crossfade_private.fence_lock_key());
    else
      perform set_config('lock_timeout', v_wait || 'ms', true);
      perform pg_advisory_xact_lock(crossfade_private.fence_lock_key());
    end if;
  exception when lock_not_available then
    -- A kill is never refused: stragglers may still commit, and the caller is told.
    v_in_flight := true;
  end;
  perform set_config('lock_timeout', v_before, true);
  -- before_kill_switch_change must not wait a second time.
  perform set_config('crossfade.fence', 'closed', true);
  return jsonb_build_object(
    'waited_ms', round(extract(epoch from clock_timestamp() - v_started) * 1000, 1),
    'in_flight', v_in_flight);
end $$;

comment on function crossfade_private.close_fence is
  'Wait until the direct V2 writes that have begun end, at most setting kill_wait_ms, and hold new ones back until this transaction ends: {"waited_ms", "in_flight": some had not ended}.';
