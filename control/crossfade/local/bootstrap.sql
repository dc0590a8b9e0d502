-- What a Supabase database has before any migration: roles, schemas auth, realtime and extensions,
-- and the few functions of them that migrations, policies and triggers call.
-- Applied as the cluster superuser supabase_admin; every statement may run again.

do $$
declare
  v_role text;
begin
  foreach v_role in array array['anon', 'authenticated', 'service_role'] loop
    if not exists (select from pg_catalog.pg_roles as r where r.rolname = v_role) then
      execute format('create role %I nologin noinherit', v_role);
    end if;
  end loop;
  if not exists (select from pg_catalog.pg_roles as r where r.rolname = 'authenticator') then
    create role authenticator login noinherit;
  end if;
  if not exists (
    select from pg_catalog.pg_roles as r where r.rolname = 'supabase_realtime_admin'
  ) then
    create role supabase_realtime_admin nologin noinherit;
  end if;
  if not exists (select from pg_catalog.pg_roles as r where r.rolname = 'postgres') then
    create role postgres login;
  end if;
end
$$;

-- As on hosted projects, the role of migrations is powerful but no superuser.
alter role postgres nosuperuser createrole createdb bypassrls replication inherit;
alter role service_role bypassrls;
alter role anon set statement_timeout = '3s';
alter role authenticated set statement_timeout = '8s';
alter role authenticator set statement_timeout = '8s';
alter role authenticator set lock_timeout = '8s';
grant anon, authenticated, service_role to authenticator;
grant anon, authenticated, service_role, authenticator to postgres with admin option;
grant pg_monitor, pg_read_all_data, pg_signal_backend to postgres with admin option;
-- As supautils allows the hosted postgres, whose dumps are restored this way.
grant set on parameter session_replication_role to postgres;
-- Stands for supautils, which lets the hosted postgres create policies on realtime.messages.
grant supabase_realtime_admin to postgres;

do $$
begin
  execute format('alter database %I owner to postgres', pg_catalog.current_database());
  execute format('grant all on database %I to supabase_admin', pg_catalog.current_database());
end
$$;

create schema if not exists extensions authorization postgres;
create schema if not exists auth;
create schema if not exists realtime;
grant usage on schema public to anon, authenticated, service_role;
grant usage on schema extensions to anon, authenticated, service_role;
grant usage on schema auth, realtime to postgres, anon, authenticated, service_role;
alter default privileges for role supabase_admin in schema auth grant all on tables to postgres;
alter default privileges for role supabase_admin in schema auth grant all on sequences to postgres;

create or replace function auth.jwt() returns jsonb
language sql
stable
set search_path = ''
as $$
  select coalesce(nullif(current_setting('request.jwt.claims', true), ''), '{}')::jsonb
$$;

create or replace function auth.uid() returns uuid
language sql
stable
set search_path = ''
as $$
  select nullif(
    coalesce(
      nullif(current_setting('request.jwt.claim.sub', true), ''),
      nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'
    ),
    ''
  )::uuid
$$;

create or replace function auth.role() returns text
language sql
stable
set search_path = ''
as $$
  select coalesce(
    nullif(current_setting('request.jwt.claim.role', true), ''),
    nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role'
  )
$$;

create or replace function auth.email() returns text
language sql
stable
set search_path = ''
as $$
  select coalesce(
    nullif(current_setting('request.jwt.claim.email', true), ''),
    nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'email'
  )
$$;

create table if not exists realtime.messages (
  topic text not null,
  extension text not null,
  payload jsonb,
  event text,
  private boolean default false,
  updated_at timestamp without time zone not null default now(),
  inserted_at timestamp without time zone not null default now(),
  id uuid not null default gen_random_uuid(),
  binary_payload bytea,
  primary key (id, inserted_at)
) partition by range (inserted_at);

create table if not exists realtime.messages_default partition of realtime.messages default;
create index if not exists messages_default_inserted_at_idx
on realtime.messages_default (inserted_at);
alter table realtime.messages enable row level security;
alter table realtime.messages_default enable row level security;
alter table realtime.messages owner to supabase_realtime_admin;
grant select, insert, update on realtime.messages to postgres, anon, authenticated, service_role;

create or replace function realtime.topic() returns text
language sql
stable
set search_path = ''
as $$
  select nullif(current_setting('realtime.topic', true), '')
$$;

create or replace function realtime.send(
  payload jsonb,
  event text,
  topic text,
  private boolean default true
) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_id uuid := gen_random_uuid();
begin
  perform set_config('realtime.topic', send.topic, true);
  insert into realtime.messages (id, payload, event, topic, private, extension)
  values (
    v_id,
    case
      when send.payload ? 'id' then send.payload
      else jsonb_set(send.payload, '{id}', to_jsonb(v_id))
    end,
    send.event,
    send.topic,
    send.private,
    'broadcast'
  );
