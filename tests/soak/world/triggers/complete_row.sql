-- An AFTER INSERT trigger that completes its own row.
create function public.complete_note() returns trigger
language plpgsql security definer as $$
begin
  update public.notes as t
  set mark = coalesce(t.mark, '') || '!', log1 = t.log1 || ('X:' || new.birth)
  where t.birth = new.birth;
  return null;
end $$;
create trigger complete_row after insert on public.notes
for each row execute function public.complete_note();
