-- The migrations by which a table becomes a partition.

create or replace function crossfade_private.constant_text(constant text)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(replace(substring(constant from '^''((?:[^'']|'''')*)'''), '''''', ''''),
    btrim(constant, '()'));
$$;

comment on function crossfade_private.constant_text is
  'The text of a constant as PostgreSQL prints it.';

create or replace function crossfade_private.relabel_bound_sql(
  tab regclass, column_name text, to_value text
)
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set datestyle = 'ISO'
as $$
declare
  v_type oid;
  v_text text := to_value;
begin
  -- A domain may ask functions of its owner.
  select crossfade_private.base_type(a.atttypid) into v_type from pg_catalog.pg_attribute a
  where a.attrelid = tab and a.attname = column_name and a.attnum > 0;
  if v_text is null and v_type
    in ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype) then
    -- Time enough to apply the files, before rows come that the first partition does not take.
    v_text := (date_trunc('month', now()) + interval '2 months')::date;
  end if;
  if v_text is null then
    return null;
  end if;
  execute format('select format(%L, v::text, %L) from cast(%L as %s) v', '%L::%s',
    format_type(v_type, null), v_text, format_type(v_type, null))
  into v_text;
  return v_text;
exception when data_exception or check_violation then
  perform crossfade_private.fail(400, 'CF012',
    format('"%s" is no value of column "%s", which is %s', to_value, column_name,
      format_type(v_type, null)),
    jsonb_build_object('to_value', to_value), 'Say where the first partition ends: --to VALUE');
end $$;

comment on function crossfade_private.relabel_bound_sql is
  'SQL of the value at which the first partition is to end; null when somebody has to say it. For times the first day (UTC) of the month after the next.';

create or replace function crossfade_private.relabel_files(
  tab regclass, column_name text, state jsonb, bound text
)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with n as (
    select 'relabel_' || regexp_replace(lower(c.relname), '[^a-z0-9]+', '_', 'g') as name,
      format('%I', crossfade_private.bound_name(tab)) as rule,
      (parse_ident(crossfade_private.relabel_index_name(tab, column_name)))[2] as idx, (
        select string_agg(quote_ident(k.name), ', ' order by k.n)
        from unnest(crossfade_private.relabel_key(tab, column_name)) with ordinality k(name, n)
      ) as key
    from pg_catalog.pg_class c where c.oid = tab
  )
  select coalesce(jsonb_agg(jsonb_build_object('name', n.name || '-' || f.name, 'sql', f.sql)
    order by f.place), '[]')
  from n
  cross join lateral (
    values
    (1, 'index', format(
      E'-- Alone in its file: in a transaction, or after another statement, it would be refused.\n'
      'create unique index concurrently %I on %s (%s);\n', n.idx, tab, n.key),
      state ->> 'index' is null),
    (2, 'check', crossfade_private.carry_file(
      'From here on a row beyond the first partition is refused. ACCESS EXCLUSIVE for milliseconds;
reads no row.',
      format('  alter table %s add constraint %s check (%I is not null and %3$I < %s) not valid;',
        tab, n.rule, column_name, bound)),
      state ->> 'check' is null),
    (3, 'validate', crossfade_private.carry_file(
      'Reads the table once; readers and writers go on. A transaction of its own: before it commits
the lock of the file before this one would be held.',
      format('  alter table %s validate constraint %s;', tab, n.rule)),
      state ->> 'check' is distinct from 'valid'),
    (4, 'swap', format(E'%s\nselect crossfade_private.relabel_table(%L, %L);\n',
      crossfade_private.commented(format(
        '%s becomes the first partition of a partitioned table of its name, in one transaction that
holds it for milliseconds. What is there then is carried over or refused; as of today it runs:
%s', tab, (
          select string_agg(s || ';', E'\n')
          from crossfade_private.relabel_statements(tab, column_name, bound) s))),
      tab::text, column_name), true)
  ) f(place, name, sql, is_due)
  where f.is_due and not (state ->> 'done')::boolean and state ->> 'broken' is null
    and state ->> 'building' is null;
$$;

comment on function crossfade_private.relabel_files is
  'The migrations that may be applied now, in their order: [{"name", "sql"}].';
