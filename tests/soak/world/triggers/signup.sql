-- A sign-up, as of auth.users, makes the user's first note.
create function public.welcome() returns trigger
language plpgsql security definer as $$
begin
  insert into public.notes (<<keys_v1>>, birth, owner_id, title, log1) <<overriding_v1>>
  values (<<signup_key>>, new.tag, new.owner_id, 'welcome', array[new.tag]);
  return null;
end $$;
create trigger welcome after insert on public.signups
for each row execute function public.welcome();
