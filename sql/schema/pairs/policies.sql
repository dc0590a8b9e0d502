-- Who may write which rows, in both tables: whoever may not change a row of one table must not
-- change it through the other one.

create or replace function crossfade_private.copied_names(pair crossfade.pairs, to_v2 jsonb)
returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce((
    -- A converter that is a bare select list says which column becomes which.
    select jsonb_object_agg(i.item ->> 'copies', c.col ->> 'name')
    from jsonb_array_elements(nullif(to_v2 -> 'items', 'null')) with ordinality i(item, n)
    join jsonb_array_elements(to_v2 -> 'columns') with ordinality c(col, n) using (n)
    where i.item ->> 'copies' is not null), '{}')
    || (select jsonb_object_agg(k1, k2)
    from unnest((pair).key_columns, (pair).v2_key_columns) u(k1, k2));
$$;

comment on function crossfade_private.copied_names is
  'V2''s names of the columns that both tables hold, by V1''s, as far as the key and to_v2 (see conversion) say it.';

create or replace function crossfade_private.column_renames(pair crossfade.pairs)
returns jsonb
language sql volatile -- makes a function to print a converter, and removes it again
set search_path = pg_catalog, pg_temp
as $$
  select crossfade_private.copied_names(pair, crossfade_private.conversion(
    (pair).to_v2, ((pair).v1_table)::regclass, ((pair).v2_table)::regclass));
$$;

comment on function crossfade_private.column_renames is
  'copied_names of a pair as it is now. Locks both tables ACCESS SHARE.';

create or replace function crossfade_private.renamed_name(
  name text, columns jsonb, old_table text, new_table text
)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select string_agg(case
    when p.part = quote_ident(old_table) then quote_ident(new_table)
    -- A name behind that of another table is one of that table's.
    when p.place = 1 and p.parts = 1 or p.before = quote_ident(old_table) then coalesce(
      (select quote_ident(r.value) from jsonb_each_text(columns) r
        where quote_ident(r.key) = p.part),
      p.part)
    else p.part end, '.' order by p.place)
  from (
    select m[1] as part, lag(m[1]) over (order by n) as before, n as place,
      count(*) over () as parts
    from regexp_matches(name, '("(?:[^"]|"")*"|[A-Za-z_][A-Za-z0-9_$]*)', 'g')
      with ordinality t(m, n)
  ) p;
$$;

comment on function crossfade_private.renamed_name is
  'A name in printed SQL, in one part or several, in which a table and its columns have other names.';

