CREATE OR REPLACE FUNCTION crossfade_private.mirror_notes_v2_update()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'public', 'extensions', 'with_from', 'pg_temp'
 SET jit TO 'off'
 SET "TimeZone" TO 'UTC'
 SET "DateStyle" TO 'ISO, MDY'
 SET "IntervalStyle" TO 'postgres'
 SET extra_float_digits TO '1'
 SET bytea_output TO 'hex'
AS $function$
-- crossfade 0.2.0: mirror of pair "notes": rows updated in V2.
#variable_conflict use_column
declare
  cf_depth integer;
  cf_state text;
  cf_nested boolean;
  cf_number bigint;
  cf_context text;
  cf_count bigint;
  cf_moved boolean;
  cf_changed boolean;
  cf_written bigint;
  cf_olds with_from.notes_v2[];
  cf_news with_from.notes_v2[];
  cf_refused integer[];
  cf_left with_from.notes_v2[];
  cf_e1 boolean; cf_e2 boolean;
begin
  -- Order matters for speed: each expression costs, so common cases come first.
  if pg_trigger_depth() = 2 then
    get diagnostics cf_context = pg_context;
    if split_part(cf_context, e'\n', -1) = 'PL/pgSQL function crossfade_private.mirror_notes_v1_update() line 39 at SQL statement' then
      return null;
    end if;
  elsif pg_sequence_last_value('crossfade_private.mirror_notes_changes') = crossfade_private.mirror_notes_v2_change() and crossfade_private.mirror_notes_v2_state() = 'on' and coalesce(current_setting('crossfade.mark_notes', true), '') = '' and nextval(case current_setting('role', true) when 'authenticated' then 'crossfade_private.writes_notes_v2_user'::regclass when 'anon' then 'crossfade_private.writes_notes_v2_user'::regclass when 'service_role' then 'crossfade_private.writes_notes_v2_service'::regclass else 'crossfade_private.writes_notes_v2_direct'::regclass end) > 0 then
    select not ((cf_s).id = (cf_o).id), (cf_o).body collate pg_catalog."C" is distinct from (cf_s).body, (row(((cf_o).labels)::jsonb)::record operator(pg_catalog.*<>) row(((cf_s).labels)::jsonb)::record and ((cf_o).labels is distinct from (cf_s).labels or ((cf_o).labels)::jsonb::text collate pg_catalog."C" is distinct from ((cf_s).labels)::jsonb::text)) into cf_moved, cf_e1, cf_e2
    from (select row(cf_x.*)::with_from.notes_v2 as cf_o from cf_old cf_x) cf_p
    cross join (select row(cf_x.*)::with_from.notes_v2 as cf_s from cf_new cf_x) cf_q
    where not exists (select from cf_old offset 1);
    if cf_moved is false then
      -- What the converter does not read must not even lock the other table.
      if not (cf_e1 or cf_e2) then
        return null;
      end if;
      begin
        -- SAFETY: not the new row of the transition table. A statement that writes both tables,
        -- also by foreign keys, has mirrored the other one by now.
        update with_from.notes cf_t set body = case when cf_e1 then (((cf_s).body)::text)::text else (cf_t).body end, labels = case when cf_e2 then ((( SELECT string_agg(l.label, ','::text ORDER BY l.number) AS string_agg
            FROM jsonb_array_elements_text((cf_s).labels) WITH ORDINALITY l(label, number)))::text)::text else (cf_t).labels end
        from (select row(cf_x.*)::with_from.notes_v2 as cf_o from cf_old cf_x) cf_p
        join with_from.notes_v2 cf_s on (cf_s).id = (cf_o).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
        where (cf_t).id = (cf_s).id and ((cf_e1) and (cf_t).body collate pg_catalog."C" is distinct from (((cf_s).body)::text)::text or (cf_e2) and (cf_t).labels collate pg_catalog."C" is distinct from ((( SELECT string_agg(l.label, ','::text ORDER BY l.number) AS string_agg
            FROM jsonb_array_elements_text((cf_s).labels) WITH ORDINALITY l(label, number)))::text)::text);
        if found then
          return null;
        end if;
      exception when others or assert_failure then
        if crossfade_private.is_transient(sqlstate) then
          raise;
        end if;
      end;
    end if;
  end if;
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
  if cf_depth = 2 or not (pg_sequence_last_value('crossfade_private.mirror_notes_changes') = crossfade_private.mirror_notes_v2_change() and crossfade_private.mirror_notes_v2_state() = 'on' and coalesce(current_setting('crossfade.mark_notes', true), '') = '') then
    cf_number := nextval(case current_setting('role', true) when 'authenticated' then 'crossfade_private.writes_notes_v2_user'::regclass when 'anon' then 'crossfade_private.writes_notes_v2_user'::regclass when 'service_role' then 'crossfade_private.writes_notes_v2_service'::regclass else 'crossfade_private.writes_notes_v2_direct'::regclass end);
  end if;
  cf_nested := (cf_depth > 1 or coalesce(current_setting('crossfade.mark_notes', true), '') <> '')
    and crossfade_private.note_nested('crossfade.mark_notes', cf_depth);
  -- Old and new rows stand in the same order. A key that moved is seen by its place, also where two
  -- rows have changed keys with each other.
  select cf_a.number, cf_a.keys is distinct from cf_b.keys,
    case when cf_a.number < 9 then exists (
      select from (select row(cf_x.*)::with_from.notes_v2 as cf_o from cf_old cf_x) cf_p
      join (select row(cf_x.*)::with_from.notes_v2 as cf_s from cf_new cf_x) cf_q on (cf_s).id = (cf_o).id
      where (cf_o).id is distinct from (cf_s).id or (cf_o).body collate pg_catalog."C" is distinct from (cf_s).body or (row(((cf_o).labels)::jsonb)::record operator(pg_catalog.*<>) row(((cf_s).labels)::jsonb)::record and ((cf_o).labels is distinct from (cf_s).labels or ((cf_o).labels)::jsonb::text collate pg_catalog."C" is distinct from ((cf_s).labels)::jsonb::text))) end
  into cf_count, cf_moved, cf_changed
  from (select count(*) as number, array_agg(cf_x.id) as keys from cf_old cf_x) cf_a,
    (select array_agg(cf_x.id) as keys from cf_new cf_x) cf_b;
  if cf_count >= 9 and not cf_moved then
    -- Planned for the number of rows at hand.
    execute 'select exists (
      select from (select row(cf_x.*)::with_from.notes_v2 as cf_o from cf_old cf_x) cf_p
      join (select row(cf_x.*)::with_from.notes_v2 as cf_s from cf_new cf_x) cf_q on (cf_s).id = (cf_o).id
      where (cf_o).id is distinct from (cf_s).id or (cf_o).body collate pg_catalog."C" is distinct from (cf_s).body or (row(((cf_o).labels)::jsonb)::record operator(pg_catalog.*<>) row(((cf_s).labels)::jsonb)::record and ((cf_o).labels is distinct from (cf_s).labels or ((cf_o).labels)::jsonb::text collate pg_catalog."C" is distinct from ((cf_s).labels)::jsonb::text)))' into cf_changed;
  end if;
  -- Order matters: what the converter does not read must not even lock the other table.
  if cf_count = 0 or not cf_moved and not cf_changed then
    return null;
  end if;
  if not cf_moved and not cf_nested and cf_state = 'on' then
    begin
      if cf_count < 9 then
        -- SAFETY: not the new row of the transition table. A statement that writes both tables,
        -- also by foreign keys, has mirrored the other one by now.
        update with_from.notes cf_t set body = case when (cf_o).body collate pg_catalog."C" is distinct from (cf_s).body then (((cf_s).body)::text)::text else (cf_t).body end, labels = case when (row(((cf_o).labels)::jsonb)::record operator(pg_catalog.*<>) row(((cf_s).labels)::jsonb)::record and ((cf_o).labels is distinct from (cf_s).labels or ((cf_o).labels)::jsonb::text collate pg_catalog."C" is distinct from ((cf_s).labels)::jsonb::text)) then ((( SELECT string_agg(l.label, ','::text ORDER BY l.number) AS string_agg
            FROM jsonb_array_elements_text((cf_s).labels) WITH ORDINALITY l(label, number)))::text)::text else (cf_t).labels end
        from (select row(cf_x.*)::with_from.notes_v2 as cf_o from cf_old cf_x) cf_p
        join with_from.notes_v2 cf_s on (cf_s).id = (cf_o).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
        where (cf_t).id = (cf_s).id and (((cf_o).body collate pg_catalog."C" is distinct from (cf_s).body) and (cf_t).body collate pg_catalog."C" is distinct from (((cf_s).body)::text)::text or ((row(((cf_o).labels)::jsonb)::record operator(pg_catalog.*<>) row(((cf_s).labels)::jsonb)::record and ((cf_o).labels is distinct from (cf_s).labels or ((cf_o).labels)::jsonb::text collate pg_catalog."C" is distinct from ((cf_s).labels)::jsonb::text))) and (cf_t).labels collate pg_catalog."C" is distinct from ((( SELECT string_agg(l.label, ','::text ORDER BY l.number) AS string_agg
            FROM jsonb_array_elements_text((cf_s).labels) WITH ORDINALITY l(label, number)))::text)::text);
      else
        -- Planned for the number of rows at hand. Where nobody has written the other table in this
        -- transaction, the new rows are the rows.
        execute case when current_setting('track_counts') = 'on'
          and pg_stat_get_xact_tuples_inserted('with_from.notes'::regclass)
            + pg_stat_get_xact_tuples_updated('with_from.notes'::regclass)
            + pg_stat_get_xact_tuples_deleted('with_from.notes'::regclass) = 0 then 'update with_from.notes cf_t set body = case when (cf_o).body collate pg_catalog."C" is distinct from (cf_s).body then (((cf_s).body)::text)::text else (cf_t).body end, labels = case when (row(((cf_o).labels)::jsonb)::record operator(pg_catalog.*<>) row(((cf_s).labels)::jsonb)::record and ((cf_o).labels is distinct from (cf_s).labels or ((cf_o).labels)::jsonb::text collate pg_catalog."C" is distinct from ((cf_s).labels)::jsonb::text)) then ((( SELECT string_agg(l.label, '',''::text ORDER BY l.number) AS string_agg
            FROM jsonb_array_elements_text((cf_s).labels) WITH ORDINALITY l(label, number)))::text)::text else (cf_t).labels end
        from (select row(cf_x.*)::with_from.notes_v2 as cf_o from cf_old cf_x) cf_p
        join (select row(cf_x.*)::with_from.notes_v2 as cf_s from cf_new cf_x) cf_s on (cf_s).id = (cf_o).id
        where (cf_t).id = (cf_s).id and (((cf_o).body collate pg_catalog."C" is distinct from (cf_s).body) and (cf_t).body collate pg_catalog."C" is distinct from (((cf_s).body)::text)::text or ((row(((cf_o).labels)::jsonb)::record operator(pg_catalog.*<>) row(((cf_s).labels)::jsonb)::record and ((cf_o).labels is distinct from (cf_s).labels or ((cf_o).labels)::jsonb::text collate pg_catalog."C" is distinct from ((cf_s).labels)::jsonb::text))) and (cf_t).labels collate pg_catalog."C" is distinct from ((( SELECT string_agg(l.label, '',''::text ORDER BY l.number) AS string_agg
            FROM jsonb_array_elements_text((cf_s).labels) WITH ORDINALITY l(label, number)))::text)::text)' else 'update with_from.notes cf_t set body = case when (cf_o).body collate pg_catalog."C" is distinct from (cf_s).body then (((cf_s).body)::text)::text else (cf_t).body end, labels = case when (row(((cf_o).labels)::jsonb)::record operator(pg_catalog.*<>) row(((cf_s).labels)::jsonb)::record and ((cf_o).labels is distinct from (cf_s).labels or ((cf_o).labels)::jsonb::text collate pg_catalog."C" is distinct from ((cf_s).labels)::jsonb::text)) then ((( SELECT string_agg(l.label, '',''::text ORDER BY l.number) AS string_agg
            FROM jsonb_array_elements_text((cf_s).labels) WITH ORDINALITY l(label, number)))::text)::text else (cf_t).labels end
        from (select row(cf_x.*)::with_from.notes_v2 as cf_o from cf_old cf_x) cf_p
        join with_from.notes_v2 cf_s on (cf_s).id = (cf_o).id and (current_setting(''transaction_isolation'') = ''read committed'' or crossfade_private.is_of_this_transaction(cf_s.xmin))
        where (cf_t).id = (cf_s).id and (((cf_o).body collate pg_catalog."C" is distinct from (cf_s).body) and (cf_t).body collate pg_catalog."C" is distinct from (((cf_s).body)::text)::text or ((row(((cf_o).labels)::jsonb)::record operator(pg_catalog.*<>) row(((cf_s).labels)::jsonb)::record and ((cf_o).labels is distinct from (cf_s).labels or ((cf_o).labels)::jsonb::text collate pg_catalog."C" is distinct from ((cf_s).labels)::jsonb::text))) and (cf_t).labels collate pg_catalog."C" is distinct from ((( SELECT string_agg(l.label, '',''::text ORDER BY l.number) AS string_agg
            FROM jsonb_array_elements_text((cf_s).labels) WITH ORDINALITY l(label, number)))::text)::text)' end;
      end if;
      get diagnostics cf_written = row_count;
      if cf_written = cf_count or not exists (
          select from (select row(cf_x.*)::with_from.notes_v2 as cf_s from cf_new cf_x) cf_q
          where not exists (select from with_from.notes cf_t where (cf_t).id = (cf_s).id))
        -- Not edited because a trigger of the owner's dropped the write.
        and not exists (
          select from (select row(cf_x.*)::with_from.notes_v2 as cf_o from cf_old cf_x) cf_p
          join with_from.notes_v2 cf_s on (cf_s).id = (cf_o).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
          join with_from.notes cf_t on (cf_t).id = (cf_s).id
          where ((cf_o).body collate pg_catalog."C" is distinct from (cf_s).body) and (cf_t).body collate pg_catalog."C" is distinct from (((cf_s).body)::text)::text or ((row(((cf_o).labels)::jsonb)::record operator(pg_catalog.*<>) row(((cf_s).labels)::jsonb)::record and ((cf_o).labels is distinct from (cf_s).labels or ((cf_o).labels)::jsonb::text collate pg_catalog."C" is distinct from ((cf_s).labels)::jsonb::text))) and (cf_t).labels collate pg_catalog."C" is distinct from ((( SELECT string_agg(l.label, ','::text ORDER BY l.number) AS string_agg
            FROM jsonb_array_elements_text((cf_s).labels) WITH ORDINALITY l(label, number)))::text)::text) then
        return null;
      end if;
    exception when others or assert_failure then
      if crossfade_private.is_transient(sqlstate) then
        raise;
      end if;
    end;
  end if;
  cf_olds := array(select row(cf_x.*)::with_from.notes_v2 from cf_old cf_x);
  cf_news := array(select row(cf_x.*)::with_from.notes_v2 from cf_new cf_x);
  if cf_moved then
    -- A counterpart that could not follow stays as it is, for repair to move: a new one beside it
    -- would not have what only the other table holds.
    cf_refused := crossfade_private.mirror_notes_v2_move(cf_olds, cf_news);
    cf_olds := array(select cf_olds[n] from generate_subscripts(cf_olds, 1) n
      where n <> all (cf_refused) order by n);
    cf_news := array(select cf_news[n] from generate_subscripts(cf_news, 1) n
      where n <> all (cf_refused) order by n);
  end if;
  if cf_state = 'log' then
    perform crossfade_private.note_keys('notes', 2, tg_op,
      array(select jsonb_build_object('id', cf_x.id) from unnest(cf_news) cf_x));
    return null;
  end if;
  if cf_state = 'whole' then
    perform crossfade_private.mirror_notes_v2_put(array(select row(cf_r.*)::with_from.notes_v2
      from unnest(cf_news) cf_r join with_from.notes cf_t on (cf_t).id = (cf_r).id), tg_op, true);
  end if;
  perform crossfade_private.mirror_notes_v2_edit(cf_olds, cf_news, cf_depth > 1);
  if cf_moved then
    -- A statement that writes both tables may have put a row here under a key that was left, with
    -- what it wrote into the counterpart before that followed.
    cf_left := array(select row(cf_s.*)::with_from.notes_v2
      from unnest(cf_olds) cf_r join with_from.notes_v2 cf_s on (cf_s).id = (cf_r).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
      where not exists (select from with_from.notes cf_t where (cf_t).id = (cf_s).id));
    if cardinality(cf_left) > 0 or coalesce(current_setting('crossfade.mark_notes', true), '') <> '' then
      perform crossfade_private.mirror_notes_v2_push(cf_olds, cf_news);
    end if;
    perform crossfade_private.mirror_notes_v2_put(cf_left, tg_op, cf_state = 'whole');
  end if;
  return null;
end $function$
