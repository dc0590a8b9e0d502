-- Schemas, the version counter, and what every other file uses: errors, audit, broadcast.
-- Applies on an empty and on an occupied project, and twice without change.

create schema if not exists crossfade;
create schema if not exists crossfade_private;

comment on schema crossfade is
  'crossfade: tables and RPC functions that the control plane and edge functions use. Expose it to the Data API.';
comment on schema crossfade_private is
  'crossfade: trigger functions, generated code and helpers. Never expose it.';

create table if not exists crossfade.control (
  singleton boolean primary key default true,
  flags_version bigint not null default 1,
  schema_version integer not null default 1,
  constraint control_has_one_row check (singleton)
);

insert into crossfade.control default values on conflict do nothing;

comment on table crossfade.control is
  'One row. flags_version grows with every change to settings, flags, cohorts, kill switches and pairs, and travels on every answer. schema_version is what the control plane checks before it works.';

create table if not exists crossfade.audit (
  id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  actor text not null,
  actor_id text,
  action text not null,
  object text not null,
  reason text,
  before jsonb,
  after jsonb,
  flags_version bigint not null
);

create index if not exists audit_at_idx on crossfade.audit (at desc);

comment on table crossfade.audit is
  'Append-only: who changed what, when, why, with the row before and after. reason is null when the change was made by hand without one.';
comment on column crossfade.audit.actor_id is
  'User id (claim sub) of the signed-in person; null for the secret key and direct connections.';

-- Errors ------------------------------------------------------------------------------------------

create or replace function crossfade_private.fail(
  status integer, code text, message text, details jsonb default '{}', hint text default ''
)
returns void
language plpgsql volatile
set search_path = ''
as $$
begin
  -- PTxyz becomes HTTP status xyz in PostgREST; 40001 is never used because PostgREST retries it.
  raise exception using
    errcode = 'PT' || fail.status,
    message = fail.message,
    detail = (fail.details || jsonb_build_object('code', fail.code))::text,
    hint = fail.hint;
end $$;

comment on function crossfade_private.fail is
  'Raise SQLSTATE PT<status> whose detail is a JSON object with our code and the values that matter. Never returns.';

-- Who and why -------------------------------------------------------------------------------------

create or replace function crossfade_private.actor_id()
returns text
language plpgsql stable
set search_path = ''
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
set search_path = ''
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

create or replace function crossfade_private.set_reason(reason text)
returns void
language sql volatile
set search_path = ''
as $$
  select set_config('crossfade.reason', coalesce(set_reason.reason, ''), true);
$$;

comment on function crossfade_private.set_reason is
  'Remember why, until the end of the transaction, for the audit rows that triggers write.';

create or replace function crossfade_private.reason()
returns text
language sql stable
set search_path = ''
as $$
  select nullif(current_setting('crossfade.reason', true), '');
$$;

comment on function crossfade_private.reason is
  'Why this transaction changes control rows; null when nobody said.';

create or replace function crossfade_private.require_reason(reason text, action text)
returns void
language plpgsql volatile
set search_path = ''
as $$
begin
  if coalesce(btrim(require_reason.reason), '') = '' then
    perform crossfade_private.fail(
      400, 'CF007', format('Cannot %s: a reason is required', action), '{}',
      'Say why in a few words; it is kept in the audit.');
  end if;
  perform crossfade_private.set_reason(require_reason.reason);
end $$;

comment on function crossfade_private.require_reason is
  'Refuse an empty reason (CF007), else remember it for the audit. action completes the sentence "Cannot ...".';

-- Version, audit, broadcast -----------------------------------------------------------------------

create or replace function crossfade.flags_version()
returns bigint
language sql stable
set search_path = ''
as $$
  select c.flags_version from crossfade.control c;
$$;

comment on function crossfade.flags_version is
  'The counter that every change of control rows raises.';

create or replace function crossfade_private.bump_version()
returns bigint
language sql volatile
set search_path = ''
as $$
  update crossfade.control set flags_version = flags_version + 1 returning flags_version;
$$;

comment on function crossfade_private.bump_version is
  'Raise flags_version by one and return it. Locks the one control row until the transaction ends, so control changes are serial.';

create or replace function crossfade_private.audit(
  action text, object text, reason text, before jsonb, after jsonb
)
returns void
language sql volatile
set search_path = ''
as $$
  insert into crossfade.audit (
    actor, actor_id, action, object, reason, before, after, flags_version)
  values (
    crossfade_private.actor(), crossfade_private.actor_id(), audit.action, audit.object,
    coalesce(nullif(audit.reason, ''), crossfade_private.reason()),
    audit.before, audit.after, crossfade.flags_version()
  );
$$;

comment on function crossfade_private.audit is 'Write one audit row for the current actor.';

create or replace function crossfade_private.broadcast(event text, payload jsonb)
returns void
language plpgsql volatile
set search_path = ''
as $$
begin
  -- Realtime may be absent (plain Postgres). realtime.send itself turns its failures into warnings,
  -- so readers must also poll: a broadcast only makes a change visible sooner.
  if to_regprocedure('realtime.send(jsonb,text,text,boolean)') is not null then
    execute 'select realtime.send($1, $2, $3, true)'
      using broadcast.payload, broadcast.event, 'crossfade:flags';
  end if;
exception when others then
  raise warning 'crossfade: broadcast % failed: %', broadcast.event, sqlerrm;
end $$;

comment on function crossfade_private.broadcast is
  'Send a hint on the private topic crossfade:flags at COMMIT. Never raises; a failure is a WARNING.';

create or replace function crossfade_private.on_control_change()
returns trigger
language plpgsql volatile
security definer -- a hand edit through the Data API comes from a role that may not write the audit
set search_path = ''
as $$
declare
  v_before jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) end;
  v_after jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) end;
  v_row jsonb := coalesce(v_after, v_before);
begin
  if v_before is not distinct from v_after then
    return null;
  end if;
  perform crossfade_private.bump_version();
  perform crossfade_private.audit(
    case tg_table_name when 'kill_switches' then 'kill_switch' else rtrim(tg_table_name, 's') end
      || '.' || lower(tg_op),
    coalesce(v_row ->> 'name', v_row ->> 'pair'), null, v_before, v_after);
  perform crossfade_private.broadcast(
    'flags_changed', jsonb_build_object('flags_version', crossfade.flags_version()));
  return null;
end $$;

comment on function crossfade_private.on_control_change is
  'AFTER ROW trigger of the control tables: a real change raises flags_version, is audited (action flag.update, object = name) and broadcast, also when somebody edits the row by hand.';

-- The lock that makes a kill exact ----------------------------------------------------------------

create or replace function crossfade_private.fence_lock_key()
returns bigint
language sql immutable parallel safe
set search_path = ''
as $$
  select 7161727193022001::bigint;
$$;

comment on function crossfade_private.fence_lock_key is
  'Advisory lock: direct V2 writers hold it shared, engaging a fencing kill switch holds it exclusively, so that no V2 write that began before a kill commits after it.';
