-- Everything that depends on a pair's V1, for plans, blockers and whoever moves it to V2.

create or replace function crossfade_private.foreign_key_terms(child_key oid)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- From the catalog, not from the printed constraint: names in that may hold anything.
  select concat(case o.confmatchtype when 'f' then ' match full' end,
    ' on update ' || (a.words ->> o.confupdtype::text),
    ' on delete ' || (a.words ->> o.confdeltype::text), (
      select format(' (%s)', string_agg(quote_ident(c.attname), ', ' order by c.attnum))
      from pg_catalog.pg_attribute c
      where c.attrelid = o.conrelid and c.attnum = any (o.confdelsetcols)
      having count(*) > 0),
    case when o.condeferrable then ' deferrable' end,
    case when o.condeferred then ' initially deferred' end)
  from pg_catalog.pg_constraint o
  cross join lateral (
    select '{"r": "restrict", "c": "cascade", "n": "set null", "d": "set default"}'::jsonb
  ) a(words)
  where o.oid = child_key;
$$;

comment on function crossfade_private.foreign_key_terms is
  'What follows the columns of a foreign key: how it matches, what it does, when it is checked.';

create or replace function crossfade_private.child_key_change(
  child_key oid, pair crossfade.pairs
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- NOT VALID first: checking every row then needs no lock that writers wait for.
  select format(
    'alter table %1$s drop constraint %2$I, add constraint %2$I foreign key (%3$s) references %4$s (%5$s)%6$s not valid',
    o.conrelid::regclass, o.conname, string_agg(quote_ident(a.attname), ', ' order by u.n),
    (pair).v2_table, string_agg(quote_ident(((pair).v2_key_columns)[array_position(
      (pair).key_columns, b.attname::text)]), ', ' order by u.n),
    crossfade_private.foreign_key_terms(o.oid))
  from pg_catalog.pg_constraint o
  cross join lateral unnest(o.conkey, o.confkey) with ordinality u(child, parent, n)
  join pg_catalog.pg_attribute a on a.attrelid = o.conrelid and a.attnum = u.child
  join pg_catalog.pg_attribute b on b.attrelid = o.confrelid and b.attnum = u.parent
  where o.oid = child_key
  group by o.oid
  having bool_and(b.attname::text = any ((pair).key_columns));
$$;

comment on function crossfade_private.child_key_change is
  'SQL that lets a foreign key point to V2 instead of V1, without looking at the rows there are; null when it does not point to the key.';

create or replace function crossfade_private.child_key_check(child_key oid)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format('alter table %s validate constraint %I', o.conrelid::regclass, o.conname)
  from pg_catalog.pg_constraint o where o.oid = child_key;
$$;

comment on function crossfade_private.child_key_check is
  'SQL that checks the rows there are by a foreign key. Locks writers out of neither table.';

create or replace function crossfade_private.job_dependents(tab regclass)
returns table (kind text, object text, owner oid, breaks text, command text, id oid)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if to_regclass('cron.job') is null then
    return;
  end if;
  return query execute format(
    'select %L::text, coalesce(j.jobname, j.jobid::text)::text, (
        select r.oid from pg_catalog.pg_roles r where r.rolname = j.username),
      %L::text, format(%L, j.jobid), null::oid from cron.job j where j.command ~* $1',
    'cron job', 'reads rows that no longer change, or writes a table that refuses writes',
    'select command from cron.job where jobid = %s;')
  using crossfade_private.name_pattern(tab);
exception when insufficient_privilege or undefined_column then
  return; -- not ours to see
end $$;

comment on function crossfade_private.job_dependents is
  'Jobs of pg_cron whose command names a table, as far as the engine''s owner may see them.';

