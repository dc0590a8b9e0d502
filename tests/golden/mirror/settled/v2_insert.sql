CREATE OR REPLACE FUNCTION crossfade_private.mirror_notes_v2_insert()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'public', 'extensions', 'settled', 'pg_temp'
 SET jit TO 'off'
AS $function$
-- crossfade 0.2.0: mirror of pair "notes": rows inserted into V2.
#variable_conflict use_column
declare
  cf_depth integer;
  cf_state text;
  cf_nested boolean;
  cf_number bigint;
  cf_context text;
  cf_stale jsonb[];
  cf_rows settled.notes_v2[];
  cf_taken jsonb;
  cf_constraint text;
begin
  -- Order matters for speed: each expression costs, so common cases come first.
  if pg_trigger_depth() = 2 then
    get diagnostics cf_context = pg_context;
    if split_part(cf_context, e'\n', -1) = 'PL/pgSQL function crossfade_private.mirror_notes_v1_insert() line 25 at SQL statement' then
      return null;
    end if;
  elsif pg_sequence_last_value('crossfade_private.mirror_notes_changes') = crossfade_private.mirror_notes_v2_change() and crossfade_private.mirror_notes_v2_state() = 'on' and coalesce(current_setting('crossfade.mark_notes', true), '') = '' and nextval(case current_setting('role', true) when 'authenticated' then 'crossfade_private.writes_notes_v2_user'::regclass when 'anon' then 'crossfade_private.writes_notes_v2_user'::regclass when 'service_role' then 'crossfade_private.writes_notes_v2_service'::regclass else 'crossfade_private.writes_notes_v2_direct'::regclass end) > 0 then
    -- New rows have no counterpart as a rule. One plan does for one row and for 40,000: it joins
    -- nothing, and without ON CONFLICT a row costs one index search less.
    begin
      insert into settled.notes (book, page, body, updated_at) overriding system value
      select cf_c.book, cf_c.page, cf_c.body, cf_c.updated_at
      from (select row(cf_x.*)::settled.notes_v2 as cf_n from cf_new cf_x) cf_q
      cross join lateral (select ((cf_n).book)::bigint as book, ((cf_n).page)::integer as page, (((cf_n).body #>> '{}'::text[]))::text as body, ((cf_n).updated_at)::timestamp with time zone as updated_at) cf_c;
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
  if cf_state = 'log' then
    -- The row that had the key was deleted, which was only noted: its counterpart goes now, or this
    -- row would inherit what only the other table held of that one.
    cf_stale := array(select cf_key from (select jsonb_build_object('book', cf_x.book, 'page', cf_x.page) as cf_key from cf_new cf_x) cf_q
      where crossfade_private.is_noted_delete('notes', 2, cf_key));
    if cardinality(cf_stale) > 0 then
      begin
        delete from settled.notes cf_t using cf_new cf_r
        where (cf_t).book = (cf_r).book and (cf_t).page = (cf_r).page and jsonb_build_object('book', cf_r.book, 'page', cf_r.page) = any (cf_stale);
        if exists (select from cf_new cf_r join settled.notes cf_t on (cf_t).book = (cf_r).book and (cf_t).page = (cf_r).page
            where jsonb_build_object('book', cf_r.book, 'page', cf_r.page) = any (cf_stale)) then
          raise exception using errcode = 'CF017', message = 'a trigger or rule of settled.notes dropped a mirrored write';
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
    perform crossfade_private.note_keys('notes', 2, tg_op,
      array(select jsonb_build_object('book', cf_x.book, 'page', cf_x.page) from cf_new cf_x));
    begin
      cf_rows := array(select row(cf_r.*)::settled.notes_v2 from cf_new cf_r
        where jsonb_build_object('book', cf_r.book, 'page', cf_r.page) <> all (cf_stale));
      -- SAFETY: a row that only the other table had is somebody else's, whoever has edited
    -- it since. Writing over it would hand it to whoever inserted this one. A counterpart that a
    -- trigger has already made of this row does not differ.
    select jsonb_build_object('book', cf_s.book, 'page', cf_s.page) into cf_taken
    from unnest(cf_rows) cf_r
    join settled.notes_v2 cf_s on (cf_s).book = (cf_r).book and (cf_s).page = (cf_r).page and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
    join settled.notes cf_t on (cf_t).book = (cf_s).book and (cf_t).page = (cf_s).page
    cross join lateral (select ((cf_s).book)::bigint as book, ((cf_s).page)::integer as page, (((cf_s).body #>> '{}'::text[]))::text as body, ((cf_s).updated_at)::timestamp with time zone as updated_at) cf_c
    where not crossfade_private.is_written_beside(cf_t.xmin, cf_t.cmin, cf_s.cmin) and ((cf_t).body collate pg_catalog."C" is distinct from cf_c.body or (cf_t).updated_at is distinct from cf_c.updated_at)
    limit 1;
    if cf_taken is not null then
      raise exception using errcode = '23505', constraint = 'crossfade_one_key',
        message = format('duplicate key %s: %s has a row with it', cf_taken, 'settled.notes');
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
  perform crossfade_private.mirror_notes_v2_put(array(select row(cf_x.*)::settled.notes_v2 from cf_new cf_x), tg_op,
    cf_state = 'whole');
  return null;
end $function$
