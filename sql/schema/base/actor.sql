-- Who acts. Before the tables, because their defaults call it.

create or replace function crossfade_private.actor_id()
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return nullif(nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub', '');
exception when invalid_text_representation then
  return null;
end $$;

comment on function crossfade_private.actor_id is
  'User id (claim sub) of the signed-in person; null when nobody is signed in.';

create or replace function crossfade_private.actor()
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_role text := coalesce(nullif(current_setting('role', true), 'none'), session_user::text);
  v_claims jsonb := nullif(current_setting('request.jwt.claims', true), '')::jsonb;
  v_headers jsonb := nullif(current_setting('request.headers', true), '')::jsonb;
begin
  -- The address that an admin has added comes first: users may change the one in their token. A
  -- header can be sent by anybody, so only the secret key is believed what it says in one.
  return coalesce(
    (
      select o.email from crossfade.operators o
      where o.user_id = crossfade_private.actor_id() and v_role = 'authenticated'
    ),
    v_claims ->> 'email', crossfade_private.actor_id(),
    case when v_role not in ('anon', 'authenticated')
      then left(nullif(v_headers ->> 'x-crossfade-actor', ''), 200) end,
    v_role);
exception when invalid_text_representation then
  return session_user::text;
end $$;

comment on function crossfade_private.actor is
  'Who acts: the signed-in operator or user, else with the secret key the header x-crossfade-actor (200 characters), else the role.';
