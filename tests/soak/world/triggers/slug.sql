-- A slug made by both tables, each in its own way.
create function public.note_slug() returns trigger language plpgsql as $$
begin
  new.slug := lower(new.title);
  return new;
end $$;
create function public.card_slug() returns trigger language plpgsql as $$
begin
  new.slug := 'card-' || lower(new.heading);
  return new;
end $$;
create trigger slug before insert or update on public.notes
for each row execute function public.note_slug();
create trigger slug before insert or update on public.cards
for each row execute function public.card_slug();
