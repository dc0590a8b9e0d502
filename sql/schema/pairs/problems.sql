-- What keeps a pair from being mirrored.

create or replace function crossfade_private.converter_problems(
  converter text, label text, source regclass, target regclass
)
returns setof text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_oid regproc := to_regproc(converter);
  v_proc pg_catalog.pg_proc;
  v_wanted text := format('%s(%s, %s) returns setof %s', converter, source, target, target);
begin
  if v_oid is null then
    return next format('function %s "%s" is missing or its name is not unique', label, converter);
    return;
  end if;
  select p.* into v_proc from pg_catalog.pg_proc p where p.oid = v_oid;
  -- oidvector counts from 0 and an array from 1, so they never compare equal: compare their text.
  if v_proc.proargtypes::text <> (
      select string_agg(c.reltype::text, ' ' order by c.oid = target)
      from pg_catalog.pg_class c where c.oid in (source, target))
    or not v_proc.proretset
    or v_proc.prorettype <> (select c.reltype from pg_catalog.pg_class c where c.oid = target) then
    return next format('function %s has the wrong type: wanted %s', label, v_wanted);
  end if;
  if v_proc.provolatile = 'v' then
    return next format('function %s %s is volatile: the same row must always give the same result',
      label, converter);
  end if;
  if v_proc.proisstrict then
    return next format(
      'function %s %s is strict: it would return nothing for a row without a counterpart', label,
      converter);
  end if;
end $$;

comment on function crossfade_private.converter_problems is
  'What is wrong with a converter, one sentence a row.';

create or replace function crossfade_private.primary_key(tab regclass)
returns text[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select array_agg(a.attname::text order by u.n)
  from pg_catalog.pg_index i
  cross join lateral unnest(i.indkey::smallint[]) with ordinality u(attnum, n)
  join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = u.attnum
  where i.indrelid = tab and i.indisprimary;
$$;

comment on function crossfade_private.primary_key is
  'Names of the primary key columns in key order; null without one.';

create or replace function crossfade_private.pair_problems(pair crossfade.pairs)
returns setof text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_1 regclass := (pair).v1_table;
  v_2 regclass := (pair).v2_table;
begin
  return query select crossfade_private.table_problems(v_1, 'V1', (pair).key_columns);
  return query select crossfade_private.table_problems(v_2, 'V2', (pair).v2_key_columns);
  -- A pair that is being drafted has none yet.
  if (pair).to_v2 is not null then
    return query select crossfade_private.converter_problems((pair).to_v2, 'to_v2', v_1, v_2);
  end if;
  if (pair).to_v1 is not null then
    return query select crossfade_private.converter_problems((pair).to_v1, 'to_v1', v_2, v_1);
  end if;
  return query select crossfade_private.converter_owner_problems(pair);
  return query select crossfade_private.key_pair_problems(pair);
  return query
    select format(
      'foreign key "%s" ties the two tables of the pair together: one of them could never be written first',
      c.conname)
    from pg_catalog.pg_constraint c
    where c.contype = 'f' and (c.conrelid, c.confrelid) in ((v_1, v_2), (v_2, v_1));
  return query
    select format('table %s already belongs to pair "%s"', p.t, p.name)
    from (select q.name, unnest(array[q.v1_table, q.v2_table]) t from crossfade.pairs q) p
    where p.name <> (pair).name and p.t::regclass in (v_1, v_2);
  if v_1 = v_2 then
    return next format('V1 and V2 are the same table %s', v_1);
  end if;
end $$;

comment on function crossfade_private.pair_problems is
  'Everything that keeps the two tables from being a pair.';

create or replace function crossfade_private.registration_problems(pair crossfade.pairs)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select crossfade_private.pair_problems(pair)
  union all
  select crossfade_private.group_problems(pair);
$$;

comment on function crossfade_private.registration_problems is
  'Everything that keeps a pair from being registered: of its tables, and of its group.';

create or replace function crossfade_private.outdated_mirror(pair crossfade.pairs)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format('its mirror was made by crossfade %s and not by %s',
    coalesce(nullif((pair).generator, ''), 'of unknown release'), crossfade_private.generator())
  where (pair).generator <> crossfade_private.generator() and (pair).stage <> 'retired'
  union all
  select format('%s has triggers (%s) for which its mirror was not made', u.tab,
    array_to_string(n.kinds, ', '))
  from unnest(array[(pair).v1_table, (pair).v2_table]) with ordinality u(tab, side)
  cross join lateral (
    select array(
      select unnest(crossfade_private.triggers_met(to_regclass(u.tab)))
      except
      select jsonb_array_elements_text(s.pieces -> 'triggers_met')
      from crossfade_private.pair_pieces s where s.pair = (outdated_mirror.pair).name
        and s.side = u.side
      order by 1) kinds
  ) n
  where cardinality(n.kinds) > 0
  union all
  select format(case when l.is_new then
    'partition %s is new: writes to it by its name are mirrored at COMMIT only, and TRUNCATE of it is not'
    when l.is_new is null then
    'partition %s was detached and attached again: what was written to it meanwhile is in one table only'
    else
    'partition %s is gone, by another way than crossfade pair remove-partition: its rows may be in the other table still'
    end, l.name)
  from crossfade_private.late_partitions(pair) l;
$$;

comment on function crossfade_private.outdated_mirror is
  'Why crossfade.refresh_pair has to make the mirror of a pair anew, one sentence a row: another release made it, the owner has added triggers of a kind since, or partitions have come or gone.';

create or replace function crossfade_private.mirror_problems(pair crossfade.pairs)
returns setof text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if to_regclass((pair).v1_table) is null or to_regclass((pair).v2_table) is null then
    return query select format('table %s does not exist', t)
      from unnest(array[(pair).v1_table, (pair).v2_table]) t where to_regclass(t) is null;
    return;
  end if;
  return query select crossfade_private.pair_problems(pair);
  return query select crossfade_private.publication_problems(pair);
  return query
    select format('%s; run: crossfade pair refresh %s', o, (pair).name)
    from crossfade_private.outdated_mirror(pair) o;
  -- Also seen here: another table that has taken the name.
  return query
    select format('trigger crossfade_mirror_%s of %s is missing or disabled', o.name, t)
    from (
      select m.id as t, s.side
      from unnest(array[(pair).v1_table, (pair).v2_table]) with ordinality s(root, side)
      cross join lateral crossfade_private.table_tree(s.root::regclass) m
      where m.id = s.root::regclass or exists (
        select from crossfade_private.partitions p
        where p.pair = (mirror_problems.pair).name and p.side = s.side and p.name = m.id::text)
    ) u
    cross join unnest(array['insert', 'update', 'delete', 'truncate']) o(name)
    where not exists (
      select from pg_catalog.pg_trigger g
      join pg_catalog.pg_proc f on f.oid = g.tgfoid
      where g.tgrelid = t and g.tgname = 'crossfade_mirror_' || o.name
        and g.tgenabled in ('O', 'A')
        and f.proname = format('mirror_%s_v%s_%s', (pair).name, u.side, o.name));
end $$;

comment on function crossfade_private.mirror_problems is
  'What has happened to the tables of a registered pair that keeps writes from being mirrored, one sentence a row.';
