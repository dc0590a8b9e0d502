-- Converters that are a bare list of expressions: they stand in SET and WHERE, column by column.
create schema select_list;

create table select_list.notes (id bigint primary key, body text not null, tag text);

create table select_list.notes_v2 (
  id bigint primary key,
  parts jsonb not null,
  tag varchar(20),
  pinned boolean not null default false,
  size integer generated always as (jsonb_array_length(parts)) stored
);

create function select_list.notes_to_v2(new_v1 select_list.notes, old_v2 select_list.notes_v2)
returns setof select_list.notes_v2
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select new_v1.id, jsonb_build_array(new_v1.body), new_v1.tag, coalesce(old_v2.pinned, false), 0
$$;

create function select_list.notes_to_v1(new_v2 select_list.notes_v2, old_v1 select_list.notes)
returns setof select_list.notes
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select new_v2.id, new_v2.parts ->> 0, new_v2.tag
$$;

select crossfade.register_pair(
  'notes', 'select_list.notes', 'select_list.notes_v2',
  'select_list.notes_to_v2', 'select_list.notes_to_v1'
);
