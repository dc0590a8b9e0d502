CREATE OR REPLACE FUNCTION crossfade_private.mirror_notes_v1_move(cf_olds settled.notes[], cf_news settled.notes[])
 RETURNS integer[]
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'public', 'extensions', 'settled', 'pg_temp'
AS $function$
-- crossfade 0.2.0: mirror of pair "notes": counterparts follow keys that changed in V1.
#variable_conflict use_column
declare
  cf_move record;
  cf_from settled.notes;
  cf_to settled.notes;
  cf_further jsonb;
  cf_constraint text;
  cf_refused integer[] := '{}'::integer[];
  -- Keys are followed also while all else is only noted, and then no client is refused for it.
  cf_noting constant boolean := case when pg_sequence_last_value('crossfade_private.mirror_notes_changes') = crossfade_private.mirror_notes_v1_change() then crossfade_private.mirror_notes_v1_state()
    else crossfade_private.read_state('notes', 1) end = 'log';
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
    continue when (cf_from).book = (cf_to).book and (cf_from).page = (cf_to).page;
    cf_is_another := cf_noting
      and crossfade_private.is_noted_delete('notes', 1, jsonb_build_object('book', (cf_from).book, 'page', (cf_from).page));
    cf_is_stale := cf_noting
      and crossfade_private.is_noted_delete('notes', 1, jsonb_build_object('book', (cf_to).book, 'page', (cf_to).page));
    perform crossfade_private.move_failure('notes', jsonb_build_object('book', (cf_from).book, 'page', (cf_from).page), jsonb_build_object('book', (cf_to).book, 'page', (cf_to).page));
    begin
      if cf_is_stale then
        -- The row that had the key was deleted, which was only noted: its counterpart goes now.
        delete from settled.notes_v2 cf_t where (cf_t).book = (cf_to).book and (cf_t).page = (cf_to).page;
        if not cf_is_another then
          perform crossfade_private.forget_noted_delete('notes', jsonb_build_object('book', (cf_to).book, 'page', (cf_to).page));
        end if;
      end if;
      -- Where a trigger of the owner's wrote the moved row, a counterpart was made of it: it is of
      -- this transaction and does not differ. One that was there before is another row.
      delete from settled.notes_v2 cf_t using settled.notes cf_s
      where (cf_t).book = (cf_to).book and (cf_t).page = (cf_to).page and (cf_s).book = (cf_to).book and (cf_s).page = (cf_to).page and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
        and crossfade_private.is_of_this_transaction(cf_t.xmin)
        and exists (select from lateral (select ((cf_s).page)::integer as page, ((cf_s).book)::bigint as book, (to_jsonb((cf_s).body))::jsonb as body, ((cf_s).updated_at)::timestamp with time zone as updated_at, (COALESCE((cf_t).edits, 0))::integer as edits) cf_c where not ((row(((cf_t).body)::jsonb)::record operator(pg_catalog.*<>) row((cf_c.body)::jsonb)::record and ((cf_t).body is distinct from cf_c.body or ((cf_t).body)::jsonb::text collate pg_catalog."C" is distinct from (cf_c.body)::jsonb::text)) or (cf_t).updated_at is distinct from cf_c.updated_at or (cf_t).edits is distinct from cf_c.edits))
        and exists (select from settled.notes_v2 cf_t where (cf_t).book = (cf_from).book and (cf_t).page = (cf_from).page);
      
      perform set_config('crossfade.key_notes_v2', (jsonb_build_object('book', (cf_to).book, 'page', (cf_to).page))::text, true);
      update settled.notes_v2 cf_t set body = (cf_t).body where (cf_t).book = (cf_from).book and (cf_t).page = (cf_from).page;
      if not found then
        perform set_config('crossfade.key_notes_v2', '', true);
        if exists (select from settled.notes_v2 cf_t where (cf_t).book = (cf_from).book and (cf_t).page = (cf_from).page) then
          raise exception using errcode = 'CF017', message = 'a trigger or rule of settled.notes_v2 dropped a mirrored write';
        end if;
        -- An outer statement has still to bring it here: it looks for this note.
        perform crossfade_private.note_move('crossfade.moves_notes_v1', jsonb_build_object('book', (cf_from).book, 'page', (cf_from).page), jsonb_build_object('book', (cf_to).book, 'page', (cf_to).page));
        if current_setting('transaction_isolation') <> 'read committed' then
          perform crossfade_private.note_unseen(
            'notes', 1, 'MOVE', array[jsonb_build_object('book', (cf_from).book, 'page', (cf_from).page)]);
        end if;
        continue;
      end if;
      cf_further := crossfade_private.noted_move('crossfade.moves_notes_v1', jsonb_build_object('book', (cf_to).book, 'page', (cf_to).page));
      if cf_further is not null
        and not exists (select from settled.notes cf_s where (cf_s).book = (cf_to).book and (cf_s).page = (cf_to).page and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin)))
        and exists (select from settled.notes cf_s where (cf_s).book = (cf_further ->> 'book')::bigint and (cf_s).page = (cf_further ->> 'page')::integer) then
        perform set_config('crossfade.key_notes_v2', cf_further::text, true);
        update settled.notes_v2 cf_t set body = (cf_t).body where (cf_t).book = (cf_to).book and (cf_t).page = (cf_to).page;
        perform set_config('crossfade.key_notes_v2', '', true);
      end if;
    exception when others or assert_failure then
      get stacked diagnostics cf_constraint = constraint_name;
      if crossfade_private.is_transient(sqlstate)
        or sqlstate = '23505' and cf_constraint = any ('{notes_v2_pkey}'::text[]) then
        raise;
      end if;
      if cf_noting then
        perform crossfade_private.record_failure(
          'notes', 1, jsonb_build_object('book', (cf_to).book, 'page', (cf_to).page), 'MOVE', sqlstate, sqlerrm);
      else
        perform crossfade_private.refuse_or_record(
          'notes', 1, jsonb_build_object('book', (cf_to).book, 'page', (cf_to).page), 'MOVE', sqlstate, sqlerrm, cf_constraint);
      end if;
      -- The row under the old key is left behind: repair has to hear of it as well.
      perform crossfade_private.record_failure(
        'notes', 1, jsonb_build_object('book', (cf_from).book, 'page', (cf_from).page), 'MOVE', sqlstate, sqlerrm, jsonb_build_object('book', (cf_to).book, 'page', (cf_to).page));
      cf_refused := cf_refused || cf_move.cf_place;
    end;
  end loop;
  return cf_refused;
end $function$
