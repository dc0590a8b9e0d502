-- What a type is made of. Types are judged by their base: a domain hides what it is, and a cast to
-- a domain over varchar(n) would cut what the table itself refuses.

create or replace function crossfade_private.base_type(type_id oid)
returns oid
-- Not SQL: registration asks hundreds of times, and most types are their own base.
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_type record;
  v_element oid;
begin
  select y.typtype, y.typbasetype, y.typcategory, y.typelem into v_type
  from pg_catalog.pg_type y where y.oid = type_id;
  if v_type.typtype = 'd' then
    return crossfade_private.base_type(v_type.typbasetype);
  end if;
  -- An array of a domain is an array of what the domain is made of.
  if v_type.typcategory = 'A' and v_type.typelem <> 0 then
    v_element := crossfade_private.base_type(v_type.typelem);
    if v_element <> v_type.typelem then
      return (select y.typarray from pg_catalog.pg_type y where y.oid = v_element);
    end if;
  end if;
  return type_id;
end $$;

comment on function crossfade_private.base_type is
  'The type under all domains; for an array of a domain the array of the domain''s base type.';

create or replace function crossfade_private.base_type_name(type_id oid)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- Without a length: what is too long must be refused by the table, not cut.
  select pg_catalog.format_type(crossfade_private.base_type(type_id), -1);
$$;

comment on function crossfade_private.base_type_name is
  'Name of the base type, without length or precision, to cast to.';

create or replace function crossfade_private.base_typmod(type_id oid, typmod integer)
returns integer
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with recursive layer(id, typmod, depth) as (
    select type_id, typmod, 0
    union all
    select case when y.typtype = 'd' then y.typbasetype else y.typelem end,
      case when y.typtype = 'd' then y.typtypmod else l.typmod end, l.depth + 1
    from layer l join pg_catalog.pg_type y on y.oid = l.id
    where y.typtype = 'd' or y.typcategory = 'A' and y.typelem <> 0
  )
  -- The length of an array is that of its elements.
  select l.typmod from layer l order by l.depth desc limit 1;
$$;

comment on function crossfade_private.base_typmod is
  'Length or precision of a column as PostgreSQL keeps it, found below domains and arrays; -1 is none.';

create or replace function crossfade_private.type_parts(type_id oid)
returns setof oid
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with recursive part(id) as (
    select type_id
    union
    select p.id
    from part t
    join pg_catalog.pg_type y on y.oid = t.id
    cross join lateral (
      select y.typbasetype as id where y.typtype = 'd'
      union all
      select y.typelem where y.typcategory = 'A' and y.typelem <> 0
      union all
      select r.rngsubtype from pg_catalog.pg_range r where y.oid in (r.rngtypid, r.rngmultitypid)
      union all
      select a.atttypid from pg_catalog.pg_attribute a
      where y.typtype = 'c' and a.attrelid = y.typrelid and a.attnum > 0 and not a.attisdropped
    ) p
  )
  select p.id from part p;
$$;

comment on function crossfade_private.type_parts is
  'A type and all that it is made of: the base of a domain, the elements of an array, the bounds of a range, the columns of a composite, and their parts.';
