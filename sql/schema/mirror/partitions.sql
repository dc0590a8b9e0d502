-- Partitions of a mirrored table. A statement fires the statement triggers of the table that it
-- names, so root and partitions have them all. A partition that was made or attached since has none
-- of them, but a copy of each row trigger of the root: the late triggers stand in until the pair is
-- refreshed, and are disabled in partitions that need them no more.
--
-- Not the row triggers alone: each row of a statement on the root would pay for them, and what the
-- root has mirrored can only be known when it is over (a moved row is a deleted and an inserted
-- one). A mark that the root sets for its rows is wrong where one statement writes both by name.

create or replace function crossfade_private.mirror_late_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$
-- {made_by}: a row of V{side} in a partition without statement triggers.
#variable_conflict use_column
declare
  cf_olds {source}[];
  cf_news {source}[];
  cf_state constant text := {state};
begin
  if cf_state in ('off', 'archive') then
    return null;
  end if;
  -- At COMMIT: what the root's own triggers have mirrored is found equal, and nothing is written.
  if tg_op <> 'INSERT' then
    cf_olds := array[{old_row}];
  end if;
  if tg_op <> 'DELETE' then
    cf_news := array[{new_row}];
  end if;
  if tg_op = 'UPDATE' and (select {key_x} from unnest(cf_olds) cf_x) is distinct from (
      select {key_x} from unnest(cf_news) cf_x)
    and cardinality({function}_move(cf_olds, cf_news)) > 0 then
    return null;
  end if;
  if cf_state = 'log' then
    perform crossfade_private.note_keys({pair_literal}, {side}, tg_op,
      array(select {key_json_x} from unnest(coalesce(cf_news, cf_olds)) cf_x));
  elsif tg_op = 'INSERT' then
    perform {function}_put(cf_news, tg_op, cf_state = 'whole');
  elsif tg_op = 'DELETE' then
    perform {function}_remove(cf_olds);
  else
    if cf_state = 'whole' then
      perform {function}_put(array(select row(cf_r.*)::{source}
        from unnest(cf_news) cf_r join {target} cf_t on {same_key_t_r}), tg_op, true);
    end if;
    perform {function}_edit(cf_olds, cf_news, false);
  end if;
  return null;
end $body$;
$text$;

comment on function crossfade_private.mirror_late_text is
  'Body of crossfade_private.mirror_<pair>_v<side>_late: deferred AFTER ROW trigger of a partitioned table, enabled in partitions that were made or attached after the mirror.';

create or replace function crossfade_private.mirror_moved_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$
-- {made_by}: notes a row of V{side} that gets another key.
declare
  cf_depth constant integer := pg_trigger_depth();
  cf_context text;
begin
  {read_context}
  if ({state}) not in ('off', 'archive') and not ({own_write}) and not ({engine_write}) then
    insert into crossfade_private.moved_rows (pair, side, depth, old_row, new_row)
    values ({pair_literal}, {side}, cf_depth, {old_row}::text, {new_row}::text);
  end if;
  return new;
end $body$;
$text$;

comment on function crossfade_private.mirror_moved_text is
  'Body of crossfade_private.mirror_<pair>_v<side>_moved: BEFORE UPDATE ROW trigger of a partitioned table, for rows whose key changes. It fires last by its name.';

create or replace function crossfade_private.mirror_taken_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$
-- {made_by}: what was noted of rows of V{side} that got another key.
#variable_conflict use_column
begin
  return query
    with cf_taken as (
      delete from crossfade_private.moved_rows cf_m
      where cf_m.pair = {pair_literal} and cf_m.side = {side} and cf_m.depth = pg_trigger_depth()
      returning cf_m.id, cf_m.old_row::{source} as cf_o, cf_m.new_row::{source} as cf_n
    )
    select cf_t.cf_o, cf_t.cf_n from cf_taken cf_t order by cf_t.id;
end $body$;
$text$;

comment on function crossfade_private.mirror_taken_text is
  'Body of crossfade_private.mirror_<pair>_v<side>_taken: takes the notes of the statement at this depth.';

create or replace function crossfade_private.mirror_follow_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$
-- {made_by}: counterparts of rows that MERGE has moved to other partitions of V{side}.
#variable_conflict use_column
declare
  cf_froms {source}[];
  cf_news {source}[];
  cf_refused integer[];
