-- Whose code runs with our rights: the mirror writes the tables as the owner of its functions, and
-- so run the converters, the triggers of the other table, and what both of them call.

create or replace function crossfade_private.is_trusted_owner(role oid)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- Every caller is owned by the engine's owner and asks with its rights.
  select r.rolsuper or r.rolname = current_user from pg_catalog.pg_roles r where r.oid = role;
$$;

comment on function crossfade_private.is_trusted_owner is
  'Whether what a role could put into its functions may run with the engine''s rights: the engine''s owner''s own, and a superuser''s. Membership is not enough: the engine''s owner is a member of the API roles.';

create or replace function crossfade_private.function_owner_problem(id oid, what text)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format(
    '%s belongs to %s, who could replace it by code that runs as %s; run: alter function %s owner to %I',
    what, p.proowner::regrole, current_user, p.oid::regprocedure, current_user)
  from pg_catalog.pg_proc p
  where p.oid = id and not crossfade_private.is_trusted_owner(p.proowner);
$$;

comment on function crossfade_private.function_owner_problem is
  'A sentence about a function of somebody else''s that runs with the engine''s rights; null for one of the engine''s owner.';

create or replace function crossfade_private.converter_owner_problems(pair crossfade.pairs)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select q.problem
  from (
    select crossfade_private.function_owner_problem(c.id, case
      when c.id = to_regproc((pair).to_v2) then format('function to_v2 %s', (pair).to_v2)
      when c.id = to_regproc((pair).to_v1) then format('function to_v1 %s', (pair).to_v1)
      else format('function %s, which the converters call,', c.id::regprocedure) end) as problem
    from crossfade_private.called_functions(array[(pair).to_v2, (pair).to_v1]) c(id)
  ) q
  where q.problem is not null
  order by q.problem;
$$;

comment on function crossfade_private.converter_owner_problems is
  'Converters, and functions that they call, of owners who could make the engine run their code.';

create or replace function crossfade_private.table_owner_problems(tab regclass, label text)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- Whoever owns a table can give it a trigger, which our writes fire.
  select format(
    '%s %s belongs to %s, of which %s is not a member: its triggers cannot be created; run: alter table %2$s owner to %4$I',
    label, tab, c.relowner::regrole, current_user)
  from pg_catalog.pg_class c
  where c.oid = tab and not pg_has_role(c.relowner, 'usage')
  union all
  select format(
    '%s %s belongs to the API role %s, which could give it code that runs as %s; run: alter table %2$s owner to %4$I',
    label, tab, r.rolname, current_user)
  from pg_catalog.pg_class c join pg_catalog.pg_roles r on r.oid = c.relowner
  where c.oid = tab and pg_has_role(c.relowner, 'usage')
    and r.rolname in ('anon', 'authenticated', 'authenticator')
  union all
  -- A SECURITY DEFINER function runs as its owner, whoever fires it.
  select distinct crossfade_private.function_owner_problem(f.oid,
    format('%s %s: function %s, which its triggers, defaults, constraints or indexes call,', label,
      tab, f.oid::regprocedure))
  from pg_catalog.pg_depend d
  join pg_catalog.pg_proc f on f.oid = d.refobjid
  where d.refclassid = 'pg_proc'::regclass and not f.prosecdef
    and f.pronamespace <> 'crossfade_private'::regnamespace
    and not crossfade_private.is_trusted_owner(f.proowner)
    and (d.classid, d.objid) in (
      select 'pg_trigger'::regclass, g.oid from pg_catalog.pg_trigger g where g.tgrelid = tab
      union all
      select 'pg_attrdef'::regclass, e.oid from pg_catalog.pg_attrdef e where e.adrelid = tab
      union all
      select 'pg_constraint'::regclass, o.oid from pg_catalog.pg_constraint o
      where o.conrelid = tab
      union all
      select 'pg_class'::regclass, i.indexrelid from pg_catalog.pg_index i where i.indrelid = tab);
$$;

comment on function crossfade_private.table_owner_problems is
  'What gives somebody else than the engine''s owner a way to run code when the mirror writes a table.';
