-- Reading and changing settings.

create or replace function crossfade_private.setting(name text)
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_value jsonb;
begin
  select s.value into v_value from crossfade.settings s where s.name = setting.name;
  if not found then
    perform crossfade_private.fail(
      404, 'CF015', format('Setting "%s" does not exist', setting.name),
      jsonb_build_object('setting', setting.name));
  end if;
  return v_value;
end $$;

comment on function crossfade_private.setting is
  'Value of a setting as JSON. CF015 when there is no such setting.';

create or replace function crossfade_private.setting_text(name text)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select crossfade_private.setting(setting_text.name) #>> '{}';
$$;

comment on function crossfade_private.setting_text is
  'Value of a setting as text (a JSON string without its quotes). CF015.';

create or replace function crossfade_private.setting_number(name text)
returns numeric
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select crossfade_private.setting_text(setting_number.name)::numeric;
$$;

comment on function crossfade_private.setting_number is
  'Value of a numeric setting. CF015; 22P02 when it is not a number.';

create or replace function crossfade_private.parse_setting(name text, kind text, value text)
returns jsonb
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_value jsonb;
begin
  v_value := case kind when 'string' then to_jsonb(value) else value::jsonb end;
  if jsonb_typeof(v_value) is distinct from kind then
    raise invalid_text_representation;
  end if;
  return v_value;
exception when invalid_text_representation then
  perform crossfade_private.fail(
    400, 'CF012', format('Cannot set "%s": %L is not a JSON %s', name, value, kind),
    jsonb_build_object('setting', name, 'value', value, 'expected', kind));
end $$;

comment on function crossfade_private.parse_setting is
  'Text to JSON of the given jsonb_typeof, which a setting keeps for ever. CF012.';

create or replace function crossfade.set_setting(name text, value text, reason text)
returns jsonb
language plpgsql volatile
-- Definer: API roles hold no right on crossfade_private and on crossfade.audit.
security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_row crossfade.settings;
begin
  perform crossfade_private.require_reason(reason, format('set "%s"', set_setting.name));
  perform crossfade_private.setting(set_setting.name);
  update crossfade.settings s
  set value = crossfade_private.parse_setting(s.name, jsonb_typeof(s.value), set_setting.value)
  where s.name = set_setting.name
  returning s.* into v_row;
  return jsonb_build_object('setting', to_jsonb(v_row), 'flags_version', crossfade.flags_version());
exception when check_violation then
  perform crossfade_private.fail(
    400, 'CF012',
    format('Cannot set "%s": %s is outside its limits', set_setting.name, set_setting.value),
    (
      select jsonb_build_object(
        'setting', s.name, 'value', set_setting.value, 'minimum', s.minimum, 'maximum', s.maximum)
      from crossfade.settings s where s.name = set_setting.name
    ));
end $$;

comment on function crossfade.set_setting is
  'Change one setting. value is text: a number, true or false, a JSON array or object, or a plain string, of the type the setting has. Returns {"setting": row, "flags_version"}. CF007 no reason, CF012 wrong type or outside the limits, CF015 unknown.';

create or replace trigger crossfade_before_lock
before insert or update or delete on crossfade.settings
for each statement execute function crossfade_private.before_control_change();

create or replace trigger crossfade_before_stamp
before update on crossfade.settings
for each row execute function crossfade_private.stamp_row();

create or replace trigger crossfade_after_change
after insert or update or delete on crossfade.settings
for each row execute function crossfade_private.on_control_change();
