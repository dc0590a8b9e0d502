-- Triggers with a column list on both tables, and the wall clock.
create function public.stamp_note() returns trigger
language plpgsql security definer as $$
begin
  update public.notes as t set edited = clock_timestamp() where t.birth = new.birth;
  return null;
end $$;
create function public.stamp_card() returns trigger
language plpgsql security definer as $$
begin
  update public.cards as t set edited = clock_timestamp() where t.birth = new.birth;
  return null;
end $$;
create trigger stamp after update of title on public.notes
for each row execute function public.stamp_note();
create trigger stamp after update of heading on public.cards
for each row execute function public.stamp_card();
