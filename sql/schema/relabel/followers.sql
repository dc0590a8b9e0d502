-- What belongs to the name of a table: it goes to the root.

create or replace function crossfade_private.trigger_statements(tab regclass)
returns table (place integer, sql text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select 10, format('drop trigger %I on %s', g.tgname, tab)
  from pg_catalog.pg_trigger g where g.tgrelid = tab and not g.tgisinternal
  union all
  select 80, pg_get_triggerdef(g.oid)
  from pg_catalog.pg_trigger g where g.tgrelid = tab and not g.tgisinternal
  union all
  select 81, format('alter table %s %s trigger %I', tab, case g.tgenabled when 'D' then 'disable'
    when 'R' then 'enable replica' else 'enable always' end, g.tgname)
  from pg_catalog.pg_trigger g
  where g.tgrelid = tab and not g.tgisinternal and g.tgenabled <> 'O'
  union all
  select 87, format('comment on trigger %I on %s is %L', g.tgname, tab, c.text)
  from pg_catalog.pg_trigger g
  cross join lateral obj_description(g.oid, 'pg_trigger') c(text)
  where g.tgrelid = tab and not g.tgisinternal and c.text is not null;
$$;

comment on function crossfade_private.trigger_statements is
  'Triggers of a table go to the root, and from there to every partition.';

create or replace function crossfade_private.policy_statements(tab regclass)
returns table (place integer, sql text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select 11, format('drop policy %I on %s', l.polname, tab)
  from pg_catalog.pg_policy l where l.polrelid = tab
  union all
  select 82, format('create policy %I on %s as %s for %s to %s%s%s', l.polname, tab,
    case when l.polpermissive then 'permissive' else 'restrictive' end, case l.polcmd
      when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update' when 'd' then 'delete'
      else 'all' end, (
      select string_agg(case r.id when 0 then 'public' else quote_ident(pg_get_userbyid(r.id)) end,
        ', ') from unnest(l.polroles) r(id)),
    ' using (' || pg_get_expr(l.polqual, tab) || ')',
    ' with check (' || pg_get_expr(l.polwithcheck, tab) || ')')
  from pg_catalog.pg_policy l where l.polrelid = tab
  union all
  select 83, format('alter table %s %s row level security', tab, w.word)
  from pg_catalog.pg_class c
  cross join lateral (
    values ('enable', c.relrowsecurity), ('force', c.relforcerowsecurity)) w(word, is_on)
  where c.oid = tab and w.is_on
  union all
  select 86, l.sql from crossfade_private.rebound_policies(tab) l
  union all
  select 87, format('comment on policy %I on %s is %L', l.polname, tab, c.text)
  from pg_catalog.pg_policy l
  cross join lateral obj_description(l.oid, 'pg_policy') c(text)
  where l.polrelid = tab and c.text is not null;
$$;

comment on function crossfade_private.policy_statements is
  'Policies of a table go to the root; those of other tables that ask it ask the root.';

create or replace function crossfade_private.reader_statements(tab regclass)
returns table (place integer, sql text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select 12, format('alter publication %I drop table %s', p.pubname, tab)
  from pg_catalog.pg_publication_rel r join pg_catalog.pg_publication p on p.oid = r.prpubid
  where r.prrelid = tab
  union all
  select 84, format('alter publication %I add table %s%s%s', p.pubname, tab, (
      select format(' (%s)', string_agg(quote_ident(a.attname), ', ' order by a.attnum))
      from pg_catalog.pg_attribute a
      where a.attrelid = tab and a.attnum = any (r.prattrs::smallint[]) having count(*) > 0),
    ' where (' || pg_get_expr(r.prqual, tab) || ')')
  from pg_catalog.pg_publication_rel r join pg_catalog.pg_publication p on p.oid = r.prpubid
  where r.prrelid = tab
  union all
  select 85, v.sql from crossfade_private.rebound_views(tab) v
  union all
  select 87, format('comment on table %s is %L', tab, c.text)
  from obj_description(tab, 'pg_class') c(text) where c.text is not null;
$$;

comment on function crossfade_private.reader_statements is
  'Publications have the root in the place of a table, views read it, and it says what the table has said of itself.';
