-- Change sets: several changes of flags, cohorts and kill switches as one transaction.

create or replace function crossfade_private.check_change_set(changes jsonb)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
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
set search_path = pg_catalog, pg_temp
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

create or replace function crossfade_private.apply_change(change jsonb, reason text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
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
set search_path = pg_catalog, pg_temp
as $$
declare
  v_change jsonb;
begin
  -- Order matters: pairs by name, then the control row. See before_control_change.
  perform crossfade_private.lock_control(false, array(
    select c ->> 'name' from jsonb_array_elements(changes) c where c ->> 'kind' = 'cohort'));
  perform crossfade_private.set_reason(reason);
  set constraints crossfade.crossfade_refuse_bad deferred;
  for v_change in
    select c.value from jsonb_array_elements(changes) with ordinality c (value, place)
    order by c.place
  loop
    perform crossfade_private.apply_change(v_change, reason);
  end loop;
  set constraints crossfade.crossfade_refuse_bad immediate;
end $$;

comment on function crossfade_private.apply_change_set is
  'Do all changes in their order, or none. Prerequisites are judged after the last one.';

create or replace function crossfade.apply_changes(
  changes jsonb, reason text, expected_version bigint default null
)
returns jsonb
language plpgsql volatile
-- Definer: as set_flag.
security definer
set search_path = pg_catalog, pg_temp
set jit = off
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
