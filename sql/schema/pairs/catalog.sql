-- What the catalog says about a table, for those who write a pair for it.

create or replace function crossfade_private.find_table(name text)
returns regclass
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_schema text := case when name like '%.%' then split_part(name, '.', 1) else 'public' end;
  v_table text := case when name like '%.%' then split_part(name, '.', 2) else name end;
  v_found regclass;
begin
  select c.oid::regclass into v_found
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where n.nspname = v_schema and c.relname = v_table and c.relkind in ('r', 'p', 'v', 'm', 'f');
  if v_found is null then
    -- As SQL writes it, with quotes where they are needed.
    begin
      select c.oid::regclass into v_found from pg_catalog.pg_class c
      where c.oid = to_regclass(name) and c.relkind in ('r', 'p', 'v', 'm', 'f');
    exception when invalid_name or syntax_error or feature_not_supported then
      null; -- It is no name in SQL.
    end;
  end if;
  if v_found is null then
    perform crossfade_private.fail(404, 'CF012',
      format('Table "%s.%s" does not exist', v_schema, v_table),
      jsonb_build_object('table', name, 'known', (
        select coalesce(jsonb_agg(k.t order by k.t), '[]') from (
          select format('%s.%s', n.nspname, c.relname) t
          from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
          where n.nspname = v_schema and c.relkind in ('r', 'p') and not c.relispartition
          limit 50) k)),
      coalesce(format('There are: %s', (
        select string_agg(k.t, ', ' order by k.t) from (
          select format('%s.%s', n.nspname, c.relname) t
          from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
          where n.nspname = v_schema and c.relkind in ('r', 'p') and not c.relispartition
          order by 1 limit 10) k)),
        'Write the name with its schema, for example public.messages.'));
  end if;
  return v_found;
end $$;

comment on function crossfade_private.find_table is
  'The table of a name, with schema or in public, without quotes or as SQL writes it; CF012 with the names there are.';

create or replace function crossfade_private.table_columns(tab regclass)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(jsonb_build_object(
    'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
    'base_type', format_type(case when y.typtype = 'd' then y.typbasetype else y.oid end, null),
    'not_null', a.attnotnull,
    'default', case when a.attgenerated = '' then pg_get_expr(d.adbin, d.adrelid) end,
    'generated', case when a.attgenerated <> '' then pg_get_expr(d.adbin, d.adrelid) end,
    'identity', a.attidentity <> '',
    'sequence', crossfade_private.default_sequence(tab, a.attname::text)::text,
    'labels', (select coalesce(jsonb_agg(e.enumlabel order by e.enumsortorder), '[]')
      from pg_catalog.pg_enum e where e.enumtypid = y.oid),
    'checked', exists (
      select from pg_catalog.pg_constraint o
      where o.conrelid = tab and o.contype in ('c', 'f') and a.attnum = any (o.conkey)),
    'comment', col_description(tab, a.attnum)) order by a.attnum), '[]')
  from pg_catalog.pg_attribute a
  join pg_catalog.pg_type y on y.oid = a.atttypid
  left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
  where a.attrelid = tab and a.attnum > 0 and not a.attisdropped;
$$;

comment on function crossfade_private.table_columns is
  'The columns of a table in their order.';

