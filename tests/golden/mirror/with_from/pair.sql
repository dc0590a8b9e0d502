-- A converter that is any other SELECT stands in statements as a whole; this one leaves rows out.
create table public.notes (id uuid primary key, body text not null, labels text);

create table public.notes_v2 (id uuid primary key, body text not null, labels jsonb not null);

create function public.notes_to_v2(new_v1 public.notes, old_v2 public.notes_v2)
returns setof public.notes_v2
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select new_v1.id, new_v1.body, coalesce(jsonb_agg(l.label order by l.number), '[]')
  from string_to_table(new_v1.labels, ',') with ordinality l(label, number)
  where new_v1.body <> ''
  having new_v1.body <> ''
$$;

create function public.notes_to_v1(new_v2 public.notes_v2, old_v1 public.notes)
returns setof public.notes
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select new_v2.id, new_v2.body, (
    select string_agg(l.label, ',' order by l.number)
    from jsonb_array_elements_text(new_v2.labels) with ordinality l(label, number))
$$;

select crossfade.register_pair(
  'notes', 'public.notes', 'public.notes_v2', 'public.notes_to_v2', 'public.notes_to_v1'
);
