-- Does every function pin its search_path? Temporary objects come last: a domain of that schema
-- must not stand in for a type of ours.
with functions as (
  select
    p.oid, p.proname, p.proowner,
    (
      select substr(c.setting, length('search_path=') + 1)
      from unnest(p.proconfig) as c (setting)
      where c.setting like 'search\_path=%'
    ) as search_path,
    -- Made for a pair: they write tables whose own triggers may name things without a schema.
    p.proname ~ '^mirror_.+_v[12]_[a-z]+$' as is_made
  from pg_catalog.pg_proc as p
  where
    p.pronamespace in (
      select n.oid from pg_catalog.pg_namespace as n
      where n.nspname in ('crossfade', 'crossfade_private')
    )
),

schemas as (
  select
    f.oid, m.place, m.place = count(*) over (partition by f.oid) as is_last,
    coalesce((parse_ident(m.name[1], false))[1], '') as name
  from functions as f
  cross join lateral regexp_matches(f.search_path, '"(?:[^"]|"")*"|[^", ]+', 'g')
    with ordinality as m (name, place)
),

unsafe as (
  -- Who may create things in a schema of the path could put in one of a name that is looked up.
  select s.oid, min(s.name) as name
  from schemas as s
  left join pg_catalog.pg_namespace as n on s.name = n.nspname
  inner join functions as f on s.oid = f.oid
  where
    s.place > 1 and not s.is_last
    and (
      n.oid is null
      or n.nspname like 'pg\_%'
      or exists (
        select a.grantee
        from aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) as a
        left join pg_catalog.pg_roles as r on a.grantee = r.oid
        where
          a.privilege_type = 'CREATE'
          and a.grantee not in (n.nspowner, f.proowner)
          -- The owner of the database, and the platform's role without a login.
          and not coalesce(
            r.rolsuper or r.rolname in ('pg_database_owner', 'dashboard_user'), false
          )
      )
    )
  group by s.oid
)

select
  'search_path' as check_name, f.oid::regprocedure::text as object,
  case
    when u.oid is not null then format('others may create things in schema %s of its path', u.name)
    else 'search_path is not pinned to pg_catalog, pg_temp'
  end as problem,
  case
    when f.is_made
      then format('crossfade pair refresh %s', substring(f.proname from '^mirror_(.+)_v[12]_'))
    else format('alter function %s set search_path = pg_catalog, pg_temp;', f.oid::regprocedure)
  end as hint
from functions as f
left join unsafe as u on f.oid = u.oid
where
  u.oid is not null
  or not coalesce(
    f.search_path = 'pg_catalog, pg_temp'
    or f.is_made and f.search_path ~ '^pg_catalog, (.+, )?pg_temp$', false
  )
order by object;
