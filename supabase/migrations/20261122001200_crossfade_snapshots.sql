-- Snapshots: the control state saved whole, and brought back.

create table if not exists crossfade.snapshots (
  id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  actor text not null,
  reason text not null default '',
  state jsonb not null
);

comment on table crossfade.snapshots is
  'Saved control state. state: {"flags_version", "wal_lsn", "flags": [row], "kill_switches": [row], "cohorts": [row], "pairs": [{name, stage, step, converter_hash, fingerprint, last_clean_verify_at, open_failures, v1_rows, v2_rows, ...}]}; rows are the planner''s estimates. Settings are not part of it.';

create table if not exists crossfade.rollbacks (
  id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  actor text not null,
  level text not null,
  scope text not null,
  reason text not null,
  automatic boolean not null default false,
  before jsonb not null,
  after jsonb not null,
  snapshot bigint references crossfade.snapshots on delete set null,
  flags_version bigint not null,
  preserved jsonb not null default '{}',
  constraint level_is_known check (level in ('FEATURE', 'PARTIAL', 'COMPLETE', 'EMERGENCY'))
);

create index if not exists rollbacks_snapshot_idx on crossfade.rollbacks (snapshot);

comment on table crossfade.rollbacks is
  'Log of rollbacks that changed something. before and after: object -> values of each changed object; snapshot: the state before it, null when somebody deleted that; preserved: pair -> {"open_failures", "rows": [{failure, row}], "truncated"}, what one table held alone at that moment.';

-- Locking -----------------------------------------------------------------------------------------

create or replace function crossfade_private.lock_control(fence boolean, pair_names text[])
returns void
language plpgsql volatile
set search_path = ''
as $$
begin
  -- Order matters: fence, pairs by name, control row. See before_control_change.
  if fence then
    perform crossfade_private.close_fence();
  end if;
  perform 1 from crossfade.pairs p where p.name = any (pair_names) order by p.name
  for no key update;
  perform 1 from crossfade.control c for update;
end $$;

comment on function crossfade_private.lock_control is
  'Take the locks of a change of several control objects in the order that never deadlocks, until the transaction ends.';

-- Taking ------------------------------------------------------------------------------------------

create or replace function crossfade_private.control_state()
returns jsonb
language sql stable
set search_path = ''
as $$
  select jsonb_build_object(
    'flags_version', crossfade.flags_version(),
    'wal_lsn', pg_catalog.pg_current_wal_lsn()::text,
    'flags', (select coalesce(jsonb_agg(to_jsonb(f) order by f.name), '[]') from crossfade.flags f),
    'kill_switches', (
      select coalesce(jsonb_agg(to_jsonb(k) order by k.name), '[]') from crossfade.kill_switches k),
    'cohorts', (
      select coalesce(jsonb_agg(to_jsonb(c) order by c.pair), '[]') from crossfade.cohorts c),
    'pairs', (
      select coalesce(jsonb_agg(to_jsonb(p) || jsonb_build_object(
        'v1_rows', (
          select r.reltuples::bigint from pg_catalog.pg_class r
          where r.oid = to_regclass(p.v1_table)),
        'v2_rows', (
          select r.reltuples::bigint from pg_catalog.pg_class r
          where r.oid = to_regclass(p.v2_table)),
        'open_failures', (
          select count(*) from crossfade.mirror_failures m
          where m.pair = p.name and m.resolved_at is null)
      ) order by p.name), '[]')
      from crossfade.pairs p));
$$;

comment on function crossfade_private.control_state is 'What a snapshot saves. Reads only.';

create or replace function crossfade_private.save_snapshot(reason text)
returns jsonb
language sql volatile
set search_path = ''
as $$
  insert into crossfade.snapshots (actor, reason, state)
  values (crossfade_private.actor(), save_snapshot.reason, crossfade_private.control_state())
  returning jsonb_build_object('id', id, 'at', at, 'actor', actor, 'reason', reason);
$$;

comment on function crossfade_private.save_snapshot is
  'Insert a snapshot and return {"id", "at", "actor", "reason"}.';

create or replace function crossfade.take_snapshot(reason text)
returns jsonb
language plpgsql volatile
-- Definer: API roles hold no right on the tables it writes.
security definer
set search_path = ''
as $$
declare
  v_snapshot jsonb;
begin
  perform crossfade_private.require_reason(take_snapshot.reason, 'take a snapshot');
  v_snapshot := crossfade_private.save_snapshot(take_snapshot.reason);
  perform crossfade_private.audit('snapshot.insert', v_snapshot ->> 'id', null, null, null);
  return jsonb_build_object('snapshot', v_snapshot, 'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.take_snapshot is
  'Save flags, cohorts, kill switches and pairs as they are now. Returns {"snapshot": {id, at, actor, reason}, "flags_version"}. CF007 no reason.';

-- Restoring ---------------------------------------------------------------------------------------

create or replace function crossfade_private.restore_switches(
  snapshot crossfade.snapshots, reason text
)
returns jsonb
language plpgsql volatile
set search_path = ''
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
set search_path = ''
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
set search_path = ''
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
      wanted.pair, jsonb_build_object('percentage', wanted.percentage), restore_cohort.reason);
  end if;