create or replace function crossfade_private.renamed_sql(
  expression text, columns jsonb, old_table text, new_table text
)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select string_agg(case when t.m[1] ~ '^["A-Za-z_]'
    then crossfade_private.renamed_name(t.m[1], columns, old_table, new_table)
    else t.m[1] end, '' order by t.n)
  -- Constants, names with all their parts, and everything else by the character.
  from regexp_matches(expression, '(''(?:[^'']|'''')*''|(?:"(?:[^"]|"")*"|[A-Za-z_][A-Za-z0-9_$]*)'
    || '(?:\.(?:"(?:[^"]|"")*"|[A-Za-z_][A-Za-z0-9_$]*))*|.)', 'g') with ordinality t(m, n);
$$;

comment on function crossfade_private.renamed_sql is
  'Printed SQL in which a table and its columns have other names.';

create or replace function crossfade_private.write_policies(tab regclass)
returns table (command text, role text, permissive boolean, using_text text, check_text text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select c.name, case r.id when 0 then 'public' else pg_get_userbyid(r.id)::text end,
    l.polpermissive,
    case when c.letter <> 'a' then pg_get_expr(l.polqual, tab) end,
    -- Without a CHECK of its own a policy checks new rows by its USING.
    case when c.letter <> 'd' then
      coalesce(pg_get_expr(l.polwithcheck, tab), pg_get_expr(l.polqual, tab)) end
  from pg_catalog.pg_policy l
  join (values ('a', 'insert'), ('w', 'update'), ('d', 'delete')) c(letter, name)
    on l.polcmd::text in (c.letter, '*')
  cross join lateral unnest(l.polroles) r(id)
  where l.polrelid = tab;
$$;

comment on function crossfade_private.write_policies is
  'The policies of a table that decide about writes, one row a command and role.';

create or replace function crossfade_private.client_policy_text(pair text)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select format('( SELECT (crossfade.my_backend(%L::text) = 2))', pair);
$$;

comment on function crossfade_private.client_policy_text is
  'How PostgreSQL prints the expression of the policy that "crossfade pair client-policy" drafts.';

create or replace function crossfade_private.client_policies(pair text)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format('%I on %s', l.polname, l.polrelid::regclass)
  from pg_catalog.pg_policy l
  -- However the call is written: a name of a pair holds no special characters.
  where concat(pg_get_expr(l.polqual, l.polrelid), pg_get_expr(l.polwithcheck, l.polrelid))
    ~ format('my_backend\([^()]*''%s''::text', pair)
  order by 1;
$$;

comment on function crossfade_private.client_policies is
  'Policies that ask my_backend for this pair, as drop policy names them: without the pair they would fail for everybody.';

create or replace function crossfade_private.write_policy_warnings(pair crossfade.pairs)
returns setof text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_1 constant regclass := (pair).v1_table;
  v_2 constant regclass := (pair).v2_table;
  v_on boolean[] := array(
    select c.relrowsecurity from pg_catalog.pg_class c
    where c.oid in (v_1, v_2) order by c.oid = v_2);
  v_columns jsonb;
  v_names text[] := array(
    select c.relname::text from pg_catalog.pg_class c
    where c.oid in (v_1, v_2) order by c.oid = v_2);
begin
  if v_on[1] <> v_on[2] then
    return next format(
      'row-level security is on for %s and off for %s: everybody may write there what the policies forbid here; run: alter table %2$s enable row level security',
      case when v_on[1] then v_1 else v_2 end, case when v_on[1] then v_2 else v_1 end);
  elsif v_on[1] then
    v_columns := crossfade_private.column_renames(pair);
    return query
      with one as (
        select distinct p.command, p.role, p.permissive,
          crossfade_private.renamed_sql(p.using_text, v_columns, v_names[1], v_names[2])
            as using_text,
          crossfade_private.renamed_sql(p.check_text, v_columns, v_names[1], v_names[2])
            as check_text
        from crossfade_private.write_policies(v_1) p
      ),
      two as (
        select distinct p.command, p.role, p.permissive, p.using_text, p.check_text
        from crossfade_private.write_policies(v_2) p
        -- It holds users to V1 for a while; V1 needs nothing like it.
        where p.permissive
          or p.using_text <> crossfade_private.client_policy_text((pair).name)
          or p.check_text <> crossfade_private.client_policy_text((pair).name)
      ),
      differing as (
        (select 1 as side, o.* from one o except select 1, t.* from two t)
        union all
        (select 2, t.* from two t except select 2, o.* from one o)
      )
      select format(
        'policies of both tables differ for %s by %s: %s; make them equal, or see with: crossfade pair check-rls %s --user ID',
        d.command, d.role, string_agg(format('only V%s has a %s one%s%s', d.side,
          case when d.permissive then 'permissive' else 'restrictive' end,
          ' using ' || d.using_text, ' with check ' || d.check_text), ', ' order by d.side,
          d.using_text, d.check_text), (pair).name)
      from differing d group by d.command, d.role order by d.command, d.role;
  end if;
  return query
    select format(
      'role %s may %s %s and not %s; run: revoke %2$s on %3$s from %1$I, or grant it on the other',
      r.name, c.name, case when g.two then v_2 else v_1 end, case when g.two then v_1 else v_2 end)
    from (values ('anon'), ('authenticated')) r(name)
    join pg_catalog.pg_roles o on o.rolname = r.name
    cross join (values ('insert'), ('update'), ('delete')) c(name)
    cross join lateral (
      select case c.name when 'delete' then has_table_privilege(o.oid, v_1, 'delete')
          else has_any_column_privilege(o.oid, v_1, c.name) end as one,
        case c.name when 'delete' then has_table_privilege(o.oid, v_2, 'delete')
          else has_any_column_privilege(o.oid, v_2, c.name) end as two
    ) g
    where g.one <> g.two;
end $$;

comment on function crossfade_private.write_policy_warnings is
  'Where the two tables let different people write, as far as their policies and grants say it; expressions are compared as text, with V1''s names replaced by V2''s.';
