CREATE OR REPLACE FUNCTION crossfade_private.mirror_notes_v2_move(cf_olds select_list.notes_v2[], cf_news select_list.notes_v2[])
 RETURNS integer[]
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'public', 'extensions', 'select_list', 'pg_temp'
AS $function$
-- crossfade 0.2.0: mirror of pair "notes": counterparts follow keys that changed in V2.
#variable_conflict use_column
declare
  cf_move record;
  cf_from select_list.notes_v2;
  cf_to select_list.notes_v2;
  cf_further jsonb;
  cf_constraint text;
  cf_refused integer[] := '{}'::integer[];
  -- Keys are followed also while all else is only noted, and then no client is refused for it.
  cf_noting constant boolean := case when pg_sequence_last_value('crossfade_private.mirror_notes_changes') = crossfade_private.mirror_notes_v2_change() then crossfade_private.mirror_notes_v2_state()
    else crossfade_private.read_state('notes', 2) end = 'log';
  cf_is_another boolean;
  cf_is_stale boolean;
begin
  -- In the order in which the statement moved them: at each step the new key was free.
  for cf_move in
    select unnest(cf_olds) as cf_o, unnest(cf_news) as cf_n,
      generate_subscripts(cf_olds, 1) as cf_place
  loop
    cf_from := cf_move.cf_o;
    cf_to := cf_move.cf_n;
    continue when (cf_from).id = (cf_to).id;
    cf_is_another := cf_noting
      and crossfade_private.is_noted_delete('notes', 2, jsonb_build_object('id', (cf_from).id));
    cf_is_stale := cf_noting
      and crossfade_private.is_noted_delete('notes', 2, jsonb_build_object('id', (cf_to).id));
    perform crossfade_private.move_failure('notes', jsonb_build_object('id', (cf_from).id), jsonb_build_object('id', (cf_to).id));
    begin
      if cf_is_stale then
        -- The row that had the key was deleted, which was only noted: its counterpart goes now.
        delete from select_list.notes cf_t where (cf_t).id = (cf_to).id;
        if not cf_is_another then
          perform crossfade_private.forget_noted_delete('notes', jsonb_build_object('id', (cf_to).id));
        end if;
      end if;
      -- Where a trigger of the owner's wrote the moved row, a counterpart was made of it: it is of
      -- this transaction and does not differ. One that was there before is another row.
      delete from select_list.notes cf_t using select_list.notes_v2 cf_s
      where (cf_t).id = (cf_to).id and (cf_s).id = (cf_to).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
        and crossfade_private.is_of_this_transaction(cf_t.xmin)
        and exists (select from lateral (select ((cf_s).id)::bigint as id, (((cf_s).parts ->> 0))::text as body, ((cf_s).tag)::text as tag) cf_c where not ((cf_t).body collate pg_catalog."C" is distinct from cf_c.body or (cf_t).tag collate pg_catalog."C" is distinct from cf_c.tag))
        and exists (select from select_list.notes cf_t where (cf_t).id = (cf_from).id);
      
      update select_list.notes cf_t set id = (cf_to).id where (cf_t).id = (cf_from).id;
      if not found then
        if exists (select from select_list.notes cf_t where (cf_t).id = (cf_from).id) then
          raise exception using errcode = 'CF017', message = 'a trigger or rule of select_list.notes dropped a mirrored write';
        end if;
        -- An outer statement has still to bring it here: it looks for this note.
        perform crossfade_private.note_move('crossfade.moves_notes_v2', jsonb_build_object('id', (cf_from).id), jsonb_build_object('id', (cf_to).id));
        if current_setting('transaction_isolation') <> 'read committed' then
          perform crossfade_private.note_unseen(
            'notes', 2, 'MOVE', array[jsonb_build_object('id', (cf_from).id)]);
        end if;
        continue;
      end if;
      cf_further := crossfade_private.noted_move('crossfade.moves_notes_v2', jsonb_build_object('id', (cf_to).id));
      if cf_further is not null
        and not exists (select from select_list.notes_v2 cf_s where (cf_s).id = (cf_to).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin)))
        and exists (select from select_list.notes_v2 cf_s where (cf_s).id = (cf_further ->> 'id')::bigint) then
        update select_list.notes cf_t set id = (cf_further ->> 'id')::bigint where (cf_t).id = (cf_to).id;
      end if;
    exception when others or assert_failure then
      get stacked diagnostics cf_constraint = constraint_name;
      if crossfade_private.is_transient(sqlstate)
        or sqlstate = '23505' and cf_constraint = any ('{notes_pkey}'::text[]) then
        raise;
      end if;
      if cf_noting then
        perform crossfade_private.record_failure(
          'notes', 2, jsonb_build_object('id', (cf_to).id), 'MOVE', sqlstate, sqlerrm);
      else
        perform crossfade_private.refuse_or_record(
          'notes', 2, jsonb_build_object('id', (cf_to).id), 'MOVE', sqlstate, sqlerrm, cf_constraint);
      end if;
      -- The row under the old key is left behind: repair has to hear of it as well.
      perform crossfade_private.record_failure(
        'notes', 2, jsonb_build_object('id', (cf_from).id), 'MOVE', sqlstate, sqlerrm, jsonb_build_object('id', (cf_to).id));
      cf_refused := cf_refused || cf_move.cf_place;
    end;
  end loop;
  return cf_refused;
end $function$
