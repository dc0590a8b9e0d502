-- What keeps V1 from being retired into a view of its name.

create or replace function crossfade_private.view_problems(pair crossfade.pairs)
returns setof jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select crossfade_private.blocker('converter_called', format(
      'the text of converter %s cannot stand in a view: %s', c.name, q.pieces ->> c.piece),
    'Change it as that says and register the pair again.')
  from crossfade_private.pair_pieces q
  cross join lateral (
    values ('called', (view_problems.pair).to_v1), ('called_back', (view_problems.pair).to_v2)
  ) c(piece, name)
  where q.pair = (view_problems.pair).name and q.side = 2 and q.pieces ->> c.piece is not null
  union all
  select crossfade_private.blocker('converter_keeps', format(
      'converter %s takes values from the stored row of version 1 (%s), which a view does not have',
      (view_problems.pair).to_v1, coalesce((
        select string_agg(c, ', ' order by c)
        from jsonb_array_elements_text(nullif(q.pieces -> 'reads_counterpart', 'null')) c),
        'the whole row')),
    'Give version 2 a place for them, and register the pair again.')
  from crossfade_private.pair_pieces q
  where q.pair = (view_problems.pair).name and q.side = 2
    and q.pieces -> 'reads_counterpart' is distinct from '[]'
    and q.pieces ->> 'called' is null
  union all
  select crossfade_private.blocker('name_taken', format('%s exists already', n.name),
    'Rename it: stage retired needs the name.')
  from unnest(array['_archive', '_to_be']) s(suffix)
  cross join lateral crossfade_private.beside_name((view_problems.pair).v1_table, s.suffix) n(name)
  where to_regclass(n.name) is not null;
$$;

comment on function crossfade_private.view_problems is
  'Why no view can take the place of V1.';

create or replace function crossfade_private.bound_dependents(pair crossfade.pairs)
returns setof jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with v1 as (
    select c.oid, c.reltype, y.typarray
    from pg_catalog.pg_class c join pg_catalog.pg_type y on y.oid = c.reltype
    where c.oid = to_regclass((pair).v1_table)
  ),
  found as (
    -- What looks the name up when it runs finds the view.
    select d.kind, d.object, d.is_ignored, format(
      '%s Or have it written: crossfade handover plan %s', d.command, (pair).name) as command
    from crossfade_private.v1_dependents(pair) d
    left join pg_catalog.pg_proc p on d.kind = 'function' and p.oid = d.id
    where d.kind not in ('trigger', 'cron job') and (d.kind <> 'function'
      or p.prosqlbody is not null)
    union all
    select 'publication', p.name, (pair).options -> 'ignore_dependents' ? p.name,
      format('alter publication %I drop table %s;', p.name, (pair).v1_table)
    from v1 cross join lateral crossfade_private.publications_of(v1.oid) p
    where p.is_named
      and p.name in (
        select q.name from crossfade_private.publications_of(to_regclass((pair).v2_table)) q)
    union all
    select 'parameter', p.oid::regprocedure::text, (pair).options -> 'ignore_dependents'
      ? p.oid::regprocedure::text, format('select pg_get_functiondef(%L::regprocedure);',
      p.oid::regprocedure)
    from v1
    join pg_catalog.pg_proc p on p.proargtypes::oid[] && array[v1.reltype, v1.typarray]
    where p.pronamespace <> 'crossfade_private'::regnamespace
      and p.oid not in (
        select crossfade_private.called_functions(array[(pair).to_v2, (pair).to_v1]))
    union all
    select 'column', format('%s.%I', a.attrelid::regclass, a.attname), (pair).options
      -> 'ignore_dependents' ? format('%s.%I', a.attrelid::regclass, a.attname),
      format('alter table %s alter column %I type jsonb using to_jsonb(%2$I);',
        a.attrelid::regclass, a.attname)
    from v1
    join pg_catalog.pg_attribute a on a.atttypid in (v1.reltype, v1.typarray) and a.attnum > 0
      and not a.attisdropped
    join pg_catalog.pg_class c on c.oid = a.attrelid and c.relkind in ('r', 'p')
  )
  select crossfade_private.blocker('v1_bound', format(
      '%s bound to the table %s and would not follow its name: %s %s',
      case count(*) when 1 then '1 object is' else count(*) || ' objects are' end,
      (pair).v1_table, f.kind, string_agg(f.object, ', ' order by f.object)),
    string_agg(distinct f.command, ' '))
  from found f
  where not coalesce(f.is_ignored, false)
  group by f.kind;
