-- Operators: people who sign in with Supabase Auth, and what their role lets them do. The secret
-- key stays above them: it is for CI, edge functions and the first admin.

create table if not exists crossfade.operators (
  user_id text primary key,
  email text,
  role text not null,
  added_at timestamptz not null default clock_timestamp(),
  added_by text not null default 'crossfade',
  updated_at timestamptz not null default clock_timestamp(),
  updated_by text not null default 'crossfade',
  constraint user_id_is_short_and_visible check (user_id ~ '^[^[:space:][:cntrl:]]{1,200}$'),
  constraint role_is_known check (role in ('viewer', 'operator', 'admin'))
);

create unique index if not exists operators_email_idx on crossfade.operators (lower(email));

comment on table crossfade.operators is
  'Who may operate crossfade with a sign-in of their own. Read at every request, so that a removal acts at once. Changed by functions only.';
comment on column crossfade.operators.user_id is
  'Claim sub of the access token. Text, because a third-party sign-in need not use UUIDs; no foreign key, because of that and because auth may be absent.';
comment on column crossfade.operators.email is
  'The address when they were added; audit rows show it. Null when they were added by id and Auth does not know them.';

-- Who asks ----------------------------------------------------------------------------------------

create or replace function crossfade_private.is_api_user()
returns boolean
language sql stable
set search_path = ''
as $$
  -- The role is what the Data API has set after it has checked the token, also inside SECURITY
  -- DEFINER. Claims with another role than service_role are a user's, whatever the role is called.
  select case coalesce(current_setting('role', true), 'none')
    when 'service_role' then false
    when 'anon' then true
    when 'authenticated' then true
    else coalesce(current_setting('request.jwt.claims', true), '') <> ''
  end;
$$;

comment on function crossfade_private.is_api_user is
  'True for a request of the Data API that did not come with the secret key: its rights are those of an operator, if it is one.';

create or replace function crossfade_private.operator_role()
returns text
language plpgsql stable
-- Definer: policies call it for users who may not read the table they ask about.
security definer
set search_path = ''
as $$
begin
  if coalesce(current_setting('role', true), 'none') <> 'authenticated' then
    return null;
  end if;
  -- sub alone is taken from the token: every other claim, role and user_metadata among them, may
  -- hold what the user has chosen.
  return (
    select o.role from crossfade.operators o where o.user_id = crossfade_private.actor_id());
end $$;

comment on function crossfade_private.operator_role is
  'viewer, operator or admin for a signed-in operator; null for everybody else, the secret key too.';

create or replace function crossfade_private.has_role(role text)
returns boolean
language sql stable
-- Definer: as operator_role, which nobody else may call.
security definer
set search_path = ''
as $$
  select coalesce(
    array_position('{viewer,operator,admin}'::text[], crossfade_private.operator_role())
      >= array_position('{viewer,operator,admin}'::text[], has_role.role), false);
$$;

comment on function crossfade_private.has_role is
  'Whether a signed-in operator asks whose role is this one or a higher one. What the policies use.';

create or replace function crossfade_private.require_role(role text, action text)
returns void
language plpgsql stable
set search_path = ''
as $$
begin
  if not crossfade_private.is_api_user() or crossfade_private.has_role(role) then
    return;
  end if;
  perform crossfade_private.fail(
    403, 'CF020',
    case when crossfade_private.operator_role() is null
      then format('Cannot %s: %s is no operator of this project', action, crossfade_private.actor())
      else format('Cannot %s: %s is %s, and it needs %s', action, crossfade_private.actor(),
        crossfade_private.operator_role(), role)
    end,
    jsonb_build_object('needed', role, 'role', crossfade_private.operator_role()),
    case when crossfade_private.operator_role() is null
      then 'An admin can run: crossfade operator add EMAIL --role ' || role
      else 'An admin can run: crossfade operator set-role EMAIL ' || role
    end);
end $$;