exception
  when others then
    raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
end
$$;

create or replace function realtime.send_binary(
  payload bytea,
  event text,
  topic text,
  private boolean default true
) returns void
language plpgsql
set search_path = ''
as $$
begin
  perform set_config('realtime.topic', send_binary.topic, true);
  insert into realtime.messages (binary_payload, event, topic, private, extension)
  values (
    send_binary.payload, send_binary.event, send_binary.topic, send_binary.private, 'broadcast'
  );
exception
  when others then
    raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
end
$$;

create or replace function realtime.broadcast_changes(
  topic_name text,
  event_name text,
  operation text,
  table_name text,
  table_schema text,
  new record,
  old record,
  level text default 'ROW'
) returns void
language plpgsql
set search_path = ''
as $$
begin
  if broadcast_changes.level = 'STATEMENT' then
    raise exception 'function can only be triggered for each row, not for each statement';
  end if;
  perform realtime.send(
    jsonb_build_object(
      'old_record', to_jsonb(broadcast_changes.old),
      'record', to_jsonb(broadcast_changes.new),
      'operation', broadcast_changes.operation,
      'table', broadcast_changes.table_name,
      'schema', broadcast_changes.table_schema
    ),
    broadcast_changes.event_name,
    broadcast_changes.topic_name
  );
end
$$;

-- Hosted Realtime reads this table from the WAL. NOTIFY is as transactional (nothing on rollback,
-- delivery at commit, in commit order) and needs no replication slot. A payload is limited to
-- 8000 bytes, so a larger message is announced by its key and fetched by the listener.
create or replace function realtime.announce_message() returns trigger
language plpgsql
security definer -- anon must be able to announce what a policy lets it insert
set search_path = ''
as $$
declare
  v_message text;
begin
  v_message := jsonb_build_object(
    'id', new.id,
    'topic', new.topic,
    'event', new.event,
    'private', new.private,
    'payload', new.payload
  )::text;
  if new.binary_payload is not null or octet_length(v_message) > 7900 then
    v_message := jsonb_build_object('id', new.id, 'inserted_at', new.inserted_at)::text;
  end if;
  perform pg_notify('realtime_messages', v_message);
  return null;
end
$$;

revoke execute on function realtime.announce_message() from public;

create or replace trigger announce_message
after insert on realtime.messages
for each row
when (new.extension = 'broadcast')
execute function realtime.announce_message();

-- Supabase's own event triggers: the Data API learns of DDL without being told.
create or replace function extensions.pgrst_ddl_watch() returns event_trigger
language plpgsql
set search_path = ''
as $$
begin
  if exists (
    select
    from pg_event_trigger_ddl_commands() as c
    where
      c.command_tag ~ '(TABLE|SCHEMA|VIEW|FUNCTION|TYPE|SELECT INTO|COMMENT)'
      and c.schema_name is distinct from 'pg_temp'
  ) then
    perform pg_notify('pgrst', 'reload schema');
  end if;
end
$$;

create or replace function extensions.pgrst_drop_watch() returns event_trigger
language plpgsql
set search_path = ''
as $$
begin
  if exists (
    select
    from pg_event_trigger_dropped_objects() as o
    where
      o.object_type in ('schema', 'table', 'view', 'materialized view', 'function', 'type')
      and not o.is_temporary
  ) then
    perform pg_notify('pgrst', 'reload schema');
  end if;
end
$$;

drop event trigger if exists pgrst_ddl_watch;
create event trigger pgrst_ddl_watch on ddl_command_end
execute function extensions.pgrst_ddl_watch();
drop event trigger if exists pgrst_drop_watch;
create event trigger pgrst_drop_watch on sql_drop
execute function extensions.pgrst_drop_watch();

comment on function auth.jwt() is 'Return the claims of the request''s token, {} without one.';
comment on function auth.uid() is 'Return the id of the signed-in user, null for anybody else.';
comment on function auth.role() is 'Return the role the request''s token names.';
comment on function auth.email() is 'Return the email address in the request''s token.';
comment on table realtime.messages is
'Messages to broadcast; policies say who may read and send.';
comment on function realtime.topic() is
'Return the topic a policy is asked about, without its prefix.';
comment on function realtime.send(jsonb, text, text, boolean) is
'Broadcast a message when the transaction commits. Never raises: every error becomes a warning.';
comment on function realtime.send_binary(bytea, text, text, boolean) is
'Broadcast bytes when the transaction commits. Never raises: every error becomes a warning.';
comment on function realtime.announce_message() is
'Tell the local Realtime stand-in about a committed message.';
comment on function extensions.pgrst_ddl_watch() is
'Tell the Data API to read its schema cache again.';
comment on function extensions.pgrst_drop_watch() is 'The same for dropped objects.';
