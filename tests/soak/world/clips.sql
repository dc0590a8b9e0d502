alter table soak.clips add foreign key (<<clip_keys>>) references public.cards (<<keys_v2>>)
on delete cascade on update cascade;
create function soak.audit_clip() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  insert into soak.audit (source, side, op, who, new)
  values ('client', 3, 'I', soak.who(), to_jsonb(new));
  return null;
end $$;
create trigger audit after insert on soak.clips
for each row execute function soak.audit_clip();
grant insert on soak.clips to authenticated, service_role;
