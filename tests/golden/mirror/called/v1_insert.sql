CREATE OR REPLACE FUNCTION crossfade_private.mirror_notes_v1_insert()
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
-- crossfade 0.2.0: mirror of pair "notes": rows inserted into V1.
#variable_conflict use_column
declare
  cf_depth integer;
  cf_state text;
  cf_nested boolean;
  cf_number bigint;
  cf_context text;
  cf_stale jsonb[];
  cf_rows called.notes[];
  cf_taken jsonb;
  cf_constraint text;
begin
  -- Order matters for speed: each expression costs, so common cases come first.
  if pg_trigger_depth() = 2 then
    get diagnostics cf_context = pg_context;
    if split_part(cf_context, e'\n', -1) = 'PL/pgSQL function crossfade_private.mirror_notes_v2_insert() line 25 at SQL statement' then
      return null;
    end if;
  elsif pg_sequence_last_value('crossfade_private.mirror_notes_changes') = crossfade_private.mirror_notes_v1_change() and crossfade_private.mirror_notes_v1_state() = 'on' and coalesce(current_setting('crossfade.mark_notes', true), '') = '' and nextval(case current_setting('role', true) when 'authenticated' then 'crossfade_private.writes_notes_v1_user'::regclass when 'anon' then 'crossfade_private.writes_notes_v1_user'::regclass when 'service_role' then 'crossfade_private.writes_notes_v1_service'::regclass else 'crossfade_private.writes_notes_v1_direct'::regclass end) > 0 then
    -- New rows have no counterpart as a rule. One plan does for one row and for 40,000: it joins
    -- nothing, and without ON CONFLICT a row costs one index search less.
    begin
      insert into called.notes_v2 (id, body, seen) overriding system value
      select cf_c.id, cf_c.body, cf_c.seen
      from (select row(cf_x.*)::called.notes as cf_n from cf_new cf_x) cf_q
      cross join lateral called.notes_to_v2(cf_n, null::called.notes_v2) cf_c;
      declare
        cf_written bigint;
      begin
        get diagnostics cf_written = row_count;
        if cf_written = (select count(*) from cf_new) then
          return null;
        end if;
      end;
    exception when others or assert_failure then
      if crossfade_private.is_transient(sqlstate) then
        raise;
      end if;
    end;
  end if;
  cf_depth := pg_trigger_depth();
  if cf_depth > 1 then
    get diagnostics cf_context = pg_context;
    if strpos(cf_context, '"crossfade_private"."mirror_notes_v') > 0 then
      cf_context := regexp_replace(cf_context, E'"crossfade_private"\\."(mirror_notes_v[12]_[a-z]+)"\\(', E'crossfade_private.\\1(', 'g');
    end if;
    if cf_depth = 2 and strpos(split_part(cf_context, e'\n', -1), ' crossfade_private.mirror_notes_v2_') > 0
      and strpos(split_part(cf_context, e'\n', -1), '"') = 0
      or crossfade_private.is_own_write(cf_context, cf_depth, 'notes', 2) then
      return null;
    end if;
  end if;
  cf_state := case when pg_sequence_last_value('crossfade_private.mirror_notes_changes') = crossfade_private.mirror_notes_v1_change() then crossfade_private.mirror_notes_v1_state()
    else crossfade_private.read_state('notes', 1) end;
  if cf_state in ('off', 'archive') or cf_depth = 1
    and coalesce(current_setting('crossfade.mark_notes', true), '') = 'engine'
    and crossfade_private.is_engine_write('notes') then
    return null;
  end if;
  if cf_depth = 2 or not (pg_sequence_last_value('crossfade_private.mirror_notes_changes') = crossfade_private.mirror_notes_v1_change() and crossfade_private.mirror_notes_v1_state() = 'on' and coalesce(current_setting('crossfade.mark_notes', true), '') = '') then
    cf_number := nextval(case current_setting('role', true) when 'authenticated' then 'crossfade_private.writes_notes_v1_user'::regclass when 'anon' then 'crossfade_private.writes_notes_v1_user'::regclass when 'service_role' then 'crossfade_private.writes_notes_v1_service'::regclass else 'crossfade_private.writes_notes_v1_direct'::regclass end);
  end if;
  cf_nested := (cf_depth > 1 or coalesce(current_setting('crossfade.mark_notes', true), '') <> '')
    and crossfade_private.note_nested('crossfade.mark_notes', cf_depth);
  if cf_state = 'log' then
    -- The row that had the key was deleted, which was only noted: its counterpart goes now, or this
    -- row would inherit what only the other table held of that one.
    cf_stale := array(select cf_key from (select jsonb_build_object('id', cf_x.id) as cf_key from cf_new cf_x) cf_q
      where crossfade_private.is_noted_delete('notes', 1, cf_key));
    if cardinality(cf_stale) > 0 then
      begin
        delete from called.notes_v2 cf_t using cf_new cf_r
        where (cf_t).id = (cf_r).id and jsonb_build_object('id', cf_r.id) = any (cf_stale);
        if exists (select from cf_new cf_r join called.notes_v2 cf_t on (cf_t).id = (cf_r).id
            where jsonb_build_object('id', cf_r.id) = any (cf_stale)) then
          raise exception using errcode = 'CF017', message = 'a trigger or rule of called.notes_v2 dropped a mirrored write';
        end if;
        perform crossfade_private.forget_noted_delete('notes', cf_key)
        from unnest(cf_stale) cf_key;
      exception when others or assert_failure then
        if crossfade_private.is_transient(sqlstate) then
          raise;
        end if;
      end;
    end if;
    -- Waits for whoever notes the same key at this moment, and sees that row below.
    perform crossfade_private.note_keys('notes', 1, tg_op,
      array(select jsonb_build_object('id', cf_x.id) from cf_new cf_x));
    begin
      cf_rows := array(select row(cf_r.*)::called.notes from cf_new cf_r
        where jsonb_build_object('id', cf_r.id) <> all (cf_stale));
      -- SAFETY: a row that only the other table had is somebody else's, whoever has edited
    -- it since. Writing over it would hand it to whoever inserted this one. A counterpart that a
    -- trigger has already made of this row does not differ.
    select jsonb_build_object('id', cf_s.id) into cf_taken
    from unnest(cf_rows) cf_r
    join called.notes cf_s on (cf_s).id = (cf_r).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
    join called.notes_v2 cf_t on (cf_t).id = (cf_s).id
    cross join lateral called.notes_to_v2(cf_s, cf_t) cf_c
    where not crossfade_private.is_written_beside(cf_t.xmin, cf_t.cmin, cf_s.cmin) and ((row(((cf_t).body)::jsonb)::record operator(pg_catalog.*<>) row((cf_c.body)::jsonb)::record and ((cf_t).body is distinct from cf_c.body or ((cf_t).body)::jsonb::text collate pg_catalog."C" is distinct from (cf_c.body)::jsonb::text)) or (cf_t).seen is distinct from cf_c.seen)
    limit 1;
    if cf_taken is not null then
      raise exception using errcode = '23505', constraint = 'crossfade_one_key',
        message = format('duplicate key %s: %s has a row with it', cf_taken, 'called.notes_v2');
    end if;
    exception when others or assert_failure then
      get stacked diagnostics cf_constraint = constraint_name;
      -- A row that cannot be converted is no concern of the client's: repair will hear of it.
      if sqlstate = '23505' and cf_constraint = 'crossfade_one_key'
        or crossfade_private.is_transient(sqlstate) then
        raise;
      end if;
    end;
    return null;
  end if;
  perform crossfade_private.mirror_notes_v1_put(array(select row(cf_x.*)::called.notes from cf_new cf_x), tg_op,
    cf_state = 'whole');
  return null;
end $function$
