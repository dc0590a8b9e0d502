-- A worked example: the tools of an agent move from the legacy definition (V1) to one with a JSON
-- Schema (V2). What it shows: renamed keys, JSON that nests to any depth, a fact that lives in
-- another place (required of each parameter against one list beside them), and values that have no
-- regular counterpart. Apply it after crossfade's migrations; applying it again is harmless.
--
--   V1  {"city": {"type": "string", "required": true}, "days": {"type": "float"}}
--   V2  {"type": "object", "required": ["city"], "properties": {
--         "city": {"type": "string"}, "days": {"type": "number", "x-legacy-type": "float"}}}
--
-- V2 can hold everything that V1 holds, so V1 is a view of it: to_v1 reads the V2 row alone, and
-- to_v2 keeps of the stored V2 row every part whose view is unchanged and rebuilds the others.

create table if not exists public.agent_tools (
  id uuid primary key default gen_random_uuid(),
  user_id uuid default auth.uid(),
  name text not null,
  description text,
  parameters jsonb not null default '{}',
  enabled boolean not null default true,
  created_at timestamptz not null default now(),
  constraint parameters_is_an_object check (jsonb_typeof(parameters) = 'object')
);

create index if not exists agent_tools_user_id_idx on public.agent_tools (user_id);

comment on table public.agent_tools is 'V1 tools: parameters maps each name to {type, description, required, enum, default, ...}.';

create table if not exists public.agent_tools_v2 (
  id uuid primary key default gen_random_uuid(),
  owner_id uuid default auth.uid(),
  name text not null,
  title text,
  description text,
  input_schema jsonb not null default '{"type": "object", "properties": {}}',
  output_schema jsonb,
  strict boolean,
  annotations jsonb not null default '{}',
  is_enabled boolean not null default true,
  created_at timestamptz not null default now(),
  constraint input_schema_is_an_object check (jsonb_typeof(input_schema) = 'object'),
  constraint annotations_is_an_object check (jsonb_typeof(annotations) = 'object')
);

create index if not exists agent_tools_v2_owner_id_idx on public.agent_tools_v2 (owner_id);

comment on table public.agent_tools_v2 is 'V2 tools: input_schema is a JSON Schema object; x-legacy-* keys in it keep what V1 wrote.';
comment on column public.agent_tools_v2.strict is 'Null when the tool does not say; providers treat that and false differently.';

-- Parameters and schemas --------------------------------------------------------------------------

create schema if not exists agent_tools_private;

comment on schema agent_tools_private is 'Helpers of the agent_tools converters; not for the Data API.';

create or replace function agent_tools_private.schema_type(legacy text)
returns text
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
  -- Types of older tool formats that JSON Schema does not have; '' stands for any type. The same
  -- list in TypeScript: supabase/functions/chat/adapters/tools/schema.ts (tests/vectors).
  select case
    when legacy in ('object', 'array', 'string', 'number', 'integer', 'boolean', 'null') then null
    when legacy in ('dict', 'Dict', 'HashMap', 'Object') then 'object'
    when legacy in ('list', 'List', 'tuple', 'Array', 'ArrayList') then 'array'
    when legacy in ('str', 'String', 'char') then 'string'
    when legacy in ('int', 'long', 'Integer') then 'integer'
    when legacy in ('float', 'double', 'Number') then 'number'
    when legacy in ('bool', 'Boolean') then 'boolean'
    else ''
  end
$$;

comment on function agent_tools_private.schema_type is 'The JSON Schema type for a legacy one: null when it needs no change, empty when the schema must not name a type.';