begin
  -- Those that the statement's trigger has itself are no concern of ours.
  select array_agg(cf_q.cf_o order by cf_q.cf_place), array_agg(cf_q.cf_n order by cf_q.cf_place)
  into cf_froms, cf_news
  from (
    select cf_m.cf_o, cf_m.cf_n, row_number() over () as cf_place from {function}_taken() cf_m
  ) cf_q
  where not exists (
    select from unnest(cf_olds) cf_x
    cross join lateral (select (cf_q.cf_o).*) cf_r
    where {key_x} = {key_r});
  if cf_froms is null then
    return;
  end if;
  cf_refused := {function}_move(cf_froms, cf_news);
  cf_froms := array(select cf_froms[n] from generate_subscripts(cf_froms, 1) n
    where n <> all (cf_refused) order by n);
  cf_news := array(select cf_news[n] from generate_subscripts(cf_news, 1) n
    where n <> all (cf_refused) order by n);
  if ({state}) = 'log' then
    perform crossfade_private.note_keys({pair_literal}, {side}, 'UPDATE',
      array(select {key_json_x} from unnest(cf_news) cf_x));
  elsif cardinality(cf_news) > 0 then
    perform {function}_edit(cf_froms, cf_news, pg_trigger_depth() > 1);
  end if;
end $body$;
$text$;

comment on function crossfade_private.mirror_follow_text is
  'Body of crossfade_private.mirror_<pair>_v<side>_follow(cf_olds): what the UPDATE trigger does first in a partitioned table when keys have changed; cf_olds are the rows that it was given.';

create or replace function crossfade_private.partition_pieces(
  source regclass, target regclass, pieces jsonb
)
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_note text := crossfade_private.note_truncated_text();
  v_found jsonb;
  v_here text;
begin
  v_found := jsonb_build_object('target_bytes', format(case
    when crossfade_private.is_partitioned(target) then 'crossfade_private.tree_bytes(%L::regclass)'
    else 'pg_relation_size(%L)' end, pieces ->> 'target'));
  if not crossfade_private.is_partitioned(source) then
    return v_found || jsonb_build_object('not_detached', '', 'of_partition', '', 'of_root', '',
      'follow_moved', '', 'in_partition', '', 'old_row', 'old', 'new_row', 'new',
      'note_truncated', crossfade_private.render(
        v_note, pieces || jsonb_build_object('truncated', pieces -> 'source')) || ';');
  end if;
  -- A detached partition keeps its triggers. One line: own_frame counts those of the texts.
  v_here := format('if tg_relid <> %L::regclass '
    'and pg_partition_root(tg_relid) is distinct from %1$L::regclass then return null; end if; ',
    pieces ->> 'source');
  return (
    select v_found || jsonb_build_object(
      'of_partition', crossfade_private.render(crossfade_private.of_partition_text(), pieces),
      'note_truncated', format('execute replace(%L, %L, tg_relid::regclass::text);',
        crossfade_private.render(v_note, pieces || '{"truncated": "<<partition>>"}'),
        '<<partition>>'),
      'in_partition',
        'and cf_s.tableoid in (select t.id from crossfade_private.table_tree(tg_relid) t)',
      'of_root', format('if tg_relid <> %L::regclass
    and current_setting(''transaction_isolation'') <> ''read committed'' then
    return null;
  end if;
  ', pieces ->> 'source'),
      'not_detached', v_here,
      'follow_moved', v_here || crossfade_private.render('if exists (select from '
        'crossfade_private.moved_rows cf_m where cf_m.pair = {pair_literal} and cf_m.side = {side} '
        'and cf_m.depth = pg_trigger_depth()) then perform {function}_follow(array('
        'select row(cf_x.*)::{source} from {old_rows} cf_x)); end if; ', pieces),
      'old_row', format('row(%s)::%s', string_agg(format('old.%I', a.attname), ', '
        order by a.attnum), source),
      'new_row', format('row(%s)::%s', string_agg(format('new.%I', a.attname), ', '
        order by a.attnum), source))
    from pg_catalog.pg_attribute a
    where a.attrelid = source and a.attnum > 0 and not a.attisdropped);
end $$;

comment on function crossfade_private.partition_pieces is
  'Pieces of the mirror functions that are others where a table is partitioned.';

create or replace function crossfade_private.rest_late_triggers(root regclass)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '2s'
as $$
declare
  v_found record;
begin
  for v_found in
    select t.id as tab, g.tgname
    from crossfade_private.table_tree(root) t
    join pg_catalog.pg_trigger g on g.tgrelid = t.id and g.tgenabled <> 'D'
      and g.tgname in ('~crossfade_late', 'crossfade_late_fence', 'crossfade_late_archive')
    -- Only leaves: what is made inside a partition takes its triggers as they are there.
    where t.is_leaf and t.id <> root
  loop
    execute format('alter table %s disable trigger %I', v_found.tab, v_found.tgname);
  end loop;
end $$;

comment on function crossfade_private.rest_late_triggers is
  'Disable the late triggers of all partitions, which have statement triggers now. Takes SHARE ROW EXCLUSIVE on those where they are enabled; waits at most 2 s for it.';

create or replace function crossfade_private.counterpart_sql(pair crossfade.pairs, side integer)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case side
    when 1 then crossfade_private.key_sql('cf_t', (pair).v2_key_columns, 'cf_s', (pair).key_columns)
    else crossfade_private.key_sql('cf_t', (pair).key_columns, 'cf_s', (pair).v2_key_columns) end;
$$;

comment on function crossfade_private.counterpart_sql is
  'SQL that says whether a row cf_t of the other table is the counterpart of a row cf_s of a side.';

create or replace function crossfade_private.lacks_counterparts(
  pair crossfade.pairs, side integer, partition regclass
)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_lacks boolean;
begin
  execute format('select exists (select from %s cf_s where not exists (
      select from %s cf_t where %s))', partition,
    case side when 1 then (pair).v2_table else (pair).v1_table end,
    crossfade_private.counterpart_sql(pair, side))
  into v_lacks;
  return v_lacks;