create or replace function crossfade_private.v1_dependents(pair crossfade.pairs)
returns table (
  kind text, object text, owner text, breaks text, command text, is_ignored boolean, id oid
)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with v1 as (
    select to_regclass((pair).v1_table) as tab, to_regclass((pair).v2_table) as other
  ),
  found as (
    select 'foreign key' as kind, format('%I of %s', o.conname, o.conrelid::regclass) as object,
      c.relowner as owner, 'cannot point to rows that only version 2 has' as breaks,
      coalesce(
        crossfade_private.child_key_change(o.oid, pair) || '; '
          || crossfade_private.child_key_check(o.oid) || ';',
        format('alter table %s drop constraint %I;', o.conrelid::regclass, o.conname)) as command,
      o.oid as id
    from v1
    join pg_catalog.pg_constraint o on o.confrelid = v1.tab and o.contype = 'f'
      and o.conrelid not in (v1.tab, v1.other)
    join pg_catalog.pg_class c on c.oid = o.conrelid
    -- An archive may point to an archive, and the pairs of a group become that together.
    where not exists (
      select from crossfade.pairs q where to_regclass(q.v1_table) = o.conrelid)
    union all
    select d.* from v1 cross join lateral crossfade_private.catalog_dependents(v1.tab) d
    where case d.kind
        -- Entering complete makes these sequences V2's, and gives its partitions their default.
        when 'default' then not exists (
          select from pg_catalog.pg_attrdef e
          join pg_catalog.pg_attribute a on a.attrelid = e.adrelid and a.attnum = e.adnum
          join crossfade_private.table_tree(v1.other) t on t.id = e.adrelid
          where e.oid = d.id
            and crossfade_private.default_sequence(t.id, a.attname::text)
              = crossfade_private.default_sequence(v1.other, a.attname::text))
        -- An archive's policies may ask an archive: nobody writes either of them.
        when 'policy' then not exists (
          select from pg_catalog.pg_policy l
          join crossfade.pairs q on to_regclass(q.v1_table) = l.polrelid
          where l.oid = d.id and (q.stage in ('complete', 'retired')
            or q.name in (select crossfade_private.group_of((pair).name))))
        else true end
    union all
    select d.* from v1 cross join lateral crossfade_private.function_dependents(v1.tab) d
    union all
    select d.* from v1 cross join lateral crossfade_private.job_dependents(v1.tab) d
    union all
    select 'publication', p.name, b.pubowner,
      'sends changes of version 1, of which there are none, and none of version 2',
      format('alter publication %I add table %s;', p.name, (pair).v2_table), b.oid
    from v1
    cross join lateral crossfade_private.publications_of(v1.tab) p
    join pg_catalog.pg_publication b on b.pubname = p.name
    where p.name not in (select q.name from crossfade_private.publications_of(v1.other) q)
  )
  select f.kind, f.object, pg_get_userbyid(f.owner)::text, f.breaks, f.command,
    coalesce((pair).options -> 'ignore_dependents' ? f.object, false), f.id
  from found f
  order by f.kind, f.object;
$$;

comment on function crossfade_private.v1_dependents is
  'What depends on a pair''s V1: foreign keys of other tables, views, rules, policies, defaults, functions and triggers that name it, jobs, publications; each with its owner, what breaks when V1 is an archive, a command that mends or shows it, whether option ignore_dependents names it, and its oid (of a view its rule''s; null for a job).';

create or replace function crossfade_private.archive_keys(pair crossfade.pairs)
returns table (name text, target regclass, command text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format('%I of %s', o.conname, (pair).v1_table), o.confrelid::regclass,
    format('alter table %s drop constraint %I;', (pair).v1_table, o.conname)
  from pg_catalog.pg_constraint o
  where o.conrelid = to_regclass((pair).v1_table) and o.contype = 'f' and o.conparentid = 0
    and o.confdeltype in ('a', 'r') and o.confrelid <> o.conrelid
    and coalesce((to_jsonb(o) ->> 'conenforced')::boolean, true)
    -- What an archive points to among archives is not deleted.
    and not exists (select from crossfade.pairs q where to_regclass(q.v1_table) = o.confrelid)
    and not coalesce((pair).options -> 'ignore_dependents'
      ? format('%I of %s', o.conname, (pair).v1_table), false);
$$;

comment on function crossfade_private.archive_keys is
  'Foreign keys of V1 that would keep rows of other tables from being deleted, for rows that only the archive has, and nobody has said to let be.';

create or replace function crossfade_private.dependent_blockers(pair crossfade.pairs)
returns table (message text, hint text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format('%s on %s (%s): %s', case count(*) when 1 then '1 object depends'
      else count(*) || ' objects depend' end, (pair).v1_table, d.kind, string_agg(format(
        '%s (owner %s) %s', d.object, d.owner, d.breaks), '; ' order by d.object)),
    format(concat('%s Or have it written: crossfade handover plan %2$s. ',
        'Or go on with it: crossfade pair ignore %2$s %3$s --reason "..."'),
      string_agg(distinct d.command, ' '), (pair).name,
      string_agg('''' || replace(d.object, '''', '''\''''') || '''', ' ' order by d.object))
  from crossfade_private.v1_dependents(pair) d
  where not d.is_ignored
  group by d.kind
  order by d.kind;
$$;

comment on function crossfade_private.dependent_blockers is
  'One sentence and the way out for each kind of object that depends on V1 and is not ignored.';
