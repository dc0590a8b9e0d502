-- A converter that is any other SELECT stands in statements as a whole; this one leaves rows out.
create schema with_from;

create table with_from.notes (id uuid primary key, body text not null, labels text);

create table with_from.notes_v2 (id uuid primary key, body text not null, labels jsonb not null);

create function with_from.notes_to_v2(new_v1 with_from.notes, old_v2 with_from.notes_v2)
returns setof with_from.notes_v2
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select new_v1.id, new_v1.body, coalesce(jsonb_agg(l.label order by l.number), '[]')
  from string_to_table(new_v1.labels, ',') with ordinality l(label, number)
  where new_v1.body <> ''
  having new_v1.body <> ''
$$;

create function with_from.notes_to_v1(new_v2 with_from.notes_v2, old_v1 with_from.notes)
returns setof with_from.notes
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select new_v2.id, new_v2.body, (
    select string_agg(l.label, ',' order by l.number)
    from jsonb_array_elements_text(new_v2.labels) with ordinality l(label, number))
$$;

select crossfade.register_pair(
  'notes', 'with_from.notes', 'with_from.notes_v2', 'with_from.notes_to_v2', 'with_from.notes_to_v1'
);
