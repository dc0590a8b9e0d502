-- The SQL fragments that bring edits of a row to its counterpart.

create or replace function crossfade_private.edited_columns(
  conversion jsonb, source regclass, target regclass, target_key text[]
)
returns table (name text, edited text, made text, differs text, reads text[])
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- In an update cf_o is the row before, cf_s the row read again and cf_t its counterpart.
  select c.name,
    crossfade_private.any_differs_sql(source,
      (select array_agg(r) from jsonb_array_elements_text(c.reads) r), '(cf_o)', '(cf_s)'),
    c.made,
    crossfade_private.differs_sql(a.atttypid, format('(cf_t).%I', c.name), c.made),
    (select array_agg(r) from jsonb_array_elements_text(c.reads) r)
  from (
    select w.c ->> 'name' as name, nullif(i -> 'reads', 'null') as reads,
      format('(%s)::%s', crossfade_private.fill_item(i ->> 'text', 'cf_s', 'cf_t'),
        w.c ->> 'type') as made, n
    from jsonb_array_elements(nullif(conversion -> 'items', 'null')) with ordinality u(i, n)
    join jsonb_array_elements(conversion -> 'columns') with ordinality w(c, n) using (n)
  ) c
  join pg_catalog.pg_attribute a on a.attrelid = target and a.attname = c.name
  where c.reads is distinct from '[]' and a.attgenerated = '' and a.attidentity <> 'a'
    and c.name <> all (target_key)
  order by c.n;
$$;

comment on function crossfade_private.edited_columns is
  'For a converter that is a bare select list: the target''s columns that are made of the source''s, SQL whether an update edited what they are made of, what they become, and whether that differs from what is there.';

create or replace function crossfade_private.flag_pieces(
  conversion jsonb, source regclass, target regclass, target_key text[]
)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with edited as (
    select e.*, row_number() over () place
    from crossfade_private.edited_columns(conversion, source, target, target_key) e
  ),
  flag as (
    select r as name, 'cf_e' || row_number() over (order by r) as flag
    from (select distinct unnest(e.reads) r from edited e) d
  )
  select case when bool_or(e.reads is null) or count(*) = 0 then '{}' else jsonb_build_object(
    'flags_declared', (select string_agg(f.flag || ' boolean;', ' ' order by f.flag) from flag f),
    'flag_names', (select string_agg(f.flag, ', ' order by f.flag) from flag f),
    'any_flag', (select string_agg(f.flag, ' or ' order by f.flag) from flag f),
    'flags', (
      select string_agg(
        crossfade_private.any_differs_sql(source, array[f.name], '(cf_o)', '(cf_s)'),
        ', ' order by f.flag) from flag f),
    'edits_by_flag', string_agg(format('%I = case when %s then %s else (cf_t).%1$I end', e.name,
      g.flags, e.made), ', ' order by e.place),
    'edited_by_flag', string_agg(
      format('(%s) and %s', g.flags, e.differs), ' or ' order by e.place))
    end
  from edited e
  cross join lateral (
    select string_agg(f.flag, ' or ' order by f.flag) flags from flag f where f.name = any (e.reads)
  ) g;
$$;

comment on function crossfade_private.flag_pieces is
  'The fragments of update_pieces for one updated row, with a variable for each column that the converter reads; empty where it reads the row as a whole or writes no column of its own.';

create or replace function crossfade_private.update_pieces(
  conversion jsonb, source regclass, target regclass, target_key text[]
)
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_columns text[] := crossfade_private.writable_columns(
    target, target_key || crossfade_private.always_identity(target));
  v_pieces jsonb;
begin
  if conversion -> 'items' <> 'null' then
    -- SAFETY: only what was edited. Whole rows would put old values over edits of the counterpart
    -- that are under way, by another client or by an outer statement of this one.
    select jsonb_build_object(
      'edits', coalesce(string_agg(format('%I = case when %s then %s else (cf_t).%1$I end', e.name,
        e.edited, e.made), ', '), format('%I = (cf_t).%1$I', target_key[1])),
      'edited', coalesce(string_agg(format('(%s) and %s', e.edited, e.differs), ' or '), 'false'),
      'edited_names', coalesce(array_to_json(array_agg(e.name)), '[]'),
      'edited_each', coalesce(string_agg(format('bool_or((%s) and %s)', e.edited, e.differs), ', '),
        'null::boolean'),
      'edited_texts', coalesce(json_agg(format('%I = case when %s then %s else (cf_t).%1$I end',
        e.name, e.edited, e.made)), '[]'))
    into v_pieces
    from crossfade_private.edited_columns(conversion, source, target, target_key) e;
    return v_pieces || crossfade_private.flag_pieces(conversion, source, target, target_key);
  end if;
  return (
    select jsonb_build_object(
      'edits', format('(%s) = (select %s from %s)', string_agg(quote_ident(a.attname), ', '
        order by a.attnum), string_agg(format('case when %s then cf_c.%I else (cf_t).%2$I end',
        d.edited, a.attname), ', ' order by a.attnum), f.both_rows),
      'edited', format('exists (select from %s where %s)', f.both_rows, string_agg(
        format('(%s) and %s', d.edited, d.differs), ' or ' order by a.attnum)),
      'edited_names', json_agg(a.attname order by a.attnum),
      'edited_each', string_agg(format('bool_or(exists (select from %s where (%s) and %s))',
        f.both_rows, d.edited, d.differs), ', ' order by a.attnum),
      'edited_texts', json_agg(format(
        '%1$I = (select case when %2$s then cf_c.%1$I else (cf_t).%1$I end from %3$s)', a.attname,
        d.edited, f.both_rows) order by a.attnum))
    from pg_catalog.pg_attribute a
    cross join lateral (
      select crossfade_private.differs_sql(a.atttypid,
          format('cf_b.%I', a.attname), format('cf_c.%I', a.attname)) edited,
        crossfade_private.differs_sql(a.atttypid,
          format('(cf_t).%I', a.attname), format('cf_c.%I', a.attname)) differs
    ) d
    cross join (
      select format('%s cf_c left join lateral %s cf_b on true',
        'lateral ' || crossfade_private.convert_sql(conversion, 'cf_s', 'cf_t'),
        crossfade_private.convert_sql(conversion, 'cf_o', 'cf_t')) both_rows
    ) f
    where a.attrelid = target and a.attname = any (v_columns)
    group by f.both_rows);
end $$;

comment on function crossfade_private.update_pieces is
  'Fragments that bring edits of a source row (cf_o before, cf_s now) to its counterpart cf_t: edits (for SET), edited (for WHERE), and the same column by column.';
