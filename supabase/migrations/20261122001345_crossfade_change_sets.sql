-- Change sets: several changes of flags, cohorts and kill switches as one transaction, now (a file
-- that is imported) or at a given time.

create table if not exists crossfade.scheduled_changes (
  id bigint generated always as identity primary key,
  due_at timestamptz not null,
  changes jsonb not null,
  reason text not null,
  created_at timestamptz not null default clock_timestamp(),
  created_by text not null,
  state text not null default 'pending',
  done_at timestamptz,
  outcome jsonb,
  constraint state_is_known check (state in ('pending', 'applied', 'refused', 'cancelled'))
);

create index if not exists scheduled_changes_due_at_idx
  on crossfade.scheduled_changes (due_at) where state = 'pending';

comment on table crossfade.scheduled_changes is
  'Change sets that wait for their time, and what became of them. changes as apply_changes takes them; outcome: what was applied, or the error {"code", "message"} that refused it.';

-- One change --------------------------------------------------------------------------------------

create or replace function crossfade_private.check_change_set(changes jsonb)
returns void
language plpgsql stable
set search_path = ''
as $$
declare
  v_bad jsonb;
begin
  if jsonb_typeof(changes) is distinct from 'array' then
    perform crossfade_private.fail(400, 'CF012', 'Changes must be a JSON array', '{}');
  end if;
  select c.value into v_bad from jsonb_array_elements(changes) c
  where jsonb_typeof(c.value) <> 'object'
    or coalesce(c.value ->> 'kind', '') not in ('flag', 'cohort', 'kill_switch')
    or coalesce(c.value ->> 'action', '') not in ('create', 'change', 'delete')
    or c.value ->> 'kind' = 'cohort' and c.value ->> 'action' <> 'change'
    or jsonb_typeof(c.value -> 'name') is distinct from 'string'
    or c.value ->> 'action' <> 'delete'
      and jsonb_typeof(c.value -> 'changes') is distinct from 'object'
  limit 1;
  if found then
    perform crossfade_private.fail(
      400, 'CF012', format('Not a change: %s', left(v_bad::text, 200)),
      jsonb_build_object('change', v_bad),
      'Each is {"kind": flag, cohort or kill_switch, "name", "action": create, change or delete, "changes"}.');
  end if;
end $$;

comment on function crossfade_private.check_change_set is
  'Refuse (CF012) what is no list of changes. The values are checked when they are applied.';

create or replace function crossfade_private.change_switch(change jsonb)
returns void
language plpgsql volatile
set search_path = ''
as $$
declare
  v_name text := change ->> 'name';
  v_fields jsonb := coalesce(change -> 'changes', '{}');
  v_row crossfade.kill_switches;
begin
  -- Never engaged or released by a file: that is what engage and release are for.
  perform crossfade_private.check_changes(v_name, v_fields - 'pair', '{
    "description": "string", "fences": "boolean", "overrides_all": "boolean"}');
  if coalesce(jsonb_typeof(v_fields -> 'pair'), 'null') not in ('string', 'null') then
    perform crossfade_private.fail(
      400, 'CF012', format('Cannot change "%s": pair must be a string or null', v_name),
      jsonb_build_object('field', 'pair', 'value', v_fields -> 'pair'));
  end if;
  select k.* into v_row from crossfade.kill_switches k where k.name = v_name;
  if not found and change ->> 'action' <> 'create' then
    perform crossfade_private.fail(
      404, 'CF003', format('Unknown kill switch "%s"', v_name),
      jsonb_build_object('kill_switch', v_name));
  end if;
  if v_row.engaged then
    perform crossfade_private.fail(
      400, 'CF012', format('Cannot change "%s": it is engaged', v_name),
      jsonb_build_object('kill_switch', v_name), 'Release it first.');
  end if;
  -- An edit of a definition stops nobody, so that it need not wait for writers.
  perform set_config('crossfade.fence', 'not needed', true);
  if change ->> 'action' = 'delete' then
    delete from crossfade.kill_switches k where k.name = v_name;
  elsif v_row.name is null then
    insert into crossfade.kill_switches (name, description, fences, overrides_all, pair)
    values (v_name, coalesce(v_fields ->> 'description', ''),
      coalesce((v_fields ->> 'fences')::boolean, false),
      coalesce((v_fields ->> 'overrides_all')::boolean, false), v_fields ->> 'pair');
  else
    v_row := jsonb_populate_record(v_row, v_fields);
    update crossfade.kill_switches k
    set description = v_row.description, fences = v_row.fences,
      overrides_all = v_row.overrides_all, pair = v_row.pair
    where k.name = v_name;
  end if;
  perform set_config('crossfade.fence', '', true);
end $$;

comment on function crossfade_private.change_switch is
  'Create, change or delete the definition of a kill switch that is not engaged. CF003, CF012.';