$$;

comment on function crossfade_private.bound_dependents is
  'What PostgreSQL binds to V1 itself and not to its name, and nobody has said to let be.';

create or replace function crossfade_private.rights_for_view(pair crossfade.pairs)
returns table (command text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with granted as (
    select distinct a.grantee, lower(a.privilege_type) as privilege
    from pg_catalog.pg_class c
    cross join lateral (
      select x.grantee, x.privilege_type from pg_catalog.aclexplode(c.relacl) x
      union all
      select x.grantee, x.privilege_type from pg_catalog.pg_attribute b
      cross join lateral pg_catalog.aclexplode(b.attacl) x
      where b.attrelid = c.oid and b.attnum > 0
    ) a
    where c.oid = to_regclass((pair).v1_table) and a.grantee <> c.relowner
      and a.privilege_type in ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
  ),
  caller as (
    select g.grantee, g.privilege,
      case g.grantee when 0 then 'public' else pg_get_userbyid(g.grantee)::text end as role,
      case g.grantee when 0 then 'public'
        else quote_ident(pg_get_userbyid(g.grantee)) end as quoted
    from granted g
  )
  select format('grant %s to %s;', m.what, string_agg(m.quoted, ', ' order by m.quoted))
  from (
    select format('%s on %s', c.privilege, (pair).v2_table) as what, c.quoted
    from caller c
    where not has_table_privilege(c.role, (pair).v2_table, c.privilege)
      and not case when c.privilege <> 'delete'
        then has_any_column_privilege(c.role, (pair).v2_table, c.privilege) else false end
    union
    select format('usage on schema %I', n.nspname), c.quoted
    from caller c
    cross join (
      select v.relnamespace as id from pg_catalog.pg_class v
      where v.oid = to_regclass((pair).v2_table)
      union
      select p.pronamespace
      from crossfade_private.called_functions(array[(pair).to_v2, (pair).to_v1]) f(id)
      join pg_catalog.pg_proc p on p.oid = f.id
      where f.id not in (to_regproc((pair).to_v2), to_regproc((pair).to_v1))
    ) s
    join pg_catalog.pg_namespace n on n.oid = s.id
    where not has_schema_privilege(c.role, n.oid, 'usage')
    union
    select format('execute on function %s', f.id::regprocedure), c.quoted
    from caller c
    cross join lateral crossfade_private.called_functions(array[(pair).to_v2, (pair).to_v1]) f(id)
    where f.id not in (to_regproc((pair).to_v2), to_regproc((pair).to_v1))
      and not has_function_privilege(c.role, f.id, 'execute')
    union
    select format('usage on sequence %s', s.sequence), c.quoted
    from caller c
    join pg_catalog.pg_attribute a on a.attrelid = to_regclass((pair).v1_table) and a.attnum > 0
    cross join lateral crossfade_private.view_sequence(pair, a.attname) s(sequence)
    where c.privilege = 'insert' and s.sequence is not null
      and not has_sequence_privilege(c.role, s.sequence, 'usage')
  ) m
  group by m.what;
$$;

comment on function crossfade_private.rights_for_view is
  'Grants that those who may use V1 lack for a view of its name, which asks for their own rights on V2, on the sequence of a key and on what the converters call.';

create or replace function crossfade_private.retirement_blockers(pair crossfade.pairs)
returns setof jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select crossfade_private.view_problems(pair)
  union all
  select crossfade_private.bound_dependents(pair)
  union all
  select crossfade_private.blocker('rights', format(
      'a view asks for the rights of its callers, and they lack %s of them', count(*)),
    string_agg(r.command, ' ' order by r.command))
  from crossfade_private.rights_for_view(pair) r
  having count(*) > 0
  union all
  select d.b
  from crossfade_private.data_blockers(pair) d(b)
  where d.b ->> 'code' in ('open_mismatches', 'open_failures');
$$;

comment on function crossfade_private.retirement_blockers is
  'What stands between stage complete and retired, but for what every stage asks.';
