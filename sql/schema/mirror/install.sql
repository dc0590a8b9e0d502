-- Making and removing the mirror of a pair: functions, triggers, and the constant that switches
-- them.

create or replace function crossfade_private.mirror_body(name text, pieces jsonb)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select crossfade_private.render(case name
    when 'insert' then crossfade_private.mirror_insert_text()
    when 'update' then crossfade_private.mirror_update_text()
    when 'delete' then crossfade_private.mirror_delete_text()
    when 'truncate' then crossfade_private.mirror_truncate_text()
    when 'put' then crossfade_private.mirror_put_text()
    when 'edit' then crossfade_private.mirror_edit_text()
    when 'move' then crossfade_private.mirror_move_text()
    when 'push' then crossfade_private.mirror_push_text()
    when 'remove' then crossfade_private.mirror_remove_text()
    when 'first' then crossfade_private.mirror_first_text()
    when 'last' then crossfade_private.mirror_last_text()
    when 'key' then crossfade_private.mirror_key_text()
    when 'late' then crossfade_private.mirror_late_text()
    when 'moved' then crossfade_private.mirror_moved_text()
    when 'taken' then crossfade_private.mirror_taken_text()
    when 'follow' then crossfade_private.mirror_follow_text()
    end, pieces);
$$;

comment on function crossfade_private.mirror_body is
  'The body of one of a pair''s mirror functions.';

create or replace function crossfade_private.all_pieces(
  pair crossfade.pairs, side integer, conversions jsonb
)
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pieces jsonb := crossfade_private.mirror_pieces(pair, side, conversions);
  v_target regclass := v_pieces ->> 'target';
  v_filters boolean := (v_pieces ->> 'filters')::boolean;
  v_by_column boolean := crossfade_private.has_triggers(v_target, 'update of');
  -- The others were counted where that was asked.
  v_count constant text := 'if cf_depth = 2 or not ({is_plain}) then
    cf_number := {counter};
  end if;';
begin
  v_pieces := v_pieces || crossfade_private.partition_pieces(
    (v_pieces ->> 'source')::regclass, v_target, v_pieces);
  v_pieces := v_pieces || jsonb_build_object(
    -- A trigger may drop rows, and a converter that is not a bare list may give none.
    'when_written', case
      when v_filters or crossfade_private.has_triggers(v_target, 'before insert row') then
        'declare
        cf_written bigint;
      begin
        get diagnostics cf_written = row_count;
        if cf_written = (select count(*) from cf_new) then
          return null;
        end if;
      end;'
      else 'return null;' end,
    'without_counterpart', crossfade_private.render(case when v_filters then
        'case when exists (select from {target} cf_t where {same_key_t_s}) then exists (
          select from {target} cf_t where {same_key_t_s}
            and not exists (select from lateral {convert} cf_c))
        else exists (select from lateral {convert_now} cf_c) end'
      else 'not exists (select from {target} cf_t where {same_key_t_s})' end, v_pieces),
    'update_many', quote_literal(
      crossfade_private.render(crossfade_private.update_many_text(false), v_pieces)),
    'update_many_new', quote_literal(
      crossfade_private.render(crossfade_private.update_many_text(true), v_pieces)),
    'read_differs_many', quote_literal(
      crossfade_private.render(crossfade_private.read_differs_many_text(), v_pieces)),
    'drop_what_is_left_out', case when v_filters then crossfade_private.render(
      crossfade_private.drop_what_is_left_out_text(), v_pieces) else '' end,
    'refuse_taken', crossfade_private.render(crossfade_private.refuse_taken_text(), v_pieces),
    'raise_left_out', case when v_filters then crossfade_private.render(
      crossfade_private.raise_left_out_text(), v_pieces) else '' end,
    'spare_left_out', case when (v_pieces ->> 'filters_back')::boolean then
      crossfade_private.render(crossfade_private.spare_left_out_text(), v_pieces) else '' end,
    'delete_many', quote_literal(
      crossfade_private.render(crossfade_private.delete_many_text(), v_pieces)),
    'named_head', quote_literal(format('update %s cf_t set ', v_pieces ->> 'target')),
    'named_tail', quote_literal(
      crossfade_private.render(crossfade_private.named_tail_text(), v_pieces)),
    'edited_texts', format('array[%s]::text[]', (
      select string_agg(quote_literal(t), ', ' order by n)
      from jsonb_array_elements_text(v_pieces -> 'edited_texts') with ordinality u(t, n))),
    -- For is_named_update, which sees the statement as it was run.
    'named', jsonb_build_object('head', format('update %s cf_t set ', v_pieces ->> 'target'),
      'tail', crossfade_private.render(crossfade_private.named_tail_text(), v_pieces),
      'texts', v_pieces -> 'edited_texts'));
  return v_pieces || jsonb_build_object(
    'count_if_not_plain', crossfade_private.render(v_count, v_pieces),
    'count_update', crossfade_private.render(case when v_by_column or not v_pieces ? 'flags'
      then 'cf_number := {counter};' else v_count end, v_pieces),
    'flags_declared', coalesce(v_pieces ->> 'flags_declared', ''),
    'single_update', case when v_by_column or not v_pieces ? 'flags' then ''
      else crossfade_private.render(crossfade_private.single_update_text(), v_pieces) end,
    'fast_update', case when v_by_column
      then '-- Column by column: the other table has triggers for some.'
      else crossfade_private.render(crossfade_private.fast_update_text(), v_pieces) end,
    'edit_statement', crossfade_private.render(
      crossfade_private.edit_statement_text(v_by_column), v_pieces));