create or replace function crossfade_private.raises_flag(flag crossfade.flags, changes jsonb)
returns boolean
language sql stable
set search_path = ''
as $$
  select n.enabled and (
    not flag.enabled
    or coalesce(n.percentage, 0) > coalesce(flag.percentage, 0)
    or n.default_value and not flag.default_value
    or not n.allow_user_ids <@ flag.allow_user_ids
    or not n.allow_agent_ids <@ flag.allow_agent_ids
    or not flag.deny_user_ids <@ n.deny_user_ids
    or not flag.deny_agent_ids <@ n.deny_agent_ids
    or not flag.killed_by <@ n.killed_by
    or not flag.prerequisites <@ n.prerequisites)
  from jsonb_populate_record(flag, changes - 'create') n;
$$;

comment on function crossfade_private.raises_flag is
  'Whether the changes may turn a flag on for somebody who does not have it.';

create or replace function crossfade_private.apply_change(change jsonb, reason text)
returns void
language plpgsql volatile
set search_path = ''
as $$
declare
  v_name text := change ->> 'name';
begin
  if change ->> 'kind' = 'cohort' then
    perform crossfade.set_cohort(v_name, change -> 'changes', reason);
  elsif change ->> 'kind' = 'kill_switch' then
    perform crossfade_private.change_switch(change);
  elsif change ->> 'action' = 'delete' then
    delete from crossfade.flags f where f.name = v_name;
    if not found then
      perform crossfade_private.fail(
        404, 'CF002', format('Unknown flag "%s"', v_name), jsonb_build_object('flag', v_name));
    end if;
  else
    perform crossfade.set_flag(v_name, case change ->> 'action'
      when 'create' then change -> 'changes' || '{"create": true}' else change -> 'changes' end,
      reason);
  end if;
end $$;

comment on function crossfade_private.apply_change is
  'Do one change. CF001 CF002 CF003, and what set_flag and set_cohort raise.';

create or replace function crossfade_private.apply_change_set(changes jsonb, reason text)
returns void
language plpgsql volatile
set search_path = ''
as $$
declare
  v_change jsonb;
begin
  -- Order matters: pairs by name, then the control row. See before_control_change.
  perform crossfade_private.lock_control(false, array(
    select c ->> 'name' from jsonb_array_elements(changes) c where c ->> 'kind' = 'cohort'));
  perform crossfade_private.set_reason(reason);
  for v_change in
    select c.value from jsonb_array_elements(changes) with ordinality c (value, place)
    order by c.place
  loop
    perform crossfade_private.apply_change(v_change, reason);
  end loop;
end $$;

comment on function crossfade_private.apply_change_set is
  'Do all changes in their order, or none.';

-- Now ---------------------------------------------------------------------------------------------

