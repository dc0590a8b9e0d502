-- The same conversion as a SELECT with a FROM: the engine puts it into its statements as a whole
-- and does not know which column is made of which.

create function public.opaque_to_v2(new_v1 public.entries, old_v2 public.entries_v2)
returns setof public.entries_v2
language sql stable
set search_path = pg_catalog, pg_temp
begin atomic
  select
    new_v1.id,
    new_v1.person_id,
    case when old_v2.parts ->> 0 = new_v1.body then old_v2.parts else made.parts end,
    new_v1.created_at,
    coalesce(old_v2.pinned, false)
  from (select jsonb_build_array(new_v1.body) as parts) made;
end;

create function public.opaque_to_v1(new_v2 public.entries_v2, old_v1 public.entries)
returns setof public.entries
language sql stable
set search_path = pg_catalog, pg_temp
begin atomic
  select new_v2.id, new_v2.person_id, made.body, new_v2.created_at
  from (select new_v2.parts ->> 0 as body) made;
end;
