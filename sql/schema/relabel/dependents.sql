-- What PostgreSQL binds to a table and not to its name: carried over to the root, or refused.

create or replace function crossfade_private.table_ties(tab regclass)
returns table (on_type boolean, class oid, id oid, part integer, mark text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select r.class = 'pg_type'::regclass, d.classid, d.objid, d.objsubid,
    -- Whoever defines an object anew writes these rows anew.
    concat_ws(' ', d.xmin, d.ctid)
  from pg_catalog.pg_class c
  join pg_catalog.pg_type y on y.oid = c.reltype
  cross join lateral (
    values ('pg_class'::regclass, c.oid), ('pg_type', y.oid), ('pg_type', y.typarray)
  ) r(class, id)
  join pg_catalog.pg_depend d on d.refclassid = r.class and d.refobjid = r.id
  where c.oid = tab and d.deptype <> 'i';
$$;

comment on function crossfade_private.table_ties is
  'What PostgreSQL knows to depend on a table or on the type of its rows; mark changes with its definition.';

create or replace function crossfade_private.relabel_bound(tab regclass, column_name text)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format(
    '%s uses the type of the rows of %s, which stays with the first partition; drop it before and create it again after',
    pg_describe_object(u.class, u.id, u.part), tab)
  from crossfade_private.table_ties(tab) u where u.on_type
  union all
  select format('%s %s reads %s itself and would see the first partition only; %s', d.kind,
    d.object, tab, case d.kind
      when 'default' then 'give it a sequence of its own: ' || d.command
      else 'drop it before and create it again after; its text: ' || d.command end)
  from crossfade_private.catalog_dependents(tab) d
  where d.kind in ('materialized view', 'rule') or d.kind = 'default' and exists (
    select from pg_catalog.pg_attribute a
    where a.attrelid = tab and a.attidentity <> '' and a.attnum > 0)
  union all
  select format(
    'function %s reads %s itself and would see the first partition only; drop it before and create it again after; its text: select pg_get_functiondef(%3$L::regprocedure);',
    p.oid::regprocedure, tab, p.oid::regprocedure)
  from pg_catalog.pg_proc p
  where p.prosqlbody is not null and exists (
    select from pg_catalog.pg_depend d
    where d.classid = 'pg_proc'::regclass and d.objid = p.oid
      and d.refclassid = 'pg_class'::regclass and d.refobjid = tab)
  union all
  select format(
    'view %s groups by the primary key of %s alone, which no longer says all about a row; name its columns in GROUP BY',
    r.ev_class::regclass, tab)
  from pg_catalog.pg_depend d
  join pg_catalog.pg_rewrite r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid
  join pg_catalog.pg_constraint o on d.refclassid = 'pg_constraint'::regclass
    and o.oid = d.refobjid and o.conrelid = tab
  where r.ev_class <> tab
  union all
  select format('foreign key %I of %s %s; run: alter table %2$s drop constraint %1$I; %4$s',
    o.conname,
    o.conrelid::regclass, format(case when bool_or(a.attname = column_name)
        then 'points to %s and is not carried over'
        else 'points to a part of the key of %s, which alone is not unique among partitions' end,
      tab), case when bool_or(a.attname = column_name) then format(
        'and after the swap: alter table %s add constraint %I %s', o.conrelid::regclass, o.conname,
        pg_get_constraintdef(o.oid))
      else 'what must be checked holds the column of the partitions, too' end)
  from pg_catalog.pg_constraint o
  cross join lateral unnest(o.confkey) with ordinality u(attnum, n)
  join pg_catalog.pg_attribute a on a.attrelid = o.confrelid and a.attnum = u.attnum
  where o.confrelid = tab and o.contype = 'f' and o.conparentid = 0
  group by o.oid;
$$;

comment on function crossfade_private.relabel_bound is
  'What is bound to a table and cannot be carried over to the root of its name, each with the way out.';

create or replace function crossfade_private.rebound_views(tab regclass)
returns table (lock_sql text, sql text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format('alter view %s owner to %I', v.oid::regclass, pg_get_userbyid(v.relowner)),
    format('create or replace view %s%s as %s', v.oid::regclass, (
      select format(' with (%s)',
        string_agg(format('%I = %L', o.option_name, o.option_value), ', '))
      from pg_catalog.pg_options_to_table(v.reloptions) o having count(*) > 0),
      rtrim(pg_get_viewdef(v.oid), E' \n;'))
  from pg_catalog.pg_class v
  where v.relkind = 'v' and exists (
    select from pg_catalog.pg_rewrite r
    join pg_catalog.pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid
      and d.refclassid = 'pg_class'::regclass and d.refobjid = tab
    where r.ev_class = v.oid and r.ev_type = '1');
$$;

comment on function crossfade_private.rebound_views is
  'For each view of a table: what locks it alone, as changing to the owner that it has does, and what makes it read whatever has the table''s name by then.';

create or replace function crossfade_private.rebound_policies(tab regclass)
returns table (lock_sql text, sql text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format('lock table %s in access exclusive mode', l.polrelid::regclass),
    format('alter policy %I on %s%s%s', l.polname, l.polrelid::regclass,
      ' using (' || pg_get_expr(l.polqual, l.polrelid) || ')',
      ' with check (' || pg_get_expr(l.polwithcheck, l.polrelid) || ')')
  from pg_catalog.pg_policy l
  where l.polrelid <> tab and exists (
    select from pg_catalog.pg_depend d
    where d.classid = 'pg_policy'::regclass and d.objid = l.oid
      and d.refclassid = 'pg_class'::regclass and d.refobjid = tab);
$$;

comment on function crossfade_private.rebound_policies is
  'The same for policies of other tables that ask the table; with the lock of theirs.';