end $$;

comment on function crossfade_private.lacks_counterparts is
  'Whether a partition has a row whose key the other table does not have. May read all of it.';

create or replace function crossfade_private.mirror_triggers(pair crossfade.pairs, side integer)
returns table (tab regclass, name name)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- By function and argument: the table may have another name by now. Of a row trigger of a
  -- partitioned table, only the root's own: those of partitions come and go with it.
  select g.tgrelid::regclass, g.tgname
  from pg_catalog.pg_trigger g
  join pg_catalog.pg_proc f on f.oid = g.tgfoid
  where f.pronamespace = 'crossfade_private'::regnamespace and not g.tgisinternal
    and g.tgparentid = 0
    and (starts_with(f.proname, format('mirror_%s_v%s_', (pair).name, side))
      or f.proname = any (case side when 1 then '{refuse_archived_write,drop_archived_row}'
        else '{refuse_fenced_write,drop_archived_row}' end::text[])
        and g.tgargs = convert_to((pair).name, 'UTF8') || '\x00')
  order by 1, 2;
$$;

comment on function crossfade_private.mirror_triggers is
  'The triggers of a pair on one side, wherever they are.';

create or replace function crossfade_private.drop_stray_triggers(pair crossfade.pairs)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '2s'
as $$
declare
  v_found record;
begin
  for v_found in
    select m.tab, m.name
    from generate_series(1, 2) s(side)
    cross join lateral crossfade_private.mirror_triggers(pair, s.side) m
    where m.tab not in (
      select t.id from unnest(array[(pair).v1_table, (pair).v2_table]) r
      cross join lateral crossfade_private.table_tree(r::regclass) t)
  loop
    execute format('drop trigger %I on %s', v_found.name, v_found.tab);
  end loop;
end $$;

comment on function crossfade_private.drop_stray_triggers is
  'Drop the triggers that a detached partition has kept. Takes ACCESS EXCLUSIVE on it, waits at most 2 s.';

create or replace function crossfade_private.plan_partitions(pair crossfade.pairs)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(jsonb_build_object('side', l.side, 'name', l.name, 'is_new', l.is_new,
    -- What was there before the first backfill is copied by that.
    'is_uncopied', (pair).last_backfill_at is not null and (pair).stage <> 'off' and case
      when l.is_new is not false
        then crossfade_private.lacks_counterparts(pair, l.side, l.name::regclass)
      else false end)), '[]')
  from crossfade_private.late_partitions(pair) l;
$$;

comment on function crossfade_private.plan_partitions is
  'What take_in_partitions needs: partitions that have come or gone, and whether they came with rows that the other table does not have. May read all of them, and locks nothing.';

create or replace function crossfade_private.take_in_partitions(
  pair crossfade.pairs, partitions jsonb
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into crossfade_private.partitions as p (pair, side, name, is_uncopied)
  select (pair).name, l.side, l.name, l.is_uncopied
  from jsonb_to_recordset(partitions)
    l(side smallint, name text, is_new boolean, is_uncopied boolean)
  where l.is_new is not false
  on conflict on constraint partitions_pkey do update
  set is_uncopied = p.is_uncopied or excluded.is_uncopied;
  delete from crossfade_private.partitions p
  using jsonb_to_recordset(partitions) l(side smallint, name text, is_new boolean)
  where p.pair = (take_in_partitions.pair).name and p.side = l.side and p.name = l.name
    and not l.is_new;
  if exists (
    select from jsonb_to_recordset(partitions) l(is_new boolean) where l.is_new is not true) then
    -- Rows that went with them may be in the other table still.
    update crossfade.pairs p set last_clean_verify_at = null
    where p.name = (take_in_partitions.pair).name;
  end if;
  perform crossfade_private.drop_stray_triggers(pair);
end $$;

comment on function crossfade_private.take_in_partitions is
  'Note which partitions have the triggers of a pair now. One that came with rows which the other table does not have asks for a backfill, one that is gone, or was for a while, for a verification. partitions: those of plan_partitions.';
