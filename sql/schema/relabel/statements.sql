-- The statements of the swap, in their order, made from the catalog as it is before the first one.

create or replace function crossfade_private.close_partition(tab regclass)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_statement text;
begin
  -- Partitions are tables of the Data API as well: nobody gets past the policies of the root.
  execute format('alter table %s enable row level security', tab);
  for v_statement in
    select distinct format('revoke all on %s from %s', tab, case a.grantee when 0 then 'public'
      else quote_ident(pg_get_userbyid(a.grantee)) end)
    from pg_catalog.pg_class c
    cross join lateral (
      select x.grantee from pg_catalog.aclexplode(c.relacl) x
      union all
      select x.grantee from pg_catalog.pg_attribute b
      cross join lateral pg_catalog.aclexplode(b.attacl) x
      where b.attrelid = c.oid and b.attnum > 0
    ) a
    where c.oid = tab and a.grantee <> c.relowner
  loop
    execute v_statement;
  end loop;
end $$;

comment on function crossfade_private.close_partition is
  'Let nobody but its owner use a partition by its own name.';

create or replace function crossfade_private.relabel_statements(
  tab regclass, column_name text, bound text
)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with n as (
    select crossfade_private.first_part(tab) as first, crossfade_private.rest_part(tab) as rest,
      crossfade_private.bound_name(tab) as rule, c.relreplident, c.relowner
    from pg_catalog.pg_class c where c.oid = tab
  )
  select q.sql
  from (
    select t.* from crossfade_private.trigger_statements(tab) t
    union all
    select p.* from crossfade_private.policy_statements(tab) p
    union all
    select r.* from crossfade_private.reader_statements(tab) r
    union all
    select k.* from crossfade_private.key_statements(tab, column_name) k
    union all
    select i.* from crossfade_private.identity_statements(tab) i
    union all
    select s.place, s.sql
    from n
    cross join lateral (
      values
      (40, format('alter table %s rename to %I', tab, (parse_ident(n.first))[2])),
      (41, format(
        'create table %s (like %s including comments including compression including constraints including defaults including generated including storage) partition by range (%I)',
        tab, n.first, column_name)),
      (42, format('alter table %s drop constraint %I', tab, n.rule)),
      -- Before anything is granted or owned by it.
      (43, format('select crossfade_private.copy_table_rights(%L::regclass, %L)', n.first, tab)),
      (70, format('create table %s partition of %s default', n.rest, tab)),
      (71, format('alter table %s attach partition %s for values from (minvalue) to (%s)', tab,
        n.first, relabel_statements.bound)),
      (72, format('alter table %s drop constraint %I', n.first, n.rule)),
      (73, format('alter table %s owner to %I', n.rest, pg_get_userbyid(n.relowner))),
      (74, case when n.relreplident = 'f'
        then format('alter table %s replica identity full', n.rest) end),
      (90, format('select crossfade_private.close_partition(%L::regclass)', n.first)),
      (91, format('select crossfade_private.close_partition(%L::regclass)', n.rest))
    ) s(place, sql)
  ) q(place, sql)
  where q.sql is not null
  order by q.place, q.sql desc;
$$;

comment on function crossfade_private.relabel_statements is
  'The statements of the swap as the catalog is now, in their order. All of them in one transaction.';
