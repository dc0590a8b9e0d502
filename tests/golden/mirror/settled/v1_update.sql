CREATE OR REPLACE FUNCTION crossfade_private.mirror_notes_v1_update()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'public', 'extensions', 'settled', 'pg_temp'
 SET jit TO 'off'
AS $function$
-- crossfade 0.2.0: mirror of pair "notes": rows updated in V1.
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
  cf_olds settled.notes[];
  cf_news settled.notes[];
  cf_refused integer[];
  cf_left settled.notes[];
  cf_e1 boolean; cf_e2 boolean;
begin
  -- Order matters for speed: each expression costs, so common cases come first.
  if pg_trigger_depth() = 2 then
    get diagnostics cf_context = pg_context;
    if split_part(cf_context, e'\n', -1) = 'PL/pgSQL function crossfade_private.mirror_notes_v2_update() line 39 at SQL statement' then
      return null;
    end if;
  
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
  cf_number := nextval(case current_setting('role', true) when 'authenticated' then 'crossfade_private.writes_notes_v1_user'::regclass when 'anon' then 'crossfade_private.writes_notes_v1_user'::regclass when 'service_role' then 'crossfade_private.writes_notes_v1_service'::regclass else 'crossfade_private.writes_notes_v1_direct'::regclass end);
  cf_nested := (cf_depth > 1 or coalesce(current_setting('crossfade.mark_notes', true), '') <> '')
    and crossfade_private.note_nested('crossfade.mark_notes', cf_depth);
  -- Old and new rows stand in the same order. A key that moved is seen by its place, also where two
  -- rows have changed keys with each other.
  select cf_a.number, cf_a.keys is distinct from cf_b.keys,
    case when cf_a.number < 9 then exists (
      select from (select row(cf_x.*)::settled.notes as cf_o from cf_old cf_x) cf_p
      join (select row(cf_x.*)::settled.notes as cf_s from cf_new cf_x) cf_q on (cf_s).book = (cf_o).book and (cf_s).page = (cf_o).page
      where (cf_o).book is distinct from (cf_s).book or (cf_o).page is distinct from (cf_s).page or (cf_o).body collate pg_catalog."C" is distinct from (cf_s).body or (cf_o).updated_at is distinct from (cf_s).updated_at) end
  into cf_count, cf_moved, cf_changed
  from (select count(*) as number, array_agg(row(cf_x.book, cf_x.page)) as keys from cf_old cf_x) cf_a,
    (select array_agg(row(cf_x.book, cf_x.page)) as keys from cf_new cf_x) cf_b;
  if cf_count >= 9 and not cf_moved then
    -- Planned for the number of rows at hand.
    execute 'select exists (
      select from (select row(cf_x.*)::settled.notes as cf_o from cf_old cf_x) cf_p
      join (select row(cf_x.*)::settled.notes as cf_s from cf_new cf_x) cf_q on (cf_s).book = (cf_o).book and (cf_s).page = (cf_o).page
      where (cf_o).book is distinct from (cf_s).book or (cf_o).page is distinct from (cf_s).page or (cf_o).body collate pg_catalog."C" is distinct from (cf_s).body or (cf_o).updated_at is distinct from (cf_s).updated_at)' into cf_changed;
  end if;
  -- Order matters: what the converter does not read must not even lock the other table.
  if cf_count = 0 or not cf_moved and not cf_changed then
    return null;
  end if;
  -- Column by column: the other table has triggers for some.
  cf_olds := array(select row(cf_x.*)::settled.notes from cf_old cf_x);
  cf_news := array(select row(cf_x.*)::settled.notes from cf_new cf_x);
  if cf_moved then
    -- A counterpart that could not follow stays as it is, for repair to move: a new one beside it
    -- would not have what only the other table holds.
    cf_refused := crossfade_private.mirror_notes_v1_move(cf_olds, cf_news);
    cf_olds := array(select cf_olds[n] from generate_subscripts(cf_olds, 1) n
      where n <> all (cf_refused) order by n);
    cf_news := array(select cf_news[n] from generate_subscripts(cf_news, 1) n
      where n <> all (cf_refused) order by n);
  end if;
  if cf_state = 'log' then
    perform crossfade_private.note_keys('notes', 1, tg_op,
      array(select jsonb_build_object('book', cf_x.book, 'page', cf_x.page) from unnest(cf_news) cf_x));
    return null;
  end if;
  if cf_state = 'whole' then
    perform crossfade_private.mirror_notes_v1_put(array(select row(cf_r.*)::settled.notes
      from unnest(cf_news) cf_r join settled.notes_v2 cf_t on (cf_t).book = (cf_r).book and (cf_t).page = (cf_r).page), tg_op, true);
  end if;
  perform crossfade_private.mirror_notes_v1_edit(cf_olds, cf_news, cf_depth > 1);
  if cf_moved then
    -- A statement that writes both tables may have put a row here under a key that was left, with
    -- what it wrote into the counterpart before that followed.
    cf_left := array(select row(cf_s.*)::settled.notes
      from unnest(cf_olds) cf_r join settled.notes cf_s on (cf_s).book = (cf_r).book and (cf_s).page = (cf_r).page and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
      where not exists (select from settled.notes_v2 cf_t where (cf_t).book = (cf_s).book and (cf_t).page = (cf_s).page));
    if cardinality(cf_left) > 0 or coalesce(current_setting('crossfade.mark_notes', true), '') <> '' then
      perform crossfade_private.mirror_notes_v1_push(cf_olds, cf_news);
    end if;
    perform crossfade_private.mirror_notes_v1_put(cf_left, tg_op, cf_state = 'whole');
  end if;
  return null;
end $function$