create or replace function crossfade_private.table_hindrances(tab regclass)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'triggers', (
      select coalesce(jsonb_agg(jsonb_build_object('name', g.tgname,
        'definition', pg_get_triggerdef(g.oid), 'enabled', g.tgenabled <> 'D') order by g.tgname),
        '[]')
      from pg_catalog.pg_trigger g join pg_catalog.pg_proc p on p.oid = g.tgfoid
      where g.tgrelid = tab and not g.tgisinternal
        and p.pronamespace <> 'crossfade_private'::regnamespace),
    'policies', (
      select coalesce(jsonb_agg(jsonb_build_object('name', l.polname, 'command', l.polcmd,
        'permissive', l.polpermissive, 'roles', (
          select jsonb_agg(case when r = 0 then 'public' else r::regrole::text end)
          from unnest(l.polroles) r),
        'using', pg_get_expr(l.polqual, l.polrelid),
        'check', pg_get_expr(l.polwithcheck, l.polrelid)) order by l.polname), '[]')
      from pg_catalog.pg_policy l where l.polrelid = tab),
    'constraints', (
      select coalesce(jsonb_agg(jsonb_build_object('name', o.conname, 'kind', o.contype,
        'definition', pg_get_constraintdef(o.oid), 'columns', (
          select coalesce(jsonb_agg(a.attname order by a.attnum), '[]')
          from pg_catalog.pg_attribute a
          where a.attrelid = tab and a.attnum = any (o.conkey))) order by o.conname), '[]')
      from pg_catalog.pg_constraint o where o.conrelid = tab and o.contype <> 'n'),
    'referenced_by', (
      select coalesce(jsonb_agg(format('%s (%s)', o.conrelid::regclass, o.conname)
        order by o.conname), '[]')
      from pg_catalog.pg_constraint o where o.confrelid = tab and o.contype = 'f'),
    'indexes', (
      select coalesce(jsonb_agg(pg_get_indexdef(i.indexrelid)
        order by i.indexrelid::regclass::text), '[]')
      from pg_catalog.pg_index i where i.indrelid = tab),
    'grants', (
      select coalesce(jsonb_object_agg(g.role, g.rights), '{}') from (
        select a.grantee::regrole::text as role,
          jsonb_agg(lower(a.privilege_type) order by a.privilege_type) as rights
        from pg_catalog.pg_class c
        cross join lateral pg_catalog.aclexplode(c.relacl) a
        where c.oid = tab and a.grantee <> c.relowner and a.grantee <> 0
        group by a.grantee) g),
    'publications', (
      select coalesce(jsonb_agg(p.pubname order by p.pubname), '[]')
      from pg_catalog.pg_publication p
      where p.puballtables or exists (
        select from pg_catalog.pg_publication_rel r where r.prpubid = p.oid and r.prrelid = tab)));
$$;

comment on function crossfade_private.table_hindrances is
  'What takes part in every write to a table, or decides who sees it; without crossfade''s triggers.';

create or replace function crossfade_private.table_keys(tab regclass)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- The conditions that table_problems has for a key.
  select coalesce(jsonb_agg(distinct k.names), '[]')
  from pg_catalog.pg_index i
  join pg_catalog.pg_class c on c.oid = i.indexrelid
  join pg_catalog.pg_am m on m.oid = c.relam and m.amname = 'btree'
  cross join lateral (
    select jsonb_agg(a.attname order by u.n) as names, bool_and(a.attnotnull) as is_there
    from unnest(i.indkey[0:i.indnkeyatts - 1]) with ordinality u(attnum, n)
    left join pg_catalog.pg_attribute a on a.attrelid = tab and a.attnum = u.attnum
  ) k
  where i.indrelid = tab and i.indisunique and i.indimmediate and i.indisvalid
    and i.indpred is null and i.indexprs is null and not i.indisexclusion and k.is_there;
$$;

comment on function crossfade_private.table_keys is
  'Lists of columns that a pair could be keyed by.';

