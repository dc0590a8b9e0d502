-- The usual updated_at, on both tables.
create function public.touch() returns trigger language plpgsql as $$
begin
  new.updated_at := clock_timestamp();
  return new;
end $$;
create trigger touch before update on public.notes
for each row execute function public.touch();
create trigger touch before update on public.cards
for each row execute function public.touch();
