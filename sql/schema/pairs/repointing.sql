-- Definitions that read V2 in place of V1, and the proof that they mean the same: only columns are
-- read that both converters copy as they are, PostgreSQL prints the new definition as it is
-- written, and whoever reads may read V2 as well.

create or replace function crossfade_private.copied_columns(pair crossfade.pairs)
returns text[]
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_agg(a.attname::text order by a.attnum), '{}')
  from pg_catalog.pg_attribute a
  join pg_catalog.pg_attribute b on b.attname = a.attname and b.attnum > 0 and not b.attisdropped
    and (b.atttypid, b.atttypmod, b.attcollation) = (a.atttypid, a.atttypmod, a.attcollation)
  where a.attrelid = ((pair).v1_table)::regclass and b.attrelid = ((pair).v2_table)::regclass
    and a.attnum > 0 and not a.attisdropped
    and a.attname::text in (
      select i.item ->> 'copies'
      from jsonb_array_elements(crossfade_private.pair_conversions(pair))
        with ordinality v(conversion, side)
      cross join lateral jsonb_array_elements(nullif(v.conversion -> 'items', 'null'))
        with ordinality i(item, n)
      join lateral jsonb_array_elements(v.conversion -> 'columns')
        with ordinality c(col, n) using (n)
      where i.item ->> 'copies' = c.col ->> 'name'
      group by i.item ->> 'copies' having count(distinct v.side) = 2);
$$;

comment on function crossfade_private.copied_columns is
  'The columns that both tables have by the same name and type, and that both converters copy as they are. Locks both tables ACCESS SHARE.';

create or replace function crossfade_private.read_columns(class regclass, id oid, tab regclass)
returns text[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_agg(distinct a.attname::text), '{}')
  from pg_catalog.pg_depend d
  join pg_catalog.pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
  where d.classid = class and d.objid = id and d.refclassid = 'pg_class'::regclass
    and d.refobjid = tab;
$$;

comment on function crossfade_private.read_columns is
  'Names of the columns of a table that an object of a catalog depends on, those of the system among them.';

