-- Assigning a value to a column inside an expression. An explicit cast cuts what is too long; what
-- a converter makes must be refused, rounded or padded as a table does it.

create or replace function crossfade_private.assigned_sql(
  expression text, type_id oid, typmod integer, given_type oid, given_typmod integer
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when given_type = b.id and b.typmod in (-1, given_typmod)
      or given_type = type_id and given_type <> b.id -- a value of the domain
      then format('(%s)::%s', expression, b.name)
    -- PostgreSQL casts the parts of a composite as the whole is cast.
    when exists (
      select from crossfade_private.type_parts(b.id) p(id)
      join pg_catalog.pg_type y on y.oid = p.id and y.typtype = 'c') then null
    when b.typmod = -1 then format('(%s)::%s', expression, b.name)
    -- By a cast, text is cut; by the function that the cast calls, it is refused as by a table.
    when l.arguments = 3 and b.is_array then null
    when l.arguments = 3
      then format('%s((%s)::%s, %s, false)', l.name, expression, b.name, b.typmod)
    else format('(%s)::%s', expression, format_type(b.id, b.typmod))
    end
  from (
    select crossfade_private.base_type(type_id) as id,
      crossfade_private.base_typmod(type_id, typmod) as typmod,
      crossfade_private.base_type_name(type_id) as name,
      y.typcategory = 'A' and y.typelem <> 0 as is_array,
      case when y.typcategory = 'A' and y.typelem <> 0 then y.typelem else y.oid end as element
    from pg_catalog.pg_type y where y.oid = crossfade_private.base_type(type_id)
  ) b
  left join lateral (
    select p.pronargs as arguments, format('%I.%I', n.nspname, p.proname) as name
    from pg_catalog.pg_cast c
    join pg_catalog.pg_proc p on p.oid = c.castfunc
    join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    where c.castsource = b.element and c.casttarget = b.element
  ) l on true;
$$;

comment on function crossfade_private.assigned_sql is
  'An expression, of a given type, as an INSERT would assign it to a column: rounded, padded or refused, never cut; of the base type, whose domains'' checks are left to the table. Null where only a call does that.';
