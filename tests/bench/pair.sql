-- The pair that the benches measure: a foreign key and two indexes a table, one column converted.
-- by_hand and by_hand_v2 are the same tables with nothing on them; one_table holds both versions in
-- one row, which BEFORE ROW triggers complete.

create table public.people (id bigint primary key);

insert into public.people select n from generate_series(1, 10000) n;

-- So many that a foreign key is looked up in the index, as in a table that is in use.
analyze public.people;

create sequence public.entry_ids;

create table public.entries (
  id bigint primary key default nextval('public.entry_ids'),
  person_id bigint not null references public.people on delete cascade,
  body text not null,
  created_at timestamptz not null default now()
);

create index on public.entries (person_id);
create index on public.entries (created_at);

create table public.entries_v2 (
  id bigint primary key default nextval('public.entry_ids'),
  person_id bigint not null references public.people on delete cascade,
  parts jsonb not null,
  created_at timestamptz not null default now(),
  pinned boolean not null default false
);

create index on public.entries_v2 (person_id);
create index on public.entries_v2 (created_at);

create table public.by_hand (like public.entries including all);

alter table public.by_hand
  add foreign key (person_id) references public.people on delete cascade;

create table public.by_hand_v2 (like public.entries_v2 including all);

alter table public.by_hand_v2
  add foreign key (person_id) references public.people on delete cascade;

create table public.one_table (like public.entries including all);

-- The flag says which rows still wait for the backfill; a touched row loses it.
alter table public.one_table
  add foreign key (person_id) references public.people on delete cascade,
  add parts jsonb,
  add waits boolean default true;

-- A trigger a direction, as tools make them that keep both versions in one row: the columns in
-- variables, a setting that says which version the client speaks, one column assigned.
create function public.convert_up()
returns trigger
language plpgsql
as $$
declare
  id public.one_table.id%type := new.id;
  person_id public.one_table.person_id%type := new.person_id;
  body public.one_table.body%type := new.body;
  created_at public.one_table.created_at%type := new.created_at;
  version text := coalesce(current_setting('bench.version', true), '');
begin
  if version <> '2' then
    new.parts := jsonb_build_array(body);
    new.waits := false;
  end if;
  return new;
end $$;

create function public.convert_down()
returns trigger
language plpgsql
as $$
declare
  id public.one_table.id%type := new.id;
  person_id public.one_table.person_id%type := new.person_id;
  parts public.one_table.parts%type := new.parts;
  created_at public.one_table.created_at%type := new.created_at;
  version text := coalesce(current_setting('bench.version', true), '');
begin
  if version = '2' then
    new.body := parts ->> 0;
    new.waits := false;
  end if;
  return new;
end $$;

create trigger convert_up
before insert or update on public.one_table
for each row execute function public.convert_up();

create trigger convert_down
before insert or update on public.one_table
for each row execute function public.convert_down();