create or replace function crossfade_private.row_reason(
  class regclass, id oid, tree text, tab regclass
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case
    -- PostgreSQL keeps no record of a row as a whole; the tree has it as column 0.
    when strpos(tree, ':varattno 0 ') > 0 then 'it reads a row as a whole'
    when exists (
      select from pg_catalog.pg_depend d
      join pg_catalog.pg_type y on y.oid = d.refobjid
      where d.classid = class and d.objid = id and d.refclassid = 'pg_type'::regclass
        and tab in (y.typrelid, (
          select e.typrelid from pg_catalog.pg_type e where e.oid = y.typelem)))
      then 'it uses the row type of version 1'
    end;
$$;

comment on function crossfade_private.row_reason is
  'Why the columns that an object depends on are not all that it sees of a table; null when they are.';

create or replace function crossfade_private.passes_policies(reader text, tab regclass)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select not c.relrowsecurity or coalesce((
    select r.rolsuper or r.rolbypassrls
      or pg_has_role(r.oid, c.relowner, 'usage') and not c.relforcerowsecurity
    from pg_catalog.pg_roles r where r.rolname = reader), false)
  from pg_catalog.pg_class c where c.oid = tab;
$$;

comment on function crossfade_private.passes_policies is
  'Whether a role sees every row of a table, whatever its policies say.';

create or replace function crossfade_private.may_read(
  reader text, tab regclass, columns text[]
)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case when cardinality(columns) = 0 then has_any_column_privilege(reader, tab, 'select')
    else (select bool_and(has_column_privilege(reader, tab, c, 'select')) from unnest(columns) c)
    end;
$$;

comment on function crossfade_private.may_read is
  'Whether a role, or public, may select these columns of a table; without columns, whether it may count its rows.';

create or replace function crossfade_private.readers(tab regclass)
returns text[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select array_agg(distinct case g.grantee when 0 then 'public'
    else pg_get_userbyid(g.grantee)::text end)
  from pg_catalog.pg_class c
  cross join lateral (
    select coalesce(c.relacl, acldefault('r', c.relowner))
    union all
    select a.attacl from pg_catalog.pg_attribute a
    where a.attrelid = c.oid and a.attacl is not null and not a.attisdropped
  ) l(acl)
  cross join lateral aclexplode(l.acl) g
  where c.oid = tab and g.privilege_type = 'SELECT';
$$;

comment on function crossfade_private.readers is
  'The roles that a table, or a column of it, is granted to for reading; public is everybody.';

create or replace function crossfade_private.read_policies(tab regclass, new_table regclass)
returns table (permissive boolean, roles text, expression text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select l.polpermissive, l.polroles::text, crossfade_private.renamed_sql(
    pg_get_expr(l.polqual, l.polrelid), '{}', o.relname, n.relname)
  from pg_catalog.pg_policy l, pg_catalog.pg_class o, pg_catalog.pg_class n
  where l.polrelid = tab and l.polcmd in ('r', '*') and o.oid = tab and n.oid = new_table;
$$;

comment on function crossfade_private.read_policies is
  'The policies that decide which rows of a table are seen, as if it were the new one.';

create or replace function crossfade_private.reader_reason(
  readers text[], columns text[], v1 regclass, v2 regclass
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select string_agg(q.reason, '; ')
  from (
    select format('%s may not read %s', string_agg(r, ', ' order by r), v2) as reason
    from unnest(readers) r
    where crossfade_private.may_read(r, v1, columns)
      and not crossfade_private.may_read(r, v2, columns)
    having count(*) > 0
    union all
    select format('the policies of %s and %s may show %s other rows', v1, v2,
      string_agg(r, ', ' order by r))
    from unnest(readers) r
    where (crossfade_private.passes_policies(r, v1), crossfade_private.passes_policies(r, v2))
        not in ((true, true), (false, false))
      or not crossfade_private.passes_policies(r, v2) and exists (
        (select * from crossfade_private.read_policies(v1, v2)
          except select * from crossfade_private.read_policies(v2, v2))
        union all
        (select * from crossfade_private.read_policies(v2, v2)
          except select * from crossfade_private.read_policies(v1, v2)))
    having count(*) > 0
  ) q;
$$;

comment on function crossfade_private.reader_reason is
  'Why roles would not see in V2 what they see in V1: a right they lack, or other policies; null when they do.';

create or replace function crossfade_private.repointed_text(
  printed text, v1 regclass, v2 regclass
)
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_1 text[];
  v_reason text;
  v_text text;
begin
  select array[quote_ident(n.nspname), quote_ident(c.relname)] into v_1
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where c.oid = v1;
  with near as (
    select t.*, lag(t.token) over w as before, lag(t.token, 2) over w as before_2,
      lead(t.token) over w as after, lead(t.token, 2) over w as after_2,
      lead(t.token, 3) over w as after_3, lead(t.token, 4) over w as after_4
    from crossfade_private.printed_tokens(printed) t window w as (order by t.n)
  ),
  named as (
    select near.*, token = v_1[1] and after = '.' and after_2 = v_1[2]
        and before is distinct from '.' as is_v1
    from near
  ),
  marked as (
    select named.*, coalesce(lag(is_v1) over w, false) as is_dot,
      coalesce(lag(is_v1, 2) over w, false) as is_table
    from named window w as (order by n)
  )
  select
    string_agg(case
      when is_v1 then space || v2::text
      when is_dot then ''
      -- Columns are printed behind the name of their table, which the alias keeps for them.
      when is_table then case when coalesce(crossfade_private.is_name(after), false) then ''
        else ' ' || token end
      else space || token end, '' order by n),
    min(case
      when is_v1 and (coalesce(before, '') not in ('FROM', 'JOIN', ',', '(')
        or before = 'FROM' and before_2 = 'DELETE') then 'it does more with version 1 than read it'
      when is_v1 and (after_3 in ('.', '(', 'TABLESAMPLE')
        or crossfade_private.is_name(after_3) and after_4 in ('(', 'TABLESAMPLE'))
        then 'it gives the columns of version 1 other names, or takes a sample'
      when token = 'FOR' and after in ('UPDATE', 'NO', 'SHARE', 'KEY') then 'it locks rows'
      when left(token, 1) = '''' and token ~* crossfade_private.name_pattern(v1)
        then 'a text in it holds the name of version 1' end)
  into v_text, v_reason
  from marked;
  if v_reason is not null then
    raise exception '%', v_reason;
  end if;
  return v_text;
end $$;

comment on function crossfade_private.repointed_text is
  'A printed query that reads V2 wherever it has read V1, which goes on under V1''s name; what has to be proved is that PostgreSQL understands it so. Raises where it is more than a query.';

create or replace function crossfade_private.same_sql(one text, other text)
returns boolean
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select array(select t.token from crossfade_private.printed_tokens(one) t order by t.n)
    = array(select t.token from crossfade_private.printed_tokens(other) t order by t.n);
$$;

comment on function crossfade_private.same_sql is
  'Whether two printed texts differ in nothing but the space between words.';

create or replace function crossfade_private.prove_repointed(
  class regclass, id oid, written text, printed text, columns text[], v1 regclass, v2 regclass
)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Whatever a name in it has come to mean would be printed behind another alias or not at all.
  if not crossfade_private.same_sql(written, printed)
    or crossfade_private.read_columns(class, id, v2) @> columns is not true
    or exists (
      select from pg_catalog.pg_depend d
      where d.classid = class and d.objid = id and d.refclassid = 'pg_class'::regclass
        and d.refobjid = v1)
  then
    raise exception 'PostgreSQL understands it in another way when it reads %', v2;
  end if;
end $$;

comment on function crossfade_private.prove_repointed is
  'Raises unless an object that was made of a written text is printed like it, and depends on these columns of V2 and not on V1.';

create or replace function crossfade_private.repointed_query(
  query text, columns text[], v1 regclass, v2 regclass
)
returns text
language plpgsql volatile -- makes a view and removes it again
set search_path = pg_catalog, pg_temp
as $$
declare
  v_query text := rtrim(query, E' \n;');
  v_new text := crossfade_private.repointed_text(v_query, v1, v2);
  v_old_columns text;
  v_new_columns text;
begin
  -- Not the object itself: that would lock its readers out. None of it runs.
  execute 'create temporary view cf_old as ' || v_query;
  execute 'create temporary view cf_new as ' || v_new;
  perform crossfade_private.prove_repointed('pg_rewrite', r.oid, v_new,
    rtrim(pg_get_viewdef(r.ev_class), E' \n;'), columns, v1, v2)
  from pg_catalog.pg_rewrite r where r.ev_class = to_regclass('pg_temp.cf_new');
  select string_agg(c.kind, ',' order by c.n) filter (where c.is_old),
    string_agg(c.kind, ',' order by c.n) filter (where not c.is_old)
  into v_old_columns, v_new_columns
  from (
    select a.attnum as n, a.attrelid = to_regclass('pg_temp.cf_old') as is_old,
      format('%I %s %s %s', a.attname, a.atttypid, a.atttypmod, a.attcollation) as kind
    from pg_catalog.pg_attribute a
    where a.attnum > 0
      and a.attrelid in (to_regclass('pg_temp.cf_old'), to_regclass('pg_temp.cf_new'))
  ) c;
  if v_old_columns is distinct from v_new_columns then
    raise exception 'its columns would have other names or types';
  end if;
  execute 'drop view pg_temp.cf_old, pg_temp.cf_new';
  return v_new;
end $$;

comment on function crossfade_private.repointed_query is
  'A query that reads V2 in place of V1, proved on temporary views. Raises what is against it.';

create or replace function crossfade_private.repointed_function(
  id oid, columns text[], v1 regclass, v2 regclass
)
returns text
language plpgsql volatile -- makes a function and removes it again
set search_path = pg_catalog, pg_temp
as $$
declare
  v_definition text := rtrim(pg_get_functiondef(id), E' \n');
  v_body text := pg_get_function_sqlbody(id);
  v_head text := left(v_definition, -length(v_body));
  v_new text := crossfade_private.repointed_text(v_body, v1, v2);
  v_words text;
  v_name text;
  v_made oid;
begin
  select format('CREATE OR REPLACE %s %I.', case p.prokind when 'p' then 'PROCEDURE'
      else 'FUNCTION' end, n.nspname), p.proname
  into v_words, v_name
  from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
  where p.oid = id;
  if v_head || v_body <> v_definition or not starts_with(v_head, v_words) then
    raise exception 'its definition is printed in an unknown way';
  end if;
  -- By its own name, behind which its parameters stand in queries; nobody finds it there.
  execute 'create ' || case when v_words like '%PROCEDURE%' then 'procedure' else 'function' end
    || ' pg_temp.' || substr(v_head, length(v_words) + 1) || v_new;
  select p.oid into v_made
  from pg_catalog.pg_proc p where p.pronamespace = pg_my_temp_schema() and p.proname = v_name;
  perform crossfade_private.prove_repointed(
    'pg_proc', v_made, v_new, pg_get_function_sqlbody(v_made), columns, v1, v2);
  execute format('drop routine %s', v_made::regprocedure);
  return v_head || v_new;
end $$;

comment on function crossfade_private.repointed_function is
  'The definition of a function with a standard body that reads V2 in place of V1, proved on a temporary one. Raises what is against it.';
