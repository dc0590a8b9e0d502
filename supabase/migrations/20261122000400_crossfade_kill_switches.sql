-- Kill switches: named stops that override flags and cohorts. Engaging is one step; releasing needs
-- a reason.

create table if not exists crossfade.kill_switches (
  name text primary key,
  description text not null default '',
  engaged boolean not null default false,
  fences boolean not null default false,
  overrides_all boolean not null default false,
  pair text,
  engaged_at timestamptz,
  engaged_by text,
  reason text,
  constraint name_is_short_and_visible check (name ~ '^[^[:space:][:cntrl:]]{1,100}$')
);

comment on table crossfade.kill_switches is
  'Emergency stops. A hand edit of engaged acts, is audited and broadcast exactly like engage_kill_switch.';
comment on column crossfade.kill_switches.fences is
  'While engaged, direct writes to V2 by API roles are refused and backend 1 serves.';
comment on column crossfade.kill_switches.overrides_all is
  'While engaged, every flag is false and backend 1 serves every pair.';
comment on column crossfade.kill_switches.pair is
  'The one pair a fence is for; null = every pair. No foreign key: a switch outlives its pair.';
comment on column crossfade.kill_switches.reason is
  'Why it was engaged; null when nobody said, or never engaged.';

insert into crossfade.kill_switches (name, fences, overrides_all, description)
values
('disable_v2_messages', true, false, 'Serve V1 and refuse direct writes to V2'),
('disable_memory_system', false, false, 'Turn enable_memory_system off'),
('disable_state_management', false, false, 'Turn enable_state_management off'),
('disable_new_tools', false, false, 'Turn use_new_tool_framework off'),
('emergency_rollback', true, true, 'Turn every flag off, serve V1, refuse direct writes to V2')
on conflict (name) do nothing;

-- The fence ---------------------------------------------------------------------------------------

create or replace function crossfade_private.fence_engaged(pair text)
returns boolean
language plpgsql stable
set search_path = ''
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
set search_path = ''
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

create or replace function crossfade_private.before_kill_switch_change()
returns trigger
language plpgsql volatile
-- Definer: as before_control_change.
security definer
set search_path = ''
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
set search_path = ''
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
set search_path = ''
as $$
begin
  perform crossfade_private.broadcast('kill', jsonb_build_object(
    'flags_version', crossfade.flags_version(), 'name', new.name, 'engaged', new.engaged));
  return null;
end $$;

comment on function crossfade_private.after_kill_switch_change is
  'AFTER ROW trigger: broadcast "kill" {flags_version, name, engaged} when engaged has changed.';

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

-- Engage and release ------------------------------------------------------------------------------

create or replace function crossfade_private.switch_kill(name text, engaged boolean, reason text)
returns jsonb
language plpgsql volatile
set search_path = ''
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
set search_path = ''
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
set search_path = ''
as $$
begin
  perform crossfade_private.require_reason(
    release_kill_switch.reason, format('release kill switch "%s"', release_kill_switch.name));
  return crossfade_private.switch_kill(release_kill_switch.name, false, release_kill_switch.reason)
    - 'waited_ms' - 'in_flight';
end $$;

comment on function crossfade.release_kill_switch is
  'End a stop. Returns {"kill_switch": row, "changed", "flags_version"}. CF003 unknown switch, CF007 no reason.';
