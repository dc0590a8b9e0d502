-- A worked example of a plain table that becomes a partitioned one: events, by month. It shows:
--   * the key of a partitioned table holds the column it is partitioned by: (id, occurred_at).
--     V1 gets a unique index on it beside its primary key;
--   * V2's partitions: one a month, made ahead by a function, and one for all other times;
--   * a column that a partitioned table does not have: V1's identity is a default in V2 (only
--     PostgreSQL 17 has identity columns in partitioned tables);
--   * retention: crossfade pair remove-partition events public.events_v2_2026_01 --how drop
--     --reason "..." takes V1's rows of that month along.
-- Apply it after crossfade's migrations; applying it again is harmless. To use it for a table that
-- exists, keep what begins at "The key" and put your own names and columns in. On a large table
-- make the index before, by: create unique index concurrently events_id_occurred_at_idx ...

-- V1 table: what a project may have today ---------------------------------------------------------

create table if not exists public.events (
  id bigint generated always as identity primary key,
  user_id uuid default auth.uid(),
  name text not null,
  properties jsonb not null default '{}',
  occurred_at timestamptz not null default now()
);

comment on table public.events is 'V1 events, in one table of all times.';

-- The key -----------------------------------------------------------------------------------------

create unique index if not exists events_id_occurred_at_idx on public.events (id, occurred_at);

-- V2 table ----------------------------------------------------------------------------------------

create table if not exists public.events_v2 (
  -- The sequence behind V1's identity column.
  id bigint not null default nextval('public.events_id_seq'),
  owner_id uuid default auth.uid(),
  name text not null,
  properties jsonb not null default '{}',
  source text,
  occurred_at timestamptz not null default now(),
  primary key (id, occurred_at)
) partition by range (occurred_at);

create index if not exists events_v2_owner_id_idx on public.events_v2 (owner_id, occurred_at);

comment on table public.events_v2 is 'V2 events, with a partition a month (UTC).';
comment on column public.events_v2.source is 'Where an event comes from; V1 does not show it.';

-- What no month takes. PostgreSQL makes no partition of rows that lie here, so make months ahead.
create table if not exists public.events_v2_rest partition of public.events_v2 default;

-- Call it each month, from pg_cron for example, then: crossfade pair refresh events. Until then the
-- new partition is mirrored by slower triggers, and crossfade doctor names it.
create or replace function public.make_events_partition(month date)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '2s'
as $$
declare
  v_first constant timestamp := date_trunc('month', month::timestamp);
  v_name constant text := 'events_v2_' || to_char(v_first, 'YYYY_MM');
begin
  if to_regclass('public.' || v_name) is null then
    execute format('create table public.%I partition of public.events_v2
      for values from (%L) to (%L)', v_name, v_first at time zone 'UTC',
      (v_first + interval '1 month') at time zone 'UTC');
    -- Partitions are tables of the Data API as well. Nobody gets past the policies of the root.
    execute format('alter table public.%I enable row level security', v_name);
    execute format('revoke all on public.%I from anon, authenticated', v_name);
  end if;
end $$;

comment on function public.make_events_partition is 'Make the partition of a month of events_v2, when it is not there. Locks events_v2 ACCESS EXCLUSIVE for milliseconds.';

alter table public.events_v2_rest enable row level security;
revoke all on public.events_v2_rest from anon, authenticated;

-- The months that V1 has rows of, this one and the next two.
do $$
begin
  perform public.make_events_partition(m::date)
  from generate_series(
    date_trunc('month', coalesce(
      (select min(e.occurred_at) from public.events e where isfinite(e.occurred_at)
        and e.occurred_at > now() - interval '10 years'), now()) at time zone 'UTC'),
    (now() at time zone 'UTC') + interval '2 months', interval '1 month') m;
end $$;

-- Converters --------------------------------------------------------------------------------------

-- sqruff does not know that parameters are no tables.
-- noqa: disable=RF01

create or replace function public.events_to_v2(new_v1 public.events, old_v2 public.events_v2)
returns setof public.events_v2
language sql stable parallel safe
set search_path = pg_catalog, pg_temp
begin atomic
  select
    new_v1.id, new_v1.user_id, new_v1.name, new_v1.properties, old_v2.source, new_v1.occurred_at;
end;

comment on function public.events_to_v2 is 'The V2 row for a V1 event; its source comes from the stored V2 row. Never raises.';

create or replace function public.events_to_v1(new_v2 public.events_v2, old_v1 public.events)
returns setof public.events
language sql stable parallel safe
set search_path = pg_catalog, pg_temp
begin atomic
  select new_v2.id, new_v2.owner_id, new_v2.name, new_v2.properties, new_v2.occurred_at;
end;

comment on function public.events_to_v1 is 'The V1 row that shows a V2 event. Never raises.';

-- noqa: enable=RF01

-- Rights: the same rows are visible in both formats -----------------------------------------------

alter table public.events enable row level security;
alter table public.events_v2 enable row level security;

drop policy if exists "Users see and write their own events" on public.events;
create policy "Users see and write their own events" on public.events to authenticated
using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));

drop policy if exists "Users see and write their own events" on public.events_v2;
create policy "Users see and write their own events" on public.events_v2 to authenticated
using (owner_id = (select auth.uid())) with check (owner_id = (select auth.uid()));

revoke all on public.events, public.events_v2 from anon, authenticated, service_role;
grant select, insert, update, delete on public.events, public.events_v2
to authenticated, service_role;
revoke all on sequence public.events_id_seq from anon;
grant usage on sequence public.events_id_seq to authenticated, service_role;

revoke execute on function
public.events_to_v2, public.events_to_v1, public.make_events_partition
from public, anon, authenticated;
grant execute on function
public.events_to_v2, public.events_to_v1, public.make_events_partition
to service_role;

select crossfade.register_pair('events', 'public.events', 'public.events_v2',
  'public.events_to_v2', 'public.events_to_v1', array['id', 'occurred_at']);
