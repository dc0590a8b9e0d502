-- A key of two columns, one of which V2 gives always itself; triggers of the owner that change rows
-- before they are stored, and one that is for some columns.
create table public.notes (
  book bigint,
  page integer,
  body text not null,
  updated_at timestamptz not null default now(),
  primary key (book, page)
);

create table public.notes_v2 (
  page integer generated always as identity,
  book bigint,
  body jsonb not null,
  updated_at timestamptz not null default now(),
  edits integer not null default 0,
  primary key (book, page)
);

create function public.touch() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  new.updated_at := clock_timestamp();
  return new;
end $$;

create trigger touch before insert or update on public.notes
for each row execute function public.touch();

create trigger touch before insert or update on public.notes_v2
for each row execute function public.touch();

create function public.count_edit() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  update public.notes_v2 n set edits = n.edits + 1 where n.book = new.book and n.page = new.page;
  return null;
end $$;

create trigger count_edit after update of body on public.notes_v2
for each row execute function public.count_edit();

create function public.notes_to_v2(new_v1 public.notes, old_v2 public.notes_v2)
returns setof public.notes_v2
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select new_v1.page, new_v1.book, to_jsonb(new_v1.body), new_v1.updated_at,
    coalesce(old_v2.edits, 0)
$$;

create function public.notes_to_v1(new_v2 public.notes_v2, old_v1 public.notes)
returns setof public.notes
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select new_v2.book, new_v2.page, new_v2.body #>> '{}', new_v2.updated_at
$$;

select crossfade.register_pair(
  'notes', 'public.notes', 'public.notes_v2', 'public.notes_to_v2', 'public.notes_to_v1'
);