create or replace function crossfade_private.table_parents(tab regclass)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(jsonb_build_object('columns', k.own, 'parent_columns', k.parents,
      'reference', format('REFERENCES %s(%s)', o.confrelid::regclass, k.written),
      'table', o.confrelid::regclass::text, 'pair', (
        select jsonb_build_object('name', p.name, 'v1_table', p.v1_table, 'v2_table', p.v2_table,
          'key', p.key_columns, 'v2_key', p.v2_key_columns, 'v2_key_types', (
            select jsonb_agg(format_type(a.atttypid, a.atttypmod) order by u.n)
            from unnest(p.v2_key_columns) with ordinality u(name, n)
            join pg_catalog.pg_attribute a
              on a.attrelid = to_regclass(p.v2_table) and a.attname = u.name),
          'v2_columns', (
            select jsonb_agg(a.attname order by a.attnum) from pg_catalog.pg_attribute a
            where a.attrelid = to_regclass(p.v2_table) and a.attnum > 0 and not a.attisdropped))
        from crossfade.pairs p
        where o.confrelid in (to_regclass(p.v1_table), to_regclass(p.v2_table)) limit 1))
    order by o.conname), '[]')
  from pg_catalog.pg_constraint o
  cross join lateral (
    select jsonb_agg(a.attname order by u.n) as own, jsonb_agg(b.attname order by u.n) as parents,
      string_agg(quote_ident(b.attname), ', ' order by u.n) as written
    from unnest(o.conkey, o.confkey) with ordinality u(own, parent, n)
    join pg_catalog.pg_attribute a on a.attrelid = o.conrelid and a.attnum = u.own
    join pg_catalog.pg_attribute b on b.attrelid = o.confrelid and b.attnum = u.parent
  ) k
  where o.conrelid = tab and o.contype = 'f' and o.conparentid = 0;
$$;

comment on function crossfade_private.table_parents is
  'What the foreign keys of a table point to, and the pair of that table, if it has one.';

create or replace function crossfade_private.table_size(tab regclass)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object('rows', greatest(r.number, 0)::bigint, 'analyzed', r.number >= 0,
    'bytes', sum(pg_table_size(t.id)), 'index_bytes', sum(pg_indexes_size(t.id)))
  from crossfade_private.planner_rows(tab) r(number)
  cross join crossfade_private.table_tree(tab) t
  group by r.number;
$$;

comment on function crossfade_private.table_size is
  'Bytes of a table and its indexes, and the planner''s estimate of its rows.';

create or replace function crossfade.describe_table(name text, sample_rows integer default 0)
returns jsonb
language plpgsql stable
security definer -- reads the catalog and, where service_role may, some rows; only it may call this
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_table regclass := crossfade_private.find_table(name);
  v_key text[] := crossfade_private.primary_key(v_table);
  v_sample jsonb := '[]'::jsonb;
begin
  if sample_rows not between 0 and 100 then
    perform crossfade_private.fail(400, 'CF012', format('Invalid sample_rows %s', sample_rows),
      jsonb_build_object('sample_rows', sample_rows), 'It is 0 to 100.');
  end if;
  if sample_rows > 0 and pg_catalog.has_table_privilege('service_role', v_table, 'select') then
    execute format('select coalesce(jsonb_agg(to_jsonb(x)), ''[]'') from (
        select s.* from %s s order by %s limit $1) x', v_table,
      coalesce((select string_agg(format('s.%I', k), ', ') from unnest(v_key) k), '1'))
    into v_sample using sample_rows;
  end if;
  return (
    select jsonb_build_object(
      'table', format('%I.%I', n.nspname, c.relname), 'schema', n.nspname, 'name', c.relname,
      'key', coalesce(to_jsonb(v_key), '[]'), 'keys', crossfade_private.table_keys(v_table),
      'parents', crossfade_private.table_parents(v_table),
      'columns', crossfade_private.table_columns(v_table),
      'row_security', c.relrowsecurity, 'comment', obj_description(v_table, 'pg_class'),
      'problems', (
        select coalesce(jsonb_agg(p), '[]')
        from crossfade_private.table_problems(v_table, 'table', coalesce(v_key, '{}')) p),
      'pair', (select p.name from crossfade.pairs p
        where v_table in (to_regclass(p.v1_table), to_regclass(p.v2_table)) limit 1),
      'sample', v_sample)
      || crossfade_private.table_hindrances(v_table) || crossfade_private.table_size(v_table)
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.oid = v_table);
end $$;

comment on function crossfade.describe_table is
  'What the catalog says about a table: columns, its key and others it could have ("keys"), what it refers to ("parents"), constraints, indexes, triggers, policies, sizes, what would keep it from being mirrored ("problems"), and up to sample_rows (0 to 100) rows by key. Reads only. CF012 unknown table.';
