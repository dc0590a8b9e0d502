-- What a table would store of a row that a converter makes, and which of its constraints refuse it,
-- found without writing anything. Constraints stand in these statements as their owner wrote them.

create or replace function crossfade_private.domain_tests(type_id oid, value_sql text)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with recursive layer(id, base, is_not_null, name) as (
    select y.oid, y.typbasetype, y.typnotnull, y.typname
    from pg_catalog.pg_type y where y.oid = type_id and y.typtype = 'd'
    union all
    select y.oid, y.typbasetype, y.typnotnull, y.typname
    from layer l join pg_catalog.pg_type y on y.oid = l.base and y.typtype = 'd'
  )
  select format('case when %s is null then %L end', value_sql, l.name || ' is not null')
  from layer l where l.is_not_null
  union all
  -- PostgreSQL prints the value of a domain as VALUE, which is a name like any other.
  select format('case when not (select %s from (select (%s)::%s as value) cf_v) then %L end',
    pg_get_expr(o.conbin, 0), value_sql, crossfade_private.base_type_name(type_id), o.conname)
  from layer l join pg_catalog.pg_constraint o on o.contypid = l.id and o.contype = 'c';
$$;

comment on function crossfade_private.domain_tests is
  'For each check of a domain and of the domains below it, SQL that gives its name when a value breaks it.';

create or replace function crossfade_private.row_tests(tab regclass)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format('case when (cf_k.cf_row).%I is null then %L end', a.attname,
    a.attname || ' is not null')
  from pg_catalog.pg_attribute a
  where a.attrelid = tab and a.attnum > 0 and a.attnotnull and not a.attisdropped
  union all
  select format('case when not (%s) then %L end', pg_get_expr(o.conbin, o.conrelid), o.conname)
  from pg_catalog.pg_constraint o
  where o.conrelid = tab and o.contype = 'c'
    -- PostgreSQL 18 has constraints that are not enforced.
    and coalesce((to_jsonb(o) ->> 'conenforced')::boolean, true);
$$;

comment on function crossfade_private.row_tests is
  'For each NOT NULL and CHECK of a table, SQL over its columns and cf_k.cf_row that gives its name when the row breaks it.';

create or replace function crossfade_private.stored_sql(tab regclass, made text, more_tests text[])
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format($sql$(
      select cf_1.cf_broken || coalesce(cf_2.cf_broken, '{}') as cf_broken, cf_2.cf_row
      from (select array_remove(array[%1$s]::text[], null) as cf_broken) cf_1
      left join lateral (
        select cf_k.cf_row, array_remove(array[%2$s]::text[], null) as cf_broken
        from (
          select row(%3$s)::%4$s as cf_row
          from (select %5$s, %7$L::regclass::oid as tableoid
            where cf_1.cf_broken = '{}' offset 0) cf_q
          offset 0
        ) cf_k
        cross join lateral unnest(array[cf_k.cf_row]) %6$I
        cross join (select %7$L::regclass::oid as tableoid) cf_table
        offset 0) cf_2 on true)$sql$,
    array_to_string(more_tests || array(
      select crossfade_private.domain_tests(f.atttypid, format('%s.%I', made, f.attname))
      from pg_catalog.pg_attribute f
      where f.attrelid = tab and f.attnum > 0 and not f.attisdropped and f.attgenerated = ''),
      ', '),
    array_to_string(array(select crossfade_private.row_tests(tab)), ', '),
    string_agg(case when a.attgenerated = '' then quote_ident(a.attname)
      else format('(%s)', pg_get_expr(d.adbin, d.adrelid)) end, ', ' order by a.attnum),
    tab,
    string_agg(format('%s.%I::%s as %2$I', made, a.attname,
      format_type(a.atttypid, a.atttypmod)), ', ' order by a.attnum)
      filter (where a.attgenerated = ''),
    (select c.relname from pg_catalog.pg_class c where c.oid = tab), tab::text)
  from pg_catalog.pg_attribute a
  left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
  where a.attrelid = tab and a.attnum > 0 and not a.attisdropped;
$$;

comment on function crossfade_private.stored_sql is
  'An item of FROM, after LATERAL, with what a table would store of the columns of alias made: cf_broken, the names of the constraints (and of more_tests) that refuse it, and cf_row, with computed columns; null when a domain refuses it.';
