-- An AFTER DELETE trigger that puts some rows back.
create function public.keep_note() returns trigger
language plpgsql security definer as $$
begin
  insert into public.notes
    (<<keys_v1>>, birth, owner_id, title, log1, log2, logs, hits1, hits2, hits)
  <<overriding_v1>>
  values (<<old_v1>>, old.birth, old.owner_id, 'kept', old.log1, old.log2, old.logs,
    old.hits1, old.hits2, old.hits);
  return null;
end $$;
create trigger keep after delete on public.notes
for each row when (pg_trigger_depth() = 0 and old.title = 'wall')
execute function public.keep_note();
