-- The numbers of a table go on where they are, under the same name.

create or replace function crossfade_private.sequence_terms(sequence regclass)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format('start with %s increment by %s minvalue %s maxvalue %s cache %s%s', s.seqstart,
    s.seqincrement, s.seqmin, s.seqmax, s.seqcache, case when s.seqcycle then ' cycle' end)
  from pg_catalog.pg_sequence s where s.seqrelid = sequence;
$$;

comment on function crossfade_private.sequence_terms is
  'How a sequence counts, as create sequence says it.';

create or replace function crossfade_private.sequence_rights(sequence regclass, inserters regclass)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- What default privileges have given it.
  select distinct format('revoke all on sequence %s from %s', sequence, case a.grantee
    when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end)
  from pg_catalog.pg_class c
  join pg_catalog.pg_default_acl d on d.defaclobjtype = 'S'
    and d.defaclrole = current_user::regrole and d.defaclnamespace in (0, c.relnamespace)
  cross join lateral pg_catalog.aclexplode(d.defaclacl) a
  where c.oid = sequence and a.grantee <> d.defaclrole
  union all
  select format('grant %s on sequence %s to %s%s', a.privilege_type, sequence, case a.grantee
      when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end,
    case when a.is_grantable then ' with grant option' end)
  from pg_catalog.pg_class c cross join lateral pg_catalog.aclexplode(c.relacl) a
  where c.oid = sequence and a.grantee <> c.relowner
  union all
  -- An identity asks nobody for a right; a default does.
  select distinct format('grant usage on sequence %s to %s', sequence, case a.grantee
    when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end)
  from pg_catalog.pg_class c
  cross join lateral (
    select x.grantee, x.privilege_type from pg_catalog.aclexplode(c.relacl) x
    union all
    select x.grantee, x.privilege_type from pg_catalog.pg_attribute b
    cross join lateral pg_catalog.aclexplode(b.attacl) x
    where b.attrelid = c.oid and b.attnum > 0
  ) a
  where c.oid = inserters and a.privilege_type = 'INSERT' and a.grantee <> c.relowner
    and current_setting('server_version_num')::integer < 170000
  -- Order matters: what was given by default goes first.
  order by 1 desc;
$$;

comment on function crossfade_private.sequence_rights is
  'Grants of the sequence of an identity, for one that takes its name; before PostgreSQL 17 also for those who may insert into the table.';

create or replace function crossfade_private.identity_statements(tab regclass)
returns table (place integer, sql text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with s as (
    select a.attname::text as name, crossfade_private.default_sequence(tab, a.attname) as id,
      format_type(a.atttypid, null) as type, case a.attidentity when 'a' then 'always'
        else 'by default' end as kind,
      current_setting('server_version_num')::integer >= 170000 as stays
    from pg_catalog.pg_attribute a
    where a.attrelid = tab and a.attidentity <> '' and a.attnum > 0
  )
  -- The old one stays until the new one is where it is.
  select 20, format('alter sequence %s rename to %I', s.id,
    (parse_ident(crossfade_private.first_part(s.id)))[2]) from s
  union all
  select 61, case when s.stays then format(
      'alter table %s alter column %I add generated %s as identity (sequence name %s %s)', tab,
      s.name, s.kind, s.id, crossfade_private.sequence_terms(s.id))
    else format('create sequence %s as %s %s', s.id, s.type,
      crossfade_private.sequence_terms(s.id)) end
  from s
  union all
  select 62, format('select setval(%L, s.last_value, s.is_called) from %s s', s.id::text,
    crossfade_private.first_part(s.id)) from s
  union all
  select 63, format('alter sequence %s owner to %I', s.id, pg_get_userbyid(c.relowner))
  from s join pg_catalog.pg_class c on c.oid = tab where not s.stays
  union all
  select 64, format('alter sequence %s owned by %s.%I', s.id, tab, s.name) from s where not s.stays
  union all
  select 69, format('alter table %s alter column %I set default nextval(%L)', p.name, s.name,
    s.id::text)
  from s
  cross join lateral (
    values (tab::text), (crossfade_private.first_part(tab))) p(name)
  where not s.stays
  union all
  select 66, r.sql from s cross join lateral crossfade_private.sequence_rights(s.id, tab) r(sql)
  union all
  select 68, format('alter table %s alter column %I drop identity',
    crossfade_private.first_part(tab), s.name) from s
  union all
  -- The sequence of a serial column would go with the first partition.
  select 67, format('alter sequence %s owned by %s.%I', o.objid::regclass, tab, a.attname)
  from pg_catalog.pg_depend o
  join pg_catalog.pg_class q on q.oid = o.objid and q.relkind = 'S'
  join pg_catalog.pg_attribute a on a.attrelid = tab and a.attnum = o.refobjsubid
  where o.classid = 'pg_class'::regclass and o.refclassid = 'pg_class'::regclass
    and o.refobjid = tab and o.deptype = 'a';
$$;

comment on function crossfade_private.identity_statements is
  'What keeps the numbers of a table going: its identity, or a default in the place of one, under the same name.';
