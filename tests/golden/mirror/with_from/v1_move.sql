CREATE OR REPLACE FUNCTION crossfade_private.mirror_notes_v1_move(cf_olds with_from.notes[], cf_news with_from.notes[])
 RETURNS integer[]
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'public', 'extensions', 'with_from', 'pg_temp'
 SET "TimeZone" TO 'UTC'
 SET "DateStyle" TO 'ISO, MDY'
 SET "IntervalStyle" TO 'postgres'
 SET extra_float_digits TO '1'
 SET bytea_output TO 'hex'
AS $function$
-- crossfade 0.2.0: mirror of pair "notes": counterparts follow keys that changed in V1.
#variable_conflict use_column
declare
  cf_move record;
  cf_from with_from.notes;
  cf_to with_from.notes;
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
    continue when (cf_from).id = (cf_to).id;
    cf_is_another := cf_noting
      and crossfade_private.is_noted_delete('notes', 1, jsonb_build_object('id', (cf_from).id));
    cf_is_stale := cf_noting
      and crossfade_private.is_noted_delete('notes', 1, jsonb_build_object('id', (cf_to).id));
    perform crossfade_private.move_failure('notes', jsonb_build_object('id', (cf_from).id), jsonb_build_object('id', (cf_to).id));
    begin
      if cf_is_stale then
        -- The row that had the key was deleted, which was only noted: its counterpart goes now.
        delete from with_from.notes_v2 cf_t where (cf_t).id = (cf_to).id;
        if not cf_is_another then
          perform crossfade_private.forget_noted_delete('notes', jsonb_build_object('id', (cf_to).id));
        end if;
      end if;
      -- Where a trigger of the owner's wrote the moved row, a counterpart was made of it: it is of
      -- this transaction and does not differ. One that was there before is another row.
      delete from with_from.notes_v2 cf_t using with_from.notes cf_s
      where (cf_t).id = (cf_to).id and (cf_s).id = (cf_to).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
        and crossfade_private.is_of_this_transaction(cf_t.xmin)
        and exists (select from lateral (select (cf_made.id)::uuid as id, (cf_made.body)::text as body, (cf_made.labels)::jsonb as labels from (select cf_s as cf_row, cf_t as cf_counterpart) cf_given
          cross join lateral (SELECT (cf_given.cf_row).id AS id,
     (cf_given.cf_row).body AS body,
     COALESCE(jsonb_agg(l.label ORDER BY l.number), '[]'::jsonb) AS "coalesce"
    FROM string_to_table((cf_given.cf_row).labels, ','::text) WITH ORDINALITY l(label, number)
   WHERE ((cf_given.cf_row).body <> ''::text)
  HAVING ((cf_given.cf_row).body <> ''::text)) cf_made(id, body, labels)) cf_c where not ((cf_t).body collate pg_catalog."C" is distinct from cf_c.body or (row(((cf_t).labels)::jsonb)::record operator(pg_catalog.*<>) row((cf_c.labels)::jsonb)::record and ((cf_t).labels is distinct from cf_c.labels or ((cf_t).labels)::jsonb::text collate pg_catalog."C" is distinct from (cf_c.labels)::jsonb::text))))
        and exists (select from with_from.notes_v2 cf_t where (cf_t).id = (cf_from).id);
      -- A row that the converter leaves out under its new key has no counterpart any more.
      if exists (select from with_from.notes cf_s where (cf_s).id = (cf_to).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))) and not exists (
        select from with_from.notes cf_s cross join lateral (select (cf_made.id)::uuid as id, (cf_made.body)::text as body, (cf_made.labels)::jsonb as labels from (select cf_s as cf_row, null::with_from.notes_v2 as cf_counterpart) cf_given
          cross join lateral (SELECT (cf_given.cf_row).id AS id,
     (cf_given.cf_row).body AS body,
     COALESCE(jsonb_agg(l.label ORDER BY l.number), '[]'::jsonb) AS "coalesce"
    FROM string_to_table((cf_given.cf_row).labels, ','::text) WITH ORDINALITY l(label, number)
   WHERE ((cf_given.cf_row).body <> ''::text)
  HAVING ((cf_given.cf_row).body <> ''::text)) cf_made(id, body, labels)) cf_c
        where (cf_s).id = (cf_to).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))) then
        delete from with_from.notes_v2 cf_t where (cf_t).id = (cf_from).id;
        if exists (select from with_from.notes_v2 cf_t where (cf_t).id = (cf_from).id) then
          raise exception using errcode = 'CF017', message = 'a trigger or rule of with_from.notes_v2 dropped a mirrored write';
        end if;
        continue;
      end if;
      update with_from.notes_v2 cf_t set id = (cf_to).id where (cf_t).id = (cf_from).id;
      if not found then
        if exists (select from with_from.notes_v2 cf_t where (cf_t).id = (cf_from).id) then
          raise exception using errcode = 'CF017', message = 'a trigger or rule of with_from.notes_v2 dropped a mirrored write';
        end if;
        -- An outer statement has still to bring it here: it looks for this note.
        perform crossfade_private.note_move('crossfade.moves_notes_v1', jsonb_build_object('id', (cf_from).id), jsonb_build_object('id', (cf_to).id));
        if current_setting('transaction_isolation') <> 'read committed' then
          perform crossfade_private.note_unseen(
            'notes', 1, 'MOVE', array[jsonb_build_object('id', (cf_from).id)]);
        end if;
        continue;
      end if;
      cf_further := crossfade_private.noted_move('crossfade.moves_notes_v1', jsonb_build_object('id', (cf_to).id));
      if cf_further is not null
        and not exists (select from with_from.notes cf_s where (cf_s).id = (cf_to).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin)))
        and exists (select from with_from.notes cf_s where (cf_s).id = (cf_further ->> 'id')::uuid) then
        update with_from.notes_v2 cf_t set id = (cf_further ->> 'id')::uuid where (cf_t).id = (cf_to).id;
      end if;
    exception when others or assert_failure then
      get stacked diagnostics cf_constraint = constraint_name;
      if crossfade_private.is_transient(sqlstate)
        or sqlstate = '23505' and cf_constraint = any ('{notes_v2_pkey}'::text[]) then
        raise;
      end if;
      if cf_noting then
        perform crossfade_private.record_failure(
          'notes', 1, jsonb_build_object('id', (cf_to).id), 'MOVE', sqlstate, sqlerrm);
      else
        perform crossfade_private.refuse_or_record(
          'notes', 1, jsonb_build_object('id', (cf_to).id), 'MOVE', sqlstate, sqlerrm, cf_constraint);
      end if;
      -- The row under the old key is left behind: repair has to hear of it as well.
      perform crossfade_private.record_failure(
        'notes', 1, jsonb_build_object('id', (cf_from).id), 'MOVE', sqlstate, sqlerrm, jsonb_build_object('id', (cf_to).id));
      cf_refused := cf_refused || cf_move.cf_place;
    end;
  end loop;
  return cf_refused;
end $function$
