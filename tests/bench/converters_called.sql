-- The same conversion in PL/pgSQL, which can only be called.

create function public.called_to_v2(new_v1 public.entries, old_v2 public.entries_v2)
returns setof public.entries_v2
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query select
    new_v1.id,
    new_v1.person_id,
    case
      when old_v2.parts ->> 0 = new_v1.body then old_v2.parts
      else jsonb_build_array(new_v1.body)
    end,
    new_v1.created_at,
    coalesce(old_v2.pinned, false);
end $$;

create function public.called_to_v1(new_v2 public.entries_v2, old_v1 public.entries)
returns setof public.entries
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query select new_v2.id, new_v2.person_id, new_v2.parts ->> 0, new_v2.created_at;
end $$;
