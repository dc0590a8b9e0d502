-- Two tenants' notes (V1) and cards (V2), as a project has them. <<name>> is filled in by world.py.
create type public.mood as enum ('calm', 'brisk', 'wild');
create type public.spot as (x numeric(8, 2), label text);
create domain public.short_text as varchar(40)
constraint title_is_allowed check (value <> 'forbidden');

create table public.folders (
  id bigint primary key,
  owner_id uuid not null,
  name text
);
create table public.labels (
  id bigint primary key,
  owner_id uuid not null,
  name text
);
create table public.signups (
  id bigint primary key,
  owner_id uuid not null,
  tag text not null
);

create table public.notes (
  <<columns_v1>>,
  birth text not null,
  owner_id uuid not null,
  folder_id bigint,
  label_id bigint,
  pos integer,
  title public.short_text,
  mood public.mood,
  price numeric(12, 2),
  spot public.spot,
  happens timestamptz,
  meta jsonb,
  mark text,
  log1 text[] not null default '{}',
  log2 text[] not null default '{}',
  logs text[] not null default '{}',
  hits1 bigint not null default 0,
  hits2 bigint not null default 0,
  hits bigint not null default 0,
  slug text,
  updated_at timestamptz not null default clock_timestamp(),
  edited timestamptz,
  size integer generated always as (length(title)) stored,
  loud text generated always as (upper(mark)) <<loud>>,
  constraint notes_key primary key (<<keys_v1>>) <<deferrable_key>>
);
create table public.cards (
  <<columns_v2>>,
  birth text not null,
  org text not null,
  folder_id bigint,
  label_id bigint,
  place integer,
  heading text,
  mood text constraint mood_is_known check (mood in ('calm', 'brisk', 'wild')),
  cents bigint,
  spot jsonb,
  happens timestamptz,
  meta jsonb,
  mark text,
  log1 jsonb not null default '[]',
  log2 jsonb not null default '[]',
  logs jsonb not null default '[]',
  hits1 numeric not null default 0,
  hits2 numeric not null default 0,
  hits numeric not null default 0,
  slug text,
  updated_at timestamptz not null default clock_timestamp(),
  edited timestamptz,
  loud text,
  log_x text[] not null default '{}',
  reads bigint not null default 0,
  pinned boolean not null default false,
  edits integer generated always as (jsonb_array_length(log1) + jsonb_array_length(log2)) stored,
  constraint cards_key primary key (<<keys_v2>>) <<deferrable_key>>
) <<partitioned>>;
alter table public.notes add constraint notes_pos unique (owner_id, pos<<also_v1>>)
deferrable initially immediate;
alter table public.cards add constraint cards_place unique (org, place<<also_v2>>)
deferrable initially immediate;

create function public.notes_to_v2(new_v1 public.notes, old_v2 public.cards)
returns setof public.cards language <<language>> stable set search_path = pg_catalog, pg_temp as $$
<<open>>
  select <<new_v1>>, new_v1.birth, new_v1.owner_id::text, new_v1.folder_id, new_v1.label_id,
    new_v1.pos, new_v1.title::text, new_v1.mood::text, (new_v1.price * 100)::bigint,
    case when new_v1.spot is not null then
      jsonb_build_object('x', (new_v1.spot).x, 'label', (new_v1.spot).label) end,
    new_v1.happens, new_v1.meta, new_v1.mark, to_jsonb(new_v1.log1), to_jsonb(new_v1.log2),
    to_jsonb(new_v1.logs), new_v1.hits1::numeric, new_v1.hits2::numeric, new_v1.hits::numeric,
    new_v1.slug, new_v1.updated_at, new_v1.edited, new_v1.loud,
    coalesce(old_v2.log_x, '{}'), coalesce(old_v2.reads, 0::bigint), coalesce(old_v2.pinned, false),
    null::integer<<close>>
$$;
create function public.cards_to_v1(new_v2 public.cards, old_v1 public.notes)
returns setof public.notes language <<language>> stable set search_path = pg_catalog, pg_temp as $$
<<open>>
  select <<new_v2>>, new_v2.birth, new_v2.org::uuid, new_v2.folder_id, new_v2.label_id,
    new_v2.place, new_v2.heading::public.short_text, new_v2.mood::public.mood,
    (new_v2.cents / 100.0)::numeric(12, 2),
    case when new_v2.spot is not null then
      row((new_v2.spot ->> 'x')::numeric(8, 2), new_v2.spot ->> 'label')::public.spot end,
    new_v2.happens, new_v2.meta, new_v2.mark,
    array(select jsonb_array_elements_text(new_v2.log1)),
    array(select jsonb_array_elements_text(new_v2.log2)),
    array(select jsonb_array_elements_text(new_v2.logs)),
    new_v2.hits1::bigint, new_v2.hits2::bigint, new_v2.hits::bigint,
    new_v2.slug, new_v2.updated_at, new_v2.edited, null::integer, null::text<<close>>
$$;

alter table public.notes enable row level security;
alter table public.cards enable row level security;
alter table public.folders enable row level security;
alter table public.labels enable row level security;
alter table public.signups enable row level security;
create policy "own rows" on public.notes to authenticated
using (owner_id = (select auth.uid())) with check (owner_id = (select auth.uid()));
create policy "own rows" on public.cards to authenticated
using (org = (select auth.uid())::text) with check (org = (select auth.uid())::text);
create policy "own rows" on public.folders to authenticated
using (owner_id = (select auth.uid())) with check (owner_id = (select auth.uid()));
create policy "own rows" on public.labels to authenticated
using (owner_id = (select auth.uid())) with check (owner_id = (select auth.uid()));
create policy "own rows" on public.signups to authenticated
using (owner_id = (select auth.uid())) with check (owner_id = (select auth.uid()));
grant select, insert, update, delete
on public.notes, public.cards, public.folders, public.labels, public.signups
to authenticated, service_role;
grant usage on all sequences in schema public to authenticated, service_role;
