-- Adding and removing operators.

create or replace function crossfade_private.check_operator_role(role text)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if role is null or role not in ('viewer', 'operator', 'admin') then
    perform crossfade_private.fail(
      400, 'CF012', format('Unknown role "%s"', role), jsonb_build_object('role', role),
      'Use viewer, operator or admin.');
  end if;
end $$;

comment on function crossfade_private.check_operator_role is 'Refuse an unknown role (CF012).';

create or replace function crossfade_private.find_operator(who text)
returns crossfade.operators
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row crossfade.operators;
begin
  select o.* into v_row from crossfade.operators o
  where o.user_id = who or lower(o.email) = lower(who)
  order by o.user_id = who desc limit 1;
  if not found then
    perform crossfade_private.fail(
      404, 'CF021', format('No operator "%s"', who), jsonb_build_object('operator', who),
      'See: crossfade operator list');
  end if;
  return v_row;
end $$;

comment on function crossfade_private.find_operator is
  'The operator with this user id or email address, case ignored. CF021.';

create or replace function crossfade_private.find_user(who text)
returns table (user_id text, email text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_confirmed boolean;
begin
  email := null;
  -- By id also when Auth does not know it: a third-party sign-in has no row there.
  user_id := case when position('@' in who) = 0 then who end;
  if to_regclass('auth.users') is not null then
    execute 'select u.id::text, u.email::text, u.email_confirmed_at is not null from auth.users u'
      ' where u.id::text = $1 or lower(u.email) = lower($1)'
      ' order by u.id::text = $1 desc, u.email_confirmed_at is not null desc limit 1'
    into user_id, email, v_confirmed using who;
    user_id := coalesce(user_id, case when position('@' in who) = 0 then who end);
  end if;
  if user_id is null then
    perform crossfade_private.fail(
      404, 'CF021', format('Nobody has signed up as "%s"', who),
      jsonb_build_object('operator', who),
      'Add the user first (Authentication, Users), or give the user id.');
  end if;
  -- Anybody may sign up with an address that is not theirs; only its owner can confirm it.
  if not v_confirmed and position('@' in who) > 0 then
    perform crossfade_private.fail(
      404, 'CF021', format('The address "%s" is not confirmed', who),
      jsonb_build_object('operator', who),
      'Let its owner open the confirmation mail, or give the user id.');
  end if;
  return next;
end $$;

comment on function crossfade_private.find_user is
  'Who is meant by an email address or a user id, one row. CF021 when nobody signed up with the address or it is not confirmed.';

create or replace function crossfade.add_operator(who text, role text, reason text)
returns jsonb
language plpgsql volatile
-- Definer: operators are changed by functions only.
security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_user record;
  v_row crossfade.operators;
  v_changed boolean;
begin
  perform crossfade_private.require_reason(reason, format('add operator "%s"', who));
  perform crossfade_private.check_operator_role(add_operator.role);
  select * into v_user from crossfade_private.find_user(who);
  insert into crossfade.operators (user_id, email, role)
  values (v_user.user_id, v_user.email, add_operator.role)
  on conflict on constraint operators_pkey do nothing;
  v_changed := found;
  select o.* into v_row from crossfade.operators o where o.user_id = v_user.user_id;
  if v_row.role <> add_operator.role then
    perform crossfade_private.fail(
      400, 'CF012', format('Cannot add "%s": it is %s already', who, v_row.role),
      jsonb_build_object('operator', who, 'role', v_row.role),
      format('Run: crossfade operator set-role %s %s', who, add_operator.role));
  end if;
  return jsonb_build_object('operator', to_jsonb(v_row), 'changed', v_changed);
exception when unique_violation then
  -- The user was deleted in Auth and has signed up again: a new id with the same address.
  perform crossfade_private.fail(
    400, 'CF012', format('Cannot add "%s": another user id has that address', who),
    jsonb_build_object('operator', who),
    format('Run first: crossfade operator remove %s', who));
  return null;
end $$;

comment on function crossfade.add_operator is
  'Let a user of Supabase Auth operate. who: email address or user id. Returns {"operator": row, "changed": false when it was so already}. CF007 no reason, CF012 unknown role or another role, CF021 unknown user.';

create or replace function crossfade.set_operator_role(who text, role text, reason text)
returns jsonb
language plpgsql volatile
-- Definer: as add_operator.
security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_row crossfade.operators;
  v_changed boolean;
begin
  perform crossfade_private.require_reason(reason, format('change the role of "%s"', who));
  perform crossfade_private.check_operator_role(set_operator_role.role);
  v_row := crossfade_private.find_operator(who);
  update crossfade.operators o set role = set_operator_role.role
  where o.user_id = v_row.user_id and o.role <> set_operator_role.role
  returning o.* into v_row;
  v_changed := found;
  if not v_changed then
    v_row := crossfade_private.find_operator(who);
  end if;
  return jsonb_build_object('operator', to_jsonb(v_row), 'changed', v_changed);
end $$;

comment on function crossfade.set_operator_role is
  'Change the role of an operator, from the next request on. Returns {"operator": row, "changed"}. CF007, CF012 unknown role, CF021 no such operator, CF022 the last admin.';

create or replace function crossfade.remove_operator(who text, reason text)
returns jsonb
language plpgsql volatile
-- Definer: as add_operator.
security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_row crossfade.operators;
begin
  perform crossfade_private.require_reason(reason, format('remove operator "%s"', who));
  v_row := crossfade_private.find_operator(who);
  delete from crossfade.operators o where o.user_id = v_row.user_id;
  return jsonb_build_object('operator', to_jsonb(v_row));
end $$;

comment on function crossfade.remove_operator is
  'Take all rights from an operator, from the next request on; the user of Supabase Auth stays. CF007, CF021 no such operator, CF022 the last admin.';
