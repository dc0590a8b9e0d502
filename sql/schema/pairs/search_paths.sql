-- Where the generated functions find what is named without a schema.

create or replace function crossfade_private.owner_search_path(tab regclass)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- Triggers of the owner's fire inside our statements, and many name their tables without a
  -- schema. A schema in which others may create things would let them put in something of that
  -- name.
  select concat_ws(', ', 'pg_catalog', string_agg(quote_ident(n.nspname), ', ' order by
    n.nspname <> 'public', n.nspname <> 'extensions', n.nspname), 'pg_temp')
  from pg_catalog.pg_namespace n
  where (n.nspname in ('public', 'extensions')
      or n.oid = (select c.relnamespace from pg_catalog.pg_class c where c.oid = tab))
    and not exists (
      select from pg_catalog.aclexplode(
        coalesce(n.nspacl, pg_catalog.acldefault('n', n.nspowner))) a
      left join pg_catalog.pg_roles r on r.oid = a.grantee
      where a.privilege_type = 'CREATE' and a.grantee <> n.nspowner
        and not coalesce(r.rolsuper
          or r.rolname in (current_user, 'pg_database_owner', 'dashboard_user'), false));
$$;

comment on function crossfade_private.owner_search_path is
  'The search_path of mirror functions that write a table: pg_catalog, then public, extensions and the table''s schema, each as far as nobody but its owner and ours may create in it, pg_temp last.';
