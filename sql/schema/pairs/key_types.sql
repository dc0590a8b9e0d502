-- Which types a key may have. A key is noted as JSON by one session, read back by another one, and
-- compared by = in both tables: none of that may depend on who asks.

create or replace function crossfade_private.key_type_reason(type_id oid)
returns table (part oid, reason text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select q.id, q.reason
  from (
    select y.oid as id, case
      -- As a part of something else, a date is printed by DateStyle and a bytea by bytea_output.
      when y.oid in ('float4'::regtype, 'float8'::regtype, 'interval'::regtype, 'money'::regtype)
        or y.typname like 'reg%' and y.typnamespace = 'pg_catalog'::regnamespace
        or y.oid in ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype,
          'bytea'::regtype) and y.oid <> b.id
        then 'whose text depends on the session''s settings'
      when y.typtype = 'c' or y.typcategory = 'A' or y.oid in ('json'::regtype, 'jsonb'::regtype)
        then 'whose values do not come back from JSON as they were'
      when y.typtype = 'b' and y.typnamespace <> 'pg_catalog'::regnamespace
        then 'a type of an extension, whose = is found by the search_path of the session only'
      -- A FULL JOIN of the rows of one key needs it.
      when y.oid = b.id and exists (
        select from pg_catalog.pg_operator o
        where o.oprnamespace = 'pg_catalog'::regnamespace and o.oprname = '='
          and o.oprleft = y.oid and o.oprright = y.oid and not o.oprcanhash)
        then 'whose values cannot be hashed, as verification does'
      end as reason
    from crossfade_private.type_parts(type_id) p(id)
    join pg_catalog.pg_type y on y.oid = p.id and y.typtype <> 'd'
    cross join crossfade_private.base_type(type_id) b(id)
  ) q
  where q.reason is not null
  order by q.reason like 'whose text%' desc, q.id
  limit 1;
$$;

comment on function crossfade_private.key_type_reason is
  'Why no key may be of a type, judged by what it is made of, and the part that is to blame; no row when it may.';

create or replace function crossfade_private.key_type_problems(
  tab regclass, label text, key_columns text[]
)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format(
    '%s %s: key column "%s" is %s, %s; take another unique column as the key (an integer, text, uuid, numeric, date or timestamp), or give the table one',
    label, tab, a.attname, concat(format_type(a.atttypid, a.atttypmod),
      ' (' || nullif(concat_ws(' of ', case when b.id <> a.atttypid then format_type(b.id, -1) end,
        case when r.part <> b.id then format_type(r.part, -1) end), '') || ')'), r.reason)
  from pg_catalog.pg_attribute a
  cross join lateral crossfade_private.key_type_reason(a.atttypid) r
  cross join lateral crossfade_private.base_type(a.atttypid) b(id)
  where a.attrelid = tab and a.attname = any (key_columns) and a.attnum > 0;
$$;

comment on function crossfade_private.key_type_problems is
  'Key columns of types that no key may have, one sentence each.';

create or replace function crossfade_private.base_type_modifier(type_id oid, modifier integer)
returns integer
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with recursive layer(id, modifier) as (
    select type_id, modifier
    union all
    select y.typbasetype, case when l.modifier = -1 then y.typtypmod else l.modifier end
    from layer l join pg_catalog.pg_type y on y.oid = l.id
    where y.typtype = 'd'
  )
  select max(l.modifier) from layer l;
$$;

comment on function crossfade_private.base_type_modifier is
  'Length or precision of a column, also where a domain holds it; -1 without.';

create or replace function crossfade_private.key_family(type_id oid, modifier integer)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when b.id in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) then 'an integer'
    -- A text that is too long is refused, not cut: its length does not matter.
    when b.id in ('text'::regtype, 'varchar'::regtype) then 'text'
    when b.id = 'numeric'::regtype then
      case when b.modifier = -1 then 'numeric of any scale'
        else format('numeric of scale %s', (b.modifier - 4) & 2047) end
    -- These would be padded, rounded or cut by the other table.
    else format_type(b.id, b.modifier) end
  from rows from (crossfade_private.base_type(type_id),
    crossfade_private.base_type_modifier(type_id, modifier)) b(id, modifier);
$$;

comment on function crossfade_private.key_family is
  'What the types of a key must have in common in both tables, so that = is the same and nothing is rounded or cut.';

create or replace function crossfade_private.key_pair_problems(pair crossfade.pairs)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format('key column "%s" is %s in V1 but "%s" is %s in V2; %s', a1.attname,
    format_type(a1.atttypid, a1.atttypmod), a2.attname, format_type(a2.atttypid, a2.atttypmod),
    case when b.two = 'uuid'::regtype
      then format(
        'give V1 a uuid column beside it and take that as the key; run: crossfade key carry %s',
        (pair).v1_table)
      else
        'only smallint, integer and bigint, or text and varchar, may stand for each other: give both the same type, precision and scale'
    end)
  from unnest((pair).key_columns, (pair).v2_key_columns) u(k1, k2)
  join pg_catalog.pg_attribute a1
    on a1.attrelid = ((pair).v1_table)::regclass and a1.attname = u.k1
  join pg_catalog.pg_attribute a2
    on a2.attrelid = ((pair).v2_table)::regclass and a2.attname = u.k2
  cross join lateral rows from (crossfade_private.base_type(a1.atttypid),
    crossfade_private.base_type(a2.atttypid)) b(one, two)
  where crossfade_private.key_family(a1.atttypid, a1.atttypmod)
    <> crossfade_private.key_family(a2.atttypid, a2.atttypmod)
  union all
  select format(
    'key column "%s" has another collation in V1 than "%s" in V2; run: alter table %s alter column %I type %s collate %s',
    k1, k2, (pair).v2_table, k2, format_type(a2.atttypid, a2.atttypmod),
    format('%I.%I', n.nspname, c.collname))
  from unnest((pair).key_columns, (pair).v2_key_columns) u(k1, k2)
  join pg_catalog.pg_attribute a1
    on a1.attrelid = ((pair).v1_table)::regclass and a1.attname = u.k1
  join pg_catalog.pg_attribute a2
    on a2.attrelid = ((pair).v2_table)::regclass and a2.attname = u.k2
  join pg_catalog.pg_collation c on c.oid = a1.attcollation
  join pg_catalog.pg_namespace n on n.oid = c.collnamespace
  where a1.attcollation <> a2.attcollation and a2.attcollation <> 0
  union all
  select format(
    'the keys have %s and %s columns: both tables need the same key; the columns may have other names',
    cardinality((pair).key_columns), cardinality((pair).v2_key_columns))
  where cardinality((pair).key_columns) <> cardinality((pair).v2_key_columns);
$$;

comment on function crossfade_private.key_pair_problems is
  'What keeps the keys of two tables from naming the same rows, one sentence each.';
