-- Bringing back the parts of a snapshot: switches, flags, cohorts, pairs.

create or replace function crossfade_private.restore_switches(
  snapshot crossfade.snapshots, reason text
)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_switch record;
  v_kept jsonb := '[]'::jsonb;
begin
  for v_switch in
    select k.name, s.engaged as wanted,
      -- Engaged by the rollback that took this snapshot: undoing it is what is asked for.
      -- Whatever somebody else engaged later is a decision this snapshot knows nothing of.
      s.engaged or exists (
        select from crossfade.rollbacks r
        where r.snapshot = snapshot.id
          and (r.after -> k.name ->> 'engaged_at')::timestamptz = k.engaged_at) as known
    from crossfade.kill_switches k
    join jsonb_populate_recordset(
      null::crossfade.kill_switches, snapshot.state -> 'kill_switches') s on s.name = k.name
    where k.engaged <> s.engaged
    -- Fences first, as everywhere: see before_control_change.
    order by k.fences desc, k.name
  loop
    if v_switch.known then
      perform crossfade_private.switch_kill(v_switch.name, v_switch.wanted, reason);
    else
      v_kept := v_kept || to_jsonb(v_switch.name);
    end if;
  end loop;
  return v_kept;
end $$;

comment on function crossfade_private.restore_switches is
  'Engage what the snapshot has engaged. Release only what the rollback of this very snapshot engaged and nobody has engaged again; the names of other engaged switches are returned and stay engaged.';

create or replace function crossfade_private.restore_flags(snapshot crossfade.snapshots)
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  insert into crossfade.flags as f (
    name, description, enabled, percentage, default_value, cohort_key, allow_user_ids,
    allow_agent_ids, deny_user_ids, deny_agent_ids, prerequisites, killed_by)
  select s.name, s.description, s.enabled, s.percentage, s.default_value, s.cohort_key,
    s.allow_user_ids, s.allow_agent_ids, s.deny_user_ids, s.deny_agent_ids,
    s.prerequisites, s.killed_by
  from jsonb_populate_recordset(null::crossfade.flags, restore_flags.snapshot.state -> 'flags') s
  order by s.name
  on conflict (name) do update
  set description = excluded.description, enabled = excluded.enabled,
    percentage = excluded.percentage, default_value = excluded.default_value,
    cohort_key = excluded.cohort_key,
    allow_user_ids = excluded.allow_user_ids, allow_agent_ids = excluded.allow_agent_ids,
    deny_user_ids = excluded.deny_user_ids, deny_agent_ids = excluded.deny_agent_ids,
    prerequisites = excluded.prerequisites, killed_by = excluded.killed_by;
$$;

comment on function crossfade_private.restore_flags is
  'Bring the flags of a snapshot back, deleted ones too. Flags that were added later stay as they are.';

create or replace function crossfade_private.restore_cohort(wanted crossfade.cohorts, reason text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_cohort crossfade.cohorts;
begin
  select c.* into v_cohort from crossfade.cohorts c where c.pair = wanted.pair;
  update crossfade.cohorts c
  set cohort_key = wanted.cohort_key, enabled_user_ids = wanted.enabled_user_ids,
    enabled_agent_ids = wanted.enabled_agent_ids, denied_user_ids = wanted.denied_user_ids,
    denied_agent_ids = wanted.denied_agent_ids
  where c.pair = wanted.pair;
  if v_cohort.percentage <> wanted.percentage then
    perform crossfade.set_cohort(
      wanted.pair, jsonb_build_object('percentage', wanted.percentage), restore_cohort.reason,
      true);
  end if;
end $$;

comment on function crossfade_private.restore_cohort is
  'Make the cohort of a pair equal to a saved one, the percentage through set_cohort''s own checks.';

create or replace function crossfade_private.restore_pair(
  pair text, wanted_stage text, cohort crossfade.cohorts, reason text
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_stages text[] := crossfade_private.stages();
  v_at integer := array_position(v_stages, (crossfade_private.get_pair(pair)).stage);
  v_wanted integer := array_position(v_stages, wanted_stage);
begin
  if v_wanted < v_at then
    perform crossfade_private.move_pairs(array[pair], wanted_stage, reason, false, false, true);
  end if;
  -- Forward one stage at a time, so that every precondition is asked. The cohort belongs to live.
  for v_next in v_at + 1 .. v_wanted loop
    if v_stages[v_next] = 'rampdown' then
      perform crossfade_private.restore_cohort(cohort, reason);
    end if;
    -- The snapshot answers for the group, and names the switches that stay engaged.
    perform crossfade_private.move_pairs(array[pair], v_stages[v_next], reason, true, false, true);
  end loop;
  perform crossfade_private.restore_cohort(cohort, reason);
end $$;

comment on function crossfade_private.restore_pair is
  'Bring stage and cohort of a pair back on the paths of set_stage and set_cohort, with their refusals but those of its group, for which restore_snapshot looks at the end (CF005, CF006).';