comment on function crossfade_private.require_role is
  'Refuse (CF020) a signed-in user whose role is below viewer, operator or admin; let the secret key and direct connections pass. action completes the sentence "Cannot ...".';

-- The one door of operators -----------------------------------------------------------------------

create or replace function crossfade_private.operate(rpc text, params jsonb)
returns jsonb
language plpgsql volatile
-- Definer: operators hold no right on any other function. Not in the exposed schema, so that
-- crossfade.operate is the only way in.
security definer
set search_path = ''
as $$
declare
  v_role text;
  v_columns text;
  v_arguments text;
  v_unknown text;
  v_answer jsonb;
begin
  select r.role into v_role from crossfade_private.rights() r where r.rpc = operate.rpc;
  perform crossfade_private.require_role(coalesce(v_role, 'viewer'), format('call "%s"', rpc));
  if v_role is null or jsonb_typeof(coalesce(params, '{}')) <> 'object' then
    perform crossfade_private.fail(
      case when v_role is null then 403 else 400 end,
      case when v_role is null then 'CF020' else 'CF012' end,
      case when v_role is null then format('Cannot call "%s" as an operator', rpc)
        else format('Cannot call "%s": params must be a JSON object', rpc) end,
      jsonb_build_object('rpc', rpc),
      case when v_role is null then 'It needs the secret key of the project.' else '' end);
  end if;
  -- As the Data API does it: the arguments that are given, by name, converted from JSON.
  select
    string_agg(format('%I %s', a.name, pg_catalog.format_type(a.kind, null)), ', ')
      filter (where params ? a.name),
    string_agg(format('%I => cf_given.%I', a.name, a.name), ', ') filter (where params ? a.name)
  into v_columns, v_arguments
  from pg_catalog.pg_proc p
  cross join lateral unnest(p.proargnames, p.proargtypes::oid[]) as a (name, kind)
  where p.pronamespace = 'crossfade'::regnamespace and p.proname = operate.rpc;
  select string_agg(k.name, ', ') into v_unknown
  from jsonb_object_keys(coalesce(params, '{}')) k (name)
  where not exists (
    select from pg_catalog.pg_proc p
    where p.pronamespace = 'crossfade'::regnamespace and p.proname = operate.rpc
      and k.name = any (p.proargnames));
  if v_unknown is not null then
    perform crossfade_private.fail(
      400, 'CF012', format('Cannot call "%s": it has no parameter %s', rpc, v_unknown),
      jsonb_build_object('rpc', rpc, 'params', params));
  end if;
  execute format('select to_jsonb(crossfade.%I(%s))%s', rpc, coalesce(v_arguments, ''),
    coalesce(' from jsonb_to_record($1) as cf_given (' || v_columns || ')', ''))
  into v_answer using params;
  return v_answer;
end $$;

comment on function crossfade_private.operate is
  'What crossfade.operate does, with the rights of its owner.';

-- Standard SQL body: names are bound here, so that callers need no USAGE on crossfade_private.
create or replace function crossfade.operate(rpc text, params jsonb default '{}')
returns jsonb
language sql volatile
set search_path = ''
begin atomic
select crossfade_private.operate(rpc, params);
end;

comment on function crossfade.operate is
  'Call an RPC as a signed-in operator: params holds its parameters by name, the answer is its answer. The role it needs stands in crossfade_private.rights(). CF020 no operator, role too low, or an RPC that needs the secret key; CF012 unknown parameter; else what the RPC raises.';

create or replace function crossfade.whoami()
returns jsonb
language plpgsql stable
-- Definer: API roles hold no right on crossfade_private.
security definer
set search_path = ''
as $$
begin
  return jsonb_build_object(
    'actor', crossfade_private.actor(), 'user_id', crossfade_private.actor_id(),
    'role', crossfade_private.operator_role(), 'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.whoami is
  'Who asks: {"actor", "user_id", "role": viewer, operator or admin, "flags_version"}; user_id and role are null with the secret key.';
