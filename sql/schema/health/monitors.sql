-- Who watches (R12).

create or replace function crossfade.monitor_beat(
  holder text, lease_s numeric default null, release boolean default false
)
returns jsonb
language plpgsql volatile
security definer -- written by this function only
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_row crossfade.monitors;
  v_now timestamptz := clock_timestamp();
  v_lease_s numeric := coalesce(lease_s, crossfade_private.setting_number('monitor_lease_s'));
begin
  if coalesce(btrim(holder), '') = '' or v_lease_s not between 1 and 3600 then
    perform crossfade_private.fail(400, 'CF012', 'Cannot beat: holder or lease_s is invalid',
      jsonb_build_object('holder', holder, 'lease_s', lease_s), 'lease_s is 1 to 3600 seconds.');
  end if;
  -- The row lock makes one of several monitors the first.
  select m.* into v_row from crossfade.monitors m for update;
  if release then
    update crossfade.monitors m set holder = null, heartbeat_at = null, lease_until = null
    where m.holder = monitor_beat.holder returning m.* into v_row;
  elsif v_row.holder is null or v_row.holder = monitor_beat.holder or v_row.lease_until < v_now then
    update crossfade.monitors m
    set holder = monitor_beat.holder, heartbeat_at = v_now,
      lease_until = v_now + make_interval(secs => v_lease_s::double precision),
      generation = m.generation
        + case when m.holder is distinct from monitor_beat.holder then 1 else 0 end
    returning m.* into v_row;
  end if;
  return jsonb_build_object('held', not release and v_row.holder is not distinct from
    monitor_beat.holder, 'holder', v_row.holder, 'generation', v_row.generation,
    'heartbeat_at', v_row.heartbeat_at, 'lease_until', v_row.lease_until,
    'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.monitor_beat is
  'Say that a monitor lives. However many beat, one holds the lease (setting monitor_lease_s) and decides: {"held", "holder", "generation", "heartbeat_at", "lease_until", "flags_version"}. Another takes over when the lease has run out. release: stop holding it. CF012.';