create or replace function crossfade.apply_changes(
  changes jsonb, reason text, expected_version bigint default null
)
returns jsonb
language plpgsql volatile
-- Definer: as set_flag.
security definer
set search_path = ''
as $$
begin
  perform crossfade_private.require_reason(reason, 'apply changes');
  perform crossfade_private.check_change_set(changes);
  perform crossfade_private.lock_control(false, array(
    select c ->> 'name' from jsonb_array_elements(changes) c where c ->> 'kind' = 'cohort'));
  if expected_version <> crossfade.flags_version() then
    perform crossfade_private.fail(
      409, 'CF025',
      format('Cannot apply the changes: flags have changed since version %s', expected_version),
      jsonb_build_object('expected', expected_version, 'found', crossfade.flags_version()),
      'Look at the difference again, then repeat.');
  end if;
  perform crossfade_private.apply_change_set(changes, reason);
  return jsonb_build_object(
    'applied', jsonb_array_length(changes), 'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.apply_changes is
  'Apply a list of {"kind": flag|cohort|kill_switch, "name", "action": create|change|delete, "changes": {field: value}} in one transaction: all or nothing. expected_version: refuse (CF025) when flags have changed since it was read. Kill switches are defined, never engaged or released. Returns {"applied", "flags_version"}. CF007, CF012, and what set_flag and set_cohort raise.';

-- At a time ---------------------------------------------------------------------------------------

create or replace function crossfade.schedule_changes(
  changes jsonb, due_at timestamptz, reason text
)
returns jsonb
language plpgsql volatile
-- Definer: as set_flag.
security definer
set search_path = ''
as $$
declare
  v_row crossfade.scheduled_changes;
begin
  perform crossfade_private.require_reason(reason, 'schedule changes');
  perform crossfade_private.check_change_set(changes);
  if due_at is null or due_at = any ('{infinity,-infinity}'::timestamptz[])
    or due_at < clock_timestamp() - interval '1 minute' then
    perform crossfade_private.fail(
      400, 'CF012', format('Cannot schedule changes for %s: it is over', due_at),
      jsonb_build_object('due_at', due_at, 'now', clock_timestamp()));
  end if;
  insert into crossfade.scheduled_changes (due_at, changes, reason, created_by)
  values (schedule_changes.due_at, schedule_changes.changes, schedule_changes.reason,
    crossfade_private.actor())
  returning * into v_row;
  perform crossfade_private.audit(
    'schedule.create', v_row.id::text, reason, null, to_jsonb(v_row));
  return jsonb_build_object(
    'scheduled', to_jsonb(v_row), 'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.schedule_changes is
  'Apply a change set (see apply_changes) at a time: by the monitor, or by pg_cron after crossfade monitor drive. The values are checked then. Returns {"scheduled": row, "flags_version"}. CF007 no reason, CF012 no change set or a time that is over.';

create or replace function crossfade.cancel_changes(id bigint, reason text)
returns jsonb
language plpgsql volatile
-- Definer: as set_flag.
security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_row crossfade.scheduled_changes;
begin
  perform crossfade_private.require_reason(reason, format('cancel scheduled changes %s', id));
  select s.* into v_row from crossfade.scheduled_changes s
  where s.id = cancel_changes.id for update;
  if not found then
    perform crossfade_private.fail(
      404, 'CF026', format('Unknown scheduled changes %s', cancel_changes.id),
      jsonb_build_object('id', cancel_changes.id), 'See: crossfade flags schedules');
  end if;
  if v_row.state in ('applied', 'refused') then
    perform crossfade_private.fail(
      404, 'CF026', format('Scheduled changes %s are %s already', v_row.id, v_row.state),
      jsonb_build_object('id', v_row.id, 'state', v_row.state));
  end if;
  if v_row.state = 'pending' then
    update crossfade.scheduled_changes s set state = 'cancelled', done_at = clock_timestamp()
    where s.id = v_row.id returning s.* into v_row;
    perform crossfade_private.audit(
      'schedule.cancel', v_row.id::text, reason, null, to_jsonb(v_row));
  end if;
  return jsonb_build_object(
    'scheduled', to_jsonb(v_row), 'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.cancel_changes is
  'Take back scheduled changes; no error when they were cancelled before. CF007, CF026 unknown or done already.';

create or replace function crossfade_private.apply_scheduled(scheduled crossfade.scheduled_changes)
returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
  v_latched text;
  v_code text;
  v_detail text;
  v_message text;
begin
  -- A block of its own: whatever refuses it takes back all of its changes and nothing else.
  begin
    perform crossfade_private.lock_control(false, array(select p.name from crossfade.pairs p));
    select p.name into v_latched from crossfade.pairs p
    where p.latched_at is not null order by p.name limit 1;
    if v_latched is not null and exists (
      select from jsonb_array_elements((scheduled).changes) c
      left join crossfade.flags f on f.name = c ->> 'name'
      where c ->> 'kind' = 'flag' and c ->> 'action' <> 'delete'
        and (f.name is null or crossfade_private.raises_flag(f, c -> 'changes'))) then
      -- Nobody is watching when it acts, and what went wrong may be this very flag.
      perform crossfade_private.fail(
        409, 'CF006',
        format('Cannot raise a flag by schedule: "%s" was rolled back automatically', v_latched),
        jsonb_build_object('pair', v_latched));
    end if;
    perform crossfade_private.apply_change_set(
      (scheduled).changes, format('%s (scheduled by %s)', (scheduled).reason,
        (scheduled).created_by));
  exception when others then
    get stacked diagnostics v_detail = pg_exception_detail, v_message = message_text;
    v_code := coalesce(substring(v_detail from '"code": "(\w+)"'), sqlstate);
    return jsonb_build_object('state', 'refused',
      'outcome', jsonb_build_object('code', v_code, 'message', v_message));
  end;
  return jsonb_build_object('state', 'applied',
    'outcome', jsonb_build_object('flags_version', crossfade.flags_version()));
end $$;

comment on function crossfade_private.apply_scheduled is
  'Apply one scheduled change set: {"state": applied or refused, "outcome"}. Refused (CF006) when it raises a flag while a pair is latched.';

create or replace function crossfade.apply_due_changes()
returns jsonb
language plpgsql volatile
-- Definer: as set_flag.
security definer
set search_path = ''
as $$
declare
  v_row crossfade.scheduled_changes;
  v_done jsonb;
  v_all jsonb := '[]'::jsonb;
begin
  for v_row in
    -- Exactly once: the row stays locked until its new state is committed with what it did.
    select s.* from crossfade.scheduled_changes s
    where s.state = 'pending' and s.due_at <= clock_timestamp()
    order by s.due_at, s.id
    for update skip locked
  loop
    v_done := crossfade_private.apply_scheduled(v_row);
    update crossfade.scheduled_changes s
    set state = v_done ->> 'state', outcome = v_done -> 'outcome', done_at = clock_timestamp()
    where s.id = v_row.id
    returning s.* into v_row;
    perform crossfade_private.audit(
      'schedule.' || v_row.state, v_row.id::text, v_row.reason, null, to_jsonb(v_row));
    v_all := v_all || to_jsonb(v_row);
  end loop;
  return jsonb_build_object('done', v_all, 'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.apply_due_changes is
  'Apply the change sets whose time has come, each all or nothing and exactly once however many callers there are; one that is refused is marked so and not tried again. Returns {"done": [row], "flags_version"}. What the monitor and the pg_cron job call.';
