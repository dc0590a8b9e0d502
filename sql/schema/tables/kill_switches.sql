-- Kill switches: named stops that override flags and cohorts.

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
  'The one pair a fence is for; null = every pair. No foreign key: an owner''s switch outlives its pair; disable_v2_<pair> goes with it.';
comment on column crossfade.kill_switches.reason is
  'Why it was engaged; null when nobody said, or never engaged.';

do $$
declare
  v_switch record;
begin
  -- Only what is missing: even an INSERT of nothing closes the fence, and writers of V2 would wait
  -- for the end of the migration.
  for v_switch in
    select s.* from (values
      ('disable_v2_messages', true, false, 'Serve V1 and refuse direct writes to V2'),
      ('disable_memory_system', false, false, 'Turn enable_memory_system off'),
      ('disable_state_management', false, false, 'Turn enable_state_management off'),
      ('disable_new_tools', false, false, 'Turn use_new_tool_framework off'),
      ('emergency_rollback', true, true,
        'Turn every flag off, serve V1, refuse direct writes to V2')
    ) s(name, fences, overrides_all, description)
    where not exists (select from crossfade.kill_switches k where k.name = s.name)
  loop
    insert into crossfade.kill_switches (name, fences, overrides_all, description)
    values (v_switch.name, v_switch.fences, v_switch.overrides_all, v_switch.description);
  end loop;
end $$;
