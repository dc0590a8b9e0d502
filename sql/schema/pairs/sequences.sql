-- Sequences that hand out keys. Two tables with a sequence each hand out the same keys; two tables
-- with one sequence depend on it, and one of them owns it.

create or replace function crossfade_private.default_sequence(tab regclass, column_name text)
returns regclass
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_column pg_catalog.pg_attribute;
  v_name text[];
begin
  select a.* into v_column from pg_catalog.pg_attribute a
  where a.attrelid = tab and a.attname = column_name and a.attnum > 0;
  if v_column.attidentity <> '' then
    return (
      select d.objid::regclass from pg_catalog.pg_depend d
      where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass
        and d.refobjid = tab and d.refobjsubid = v_column.attnum and d.deptype = 'i');
  end if;
  -- As a constant PostgreSQL knows it; a text it looks up when the default is asked for.
  select regexp_match(pg_get_expr(e.adbin, e.adrelid),
    '^nextval\(\(?(?:pg_get_serial_sequence\(''((?:[^'']|'''')*)''::text, ''((?:[^'']|'''')*)''::text\)|''((?:[^'']|'''')*)''::(?:text|regclass))\)?(?:::regclass)?\)')
  into v_name
  from pg_catalog.pg_attrdef e where e.adrelid = tab and e.adnum = v_column.attnum;
  if v_name[3] is not null then
    return to_regclass(replace(v_name[3], '''''', ''''));
  end if;
  return pg_get_serial_sequence(replace(v_name[1], '''''', ''''), replace(v_name[2], '''''', ''''));
exception when others then
  return null; -- a default that could not be asked for either
end $$;

comment on function crossfade_private.default_sequence is
  'The sequence from which a column takes its default: of an identity, of nextval(), of nextval(pg_get_serial_sequence()); null without one.';

create or replace function crossfade_private.sequence_owner(sequence regclass)
returns table (tab regclass, column_name text, is_identity boolean)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select d.refobjid::regclass, a.attname::text, d.deptype = 'i'
  from pg_catalog.pg_depend d
  join pg_catalog.pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
  where d.classid = 'pg_class'::regclass and d.objid = sequence and d.deptype in ('a', 'i')
    and d.refclassid = 'pg_class'::regclass;
$$;

comment on function crossfade_private.sequence_owner is
  'The column with which a sequence would be dropped; no row when there is none.';

create or replace function crossfade_private.key_sequences(pair crossfade.pairs)
returns table (column_1 text, sequence_1 regclass, column_2 text, sequence_2 regclass)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select u.k1, crossfade_private.default_sequence(((pair).v1_table)::regclass, u.k1),
    u.k2, crossfade_private.default_sequence(((pair).v2_table)::regclass, u.k2)
  from unnest((pair).key_columns, (pair).v2_key_columns) u(k1, k2);
$$;

comment on function crossfade_private.key_sequences is
  'Where the key columns of both tables take their defaults from.';

create or replace function crossfade_private.sequence_warnings(pair crossfade.pairs)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format(
    '"%s" of %s takes its values from %s and "%s" of %s from %s: both hand out the same keys, which the other table then refuses; run: %s',
    s.column_2, (pair).v2_table, s.sequence_2, s.column_1, (pair).v1_table,
    coalesce(s.sequence_1::text, 'its clients'),
    case when s.sequence_1 is null
      then format('alter table %s alter column %I drop %s', (pair).v2_table, s.column_2, i.kind)
      else format('%salter table %s alter column %I set default nextval(%L)%s',
        case i.kind when 'identity' then format('alter table %s alter column %I drop identity; ',
          (pair).v2_table, s.column_2) end, (pair).v2_table, s.column_2, s.sequence_1,
        -- Nobody needs a right on the sequence of an identity column; for a default they do.
        (select '; ' || format('grant usage on sequence %s to %s', s.sequence_1,
          string_agg(distinct quote_ident(r.rolname), ', ' order by quote_ident(r.rolname)))
        from pg_catalog.pg_class c
        cross join lateral pg_catalog.aclexplode(c.relacl) g
        join pg_catalog.pg_roles r on r.oid = g.grantee
        where c.oid = ((pair).v2_table)::regclass and g.privilege_type = 'INSERT'
          and not has_sequence_privilege(r.oid, s.sequence_1, 'usage')
        having count(*) > 0)) end)
  from crossfade_private.key_sequences(pair) s
  cross join lateral (
    select case when a.attidentity <> '' then 'identity' else 'default' end as kind
    from pg_catalog.pg_attribute a
    where a.attrelid = ((pair).v2_table)::regclass and a.attname = s.column_2
  ) i
  where s.sequence_2 is not null and s.sequence_2 is distinct from s.sequence_1
  union all
  select format(
    'sequence %s, from which "%s" of %s takes its values, would be dropped with "%s" of %s; stage complete %s',
    s.sequence_2, s.column_2, (pair).v2_table, o.column_name, o.tab,
    case when o.is_identity
      then 'gives version 2 a sequence of its own (ACCESS EXCLUSIVE on it for milliseconds)'
      else 'makes it version 2''s' end)
  from crossfade_private.key_sequences(pair) s
  cross join lateral crossfade_private.sequence_owner(s.sequence_2) o
  where o.tab = ((pair).v1_table)::regclass;
$$;

comment on function crossfade_private.sequence_warnings is
  'Keys that both tables would hand out, and sequences that would die with V1.';