end $$;

comment on function crossfade_private.restore_cohort is
  'Make the cohort of a pair equal to a saved one, the percentage through set_cohort''s own checks.';

create or replace function crossfade_private.restore_pair(
  pair text, wanted_stage text, cohort crossfade.cohorts, reason text
)
returns void
language plpgsql volatile
set search_path = ''
as $$
declare
  v_stages text[] := array['off', 'dualwrite', 'shadow', 'live', 'rampdown', 'complete'];
  v_at integer := array_position(v_stages, (crossfade_private.get_pair(pair)).stage);
  v_wanted integer := array_position(v_stages, wanted_stage);
begin
  if v_wanted < v_at then
    perform crossfade.set_stage(pair, wanted_stage, reason);
  end if;
  -- Forward one stage at a time, so that every precondition is asked. The cohort belongs to live.
  for v_next in v_at + 1 .. v_wanted loop
    if v_stages[v_next] = 'rampdown' then
      perform crossfade_private.restore_cohort(cohort, reason);
    end if;
    perform crossfade.set_stage(pair, v_stages[v_next], reason, true);
  end loop;
  perform crossfade_private.restore_cohort(cohort, reason);
end $$;

comment on function crossfade_private.restore_pair is
  'Bring stage and cohort of a pair back on set_stage''s and set_cohort''s own paths, with their refusals (CF005, CF006).';

create or replace function crossfade.restore_snapshot(id bigint, reason text)
returns jsonb
language plpgsql volatile
-- Definer: API roles hold no right on the tables it writes.
security definer
set search_path = ''
as $$
declare
  v_snapshot crossfade.snapshots;
  v_previous jsonb;
  v_kept jsonb;
  v_pair record;
begin
  perform crossfade_private.require_reason(
    restore_snapshot.reason, format('restore snapshot %s', restore_snapshot.id));
  select s.* into v_snapshot from crossfade.snapshots s where s.id = restore_snapshot.id;
  if not found then
    perform crossfade_private.fail(
      404, 'CF014', format('Unknown snapshot %s', restore_snapshot.id),
      jsonb_build_object('snapshot', restore_snapshot.id));
  end if;
  perform crossfade_private.lock_control(
    exists (
      select from crossfade.kill_switches k
      join jsonb_populate_recordset(
        null::crossfade.kill_switches, v_snapshot.state -> 'kill_switches') s on s.name = k.name
      where k.fences and s.engaged and not k.engaged),
    array(select p.name from crossfade.pairs p));
  v_previous := crossfade_private.save_snapshot(
    format('before restoring snapshot %s: %s', restore_snapshot.id, restore_snapshot.reason));
  v_kept := crossfade_private.restore_switches(v_snapshot, restore_snapshot.reason);
  perform crossfade_private.restore_flags(v_snapshot);
  for v_pair in
    select s.name, s.stage, c as cohort
    from jsonb_populate_recordset(null::crossfade.pairs, v_snapshot.state -> 'pairs') s
    join crossfade.pairs p on p.name = s.name
    join jsonb_populate_recordset(null::crossfade.cohorts, v_snapshot.state -> 'cohorts') c
      on c.pair = s.name
    order by s.name
  loop
    perform crossfade_private.restore_pair(
      v_pair.name, v_pair.stage, v_pair.cohort, restore_snapshot.reason);
  end loop;
  perform crossfade_private.audit('snapshot.restore', v_snapshot.id::text, null, v_previous, null);
  return jsonb_build_object(
    'snapshot', to_jsonb(v_snapshot) - 'state', 'previous', v_previous,
    'kept_kill_switches', v_kept, 'skipped_pairs', (
      select coalesce(jsonb_agg(s.value ->> 'name' order by s.value ->> 'name'), '[]')
      from jsonb_array_elements(v_snapshot.state -> 'pairs') s
      where not exists (select from crossfade.pairs p where p.name = s.value ->> 'name')),
    'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.restore_snapshot is
  'Make flags, cohorts, kill switches and stages what they were, in one transaction, all or nothing. Takes a snapshot first ("previous"), so it can be undone. A switch engaged after the snapshot stays engaged (kept_kill_switches) unless the rollback that took this snapshot engaged it. Stages and percentages go through set_stage and set_cohort and are refused like there: CF005 preconditions, CF006 latched (rearm first). Flags added and pairs registered later stay, pairs removed since are skipped (skipped_pairs); settings are not restored. CF007 no reason, CF014 unknown snapshot.';
