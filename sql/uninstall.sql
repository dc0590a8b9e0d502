-- Remove crossfade: its triggers and generated functions on your tables, and both schemas with all
-- flags, metrics and logs. Your tables, their rows and your converters stay.
--
-- Take care: afterwards nothing keeps V1 and V2 equal, and nothing fences V2.
-- Locks each paired table ACCESS EXCLUSIVE for a moment; waits at most 2 s for it, and if that is
-- not enough, changes nothing.

begin;

set local lock_timeout = '2s';

-- A view that has V1's name would lose the trigger behind it.
do $$
declare
  v_views text;
begin
  if to_regclass('crossfade.pairs') is not null then
    select string_agg(format('%s (pair %s)', to_jsonb(p) ->> 'v1_view', p.name), ', '
      order by p.name)
    into v_views from crossfade.pairs p where p.stage = 'retired';
  end if;
  if v_views is not null then
    raise exception 'Cannot uninstall crossfade: % would no longer be written', v_views
      using hint = 'Bring the tables back first: crossfade stage set PAIR complete';
  end if;
end $$;

do $$
declare
  v_trigger record;
begin
  -- Found by the function they call, not by name: a trigger of yours that is called crossfade_x
  -- stays.
  for v_trigger in
    select format('drop trigger %I on %s', t.tgname, t.tgrelid::regclass) as statement
    from pg_catalog.pg_trigger t
    join pg_catalog.pg_proc p on p.oid = t.tgfoid
    join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    join pg_catalog.pg_class c on c.oid = t.tgrelid
    where not t.tgisinternal
      -- What a partition has of a row trigger goes with that.
      and t.tgparentid = 0
      and n.nspname in ('crossfade', 'crossfade_private')
      and c.relnamespace not in (
        select s.oid from pg_catalog.pg_namespace s
          where s.nspname in ('crossfade', 'crossfade_private')
      )
    order by c.oid, t.tgname
  loop
    execute v_trigger.statement;
  end loop;
end $$;

-- Our two policies on a table that is not ours.
do $$
begin
  if to_regclass('realtime.messages') is not null then
    drop policy if exists "crossfade operators listen" on realtime.messages;
    drop policy if exists "crossfade operators hint" on realtime.messages;
  end if;
end $$;

-- The cascade below must not reach anything of yours: whatever else depends on crossfade stops us.
do $$
declare
  v_dependents text;
begin
  with ours as (
    select n.oid from pg_catalog.pg_namespace n
      where n.nspname in ('crossfade', 'crossfade_private')
  ),
  dependents as (
    select d.classid, d.objid, d.objsubid,
      coalesce(
        (select p.pronamespace from pg_catalog.pg_proc p
         where d.classid = 'pg_catalog.pg_proc'::regclass and p.oid = d.objid),
        (select c.relnamespace from pg_catalog.pg_class c
         where c.oid = coalesce(
           case d.classid when 'pg_catalog.pg_class'::regclass then d.objid end,
           (select r.ev_class from pg_catalog.pg_rewrite r
            where d.classid = 'pg_catalog.pg_rewrite'::regclass and r.oid = d.objid),
           (select l.polrelid from pg_catalog.pg_policy l
            where d.classid = 'pg_catalog.pg_policy'::regclass and l.oid = d.objid),
           (select a.adrelid from pg_catalog.pg_attrdef a
            where d.classid = 'pg_catalog.pg_attrdef'::regclass and a.oid = d.objid),
           (select t.tgrelid from pg_catalog.pg_trigger t
            where d.classid = 'pg_catalog.pg_trigger'::regclass and t.oid = d.objid),
           (select o.conrelid from pg_catalog.pg_constraint o
            where d.classid = 'pg_catalog.pg_constraint'::regclass and o.oid = d.objid)))
      ) as namespace
    from pg_catalog.pg_depend d
    -- Parts of an object (its toast table, its row type) are not dependents of their own.
    where d.deptype in ('n', 'a') and (d.refclassid, d.refobjid) in (
      select 'pg_catalog.pg_proc'::regclass, p.oid from pg_catalog.pg_proc p
      where p.pronamespace in (select o.oid from ours o)
      union all
      select 'pg_catalog.pg_class'::regclass, c.oid from pg_catalog.pg_class c
      where c.relnamespace in (select o.oid from ours o)
      union all
      select 'pg_catalog.pg_type'::regclass, y.oid from pg_catalog.pg_type y
      where y.typnamespace in (select o.oid from ours o))
  )
  select string_agg(distinct pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid), ', ')
  into v_dependents
  from dependents d
  where d.namespace not in (select o.oid from ours o);
  if v_dependents is not null then
    raise exception 'Cannot uninstall crossfade: % would be dropped with it', v_dependents
      using hint = 'Drop or change them first.';
  end if;
end $$;

-- Runs that pg_cron drives, and the job that watches: their jobs would go on calling what is gone.
do $$
begin
  if to_regprocedure('crossfade_private.unschedule_run(bigint)') is not null then
    perform crossfade_private.unschedule_run(r.id) from crossfade.runs r
    where r.state in ('running', 'paused');
  end if;
  if to_regprocedure('crossfade_private.unschedule_watch()') is not null then
    perform crossfade_private.unschedule_watch();
  end if;
end $$;

drop schema if exists crossfade_private cascade;
drop schema if exists crossfade cascade;

commit;

notify pgrst, 'reload schema';
