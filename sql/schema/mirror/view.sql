-- Stage retired: V1's name as a view over V2. The converters' text stands in it, so that an index
-- of V2 is found through it.

create or replace function crossfade_private.beside_name(v1 text, suffix text)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select format('%I.%I', p[1], left(p[2], 63 - length(suffix)) || suffix) from parse_ident(v1) p;
$$;

comment on function crossfade_private.beside_name is
  'A name in V1''s schema: with _archive what V1 is called in stage retired, with _to_be the view before it has V1''s name.';

create or replace function crossfade_private.view_key_type(
  v1 regclass, column_1 text, v2 regclass, column_2 text
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- A cast that computes would keep the index of V2 from being used: then it is V2's type.
  select case
    when crossfade_private.base_type(a.atttypid) = crossfade_private.base_type(b.atttypid)
      and a.atttypmod = b.atttypmod
      or array[crossfade_private.base_type(a.atttypid), crossfade_private.base_type(b.atttypid)]
        <@ array['text'::regtype::oid, 'varchar'::regtype::oid]
      then format_type(a.atttypid, case when a.atttypid = 'varchar'::regtype
        and (b.atttypid <> a.atttypid or b.atttypmod <> a.atttypmod) then -1 else a.atttypmod end)
    else format_type(b.atttypid, b.atttypmod) end
  from pg_catalog.pg_attribute a join pg_catalog.pg_attribute b on b.attname = column_2
  where a.attrelid = v1 and a.attname = column_1 and b.attrelid = v2;
$$;

comment on function crossfade_private.view_key_type is
  'The type of a key column in the view: that of V1 where V2''s values have it as they are, else V2''s.';

create or replace function crossfade_private.view_columns(
  pair crossfade.pairs, row_sql text, is_view boolean
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select string_agg(case
    -- The Data API must not know a key of the view: it would write ON CONFLICT, which no view has.
    when k.name is not null then format(
      case when is_view then 'case when true then %s end as %I' else '%s as %I' end,
      format('(%s.%I)::%s', row_sql, k.name,
        crossfade_private.view_key_type(a.attrelid, a.attname, (pair).v2_table, k.name)), a.attname)
    when a.attgenerated <> '' then format('(select (%s)::%s from (select cf_c.*) cf_g) as %I',
      pg_get_expr(d.adbin, d.adrelid), t.name, a.attname)
    else format('(cf_c.%I)::%s as %1$I', a.attname, t.name) end, ', ' order by a.attnum)
  from pg_catalog.pg_attribute a
  cross join lateral (select format_type(a.atttypid, a.atttypmod)) t(name)
  left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
  left join lateral unnest((pair).key_columns, (pair).v2_key_columns) k(name_1, name)
    on k.name_1 = a.attname
  where a.attrelid = ((pair).v1_table)::regclass and a.attnum > 0 and not a.attisdropped;
$$;

comment on function crossfade_private.view_columns is
  'The columns of V1 of a row of V2 and of what its converter makes of it, cf_c. is_view: as the view has them.';

create or replace function crossfade_private.constraint_checks(tab regclass, name text)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with named as (
    select c.relname, c.relnamespace::regnamespace::text as schema_name
    from pg_catalog.pg_class c where c.oid = tab
  )
  select coalesce(string_agg(format('if %s then
      raise exception using errcode = %L, schema = %L, table = %L, %s, message = %L;
    end if;', q.fails, q.code, n.schema_name, n.relname, q.named, q.message), e'\n  '
    order by q.code, q.n), '')
  from named n
  cross join lateral (
    select a.attnum as n, format('num_nulls((%s).%I) > 0', name, a.attname) as fails,
      '23502' as code, format('column = %L', a.attname) as named,
      format('null value in column "%s" of relation "%s" violates not-null constraint', a.attname,
        n.relname) as message
    from pg_catalog.pg_attribute a
    where a.attrelid = tab and a.attnum > 0 and a.attnotnull and not a.attisdropped
    union all
    select row_number() over (order by o.conname), format(
      'exists (select from (select (%s).*) cf_x where (%s) is false)', name,
      pg_get_expr(o.conbin, o.conrelid)), '23514', format('constraint = %L', o.conname),
      format('new row for relation "%s" violates check constraint "%s"', n.relname, o.conname)
    from pg_catalog.pg_constraint o
    where o.conrelid = tab and o.contype = 'c'
      and coalesce((to_jsonb(o) ->> 'conenforced')::boolean, true)
  ) q;
$$;

comment on function crossfade_private.constraint_checks is
  'Statements that refuse a row, in a variable, as the NOT NULL and CHECK constraints of a table do.';

create or replace function crossfade_private.taken_key_text(pair crossfade.pairs)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format('get stacked diagnostics cf_constraint = constraint_name,
            cf_detail = pg_exception_detail;
          if cf_constraint <> all (%L::text[]) then
            raise;
          elsif cf_detail = '''' then -- of a row that the writer may not see
            raise exception using %s;
          end if;
          raise exception using %2$s, detail = %3$s;',
    crossfade_private.unique_key_names(((pair).v2_table)::regclass, (pair).v2_key_columns),
    format('errcode = ''23505'', schema = %L, table = %L, constraint = %L, message = %L',
      c.relnamespace::regnamespace, c.relname, n.name,
      format('duplicate key value violates unique constraint "%s"', n.name)),
    format('format(%L, %s)', format('Key (%s)=(%s) already exists.',
      replace(array_to_string((pair).key_columns, ', '), '%', '%%'),
      array_to_string(array_fill('%s'::text, array[cardinality((pair).key_columns)]), ', ')), (
      select string_agg(format('(cf_new).%I', k), ', ' order by u.n)
      from unnest((pair).key_columns) with ordinality u(k, n))))
  from pg_catalog.pg_class c
  cross join lateral (
    select coalesce((
      select i.indexrelid::regclass::oid from pg_catalog.pg_index i
      where i.indrelid = c.oid and i.indisprimary), (
      select i.indexrelid from pg_catalog.pg_index i
      join pg_catalog.pg_class x on x.oid = i.indexrelid
      where i.indrelid = c.oid and x.relname = any (
        crossfade_private.unique_key_names(c.oid, (pair).key_columns))
      limit 1)) as id
  ) k
  cross join lateral (select x.relname as name from pg_catalog.pg_class x where x.oid = k.id) n
  where c.oid = ((pair).v1_table)::regclass;
$$;

comment on function crossfade_private.taken_key_text is
  'What an exception handler says of a key of V2 that is taken: what V1 would say of its own.';

create or replace function crossfade_private.view_update(pair crossfade.pairs)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with v2 as (
    select to_regclass((pair).v2_table) as id
  ),
  edited as (
    select a.attname as name, a.attnum as n, a.attname = any ((pair).v2_key_columns) as is_key,
      crossfade_private.differs_sql(a.atttypid, format('(cf_made).%I', a.attname),
        format('(cf_before).%I', a.attname)) as differs
    from v2
    join pg_catalog.pg_attribute a on a.attrelid = v2.id and a.attname = any (
      crossfade_private.writable_columns(v2.id, crossfade_private.always_identity(v2.id)))
  )
  select case
    -- Only the columns that were edited may stand in it: there are triggers for some of them, or
    -- rights on some of them. That takes a plan for each row.
    when crossfade_private.has_triggers(v2.id, 'update of') or exists (
      select from pg_catalog.pg_attribute a where a.attrelid = v2.id and a.attacl is not null)
      then format('execute %L || coalesce(nullif(concat_ws('', '', %s), %L), (
          -- Nothing was edited: a column that its caller may write.
          select format(%L, c) from unnest(%L::text[]) with ordinality u(c, n)
          order by has_column_privilege(%L, c, ''update'') desc, n limit 1)) || %L
        using cf_made, cf_row;', format('update %s cf_t set ', (pair).v2_table),
        string_agg(format('case when %s then %L end', e.differs,
          format('%I = ($1).%1$I', e.name)), ', ' order by e.n), '', '%I = ($2).%1$I',
        array_agg(e.name order by e.is_key, e.n), (pair).v2_table,
        ' where ' || crossfade_private.key_sql('cf_t', (pair).v2_key_columns, '($2)',
          (pair).v2_key_columns))
    else format('update %s cf_t set %s where %s;', (pair).v2_table,
      string_agg(format('%I = case when %s then (cf_made).%1$I else cf_t.%1$I end', e.name,
        e.differs), ', ' order by e.n),
      crossfade_private.key_sql('cf_t', (pair).v2_key_columns, '(cf_row)', (pair).v2_key_columns))
    end
  from v2 cross join edited e
  group by v2.id;
$$;

comment on function crossfade_private.view_update is
  'The statement that brings an edit of the view to V2, by column.';

create or replace function crossfade_private.view_returned(pair crossfade.pairs, pieces jsonb)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when crossfade_private.has_triggers(((pair).v2_table)::regclass, 'before row') or exists (
      select from pg_catalog.pg_attribute a
      where a.attrelid = ((pair).v2_table)::regclass and a.attgenerated <> '')
      then crossfade_private.render(crossfade_private.view_stored_text(), pieces)
    -- What version 2 makes of a row of version 1 shows that very row: the laws of converters.
    else coalesce(string_agg(format('new.%I := cf_new.%1$I;', a.attname), e'\n  '
      order by a.attnum), '') end
  from pg_catalog.pg_attribute a
  where a.attrelid = ((pair).v1_table)::regclass and a.attnum > 0 and not a.attisdropped;
$$;

comment on function crossfade_private.view_returned is
  'Statements that give RETURNING the row.';

create or replace function crossfade_private.view_variables(v1 regclass)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'merge', coalesce(string_agg(format(
      'if %L <> all (cf_given) then cf_new.%1$I := cf_now.%1$I; end if;', a.attname), e'\n      '
      order by a.attnum) filter (where a.attgenerated = ''), ''),
    'edited_names', format('array_remove(array[%s]::text[], null)', string_agg(format(
      'case when %s then %L end', crossfade_private.differs_sql(a.atttypid,
        format('(cf_old).%I', a.attname), format('(cf_new).%I', a.attname)), a.attname), ', '
      order by a.attnum) filter (where a.attgenerated = '')),
    'generate', coalesce(string_agg(format(
      'cf_new.%I := (select (%s) from (select (cf_new).*) cf_g);', a.attname,
      pg_get_expr(d.adbin, d.adrelid)), e'\n  ' order by a.attnum)
      filter (where a.attgenerated <> ''), ''))
  from pg_catalog.pg_attribute a
  left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
  where a.attrelid = v1 and a.attnum > 0 and not a.attisdropped;
$$;

comment on function crossfade_private.view_variables is
  'Statements about a row of V1 in a variable: the columns that were not sent, those that were edited, and the generated ones.';

create or replace function crossfade_private.view_pieces(
  pair crossfade.pairs, to_v2 jsonb, to_v1 jsonb
)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'made_by', format('crossfade %s: view of pair "%s"', crossfade_private.generator(),
      (pair).name),
    'archive', crossfade_private.beside_name((pair).v1_table, '_archive'),
    'target', (pair).v2_table, 'target_literal', quote_literal((pair).v2_table),
    'key_t_old', crossfade_private.key_sql('cf_t', t.key_2, '(cf_old)', t.key_1),
    'key_t_made', crossfade_private.key_sql('cf_t', t.key_2, '(cf_made)', t.key_2),
    'key_row_made', crossfade_private.key_sql('(cf_row)', t.key_2, '(cf_made)', t.key_2),
    'image_t', crossfade_private.view_columns(pair, 'cf_t', false),
    'image_row', crossfade_private.view_columns(pair, '(cf_row)', false),
    'convert_t', 'lateral ' || crossfade_private.convert_sql(to_v1, 'cf_t', 'null'),
    'convert_row', 'lateral ' || crossfade_private.convert_sql(to_v1, 'cf_row', 'null'),
    'make_new', 'lateral ' || crossfade_private.convert_sql(to_v2, 'cf_new',
      format('null::%s', (pair).v2_table)),
    'make_edited', 'lateral ' || crossfade_private.convert_sql(to_v2, 'cf_new', 'cf_row'),
    'make_before', 'lateral ' || crossfade_private.convert_sql(to_v2, 'cf_old', 'cf_row'),
    'now_differs_t', crossfade_private.any_differs_sql(t.v1, null, 'cf_i', '(cf_old)'),
    'old_differs_now', crossfade_private.any_differs_sql(t.v1, null, '(cf_old)', '(cf_now)'),
    'check', crossfade_private.constraint_checks(t.v1, 'cf_new'),
    'columns', c.names, 'made_values', c.made,
    -- Naming the key takes a right to read it, which who may only insert does not have.
    'conflict', coalesce((
      select format(' (%s)', string_agg(quote_ident(k), ', ')) from unnest(t.key_2) k
      where exists (
        select from pg_catalog.pg_index i
        where i.indrelid = ((pair).v2_table)::regclass and not i.indimmediate)
      having count(*) > 0), ''),
    -- As the Data API writes it, which quotes every name.
    'insert_pattern', quote_literal(format('INSERT INTO %s\s*\(((?:\s*"(?:[^"]|"")*"\s*,?)*)\)', (
      select string_agg(regexp_replace('"' || replace(i, '"', '""') || '"', '([^\w\s])', '\\\1',
        'g'), '\.' order by n)
      from unnest(parse_ident((pair).v1_table)) with ordinality u(i, n)))),
    'raise_taken', crossfade_private.taken_key_text(pair),
    'raise_moved',
      'raise exception using errcode = ''40001'',
          message = ''could not serialize access due to concurrent update'';',
    'raise_unwritable', format('raise exception using errcode = ''42501'', message = %L;', format(
      'new row violates row-level security policy (USING expression) for table "%s"',
      (parse_ident((pair).v2_table))[2])),
    -- Seen and not committed: written by this transaction, also in a savepoint of it.
    'is_own_t', '(select case when cf_x.n < 2147483648
          then pg_xact_status((pg_current_xact_id()::text::numeric + cf_x.n)::text::xid8)
            = ''in progress'' else false end
          from (select mod(cf_t.xmin::text::numeric - mod(pg_current_xact_id()::text::numeric,
            4294967296) + 4294967296, 4294967296) as n) cf_x)',
    'raise_left_out', format('raise exception using errcode = ''23514'', message = %L;',
      format('%s has no place for this row', (pair).v2_table)))
    || jsonb_build_object('update', crossfade_private.view_update(pair))
    || crossfade_private.view_variables(t.v1)
  from (
    select (pair).key_columns as key_1, (pair).v2_key_columns as key_2,
      ((pair).v1_table)::regclass as v1
  ) t
  cross join lateral (
    select string_agg(quote_ident(w.c), ', ' order by w.n) as names,
      string_agg(format('(cf_made).%I', w.c), ', ' order by w.n) as made
    from unnest(crossfade_private.writable_columns(((pair).v2_table)::regclass, '{}'))
      with ordinality w(c, n)
  ) c;
$$;

comment on function crossfade_private.view_pieces is
  'What view_write_text asks for, by the name that V1''s table will have.';

create or replace function crossfade_private.copy_table_rights(from_table regclass, to_view text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_statement text;
begin
  for v_statement in
    -- What default privileges have given it.
    select format('revoke all on %s from %s', to_view, g.role)
    from pg_catalog.pg_class c
    cross join lateral pg_catalog.aclexplode(c.relacl) a
    cross join lateral (select case a.grantee when 0 then 'public'
      else quote_ident(pg_get_userbyid(a.grantee)) end) g(role)
    where c.oid = to_view::regclass and a.grantee <> c.relowner
    union all
    select format('grant %s%s on %s to %s%s', a.privilege_type, a.columns, to_view,
      case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end,
      case when a.is_grantable then ' with grant option' end)
    from (
      select x.*, null::text as columns from pg_catalog.pg_class c
      cross join lateral pg_catalog.aclexplode(c.relacl) x
      where c.oid = from_table and x.grantee <> c.relowner
      union all
      select x.*, format(' (%I)', b.attname) from pg_catalog.pg_attribute b
      cross join lateral pg_catalog.aclexplode(b.attacl) x
      where b.attrelid = from_table and b.attnum > 0 and not b.attisdropped
    ) a
  loop
    execute v_statement;
  end loop;
  execute format('alter table %s owner to %I', to_view, (
    select pg_get_userbyid(c.relowner) from pg_catalog.pg_class c where c.oid = from_table));
end $$;

comment on function crossfade_private.copy_table_rights is
  'Give a view, or a table, the owner and the grants of a table, also those of columns, and no others.';

create or replace function crossfade_private.copy_defaults(pair crossfade.pairs, to_view text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_statement text;
begin
  for v_statement in
    select format('alter view %s alter column %I set default %s', to_view, a.attname, coalesce(
      -- Keys come from where V2's own come.
      'nextval(' || quote_literal(s.sequence) || ')', pg_get_expr(d.adbin, d.adrelid)))
    from pg_catalog.pg_attribute a
    left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    cross join lateral (
      select crossfade_private.view_sequence(pair, a.attname) as sequence) s
    where a.attrelid = ((pair).v1_table)::regclass and a.attnum > 0 and a.attgenerated = ''
      and a.attidentity <> 'a' -- the trigger gives those
      and (d.oid is not null or s.sequence is not null)
    union all
    select format('comment on %s is %L', case o.objsubid when 0 then 'view ' || to_view
      else format('column %s.%I', to_view, a.attname) end, o.description)
    from pg_catalog.pg_description o
    left join pg_catalog.pg_attribute a on a.attrelid = o.objoid and a.attnum = o.objsubid
    where o.classoid = 'pg_class'::regclass and o.objoid = ((pair).v1_table)::regclass
  loop
    execute v_statement;
  end loop;
end $$;

comment on function crossfade_private.copy_defaults is
  'Give the columns of a view the defaults of V1, and it and them the comments.';

create or replace function crossfade_private.view_sequence(pair crossfade.pairs, column_1 text)
returns regclass
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce((
    select k.sequence_2 from crossfade_private.key_sequences(pair) k
    where k.column_1 = view_sequence.column_1),
    case when a.attidentity <> '' or (pair).key_columns @> array[view_sequence.column_1]
      then crossfade_private.default_sequence(a.attrelid, a.attname) end)
  from pg_catalog.pg_attribute a
  where a.attrelid = ((pair).v1_table)::regclass and a.attname = view_sequence.column_1;
$$;

comment on function crossfade_private.view_sequence is
  'The sequence from which the view takes a column''s default, where the column is a key or an identity.';

create or replace function crossfade_private.view_identity(pair crossfade.pairs)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(string_agg(format('if tg_op = ''UPDATE'' then
    if (cf_new).%1$I is distinct from old.%1$I then
      raise exception using errcode = ''428C9'', message = %2$L, detail = %4$L;
    end if;
  elsif (cf_new).%1$I is not null then
    raise exception using errcode = ''428C9'', message = %3$L, detail = %4$L;
  else
    cf_new.%1$I := nextval(%5$L::regclass);
  end if;', a.attname, format('column "%s" can only be updated to DEFAULT', a.attname),
    format('cannot insert a non-DEFAULT value into column "%s"', a.attname),
    format('Column "%s" is an identity column defined as GENERATED ALWAYS.', a.attname),
    crossfade_private.view_sequence(pair, a.attname)), e'\n  ' order by a.attnum), '')
  from pg_catalog.pg_attribute a
  where a.attrelid = ((pair).v1_table)::regclass and a.attidentity = 'a' and not a.attisdropped;
$$;

comment on function crossfade_private.view_identity is
  'Statements that give a new row the columns that are GENERATED ALWAYS AS IDENTITY, and let nobody else.';

create or replace function crossfade_private.make_view_order(
  pair crossfade.pairs, view_name regclass
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_function constant text := format('crossfade_private.view_%s_order', (pair).name);
  v_names constant text := (
    select string_agg(distinct format('%I.%I', o.connamespace::regnamespace, o.conname), ', ')
    from pg_catalog.pg_constraint o
    where o.conrelid = ((pair).v2_table)::regclass and o.condeferrable and not o.condeferred);
  v_when text;
begin
  if v_names is null then
    return;
  end if;
  -- A table checks them when all rows of a statement are there, and the view writes row by row.
  execute format('create or replace function %s() returns trigger language plpgsql volatile
    set search_path = pg_catalog, pg_temp as %L', v_function, format('
-- crossfade %s: view of pair "%s": constraints are checked at the end of a statement.
begin
  if tg_when = ''BEFORE'' then
    set constraints %s deferred;
  else
    set constraints %3$s immediate;
  end if;
  return null;
end', crossfade_private.generator(), (pair).name, v_names));
  execute format('revoke all on function %s() from public', v_function);
  foreach v_when in array array['before', 'after'] loop
    execute format('create trigger crossfade_%s %1$s insert or update or delete on %s
      for each statement execute function %s()', v_when, view_name, v_function);
  end loop;
end $$;

comment on function crossfade_private.make_view_order is
  'Have the deferrable constraints of V2 checked once a statement on the view, as for a table.';

create or replace function crossfade_private.make_view(pair crossfade.pairs)
returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set check_function_bodies = off -- it names V1 as it will be called
as $$
declare
  v_conversions constant jsonb := crossfade_private.pair_conversions(pair);
  v_pieces jsonb;
  v_view constant text := crossfade_private.beside_name((pair).v1_table, '_to_be');
  -- Not mirror_...: triggers of V2 would take what it writes for the mirror's own.
  v_function constant text := format('crossfade_private.view_%s_write', (pair).name);
begin
  v_pieces := crossfade_private.view_pieces(pair, v_conversions -> 0, v_conversions -> 1);
  v_pieces := v_pieces || jsonb_build_object('identity', crossfade_private.view_identity(pair),
    'returned', crossfade_private.view_returned(pair, v_pieces));
  execute format('create view %s with (security_invoker = true) as
    select %s from %s cf_t cross join lateral %s cf_c', v_view,
    crossfade_private.view_columns(pair, 'cf_t', true), (pair).v2_table,
    crossfade_private.convert_sql(v_conversions -> 1, 'cf_t', 'null'));
  execute format('create or replace function %s() returns trigger language plpgsql volatile
    set search_path = %s as %L', v_function,
    crossfade_private.owner_search_path(((pair).v2_table)::regclass),
    crossfade_private.render(crossfade_private.view_write_text(), v_pieces));
  execute format('revoke all on function %s() from public', v_function);
  execute format('create trigger crossfade_view instead of insert or update or delete on %s
    for each row execute function %s()', v_view, v_function);
  perform crossfade_private.make_view_order(pair, v_view::regclass);
  perform crossfade_private.copy_defaults(pair, v_view);
  perform crossfade_private.copy_table_rights(((pair).v1_table)::regclass, v_view);
  return v_view;
end $$;

comment on function crossfade_private.make_view is
  'Make the view that takes V1''s name, with its trigger, under another name, which it gives. Locks nothing that clients wait for.';
