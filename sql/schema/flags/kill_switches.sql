-- Engaging a kill switch is one step; releasing it needs a reason.

create or replace function crossfade_private.before_kill_switch_change()
returns trigger
language plpgsql volatile
-- Definer: as before_control_change.
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Order matters: the fence comes before the control row. Only a hand edit has to close it here.
  if coalesce(current_setting('crossfade.fence', true), '') = '' then
    perform crossfade_private.close_fence();
  end if;
  perform 1 from crossfade.control c for update;
  return null;
end $$;

comment on function crossfade_private.before_kill_switch_change is
  'BEFORE STATEMENT trigger: a hand edit closes the fence like engage_kill_switch, then locks the control row.';

create or replace function crossfade_private.stamp_kill_switch()
returns trigger
language plpgsql volatile
-- Definer: API roles hold no right on crossfade_private.actor().
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if new.engaged and (tg_op = 'INSERT' or not old.engaged) then
    new.engaged_at := clock_timestamp();
    new.engaged_by := crossfade_private.actor();
    if tg_op = 'UPDATE' and new.reason is not distinct from old.reason then
      new.reason := crossfade_private.reason();
    end if;
  end if;
  return new;
end $$;

comment on function crossfade_private.stamp_kill_switch is
  'BEFORE ROW trigger: who engaged the switch, when and why. All three stay when it is released.';

create or replace function crossfade_private.after_kill_switch_change()
returns trigger
language plpgsql volatile
-- Definer: as before_control_change; realtime.messages also refuses most API roles.
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform crossfade_private.broadcast('kill', jsonb_build_object(
    'flags_version', crossfade.flags_version(), 'name', new.name, 'engaged', new.engaged));
  return null;
end $$;

comment on function crossfade_private.after_kill_switch_change is
  'AFTER ROW trigger: broadcast "kill" {flags_version, name, engaged} when engaged has changed.';

create or replace function crossfade_private.switch_kill(name text, engaged boolean, reason text)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row crossfade.kill_switches;
  v_fence jsonb := '{"waited_ms": 0, "in_flight": false}'::jsonb;
  v_handled text := coalesce(current_setting('crossfade.fence', true), '');
  v_changed boolean;
begin
  select k.* into v_row from crossfade.kill_switches k where k.name = switch_kill.name;
  if not found then
    perform crossfade_private.fail(
      404, 'CF003', format('Unknown kill switch "%s"', switch_kill.name),
      jsonb_build_object('kill_switch', switch_kill.name,
        'known', (select jsonb_agg(k.name order by k.name) from crossfade.kill_switches k)));
  end if;
  if v_handled = '' then
    if switch_kill.engaged and v_row.fences then
      -- Also when it is engaged already: calling again tells whether stragglers are left.
      v_fence := crossfade_private.close_fence();
    else
      perform set_config('crossfade.fence', 'not needed', true);
    end if;
  end if;
  perform crossfade_private.set_reason(switch_kill.reason);
  update crossfade.kill_switches k
  set engaged = switch_kill.engaged
  where k.name = switch_kill.name and k.engaged is distinct from switch_kill.engaged
  returning k.* into v_row;
  v_changed := found;
  if not v_changed then
    select k.* into v_row from crossfade.kill_switches k where k.name = switch_kill.name;
  end if;
  perform set_config('crossfade.fence', v_handled, true);
  return v_fence || jsonb_build_object(
    'kill_switch', to_jsonb(v_row), 'changed', v_changed,
    'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade_private.switch_kill is
  'What engage_kill_switch and release_kill_switch share. CF003. Takes the fence lock, then the control row.';

create or replace function crossfade.engage_kill_switch(name text, reason text default null)
returns jsonb
language plpgsql volatile
-- Definer: API roles hold no right on crossfade_private and on crossfade.audit.
security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
begin
  return crossfade_private.switch_kill(engage_kill_switch.name, true, engage_kill_switch.reason)
    || jsonb_build_object('committed_at', clock_timestamp());
end $$;

comment on function crossfade.engage_kill_switch is
  'Stop, in one step: no reason needed, safe to repeat (changed false). A fencing switch first waits, at most setting kill_wait_ms, for direct V2 writes that have begun, and holds new ones back meanwhile. Returns {"kill_switch": row, "changed", "committed_at", "waited_ms", "in_flight": V2 writes that may still commit, "flags_version"}. Only CF003.';

create or replace function crossfade.release_kill_switch(name text, reason text)
returns jsonb
language plpgsql volatile
-- Definer: as engage_kill_switch.
security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
begin
  perform crossfade_private.require_reason(
    release_kill_switch.reason, format('release kill switch "%s"', release_kill_switch.name));
  return crossfade_private.switch_kill(release_kill_switch.name, false, release_kill_switch.reason)
    - 'waited_ms' - 'in_flight';
end $$;

comment on function crossfade.release_kill_switch is
  'End a stop. Returns {"kill_switch": row, "changed", "flags_version"}. CF003 unknown switch, CF007 no reason.';

create or replace trigger crossfade_before_lock
before insert or update or delete on crossfade.kill_switches
for each statement execute function crossfade_private.before_kill_switch_change();

create or replace trigger crossfade_before_stamp
before insert or update on crossfade.kill_switches
for each row execute function crossfade_private.stamp_kill_switch();

create or replace trigger crossfade_after_change
after insert or update or delete on crossfade.kill_switches
for each row execute function crossfade_private.on_control_change();

-- Named so that it fires after crossfade_after_change, which raises the version it sends.
create or replace trigger crossfade_after_kill
after update on crossfade.kill_switches
for each row when (old.engaged is distinct from new.engaged)
execute function crossfade_private.after_kill_switch_change();
