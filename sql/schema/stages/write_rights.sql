-- What a user may write, as the policies and grants of a table say it, as SQL that can be asked of
-- rows.

create or replace function crossfade_private.write_right_sql(
  tab regclass, role_name text, command_name text, of_new_row boolean
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when not case command_name when 'delete' then has_table_privilege(role_name, tab, 'delete')
      else has_any_column_privilege(role_name, tab, command_name) end then 'false'
    when not c.relrowsecurity then 'true'
    -- One permissive policy must let the row pass, and every restrictive one.
    else (
      select format('coalesce((%s)%s, false)',
        coalesce(string_agg(q.expression, ' or ') filter (where p.permissive), 'false'),
        coalesce(' and ' || string_agg(q.expression, ' and ') filter (where not p.permissive), ''))
      from crossfade_private.write_policies(tab) p
      cross join lateral (
        select format('coalesce(%s, false)',
          coalesce(case when of_new_row then p.check_text else p.using_text end, 'true'))
          as expression
      ) q
      where p.command = command_name
        and (p.role = 'public' or pg_has_role(role_name, p.role, 'usage')))
    end
  from pg_catalog.pg_class c where c.oid = tab;
$$;

comment on function crossfade_private.write_right_sql is
  'An expression over a row of a table, under the table''s name, that says whether a role may insert, update or delete it (of_new_row: leave it behind); as that role.';

create or replace function crossfade_private.rights_of_rows_sql(
  tab regclass, role_name text, parameter integer, names text[], key_columns text[]
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format(
    'select %s as key, array[%s, %s, %s, %s]::boolean[] as allowed from unnest($%s::%s[]) as %I',
    crossfade_private.key_to_json(names, tab, key_columns, quote_ident(c.relname)),
    crossfade_private.write_right_sql(tab, role_name, 'insert', true),
    crossfade_private.write_right_sql(tab, role_name, 'update', false),
    crossfade_private.write_right_sql(tab, role_name, 'update', true),
    crossfade_private.write_right_sql(tab, role_name, 'delete', false),
    parameter, tab, c.relname)
  from pg_catalog.pg_class c where c.oid = tab;
$$;

comment on function crossfade_private.rights_of_rows_sql is
  'A query over an array of rows: the key of each, and whether a role may insert it, update it, make it by an update, delete it.';

create or replace function crossfade_private.write_rights_sql(
  pair crossfade.pairs, role_name text
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format(
    'select a.key, c.name as command, case when a.allowed[c.place] then 1 else 2 end as visible_in
    from (%s) a join (%s) b on b.key = a.key
    cross join (values (1, ''insert''), (2, ''update''), (3, ''update to''), (4, ''delete''))
      c(place, name)
    where a.allowed[c.place] <> b.allowed[c.place] limit 100',
    crossfade_private.rights_of_rows_sql(((pair).v1_table)::regclass, role_name, 1,
      (pair).key_columns, (pair).key_columns),
    crossfade_private.rights_of_rows_sql(((pair).v2_table)::regclass, role_name, 2,
      (pair).key_columns, (pair).v2_key_columns));
$$;

comment on function crossfade_private.write_rights_sql is
  'A query that lists what a role may write in one table only, of rows of V1 ($1) and their counterparts ($2), as text of arrays.';

create or replace function crossfade_private.visible_keys_sql(
  pair crossfade.pairs, role_name text
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format('select coalesce(a.k, b.k) as key, ''select'' as command,
      case when b.k is null then 1 else 2 end as visible_in
    from (%s) a full join (%s) b on a.k = b.k
    where a.k is null or b.k is null limit 100', s.sides[1], s.sides[2])
  from (
    -- Who has no right to read sees nothing; asking would be an error.
    select array_agg(case when has_any_column_privilege(role_name, t.name::regclass, 'select')
      then format('select %s as k from %s cf_t',
        crossfade_private.key_to_json((pair).key_columns, t.name::regclass, t.key, 'cf_t'), t.name)
      else 'select null::jsonb as k where false' end order by t.side) as sides
    from (
      select 1 as side, (pair).v1_table as name, (pair).key_columns as key
      union all
      select 2, (pair).v2_table, (pair).v2_key_columns
    ) t
  ) s;
$$;

comment on function crossfade_private.visible_keys_sql is
  'A query that lists keys of which whoever asks it, acting as a role, sees only one side.';

create or replace function crossfade_private.row_pages_sql(pair crossfade.pairs)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select format(
    'select array_agg(q.a)::text, array_agg(q.b)::text
    from (select a, b, row_number() over () as place from %s a join %s b on %s) q
    group by (q.place - 1) / 1000', (pair).v1_table, (pair).v2_table, (
      select string_agg(format('a.%I = b.%I', k1, k2), ' and ')
      from unnest((pair).key_columns, (pair).v2_key_columns) u(k1, k2)));
$$;

comment on function crossfade_private.row_pages_sql is
  'A query that reads the rows of both tables by a thousand, as text of arrays.';
