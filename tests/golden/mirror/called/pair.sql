-- Converters in another language are called, and read the row as a whole.
create schema called;

create table called.notes (id text primary key, body text not null);

create table called.notes_v2 (id text primary key, body jsonb not null, seen integer);

create function called.notes_to_v2(new_v1 called.notes, old_v2 called.notes_v2)
returns setof called.notes_v2
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query select new_v1.id, to_jsonb(new_v1.body), old_v2.seen;
end $$;

create function called.notes_to_v1(new_v2 called.notes_v2, old_v1 called.notes)
returns setof called.notes
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query select new_v2.id, new_v2.body #>> '{}';
end $$;

select crossfade.register_pair(
  'notes', 'called.notes', 'called.notes_v2', 'called.notes_to_v2', 'called.notes_to_v1'
);