create or replace function agent_tools_private.required_names(schema jsonb)
returns text[]
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_agg(e.value #>> '{}' order by e.ordinality), '{}')
  from jsonb_array_elements(
    case jsonb_typeof(schema -> 'required') when 'array' then schema -> 'required' else '[]' end
  ) with ordinality e
  where jsonb_typeof(e.value) = 'string'
$$;

comment on function agent_tools_private.required_names is 'The names in a schema''s list of required properties; anything else in its place is none.';

create or replace function agent_tools_private.parameters_of(schema jsonb, depth integer default 1)
returns jsonb
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
  v_required text[] := agent_tools_private.required_names(schema);
  v_parameters jsonb := '{}'::jsonb;
  v_property record;
  v_shown jsonb;
begin
  if jsonb_typeof(schema -> 'properties') is distinct from 'object' then
    return v_parameters;
  end if;
  for v_property in select p.key, p.value from jsonb_each(schema -> 'properties') p loop
    v_shown := v_property.value;
    if v_shown ? 'x-legacy' and jsonb_typeof(v_shown) = 'object' then
      v_shown := v_shown -> 'x-legacy';
    elsif jsonb_typeof(v_shown) = 'object' then
      v_shown := v_shown - 'required' - 'x-legacy-type' - 'x-legacy-required';
      if v_property.value ? 'x-legacy-type' then
        v_shown := v_shown || jsonb_build_object('type', v_property.value -> 'x-legacy-type');
      end if;
      if v_property.key = any (v_required) then
        v_shown := v_shown || '{"required": true}';
      elsif v_property.value ? 'x-legacy-required' then
        v_shown := v_shown
          || jsonb_build_object('required', v_property.value -> 'x-legacy-required');
      end if;
      if depth < 16 and jsonb_typeof(v_shown -> 'properties') = 'object' then
        v_shown := v_shown || jsonb_build_object('properties',
          agent_tools_private.parameters_of(v_property.value, depth + 1));
      end if;
    end if;
    v_parameters := v_parameters || jsonb_build_object(v_property.key, v_shown);
  end loop;
  return v_parameters;
end $$;

comment on function agent_tools_private.parameters_of is 'The V1 parameters that show a schema. Below 16 levels JSON is shown as it is, so that no input can exhaust the stack.';

create or replace function agent_tools_private.put_parameter(
  parameter jsonb, old_property jsonb, depth integer
)
returns jsonb
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
  v_property jsonb;
  v_type text;
begin
  -- Whatever would not read back as it is now is kept whole.
  if jsonb_typeof(parameter) <> 'object'
    or parameter ?| array['x-legacy', 'x-legacy-type', 'x-legacy-required'] then
    return jsonb_build_object('x-legacy', parameter);
  end if;
  v_property := parameter - 'required';
  if jsonb_typeof(parameter -> 'type') = 'string' then
    v_type := agent_tools_private.schema_type(parameter ->> 'type');
  end if;
  if v_type is not null then
    v_property := v_property - 'type' || jsonb_build_object('x-legacy-type', parameter -> 'type')
      || case v_type when '' then '{}' else jsonb_build_object('type', v_type) end;
  end if;
  if parameter ? 'required' and parameter -> 'required' <> 'true' then
    v_property := v_property || jsonb_build_object('x-legacy-required', parameter -> 'required');
  end if;
  if depth < 16 and jsonb_typeof(parameter -> 'properties') = 'object' then
    v_property := v_property || agent_tools_private.put_parameters(parameter -> 'properties',
      case jsonb_typeof(old_property) when 'object' then old_property end, depth + 1);
  end if;
  return v_property;
end $$;

comment on function agent_tools_private.put_parameter is 'The property for one V1 parameter; old_property only for what V1 cannot show inside a nested object.';

create or replace function agent_tools_private.put_parameters(
  parameters jsonb, old_schema jsonb, depth integer default 1
)
returns jsonb
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
  v_shown jsonb := agent_tools_private.parameters_of(coalesce(old_schema, '{}'), depth);
  v_properties jsonb := '{}'::jsonb;
  v_required text[] := agent_tools_private.required_names(coalesce(old_schema, '{}'));
  v_item record;
begin
  for v_item in select p.key, p.value from jsonb_each(parameters) p loop
    if v_shown -> v_item.key = v_item.value then
      v_properties := v_properties
        || jsonb_build_object(v_item.key, old_schema -> 'properties' -> v_item.key);
      continue;
    end if;
    v_properties := v_properties || jsonb_build_object(v_item.key,
      agent_tools_private.put_parameter(v_item.value, old_schema -> 'properties' -> v_item.key,
        depth));
    if not v_properties -> v_item.key ? 'x-legacy' and v_item.value -> 'required' = 'true' then
      v_required := case when v_item.key = any (v_required) then v_required
        else v_required || v_item.key end;
    else
      v_required := array_remove(v_required, v_item.key);
    end if;
  end loop;
  -- A parameter that V1 no longer has is gone from the list as well; a name that never had a
  -- property was invisible to V1 and stays.
  select coalesce(array_agg(r.name order by r.n), '{}') into v_required
  from unnest(v_required) with ordinality r(name, n)
  where v_properties ? r.name or not v_shown ? r.name;
  return jsonb_build_object('properties', v_properties)
    || case v_required when '{}' then '{}'
      else jsonb_build_object('required', to_jsonb(v_required)) end;
end $$;

comment on function agent_tools_private.put_parameters is 'properties and required of the schema for V1 parameters; unchanged ones keep the stored property.';

create or replace function agent_tools_private.put_schema(parameters jsonb, old_schema jsonb)
returns jsonb
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  if old_schema is null then
    return '{"type": "object"}' || agent_tools_private.put_parameters(parameters, null);
  end if;
  if agent_tools_private.parameters_of(old_schema) = parameters then
    return old_schema;
  end if;
  -- Order matters: the new list of required names replaces the old one, also when it is empty.
  return old_schema - 'required' || agent_tools_private.put_parameters(parameters, old_schema);
end $$;

comment on function agent_tools_private.put_schema is 'The stored schema (or null) with V1 parameters put into it; keys beside properties and required stay.';

-- Converters --------------------------------------------------------------------------------------

-- sqruff does not know that parameters are no tables.
-- noqa: disable=RF01

-- Standard SQL bodies (begin atomic): PostgreSQL binds every name in them when they are made, so no
-- search_path can change what they mean. The search_path is their only setting: the advisors
-- ask for it (lint 0011), and the engine then puts their text into its statements.

create or replace function public.agent_tools_to_v2(
  new_v1 public.agent_tools, old_v2 public.agent_tools_v2
)
returns setof public.agent_tools_v2
language sql stable parallel safe
set search_path = pg_catalog, pg_temp
begin atomic
  select
    new_v1.id, new_v1.user_id, new_v1.name, old_v2.title, new_v1.description,
    agent_tools_private.put_schema(new_v1.parameters, old_v2.input_schema),
    old_v2.output_schema, old_v2.strict, coalesce(old_v2.annotations, '{}'), new_v1.enabled,
    new_v1.created_at;
end;

comment on function public.agent_tools_to_v2 is 'The V2 row for a V1 tool; what V1 cannot show comes from the stored V2 row. Never raises.';

create or replace function public.agent_tools_to_v1(
  new_v2 public.agent_tools_v2, old_v1 public.agent_tools
)
returns setof public.agent_tools
language sql stable parallel safe
set search_path = pg_catalog, pg_temp
begin atomic
  select
    new_v2.id, new_v2.owner_id, new_v2.name, new_v2.description,
    agent_tools_private.parameters_of(new_v2.input_schema), new_v2.is_enabled, new_v2.created_at;
end;

comment on function public.agent_tools_to_v1 is 'The V1 row that shows a V2 tool. Never raises.';

-- noqa: enable=RF01

-- Rights: the same rows are visible in both formats -----------------------------------------------

alter table public.agent_tools enable row level security;
alter table public.agent_tools_v2 enable row level security;

drop policy if exists "Users see and write their own tools" on public.agent_tools;
create policy "Users see and write their own tools" on public.agent_tools to authenticated
using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));

drop policy if exists "Users see and write their own tools" on public.agent_tools_v2;
create policy "Users see and write their own tools" on public.agent_tools_v2 to authenticated
using (owner_id = (select auth.uid())) with check (owner_id = (select auth.uid()));

revoke all on public.agent_tools, public.agent_tools_v2 from anon, authenticated, service_role;
grant select, insert, update, delete on public.agent_tools, public.agent_tools_v2
to authenticated, service_role;
revoke all on schema agent_tools_private from public;
grant usage on schema agent_tools_private to service_role;
revoke execute on all functions in schema agent_tools_private from public, anon, authenticated;
grant execute on all functions in schema agent_tools_private to service_role;
revoke execute on function public.agent_tools_to_v2, public.agent_tools_to_v1
from public, anon, authenticated;
grant execute on function public.agent_tools_to_v2, public.agent_tools_to_v1 to service_role;

select crossfade.register_pair('agent_tools', 'public.agent_tools', 'public.agent_tools_v2',
  'public.agent_tools_to_v2', 'public.agent_tools_to_v1');
