-- What the demo adds to the project it migrates: a fault that can be switched on, and a witness.
-- Both look only at direct writes and reads of V2: who comes through the Data API has one of its
-- roles, while a mirrored write has the table owner's.

create schema crossfade_demo;
grant usage on schema crossfade_demo to anon, authenticated, service_role;

create table crossfade_demo.fault (
  singleton boolean primary key default true,
  active boolean not null default false,
  delay_ms integer not null default 0,
  hits bigint not null default 0,
  constraint fault_has_one_row check (singleton)
);

insert into crossfade_demo.fault default values;

comment on table crossfade_demo.fault is
  'While active, V2 answers API roles late and with an error.';

create table crossfade_demo.direct_writes (
  id bigint generated always as identity primary key,
  key uuid not null,
  operation text not null,
  written_by text not null,
  at timestamptz not null default clock_timestamp()
);

comment on table crossfade_demo.direct_writes is
  'Every write of V2 by an API role. xmin of a row gives the commit time of the write itself.';

alter table crossfade_demo.fault enable row level security;
alter table crossfade_demo.direct_writes enable row level security;

create function crossfade_demo.is_well()
returns boolean
language plpgsql
volatile
security definer -- API roles may not read the fault
set search_path = pg_catalog, pg_temp
as $$
declare
  v_fault crossfade_demo.fault;
begin
  select f.* into v_fault from crossfade_demo.fault f;
  if v_fault.active then
    perform pg_sleep(v_fault.delay_ms / 1000.0);
    raise exception using errcode = '58030',
      message = 'could not read block 7 of relation "chat_messages_v2"';
  end if;
  return true;
end $$;

comment on function crossfade_demo.is_well is
  'True, or late and an io_error (58030) while the fault is active.';

create function crossfade_demo.fail_direct_write()
returns trigger
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  perform crossfade_demo.is_well();
  return null;
end $$;

comment on function crossfade_demo.fail_direct_write is
  'BEFORE STATEMENT trigger: nothing is written when the fault is active.';

create function crossfade_demo.note_direct_write()
returns trigger
language plpgsql
volatile
security definer -- API roles may not write the log
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into crossfade_demo.direct_writes (key, operation, written_by)
  values (coalesce(new.id, old.id), tg_op, coalesce(current_setting('role', true), '-'));
  return null;
end $$;

comment on function crossfade_demo.note_direct_write is
  'AFTER ROW trigger: log a direct write in its own transaction.';

-- Locks V2 for milliseconds, before any client is there.
create trigger demo_fault
before insert or update or delete on public.chat_messages_v2
for each statement when (current_user in ('anon', 'authenticated', 'service_role'))
execute function crossfade_demo.fail_direct_write();

create trigger demo_witness
after insert or update or delete on public.chat_messages_v2
for each row when (current_user in ('anon', 'authenticated', 'service_role'))
execute function crossfade_demo.note_direct_write();

-- The subselect makes it one call for a query and not one for each row.
create policy "The demo can make reads of version 2 fail"
on public.chat_messages_v2
as restrictive for select to authenticated
using ((select crossfade_demo.is_well()));
