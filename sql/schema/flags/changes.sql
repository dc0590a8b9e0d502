-- Changing a flag.

create or replace function crossfade_private.check_percentage(value jsonb)
returns numeric
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_percentage numeric;
begin
  if jsonb_typeof(value) in ('number', 'string')
    and (value #>> '{}') ~ '^[0-9]{1,3}([.][0-9]{1,20})?$' then
    v_percentage := (value #>> '{}')::numeric;
  end if;
  if v_percentage is null or v_percentage > 100 or scale(trim_scale(v_percentage)) > 3 then
    perform crossfade_private.fail(
      400, 'CF004',
      format('Percentage %s is not a number from 0 to 100 with at most three decimals', value),
      jsonb_build_object('percentage', value));
  end if;
  return v_percentage;
end $$;

comment on function crossfade_private.check_percentage is
  'A JSON number or numeric string from 0 to 100 with at most three decimals, as numeric. Never rounds. CF004.';

create or replace function crossfade_private.check_changes(object text, changes jsonb, kinds jsonb)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_bad record;
begin
  if jsonb_typeof(changes) is distinct from 'object' then
    perform crossfade_private.fail(
      400, 'CF012', format('Cannot change "%s": changes must be a JSON object', object),
      jsonb_build_object('changes', changes));
  end if;
  select c.key, c.value, k.value #>> '{}' as kind into v_bad
  from jsonb_each(changes) c
  left join jsonb_each(kinds) k on k.key = c.key
  where k.value is null or not case k.value #>> '{}'
    -- Lists hold ids, which are text everywhere: a number would be a second spelling of an id.
    when 'list' then jsonb_typeof(c.value) = 'array'
      and not jsonb_path_exists(c.value, 'strict $[*] ? (@.type() != "string")', silent => true)
    when 'percentage' then true
    when 'percentage or null' then true
    else jsonb_typeof(c.value) = k.value #>> '{}'
  end
  order by c.key
  limit 1;
  if found then
    perform crossfade_private.fail(
      400, 'CF012',
      case when v_bad.kind is null
        then format('Cannot change "%s": there is no field "%s"', object, v_bad.key)
        else format('Cannot change "%s": %s must be a %s and not %s', object, v_bad.key,
          case v_bad.kind when 'list' then 'list of strings' else v_bad.kind end,
          left(v_bad.value::text, 100))
      end,
      jsonb_build_object('field', v_bad.key, 'value', v_bad.value,
        'fields', (select jsonb_agg(k order by k) from jsonb_object_keys(kinds) k)));
  end if;
  if changes ? 'percentage'
    and not (
      changes -> 'percentage' = 'null' and kinds ->> 'percentage' = 'percentage or null') then
    perform crossfade_private.check_percentage(changes -> 'percentage');
  end if;
end $$;

comment on function crossfade_private.check_changes is
  'Refuse changes that are not an object, name an unknown field or hold a value of the wrong type (CF012), or a bad percentage (CF004). kinds: field -> boolean, string, list (of strings), percentage, "percentage or null".';

create or replace function crossfade.set_flag(name text, changes jsonb, reason text)
returns jsonb
language plpgsql volatile
-- Definer: API roles hold no right on crossfade_private and on crossfade.audit.
security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
#variable_conflict use_column
declare
  v_row crossfade.flags;
  v_found boolean;
begin
  perform crossfade_private.require_reason(
    set_flag.reason, format('change flag "%s"', set_flag.name));
  perform crossfade_private.check_changes(set_flag.name, changes, '{
    "create": "boolean", "description": "string", "enabled": "boolean", "default_value": "boolean",
    "percentage": "percentage or null", "cohort_key": "string", "allow_user_ids": "list",
    "allow_agent_ids": "list", "deny_user_ids": "list", "deny_agent_ids": "list",
    "prerequisites": "list", "killed_by": "list"}');
  -- Order matters: see before_control_change.
  perform 1 from crossfade.control c for update;
  select f.* into v_row from crossfade.flags f where f.name = set_flag.name;
  v_found := found;
  if not v_found and not coalesce((changes ->> 'create')::boolean, false) then
    perform crossfade_private.fail(
      404, 'CF002', format('Unknown flag "%s"', set_flag.name),
      jsonb_build_object('flag', set_flag.name,
        'known', (select coalesce(jsonb_agg(f.name order by f.name), '[]') from crossfade.flags f)),
      'To add a flag, send "create": true.');
  end if;
  if not v_found then
    insert into crossfade.flags (name, cohort_key)
    values (set_flag.name, coalesce(changes ->> 'cohort_key', set_flag.name))
    returning * into v_row;
  end if;
  v_row := jsonb_populate_record(v_row, changes - 'create');
  update crossfade.flags f
  set description = v_row.description, enabled = v_row.enabled, percentage = v_row.percentage,
    default_value = v_row.default_value, cohort_key = v_row.cohort_key,
    allow_user_ids = v_row.allow_user_ids, allow_agent_ids = v_row.allow_agent_ids,
    deny_user_ids = v_row.deny_user_ids, deny_agent_ids = v_row.deny_agent_ids,
    prerequisites = v_row.prerequisites, killed_by = v_row.killed_by
  where f.name = set_flag.name
  returning f.* into v_row;
  return jsonb_build_object('flag', to_jsonb(v_row), 'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.set_flag is
  'Change the fields named in changes; the others stay. {"create": true} adds a flag that does not exist. Returns {"flag": row, "flags_version"}; a change that changes nothing raises no version. CF002 unknown flag, CF004 percentage, CF007 no reason, CF012 unknown field, wrong type, a name that OFREP cannot reach, or a prerequisite that is the flag itself, unknown, circular or nested.';

create or replace trigger crossfade_before_lock
before insert or update or delete on crossfade.flags
for each statement execute function crossfade_private.before_control_change();

create or replace trigger crossfade_before_stamp
before insert or update on crossfade.flags
for each row execute function crossfade_private.stamp_row();

create or replace trigger crossfade_after_change
after insert or update or delete on crossfade.flags
for each row execute function crossfade_private.on_control_change();
