-- What in the catalog depends on V1, and would be in the way when V1 becomes an archive.

create or replace function crossfade_private.name_pattern(tab regclass)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- As a word or in quotes, with its own schema or with none: other.things is not things.
  select format('(?:%s\s*\.\s*%s|(?<!\.\s*)%2$s)', p.words[1], p.words[2])
  from (
    select array_agg(case when u.name ~ '^[a-z_][a-z0-9_$]*$'
      then format('(?:(?<![\w$"])%1$s(?![\w$"])|"%1$s")', e.escaped)
      else format('"%s"', e.escaped) end
      order by u.place) as words
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    cross join lateral unnest(array[n.nspname::text, c.relname::text])
      with ordinality u(name, place)
    cross join lateral (
      select regexp_replace(replace(u.name, '"', '""'), '([^\w\s])', '\\\1', 'g') as escaped
    ) e
    where c.oid = tab
  ) p;
$$;

comment on function crossfade_private.name_pattern is
  'A regular expression that finds a table''s name in SQL, to be asked in small and capital letters (~*). A string or comment that happens to hold the name is found as well.';

create or replace function crossfade_private.catalog_dependents(tab regclass)
returns table (kind text, object text, owner oid, breaks text, command text, id oid)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case c.relkind when 'v' then 'view' when 'm' then 'materialized view' else 'rule' end,
    case when c.relkind in ('v', 'm') then c.oid::regclass::text
      else format('%s of %s', quote_ident(r.rulename), c.oid::regclass) end,
    c.relowner, case c.relkind when 'v' then 'shows rows that no longer change'
      when 'm' then 'is refreshed from rows that no longer change'
      else 'reads or writes a table that refuses writes' end,
    case when c.relkind in ('v', 'm')
      then format('select pg_get_viewdef(%L::regclass, true);', c.oid::regclass)
      else format('select definition from pg_rules where rulename = %L;', r.rulename) end, r.oid
  from pg_catalog.pg_rewrite r
  join pg_catalog.pg_class c on c.oid = r.ev_class
  where c.oid <> tab and exists (
    select from pg_catalog.pg_depend d
    where d.classid = 'pg_rewrite'::regclass and d.objid = r.oid
      and d.refclassid = 'pg_class'::regclass and d.refobjid = tab)
  union all
  select 'policy', format('%s of %s', quote_ident(l.polname), l.polrelid::regclass), c.relowner,
    'decides by rows that no longer change',
    format('select qual, with_check from pg_policies where policyname = %L;', l.polname), l.oid
  from pg_catalog.pg_policy l join pg_catalog.pg_class c on c.oid = l.polrelid
  where l.polrelid <> tab and exists (
    select from pg_catalog.pg_depend d
    where d.classid = 'pg_policy'::regclass and d.objid = l.oid
      and d.refclassid = 'pg_class'::regclass and d.refobjid = tab)
  union all
  select 'default', format('%s.%I', a.attrelid::regclass, a.attname), c.relowner,
    format('takes its values from %s, which is dropped with %s', s.name, tab),
    case o.deptype when 'a' then format('alter sequence %s owned by none;', s.name)
      else format(
        'create sequence %1$s; select setval(%2$L, nextval(%3$L)); alter table %4$s alter column %5$I set default nextval(%2$L);',
        n.own, n.own, s.name, c.oid::regclass, a.attname) end, e.oid
  from pg_catalog.pg_depend o
  join pg_catalog.pg_class q on q.oid = o.objid and q.relkind = 'S'
  cross join lateral (select q.oid::regclass as name) s
  join pg_catalog.pg_depend u on u.refclassid = 'pg_class'::regclass and u.refobjid = q.oid
    and u.classid = 'pg_attrdef'::regclass
  join pg_catalog.pg_attrdef e on e.oid = u.objid
  join pg_catalog.pg_attribute a on a.attrelid = e.adrelid and a.attnum = e.adnum
  join pg_catalog.pg_class c on c.oid = a.attrelid
  cross join lateral (
    select format('%I.%I', c.relnamespace::regnamespace, concat(left(c.relname, 30), '_', left(
      a.attname, 20), '_own_seq')) as own
  ) n
  where o.classid = 'pg_class'::regclass and o.refclassid = 'pg_class'::regclass
    and o.refobjid = tab and o.refobjsubid > 0 and o.deptype in ('a', 'i') and c.oid <> tab;
$$;

comment on function crossfade_private.catalog_dependents is
  'Views, rules, policies and defaults that PostgreSQL knows to depend on a table or on a sequence that it owns; id is the oid of the rule of a view or rule, of a policy, of a default.';

create or replace function crossfade_private.function_dependents(tab regclass)
returns table (kind text, object text, owner oid, breaks text, command text, id oid)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with names as (
    select p.oid, p.prorettype, p.proowner
    from pg_catalog.pg_proc p
    join pg_catalog.pg_language l on l.oid = p.prolang and l.lanname not in ('c', 'internal')
    join pg_catalog.pg_namespace n on n.oid = p.pronamespace
      and n.nspname not in ('crossfade', 'crossfade_private', 'pg_catalog', 'information_schema')
    where not exists (
        select from pg_catalog.pg_depend d
        where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
      and p.oid not in (
        select crossfade_private.called_functions(array[q.to_v2, q.to_v1]) from crossfade.pairs q)
      -- The first question is the cheap one.
      and (strpos(lower(p.prosrc), (
          select replace(lower(c.relname), '"', '""') from pg_catalog.pg_class c
          where c.oid = tab)) > 0
        and p.prosrc ~* crossfade_private.name_pattern(tab)
        or p.prosqlbody is not null and exists (
        select from pg_catalog.pg_depend d
        where d.classid = 'pg_proc'::regclass and d.objid = p.oid
          and d.refclassid = 'pg_class'::regclass and d.refobjid = tab))
      -- What only its own triggers call goes quiet with it.
      and (p.prorettype <> 'trigger'::regtype or not exists (
          select from pg_catalog.pg_trigger g where g.tgfoid = p.oid and g.tgrelid = tab)
        or exists (
          select from pg_catalog.pg_trigger g where g.tgfoid = p.oid and g.tgrelid <> tab))
  )
  select 'function', f.oid::regprocedure::text, f.proowner,
    'reads rows that no longer change, or writes a table that refuses writes',
    format('select pg_get_functiondef(%L::regprocedure);', f.oid::regprocedure), f.oid
  from names f
  union all
  select 'trigger', format('%s of %s', quote_ident(g.tgname), g.tgrelid::regclass), c.relowner,
    format('calls %s, and so would fail every write of its table if that writes',
      f.oid::regprocedure),
    format('select pg_get_triggerdef(oid) from pg_trigger where tgname = %L;', g.tgname), g.oid
  from names f
  join pg_catalog.pg_trigger g on g.tgfoid = f.oid and not g.tgisinternal and g.tgrelid <> tab
    and g.tgenabled <> 'D'
  join pg_catalog.pg_class c on c.oid = g.tgrelid;
$$;

comment on function crossfade_private.function_dependents is
  'Functions whose text names a table, and triggers of other tables that call them. Names that are put together at run time are not seen.';
