-- Who asks, and what the role of an operator allows.

create or replace function crossfade_private.is_api_user()
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
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
set search_path = pg_catalog, pg_temp
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
set search_path = pg_catalog, pg_temp
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
set search_path = pg_catalog, pg_temp
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
