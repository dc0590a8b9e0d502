-- What a table has that a partitioned one cannot have.

create or replace function crossfade_private.relabel_index_problems(tab regclass, column_name text)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format(
    'unique index %s of %s does not hold "%s", and a partitioned table has none without it; drop it, or add the column to it',
    i.indexrelid::regclass, tab, column_name)
  from pg_catalog.pg_index i
  where i.indrelid = tab and i.indisunique and not i.indisprimary and not exists (
    select from pg_catalog.pg_attribute a
    where a.attrelid = tab and a.attname = column_name
      and a.attnum = any (i.indkey[0:i.indnkeyatts - 1]))
  union all
  select format('index %s of %s is not valid: drop it, or make it again', i.indexrelid::regclass,
    tab)
  from pg_catalog.pg_index i
  where i.indrelid = tab and not i.indisvalid
    and i.indexrelid not in (
      select r.id from crossfade_private.relabel_indexes(tab, column_name) r)
  union all
  select format(
    'constraint %I of %s says something else than where the first partition ends; rename it',
    crossfade_private.bound_name(tab), tab)
  from crossfade_private.relabel_state(tab, column_name) s
  where s ->> 'check' is not null and s ->> 'bound' is null
  union all
  select format('constraint %I of %s is %s', o.conname, tab, q.reason)
  from pg_catalog.pg_constraint o
  cross join lateral (
    select case
      when o.contype = 'x' then
        'an exclusion constraint, which a partitioned table cannot have as it is; drop it'
      when o.contype in ('p', 'u') and o.condeferrable then
        'deferrable: make it one that is checked at once'
      when not o.convalidated and o.conname <> crossfade_private.bound_name(tab) then format(
        'not validated; run: alter table %s validate constraint %I', tab, o.conname)
      when o.contype in ('c', 'n') and o.connoinherit then
        'marked NO INHERIT, which partitions need; make it again without'
      when coalesce((to_jsonb(o) ->> 'conenforced')::boolean, true) is false then
        'not enforced; drop it' end
  ) q(reason)
  where o.conrelid = tab and q.reason is not null
  union all
  select format(
    '%s has its replica identity from index %s, which goes; run: alter table %1$s replica identity default',
    tab, i.indexrelid::regclass)
  from pg_catalog.pg_index i
  where i.indrelid = tab and i.indisreplident and i.indisprimary
    and column_name <> all (crossfade_private.primary_key(tab));
$$;

comment on function crossfade_private.relabel_index_problems is
  'Keys, indexes and constraints that a partitioned table cannot have, one sentence a row, each with the way out.';

create or replace function crossfade_private.relabel_part_problems(tab regclass)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format('trigger %I of %s %s', g.tgname, tab, case when g.tgconstraint <> 0
    then
      'is a constraint trigger, which is not carried over; drop it before and create it again after'
    else
      'runs for each row with a transition table, which a partitioned table does not have; let it run for each statement'
    end)
  from pg_catalog.pg_trigger g
  where g.tgrelid = tab and not g.tgisinternal
    and (g.tgconstraint <> 0 or g.tgtype & 1 = 1 and num_nulls(g.tgoldtable, g.tgnewtable) < 2)
  union all
  select format('rule %I of %s would stay with the first partition; drop it', r.rulename, tab)
  from pg_catalog.pg_rewrite r join pg_catalog.pg_class c on c.oid = tab and c.relkind = 'r'
  where r.ev_class = tab
  union all
  select format(
    'publication %I tells of rows by the names of partitions; run: alter publication %1$I set (publish_via_partition_root = true)',
    p.pubname)
  from pg_catalog.pg_publication p
  where not p.pubviaroot
    and p.pubname in (select q.name from crossfade_private.publications_of(tab) q)
    and p.pubname <> 'supabase_realtime'
  union all
  select format(
    'publication supabase_realtime: who listens to changes of %s would hear nothing, for Realtime names partitions; run: alter publication supabase_realtime drop table %1$s; and send broadcasts from a trigger',
    tab)
  from crossfade_private.publications_of(tab) q where q.name = 'supabase_realtime';
$$;

comment on function crossfade_private.relabel_part_problems is
  'Triggers, rules and publications that cannot go to a partitioned table, one sentence a row, each with the way out.';