end $$;

comment on function crossfade_private.all_pieces is
  'mirror_pieces and what is put together from them.';

create or replace function crossfade_private.make_mirror_function(
  name text, signature text, pieces jsonb, path text
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Definer: who may write one table often has no right on the other. Where a converter depends on
  -- settings (each costs half a microsecond a call), they are those by which it was printed.
  -- Where conversions look expensive to the planner, compiling them takes longer than they do: an
  -- UPDATE whose rows triggers write one by one took seconds.
  execute format('create or replace function %s_%s%s language plpgsql volatile security definer
    set search_path = %s %s %s as %L', pieces ->> 'function', name, signature, path,
    case when name in ('insert', 'update', 'delete', 'truncate') then 'set jit = off' end,
    case when name in ('first', 'last', 'key', 'moved', 'taken')
      then crossfade_private.text_settings()
      else pieces ->> 'settings' end, crossfade_private.mirror_body(name, pieces));
  execute format('revoke all on function %s_%s from public', pieces ->> 'function', name);
end $$;

comment on function crossfade_private.make_mirror_function is
  'Create one of a pair''s mirror functions.';

create or replace function crossfade_private.make_mirror_trigger(
  trigger_name text, clause text, function_name text, pieces jsonb
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '2s'
as $$
begin
  execute format('create or replace trigger %I %s execute function %s_%s()', trigger_name,
    crossfade_private.render(clause, pieces), pieces ->> 'function', function_name);
end $$;

comment on function crossfade_private.make_mirror_trigger is
  'Create a trigger of a pair. Takes SHARE ROW EXCLUSIVE on the table; waits at most 2 s for it (55P03).';

create or replace function crossfade_private.plan_mirrors(pair crossfade.pairs)
returns jsonb
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_agg(jsonb_build_object('mirror', m.pieces, 'runs',
    crossfade_private.make_pieces(pair, m.side)
      || crossfade_private.inlined_pieces(m.conversions, m.side)
      || jsonb_build_object('named', m.pieces -> 'named', 'column_names',
        crossfade_private.copied_names(pair, m.conversions -> 0), 'reads_counterpart',
        crossfade_private.counterpart_reads(m.conversions -> (m.side - 1)), 'triggers_met',
        crossfade_private.triggers_met((m.pieces ->> 'source')::regclass))) order by m.side)
    || jsonb_build_array(crossfade_private.plan_partitions(pair))
  from (
    select s.side, c.conversions,
      crossfade_private.all_pieces(pair, s.side, c.conversions) as pieces
    from crossfade_private.pair_conversions(pair) c(conversions)
    cross join generate_series(1, 2) s(side)
    offset 0 -- or the pieces are made for each time they are named
  ) m;
$$;

comment on function crossfade_private.plan_mirrors is
  'What install_mirror needs, by side: the pieces of the mirror functions and those of runs; and what take_in_partitions needs. Takes most of the time, and locks nothing.';

create or replace function crossfade_private.install_mirror(
  pair crossfade.pairs, side integer, plan jsonb
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '2s'
as $$
declare
  v_pieces jsonb := plan -> 'mirror';
  v_source regclass := v_pieces ->> 'source';
  v_path text := crossfade_private.owner_search_path((v_pieces ->> 'target')::regclass);
  v_rows text := format('(cf_rows %s[]', v_source);
  v_both text := format('(cf_olds %s[], cf_news %1$s[]', v_source);
  v_function record;
begin
  insert into crossfade_private.pair_pieces as q (pair, side, pieces)
  values ((pair).name, install_mirror.side, plan -> 'runs')
  on conflict on constraint pair_pieces_pkey do update set pieces = excluded.pieces
  where q.pieces <> excluded.pieces;
  perform crossfade_private.make_counters((pair).name, side);
  for v_function in
    select * from (values
      ('put', v_rows || ', cf_operation text, cf_is_whole boolean) returns void'),
      ('remove', v_rows || ') returns void'),
      ('edit', v_both || ', cf_nested boolean) returns void'),
      ('move', v_both || ') returns integer[]'),
      ('push', v_both || ') returns void'),
      ('insert', '() returns trigger'), ('update', '() returns trigger'),
      ('delete', '() returns trigger'), ('truncate', '() returns trigger')
    ) f(name, signature)
  loop
    perform crossfade_private.make_mirror_function(
      v_function.name, v_function.signature, v_pieces, v_path);
  end loop;
  perform crossfade_private.install_statement_triggers(
    side, v_pieces || jsonb_build_object('source', t.id))
  from crossfade_private.table_tree(v_source) t;
  perform crossfade_private.install_settling(pair, v_pieces, v_source);
  if crossfade_private.is_partitioned(v_source) then
    perform crossfade_private.install_late_triggers(side, v_pieces, v_source);
  end if;
end $$;

comment on function crossfade_private.install_mirror is
  'Generate the mirror functions of one side and create their triggers. Takes SHARE ROW EXCLUSIVE on that table and its partitions for milliseconds (waits at most 2 s for each, then fails with 55P03).';

create or replace function crossfade_private.install_statement_triggers(
  side integer, pieces jsonb
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '2s'
as $$
begin
  perform crossfade_private.make_mirror_trigger('crossfade_mirror_' || t.name,
    format('after %s on {source} %s for each statement', t.name, t.referencing), t.name, pieces)
  from (values ('insert', 'referencing new table as cf_new'),
    ('update', 'referencing old table as cf_old new table as cf_new'),
    ('delete', 'referencing old table as cf_old'), ('truncate', '')) t(name, referencing);
  -- By its name the last one: what triggers of the owner's write before is emptied as well.
  perform crossfade_private.make_mirror_trigger('~crossfade_truncate',
    'before truncate on {source} for each statement', 'truncate', pieces);
  if side = 2 then
    -- What a trigger or a foreign key writes belongs to the statement that fired it.
    execute crossfade_private.render(
      'create or replace trigger crossfade_fence before insert or update or delete or truncate on {source} for each statement when (pg_trigger_depth() = 0) execute function crossfade_private.refuse_fenced_write({pair_literal})',
      pieces);
  end if;
end $$;

comment on function crossfade_private.install_statement_triggers is
  'Create the triggers of a pair that fire once a statement, on a table or a partition (source in pieces).';

create or replace function crossfade_private.install_late_triggers(
  side integer, pieces jsonb, root regclass
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '2s'
as $$
begin
  perform crossfade_private.make_mirror_function(f, '() returns trigger', pieces,
    'pg_catalog, pg_temp') from unnest(array['late', 'moved']) f;
  perform crossfade_private.make_mirror_function('taken', crossfade_private.render(
    '() returns table (cf_o {source}, cf_n {source})', pieces), pieces, 'pg_catalog, pg_temp');
  perform crossfade_private.make_mirror_function('follow', crossfade_private.render(
    '(cf_olds {source}[]) returns void', pieces), pieces, 'pg_catalog, pg_temp');
  perform crossfade_private.make_mirror_trigger('~crossfade_moved', 'before update on {source}
    for each row when ({key_changes})', 'moved', pieces);
  -- PostgreSQL replaces no constraint trigger.
  if not exists (select from pg_catalog.pg_trigger g
    where g.tgrelid = root and g.tgname = '~crossfade_late') then
    execute crossfade_private.render('create constraint trigger "~crossfade_late"
      after insert or update or delete on {source} deferrable initially deferred
      for each row execute function {function}_late()', pieces);
  end if;
  if side = 2 then
    execute crossfade_private.render('create or replace trigger crossfade_late_fence
      before insert or update or delete on {source} for each row when (pg_trigger_depth() = 0)
      execute function crossfade_private.refuse_fenced_write({pair_literal})', pieces);
  end if;
  perform crossfade_private.rest_late_triggers(root);
end $$;

comment on function crossfade_private.install_late_triggers is
  'Create the row triggers that partitions take on when they are made or attached. Takes SHARE ROW EXCLUSIVE on root and partitions; waits at most 2 s for each.';

create or replace function crossfade_private.install_settling(
  pair crossfade.pairs, pieces jsonb, tab regclass
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '2s'
as $$
declare
  -- Only writes of the mirror, or of a batch, get past this: direct ones pay nothing.
  v_settles boolean := crossfade_private.has_triggers(tab, 'before row');
  v_keys boolean := crossfade_private.always_identity(tab) && case (pieces ->> 'side')::integer
    when 1 then (pair).key_columns else (pair).v2_key_columns end;
begin
  if v_settles then
    perform crossfade_private.make_mirror_function(f, '() returns trigger', pieces,
      'pg_catalog, pg_temp') from unnest(array['first', 'last']) f;
    perform crossfade_private.make_mirror_trigger(t.name,
      'before insert or update on {source} for each row when (pg_catalog.pg_trigger_depth() > 0
        or coalesce(pg_catalog.current_setting({mark}, true), '''') = ''engine'')',
      t.called, pieces)
    from (values ('!crossfade_first', 'first'), ('~crossfade_last', 'last')) t(name, called);
  end if;
  if v_keys then
    perform crossfade_private.make_mirror_function('key', '() returns trigger', pieces,
      'pg_catalog, pg_temp');
    perform crossfade_private.make_mirror_trigger('~crossfade_key', 'before update on {source}
      for each row when (pg_catalog.pg_trigger_depth() > 0
        and coalesce(pg_catalog.current_setting({new_key}, true), '''') <> '''')', 'key', pieces);
  end if;
end $$;

comment on function crossfade_private.install_settling is
  'Create the row triggers of a table with BEFORE ROW triggers of its owner''s, or with a key that is GENERATED ALWAYS AS IDENTITY.';

create or replace function crossfade_private.remove_mirror(pair crossfade.pairs, side integer)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '2s'
as $$
declare
  v_prefix constant text := format('mirror_%s_v%s_', (pair).name, side);
  v_found record;
begin
  for v_found in select m.* from crossfade_private.mirror_triggers(pair, side) m loop
    execute format('drop trigger %I on %s', v_found.name, v_found.tab);
  end loop;
  for v_found in
    select f.oid::regprocedure as name
    from pg_catalog.pg_proc f
    where f.pronamespace = 'crossfade_private'::regnamespace
      and left(f.proname, length(v_prefix)) = v_prefix
      and substr(f.proname, length(v_prefix) + 1) ~ '^[a-z]+$'
  loop
    execute format('drop function %s', v_found.name);
  end loop;
end $$;

comment on function crossfade_private.remove_mirror is
  'Drop the triggers and functions of one side. Takes ACCESS EXCLUSIVE on that table (waits at most 2 s): never part of a rollback.';

create or replace function crossfade_private.remove_older(pair crossfade.pairs)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '2s'
as $$
declare
  v_older constant oid[] := array(
    select f.oid from pg_catalog.pg_proc f
    where f.pronamespace = 'crossfade_private'::regnamespace
      and f.proname ~ format('^mirror_%s_v[12]_[a-z]+$', (pair).name)
      -- The first line says who made it; the constants of the state have none.
      and f.prosrc ~ '^\s*-- crossfade '
      and f.prosrc !~ format('^\s*-- crossfade %s:',
        replace(crossfade_private.generator(), '.', '\.')));
  v_gone text;
begin
  for v_gone in
    select format('drop trigger %I on %s', g.tgname, g.tgrelid::regclass)
    from pg_catalog.pg_trigger g where g.tgfoid = any (v_older) and g.tgparentid = 0
    union all
    select format('drop function %s', o::regprocedure) from unnest(v_older) o
  loop
    execute v_gone;
  end loop;
end $$;

comment on function crossfade_private.remove_older is
  'Drop triggers and functions that another release made for a pair and this one does not. Where there are such triggers, takes ACCESS EXCLUSIVE on their table (waits at most 2 s).';

create or replace function crossfade_private.install_pair(
  pair crossfade.pairs, plans jsonb default null
)
returns crossfade.pairs
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_plans jsonb := coalesce(plans, crossfade_private.plan_mirrors(pair));
  v_row crossfade.pairs;
  v_mirror text;
begin
  -- Order matters: whoever changes the mirror's state holds this row, so what is read here stays.
  select p.* into v_row from crossfade.pairs p where p.name = (install_pair.pair).name
  for no key update;
  select m.mirror into v_mirror from crossfade_private.mirror_state m where m.pair = v_row.name;
  perform crossfade_private.install_mirror(v_row, 1, v_plans -> 0);
  perform crossfade_private.install_mirror(v_row, 2, v_plans -> 1);
  perform crossfade_private.remove_older(v_row);
  if v_mirror in ('archived', 'reverse') then
    perform crossfade_private.install_archive(v_row);
  end if;
  perform crossfade_private.take_in_partitions(v_row, v_plans -> 2);
  perform crossfade_private.mend_state(v_row.name);
  update crossfade.pairs p set generator = crossfade_private.generator()
  where p.name = v_row.name and p.generator <> crossfade_private.generator();
  select p.* into v_row from crossfade.pairs p where p.name = v_row.name;
  return v_row;
end $$;

comment on function crossfade_private.install_pair is
  'Generate the mirror of both sides with the texts of this release, and say so in crossfade.pairs.generator. plans: those of plan_mirrors. Locks as install_mirror.';
