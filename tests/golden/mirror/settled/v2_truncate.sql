CREATE OR REPLACE FUNCTION crossfade_private.mirror_notes_v2_truncate()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'public', 'extensions', 'settled', 'pg_temp'
 SET jit TO 'off'
AS $function$
-- crossfade 0.2.0: mirror of pair "notes": V2 is truncated.
#variable_conflict use_column
declare
  cf_depth integer;
  cf_state text;
  cf_nested boolean;
  cf_number bigint;
  cf_context text;
  cf_constraint text;
begin
  cf_depth := pg_trigger_depth();
  if cf_depth > 1 then
    get diagnostics cf_context = pg_context;
    if strpos(cf_context, '"crossfade_private"."mirror_notes_v') > 0 then
      cf_context := regexp_replace(cf_context, E'"crossfade_private"\\."(mirror_notes_v[12]_[a-z]+)"\\(', E'crossfade_private.\\1(', 'g');
    end if;
    if cf_depth = 2 and strpos(split_part(cf_context, e'\n', -1), ' crossfade_private.mirror_notes_v1_') > 0
      and strpos(split_part(cf_context, e'\n', -1), '"') = 0
      or crossfade_private.is_own_write(cf_context, cf_depth, 'notes', 1) then
      return null;
    end if;
  end if;
  cf_state := case when pg_sequence_last_value('crossfade_private.mirror_notes_changes') = crossfade_private.mirror_notes_v2_change() then crossfade_private.mirror_notes_v2_state()
    else crossfade_private.read_state('notes', 2) end;
  if cf_state in ('off', 'archive') or cf_depth = 1
    and coalesce(current_setting('crossfade.mark_notes', true), '') = 'engine'
    and crossfade_private.is_engine_write('notes') then
    return null;
  end if;
  if tg_when = 'BEFORE' then
    cf_number := nextval(case current_setting('role', true) when 'authenticated' then 'crossfade_private.writes_notes_v2_user'::regclass when 'anon' then 'crossfade_private.writes_notes_v2_user'::regclass when 'service_role' then 'crossfade_private.writes_notes_v2_service'::regclass else 'crossfade_private.writes_notes_v2_direct'::regclass end);
  end if;
  cf_nested := (cf_depth > 1 or coalesce(current_setting('crossfade.mark_notes', true), '') <> '')
    and crossfade_private.note_nested('crossfade.mark_notes', cf_depth);
  -- Also while changes are only noted: afterwards there is no key to note.
  if tg_when = 'BEFORE' then
    -- Only the rows that are still there tell which rows of the other table have a
    -- counterpart: one that is not copied yet, or was refused, is nobody's to empty.
    if current_setting('transaction_isolation') <> 'read committed' then
      perform crossfade_private.refuse_blind_truncate('notes', 'settled.notes_v2');
    else
      insert into crossfade_private.truncated_keys (pair, side, key)
      select 'notes', 2, jsonb_build_object('book', cf_t.book, 'page', cf_t.page)
      from settled.notes cf_t join settled.notes_v2 cf_s on (cf_s).book = (cf_t).book and (cf_s).page = (cf_t).page and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin));
      -- A counterpart that could not follow a changed key has another one.
      if crossfade_private.is_any_behind('notes') then
        perform crossfade_private.note_behind('notes', 2, 'DELETE', array(
          select jsonb_build_object('book', cf_s.book, 'page', cf_s.page) from settled.notes_v2 cf_s
          where jsonb_build_object('book', cf_s.book, 'page', cf_s.page) in (
            select k from crossfade.mirror_failures f cross join unnest(array[f.key, f.moved_to]) k
            where f.pair = 'notes' and f.resolved_at is null and f.moved_to is not null)
            ));
      end if;
    end if;
    return null;
  end if;
  if current_setting('transaction_isolation') <> 'read committed' then
    -- It also removes rows younger than the snapshot, which DELETE would not see. The same command
    -- may have emptied both tables.
    if pg_relation_size('settled.notes') > 0 then
      truncate settled.notes;
    end if;
    return null;
  end if;
  begin
    -- After the files are emptied: checks that wait for COMMIT look for no row of theirs. DELETE
    -- takes no exclusive lock on the other table and knows its cascades.
    delete from settled.notes cf_t using crossfade_private.truncated_keys cf_k
    where cf_k.pair = 'notes' and cf_k.side = 2 and cf_k.key = jsonb_build_object('book', cf_t.book, 'page', cf_t.page)
      and not exists (select from settled.notes_v2 cf_s where (cf_s).book = (cf_t).book and (cf_s).page = (cf_t).page and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin)));
    if exists (
        select from settled.notes cf_t join crossfade_private.truncated_keys cf_k
        on cf_k.pair = 'notes' and cf_k.side = 2 and cf_k.key = jsonb_build_object('book', cf_t.book, 'page', cf_t.page)
        where not exists (select from settled.notes_v2 cf_s where (cf_s).book = (cf_t).book and (cf_s).page = (cf_t).page and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin)))) then
      raise exception using errcode = 'CF017', message = 'a trigger or rule of settled.notes dropped a mirrored write';
    end if;
  exception when others or assert_failure then
    get stacked diagnostics cf_constraint = constraint_name;
    if crossfade_private.is_transient(sqlstate) then
      raise;
    end if;
    perform crossfade_private.refuse_or_record(
      'notes', 2, jsonb_build_object('book', cf_t.book, 'page', cf_t.page), tg_op, sqlstate, sqlerrm, cf_constraint)
    from settled.notes cf_t join crossfade_private.truncated_keys cf_k
      on cf_k.pair = 'notes' and cf_k.side = 2 and cf_k.key = jsonb_build_object('book', cf_t.book, 'page', cf_t.page);
  end;
  delete from crossfade_private.truncated_keys cf_k
  where cf_k.pair = 'notes' and cf_k.side = 2;
  return null;
end $function$
