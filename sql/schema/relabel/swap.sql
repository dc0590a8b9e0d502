-- The swap: a plain table becomes the first partition of a root that has its name.

create or replace function crossfade_private.lock_for_relabel(tab regclass)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Order matters: readers of a view lock it before the table.
  perform crossfade_private.await_turn(array(
    select v.lock_sql from crossfade_private.rebound_views(tab) v
    union all
    select format('lock table %s in access exclusive mode', tab)
    union all
    select l.lock_sql from crossfade_private.rebound_policies(tab) l
    union all
    -- Attaching drops the triggers that the table's foreign keys have there, for those of the root.
    select distinct format('lock table %s in access exclusive mode', o.confrelid::regclass)
    from pg_catalog.pg_constraint o where o.conrelid = tab and o.contype = 'f'
    union all
    -- Nobody takes a number while it is read. The option is the one that it has.
    select format('alter sequence %s cache %s', s.seqrelid::regclass, s.seqcache)
    from pg_catalog.pg_attribute a
    join pg_catalog.pg_sequence s
      on s.seqrelid = crossfade_private.default_sequence(tab, a.attname)
    where a.attrelid = tab and a.attidentity <> '' and a.attnum > 0));
end $$;

comment on function crossfade_private.lock_for_relabel is
  'Hold everything that the swap touches, for the milliseconds that it takes; 55P03 after 2 s of short attempts.';

create or replace function crossfade_private.relabel_table(tab regclass, column_name text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '300ms'
as $$
declare
  v_name constant text := tab::text;
  v_marks constant text := 'select array_agg(b.mark order by b.mark)
    from crossfade_private.table_ties($1) b';
  v_before text[];
  v_now text[];
  v_problems text[];
  v_state jsonb;
  v_statement text;
  v_statements text[];
begin
  if crossfade_private.is_relabelled(tab, column_name) then
    return; -- done before, by whoever
  end if;
  -- Order matters: what takes time is found out while clients go on.
  perform crossfade_private.hold_shape(tab);
  execute v_marks into v_before using tab;
  v_problems := array(select p from crossfade_private.relabel_problems(tab, column_name) p);
  v_state := crossfade_private.relabel_state(tab, column_name);
  if v_state ->> 'index' is null or v_state ->> 'check' is distinct from 'valid'
    or v_state ->> 'bound' is null then
    v_problems := v_problems || 'the steps before the swap are not done'::text;
  end if;
  v_statements := array(
    select s
    from crossfade_private.relabel_statements(tab, column_name, v_state ->> 'bound') s);
  perform crossfade_private.lock_for_relabel(tab);
  execute v_marks into v_now using tab;
  if v_now is distinct from v_before then
    v_problems := v_problems || 'what depends on it has changed meanwhile; try again'::text;
  end if;
  if v_problems <> '{}' then
    perform crossfade_private.fail(409, 'CF012',
      format('Cannot relabel %s: %s', v_name, array_to_string(v_problems, '; ')),
      jsonb_build_object('table', v_name, 'problems', to_jsonb(v_problems)),
      format('See: crossfade relabel %s --by %s', v_name, column_name));
  end if;
  foreach v_statement in array v_statements loop
    execute v_statement;
  end loop;
  perform pg_notify('pgrst', 'reload schema');
end $$;

comment on function crossfade_private.relabel_table is
  'Let a table become the first partition of a root of its name, in one transaction: all of it or, with CF012 or 55P03, nothing; a second time nothing. ACCESS EXCLUSIVE on it, its views, tables whose policies ask it and tables that it points to, for milliseconds.';
