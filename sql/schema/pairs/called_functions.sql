-- Which functions a function calls.

create or replace function crossfade_private.called_functions(names text[])
returns setof oid
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with recursive called(id) as (
    select to_regproc(f)::oid from unnest(names) f where to_regproc(f) is not null
    union
    select q.id
    from called c
    join pg_catalog.pg_proc d on d.oid = c.id
    cross join lateral (
      -- Postgres keeps no record of what a string calls, so its schema-qualified calls are read.
      select p.oid as id
      from pg_catalog.regexp_matches(
        coalesce(pg_catalog.pg_get_function_sqlbody(d.oid), d.prosrc),
        '([a-z_][a-z0-9_]*)\.([a-z_][a-z0-9_]*)\s*\(', 'g') m
      join pg_catalog.pg_namespace n on n.nspname = m[1] and n.nspname not like 'pg\_%'
      join pg_catalog.pg_proc p on p.pronamespace = n.oid and p.proname = m[2] and p.prokind = 'f'
      union all
      select coalesce(o.oprcode::oid, e.refobjid)
      from pg_catalog.pg_depend e
      left join pg_catalog.pg_operator o
        on e.refclassid = 'pg_operator'::regclass and o.oid = e.refobjid
      where e.classid = 'pg_proc'::regclass and e.objid = d.oid
        and e.refclassid in ('pg_proc'::regclass, 'pg_operator'::regclass)
    ) q
  )
  select c.id from called c;
$$;

comment on function crossfade_private.called_functions is
  'Some functions and all that they call: what a standard SQL body calls, and the qualified calls in a string. Calls without a schema or by dynamic SQL are not seen.';
