-- The archive: in stage complete V1 refuses statements.

create or replace function crossfade_private.is_referential_action(context text, depth integer)
returns boolean
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  -- What a foreign key does is a statement of PostgreSQL's own, of one line, right above the
  -- trigger; and right above it is the statement on the parent, or nothing. A function whose
  -- dynamic SQL looks the same to the letter stands there itself, and has brackets that are in no
  -- quotes.
  select depth > 1 and split_part(context, e'\n', 2)
      ~ '^[^"]*"(DELETE FROM|UPDATE) (ONLY )?".* OPERATOR\([^()]+\) "[^"]+("")*[^"]*""?$'
    and split_part(context, e'\n', 3) !~ '^[^"]*("([^"]|"")*"[^"]*)*\(';
$$;

comment on function crossfade_private.is_referential_action is
  'Whether the statement that fired a BEFORE trigger is the action of a foreign key, given PG_CONTEXT and pg_trigger_depth(). An AFTER trigger cannot know: PostgreSQL fires those of such a statement at the depth of the outer one.';

create or replace function crossfade_private.refuse_archived_write()
returns trigger
language plpgsql volatile
security definer -- writers may not read the pair's state
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair constant text := tg_argv[0];
  v_context text;
begin
  get diagnostics v_context = pg_context;
  -- A cascade from a parent belongs to the statement on the parent, and V2 has cascades of its own.
  if crossfade_private.stored_state(v_pair, 1) <> 'archive'
    or crossfade_private.is_engine_write(v_pair)
    or crossfade_private.is_referential_action(v_context, pg_trigger_depth())
    or pg_trigger_depth() > 1
      and crossfade_private.is_own_write(v_context, pg_trigger_depth(), v_pair, 2) then
    return coalesce(new, old);
  end if;
  perform crossfade_private.fail(
    409, 'CF_ARCHIVED', format('Cannot write version 1 of "%s": %s is a read-only archive', v_pair,
      format('%I.%I', tg_table_schema, tg_table_name)),
    jsonb_build_object('pair', v_pair, 'table', format('%I.%I', tg_table_schema, tg_table_name)),
    'Write version 2, or go back with crossfade stage set PAIR rampdown.', 'crossfade_archive');
  return null;
end $$;

comment on function crossfade_private.refuse_archived_write is
  'BEFORE trigger on V1, of statements and, in a partition that has no triggers of statements yet, of rows, from the first stage complete on: every statement is refused while the stage is complete (PT409 CF_ARCHIVED), also one of a trigger, but for what foreign keys do and what the way back writes.';

create or replace function crossfade_private.drop_archived_row()
returns trigger
language plpgsql volatile
security definer -- writers may not read the pair's state
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair constant text := tg_argv[0];
  v_context text;
begin
  -- V2 leads: what a trigger of V1 makes of a row from there, in either table, would differ from
  -- it, the repair of that would fire the trigger again, and there would be no way back.
  if current_setting('crossfade.mark_' || v_pair, true) = 'engine' and exists (
      select from crossfade_private.engine_writes w
      where w.transaction_id = pg_current_xact_id_if_assigned() and w.pair = v_pair
        and pg_trigger_depth() > w.depth + 1)
    and crossfade_private.stored_state(v_pair, 1) = 'archive' then
    get diagnostics v_context = pg_context;
    -- What a foreign key does must be done, or rows would refer to rows that are gone.
    if not crossfade_private.is_referential_action(v_context, pg_trigger_depth()) then
      return null;
    end if;
  end if;
  return coalesce(new, old);
end $$;

comment on function crossfade_private.drop_archived_row is
  'BEFORE ROW trigger on both tables, from the first stage complete on: while batches and repairs bring the archive up to date, what triggers make of their rows is left out, not what foreign keys do.';

create or replace function crossfade_private.install_archive(pair crossfade.pairs)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '2s'
as $$
declare
  v_member regclass;
  v_table regclass;
begin
  for v_member in select t.id from crossfade_private.table_tree(((pair).v1_table)::regclass) t loop
    execute format('create or replace trigger crossfade_archive
      before insert or update or delete or truncate on %s for each statement
      execute function crossfade_private.refuse_archived_write(%L)', v_member, (pair).name);
  end loop;
  for v_table in select unnest(array[(pair).v1_table, (pair).v2_table]) loop
    execute format('create or replace trigger crossfade_archive_row
      before insert or update or delete on %s for each row when (pg_trigger_depth() > 0)
      execute function crossfade_private.drop_archived_row(%L)', v_table, (pair).name);
  end loop;
  if crossfade_private.is_partitioned(((pair).v1_table)::regclass) then
    execute format('create or replace trigger crossfade_late_archive
      before insert or update or delete on %s for each row
      execute function crossfade_private.refuse_archived_write(%L)', (pair).v1_table, (pair).name);
    perform crossfade_private.rest_late_triggers(((pair).v1_table)::regclass);
  end if;
end $$;

comment on function crossfade_private.install_archive is
  'Create the triggers that refuse statements on V1, and leave out what its triggers would write into either table. Takes SHARE ROW EXCLUSIVE on both, with their partitions; waits at most 2 s for each (55P03).';

create or replace function crossfade_private.follow_mirror_state()
returns trigger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  perform crossfade_private.set_state(new.pair, new.mirror, new.watched_since is not null);
  if new.mirror = 'archived' then
    perform crossfade_private.install_archive(p) from crossfade.pairs p where p.name = new.pair;
  end if;
  return null;
end $$;

comment on function crossfade_private.follow_mirror_state is
  'AFTER ROW trigger of mirror_state: the constants that the mirror''s triggers ask follow the row.';

create or replace trigger crossfade_after_state
after insert or update of mirror, watched_since on crossfade_private.mirror_state
for each row execute function crossfade_private.follow_mirror_state();
