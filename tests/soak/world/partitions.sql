-- V2 by month: one partition with sub-partitions, and one for all other times.
create table public.cards_m1 partition of public.cards
for values from ('2026-01-01 00:00+00') to ('2026-02-01 00:00+00');
create table public.cards_m2 partition of public.cards
for values from ('2026-02-01 00:00+00') to ('2026-03-01 00:00+00') partition by range (item);
create table public.cards_m2a partition of public.cards_m2 for values from (minvalue) to (8);
create table public.cards_m2b partition of public.cards_m2 for values from (8) to (maxvalue);
create table public.cards_m3 partition of public.cards
for values from ('2026-03-01 00:00+00') to ('2026-04-01 00:00+00');
create table public.cards_rest partition of public.cards default;

-- Nobody but the owner and the service role uses partitions by name.
create function public.close_partition(tab regclass) returns void language plpgsql as $$
begin
  execute format('alter table %s enable row level security', tab);
  execute format('grant select, insert, update, delete on %s to service_role', tab);
  -- A TRUNCATE of a partition fires the partition's own triggers only.
  execute format('create trigger a_audit_truncate before truncate on %s
    for each statement execute function soak.audit_truncate(2)', tab);
end $$;
select public.close_partition(t.relid) from pg_partition_tree('public.cards') t where t.level > 0;

-- Each of the works below writes down what it does to rows beside the triggers.
create function soak.note_gone(tab regclass) returns void language plpgsql as $$
begin
  execute format('lock table %s in exclusive mode', tab);
  execute format('insert into soak.audit (source, side, op, old)
    select ''owner'', 2, ''D'', to_jsonb(t) from %s t', tab);
end $$;
create function soak.remove_partition(tab regclass, how text) returns jsonb
language plpgsql as $$
begin
  perform soak.note_gone(tab);
  return crossfade.remove_partition('notes', tab::text, how, 'soak');
end $$;
-- The rows that lie in the default partition go; others come along.
create function soak.attach_partition(birth text) returns void language plpgsql as $$
begin
  lock table public.cards in share row exclusive mode;
  delete from public.cards as c
  where c.room between '2026-05-01 00:00+00' and '2026-05-31 00:00+00';
  create table public.cards_m5 (
    like public.cards including defaults including generated including constraints);
  alter table public.cards_m5
  add primary key (room, item), add unique (org, place, room, item) deferrable;
  if birth <> '' then
    insert into public.cards_m5 (room, item, birth, org, log2)
    values ('2026-05-05 12:00+00', 97, birth, '<<a>>', jsonb_build_array(birth));
    insert into soak.audit (source, side, op, new)
    select 'owner', 2, 'I', to_jsonb(t) from public.cards_m5 as t;
  end if;
  alter table public.cards attach partition public.cards_m5
  for values from ('2026-05-01 00:00+00') to ('2026-06-01 00:00+00');
  perform public.close_partition('public.cards_m5');
end $$;
