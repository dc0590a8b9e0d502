CREATE OR REPLACE FUNCTION crossfade_private.mirror_notes_v2_delete()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'public', 'extensions', 'called', 'pg_temp'
 SET jit TO 'off'
 SET "TimeZone" TO 'UTC'
 SET "DateStyle" TO 'ISO, MDY'
 SET "IntervalStyle" TO 'postgres'
 SET extra_float_digits TO '1'
 SET bytea_output TO 'hex'
AS $function$
-- crossfade 0.2.0: mirror of pair "notes": rows deleted from V2.
#variable_conflict use_column
declare
  cf_depth integer;
  cf_state text;
  cf_nested boolean;
  cf_number bigint;
  cf_context text;
  cf_count bigint;
  cf_written bigint;
  cf_unseen jsonb[];
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
  cf_number := nextval(case current_setting('role', true) when 'authenticated' then 'crossfade_private.writes_notes_v2_user'::regclass when 'anon' then 'crossfade_private.writes_notes_v2_user'::regclass when 'service_role' then 'crossfade_private.writes_notes_v2_service'::regclass else 'crossfade_private.writes_notes_v2_direct'::regclass end);
  cf_nested := (cf_depth > 1 or coalesce(current_setting('crossfade.mark_notes', true), '') <> '')
    and crossfade_private.note_nested('crossfade.mark_notes', cf_depth);
  if cf_state = 'log' then
    perform crossfade_private.note_keys('notes', 2, tg_op,
      array(select jsonb_build_object('id', cf_x.id) from cf_old cf_x));
    return null;
  end if;
  select count(*) into cf_count from cf_old;
  if current_setting('transaction_isolation') <> 'read committed' then
    -- A copy made after the snapshot of this transaction is not visible here; it would outlive the
    -- row.
    cf_unseen := array(select jsonb_build_object('id', cf_r.id) from cf_old cf_r
      where not exists (select from called.notes cf_t where (cf_t).id = (cf_r).id));
  end if;
  begin
    -- A foreign key deletes rows with a parent that the other side has left out of this
    -- one. They are left out as well, and the rows they were made of stay where they are.
    if cf_depth > 1 and cf_context ~ ' "?crossfade_private"?[.]"?mirror_[^\n]*_v1_'
      and exists (
        select from cf_old cf_r join called.notes cf_t on (cf_t).id = (cf_r).id
        where not exists (select from lateral called.notes_to_v2(cf_t, null::called.notes_v2) cf_c)) then
      perform crossfade_private.mirror_notes_v2_remove(array(select row(cf_r.*)::called.notes_v2 from cf_old cf_r
        where not exists (select from called.notes cf_t where (cf_t).id = (cf_r).id
          and not exists (select from lateral called.notes_to_v2(cf_t, null::called.notes_v2) cf_c))));
      return null;
    end if;
    -- Not where the row is there again: a trigger of the owner's may have
    -- put it back.
    if cf_count < 9 then
      delete from called.notes cf_t using cf_old cf_r
      where (cf_t).id = (cf_r).id and not exists (select from called.notes_v2 cf_s where (cf_s).id = (cf_r).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin)));
    else
      execute 'delete from called.notes cf_t using cf_old cf_r
      where (cf_t).id = (cf_r).id and not exists (select from called.notes_v2 cf_s where (cf_s).id = (cf_r).id and (current_setting(''transaction_isolation'') = ''read committed'' or crossfade_private.is_of_this_transaction(cf_s.xmin)))';
    end if;
    get diagnostics cf_written = row_count;
    if cf_written < cf_count then
      -- As a rule the counterparts have gone before: a foreign key deleted them with their parent.
      if exists (select from cf_old cf_r join called.notes_v2 cf_s on (cf_s).id = (cf_r).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))) then
        -- Another row has the key now: it must not inherit what only the other table held of the
        -- old. A counterpart that was already made of that row does not differ.
        delete from called.notes cf_t using cf_old cf_r, called.notes_v2 cf_s
        where (cf_t).id = (cf_r).id and (cf_s).id = (cf_r).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
          and not exists (select from lateral called.notes_to_v1(cf_s, cf_t) cf_c where not ((cf_t).body collate pg_catalog."C" is distinct from cf_c.body));
        perform crossfade_private.mirror_notes_v2_put(array(select row(cf_s.*)::called.notes_v2
          from called.notes_v2 cf_s join cf_old cf_r on (cf_s).id = (cf_r).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))), tg_op, cf_state = 'whole');
      end if;
      -- Counterparts first (offset 0): as a rule there are none, and nothing else is looked up.
      if exists (
          select from (select cf_r.* from cf_old cf_r join called.notes cf_t on (cf_t).id = (cf_r).id offset 0)
            cf_r
          where not exists (select from called.notes_v2 cf_s where (cf_s).id = (cf_r).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin)))) then
        raise exception using errcode = 'CF017', message = 'a trigger or rule of called.notes dropped a mirrored write';
      end if;
      if crossfade_private.is_any_behind('notes') then
        perform crossfade_private.note_behind('notes', 2, tg_op,
          array(select jsonb_build_object('id', cf_r.id) from cf_old cf_r));
      end if;
    end if;
    if cardinality(cf_unseen) > 0 then
      perform crossfade_private.note_unseen(
        'notes', 2, 'DELETE', cf_unseen);
    end if;
    return null;
  exception when others or assert_failure then
    if crossfade_private.is_transient(sqlstate) then
      raise;
    end if;
  end;
  perform crossfade_private.mirror_notes_v2_remove(array(select row(cf_x.*)::called.notes_v2 from cf_old cf_x));
  return null;
end $function$
