-- Statement triggers: one before, and one after that numbers what a statement inserted.
create table public.bursts (id bigint generated always as identity, at timestamptz, rows bigint);
create function public.note_burst() returns trigger
language plpgsql security definer as $$
begin
  insert into public.bursts (at, rows) values (clock_timestamp(), null);
  return null;
end $$;
create function public.number_notes() returns trigger
language plpgsql security definer as $$
begin
  insert into public.bursts (at, rows) select clock_timestamp(), count(*) from fresh;
  update public.notes as t
  set hits1 = t.hits1 + 1, meta = jsonb_build_object('numbered', t.birth)
  where t.meta is null and t.birth in (select f.birth from fresh as f);
  return null;
end $$;
create trigger burst before insert or update or delete on public.notes
for each statement execute function public.note_burst();
create trigger number_rows after insert on public.notes
referencing new table as fresh
for each statement execute function public.number_notes();
