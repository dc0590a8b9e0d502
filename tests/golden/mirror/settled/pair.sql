-- A key of two columns, one of which V2 gives always itself; triggers of the owner that change rows
-- before they are stored, and one that is for some columns.
create schema settled;

create table settled.notes (
  book bigint,
  page integer,
  body text not null,
  updated_at timestamptz not null default now(),
  primary key (book, page)
);

create table settled.notes_v2 (
  page integer generated always as identity,
  book bigint,
  body jsonb not null,
  updated_at timestamptz not null default now(),
  edits integer not null default 0,
  primary key (book, page)
);

create function settled.touch() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  new.updated_at := clock_timestamp();
  return new;
end $$;

create trigger touch before insert or update on settled.notes
for each row execute function settled.touch();

create trigger touch before insert or update on settled.notes_v2
for each row execute function settled.touch();

create function settled.count_edit() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  update settled.notes_v2 n set edits = n.edits + 1 where n.book = new.book and n.page = new.page;
  return null;
end $$;

create trigger count_edit after update of body on settled.notes_v2
for each row execute function settled.count_edit();

create function settled.notes_to_v2(new_v1 settled.notes, old_v2 settled.notes_v2)
returns setof settled.notes_v2
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select new_v1.page, new_v1.book, to_jsonb(new_v1.body), new_v1.updated_at,
    coalesce(old_v2.edits, 0)
$$;

create function settled.notes_to_v1(new_v2 settled.notes_v2, old_v1 settled.notes)
returns setof settled.notes
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select new_v2.book, new_v2.page, new_v2.body #>> '{}', new_v2.updated_at
$$;

select crossfade.register_pair(
  'notes', 'settled.notes', 'settled.notes_v2', 'settled.notes_to_v2', 'settled.notes_to_v1'
);
