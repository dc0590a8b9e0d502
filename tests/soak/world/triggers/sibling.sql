-- An AFTER trigger that writes another row of the same table and tenant.
create function public.tell_sibling() returns trigger
language plpgsql security definer as $$
begin
  update public.notes as t
  set log1 = t.log1 || ('X:' || new.birth || '>' || cardinality(new.log1)), hits1 = t.hits1 + 1
  where t.birth = (
    select min(s.birth) from public.notes as s
    where s.owner_id = new.owner_id and s.birth > new.birth
  );
  return null;
end $$;
create trigger sibling after insert or update on public.notes
for each row when (pg_trigger_depth() = 0) execute function public.tell_sibling();
