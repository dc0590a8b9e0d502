-- The text of the function that mirrors UPDATE. {names} are filled in for each pair
-- (mirror_pieces).

create or replace function crossfade_private.mirror_update_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$
-- {made_by}: rows updated in V{side}.
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
  cf_olds {source}[];
  cf_news {source}[];
  cf_refused integer[];
  cf_left {source}[];
  {flags_declared}
begin
  {follow_moved}-- Order matters for speed: each expression costs, so common cases come first.
  if pg_trigger_depth() = 2 then
    get diagnostics cf_context = pg_context;
    if split_part(cf_context, e'\n', -1) = {own_update} then
      return null;
    end if;
  {single_update}
  end if;
  cf_depth := pg_trigger_depth();
  if cf_depth > 1 then
    {read_context}
    if {own_write} then
      return null;
    end if;
  end if;
  cf_state := {state};
  if cf_state in ('off', 'archive') or {engine_write} then
    return null;
  end if;
  {count_update}
  cf_nested := {nested};
  -- Old and new rows stand in the same order. A key that moved is seen by its place, also where two
  -- rows have changed keys with each other.
  select cf_a.number, cf_a.keys is distinct from cf_b.keys,
    case when cf_a.number < 9 then exists (
      select from (select row(cf_x.*)::{source} as cf_o from {old_rows} cf_x) cf_p
      join (select row(cf_x.*)::{source} as cf_s from {new_rows} cf_x) cf_q on {same_key_given_s_o}
      where {read_differs}) end
  into cf_count, cf_moved, cf_changed
  from (select count(*) as number, array_agg({key_x}) as keys from cf_old cf_x) cf_a,
    (select array_agg({key_x}) as keys from cf_new cf_x) cf_b;
  if cf_count >= 9 and not cf_moved then
    -- Planned for the number of rows at hand.
    execute {read_differs_many} into cf_changed;
  end if;
  -- Order matters: what the converter does not read must not even lock the other table.
  if cf_count = 0 or not cf_moved and not cf_changed then
    return null;
  end if;
  {fast_update}
  cf_olds := array(select row(cf_x.*)::{source} from {old_rows} cf_x);
  cf_news := array(select row(cf_x.*)::{source} from {new_rows} cf_x);
  if cf_moved then
    -- A counterpart that could not follow stays as it is, for repair to move: a new one beside it
    -- would not have what only the other table holds.
    cf_refused := {function}_move(cf_olds, cf_news);
    cf_olds := array(select cf_olds[n] from generate_subscripts(cf_olds, 1) n
      where n <> all (cf_refused) order by n);
    cf_news := array(select cf_news[n] from generate_subscripts(cf_news, 1) n
      where n <> all (cf_refused) order by n);
  end if;
  if cf_state = 'log' then
    perform crossfade_private.note_keys({pair_literal}, {side}, tg_op,
      array(select {key_json_x} from unnest(cf_news) cf_x));
    return null;
  end if;
  if cf_state = 'whole' then
    perform {function}_put(array(select row(cf_r.*)::{source}
      from unnest(cf_news) cf_r join {target} cf_t on {same_key_t_r}), tg_op, true);
  end if;
  perform {function}_edit(cf_olds, cf_news, cf_depth > 1);
  if cf_moved then
    -- A statement that writes both tables may have put a row here under a key that was left, with
    -- what it wrote into the counterpart before that followed.
    cf_left := array(select row(cf_s.*)::{source}
      from unnest(cf_olds) cf_r join {source} cf_s on {same_key_s_r}
      where not exists (select from {target} cf_t where {same_key_t_s}));
    if cardinality(cf_left) > 0 or coalesce(current_setting({mark}, true), '') <> '' then
      perform {function}_push(cf_olds, cf_news);
    end if;
    perform {function}_put(cf_left, tg_op, cf_state = 'whole');
  end if;
  return null;
end $body$;
$text$;

comment on function crossfade_private.mirror_update_text is
  'Body of crossfade_private.mirror_<pair>_v<side>_update: AFTER STATEMENT trigger with the rows before and after as cf_old and cf_new.';

create or replace function crossfade_private.update_many_text(from_new_rows boolean)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$update {target} cf_t set {edits}
        from (select row(cf_x.*)::{source} as cf_o from {old_rows} cf_x) cf_p
        join $body$ || case when from_new_rows
      then '(select row(cf_x.*)::{source} as cf_s from {new_rows} cf_x)' else '{source}' end
    || $body$ cf_s on $body$
    || case when from_new_rows then '{same_key_given_s_o}' else '{same_key_s_o}' end || $body$
        where {same_key_t_s} and ({edited})$body$;
$text$;

comment on function crossfade_private.update_many_text is
  'The statement by which the UPDATE trigger edits the counterparts of many rows: the rows read again, or from_new_rows those of the transition table.';

create or replace function crossfade_private.read_differs_many_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$select exists (
      select from (select row(cf_x.*)::{source} as cf_o from {old_rows} cf_x) cf_p
      join (select row(cf_x.*)::{source} as cf_s from {new_rows} cf_x) cf_q on {same_key_given_s_o}
      where {read_differs})$body$;
$text$;

comment on function crossfade_private.read_differs_many_text is
  'The question of the UPDATE trigger whether anything was edited that the converter reads, for many rows.';

create or replace function crossfade_private.fast_update_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$if not cf_moved and not cf_nested and cf_state = 'on' then
    begin
      if cf_count < 9 then
        -- SAFETY: not the new row of the transition table. A statement that writes both tables,
        -- also by foreign keys, has mirrored the other one by now.
        update {target} cf_t set {edits}
        from (select row(cf_x.*)::{source} as cf_o from {old_rows} cf_x) cf_p
        join {source} cf_s on {same_key_s_o}
        where {same_key_t_s} and ({edited});
      else
        -- Planned for the number of rows at hand. Where nobody has written the other table in this
        -- transaction, the new rows are the rows.
        execute case when {is_untouched} then {update_many_new} else {update_many} end;
      end if;
      get diagnostics cf_written = row_count;
      if cf_written = cf_count or not exists (
          select from (select row(cf_x.*)::{source} as cf_s from {new_rows} cf_x) cf_q
          where {without_counterpart})
        -- Not edited because a trigger of the owner's dropped the write.
        and not exists (
          select from (select row(cf_x.*)::{source} as cf_o from {old_rows} cf_x) cf_p
          join {source} cf_s on {same_key_s_o}
          join {target} cf_t on {same_key_t_s}
          where {edited}) then
        return null;
      end if;
    exception when others or assert_failure then
      if crossfade_private.is_transient(sqlstate) then
        raise;
      end if;
    end;
  end if;$body$;
$text$;

comment on function crossfade_private.fast_update_text is
  'The part of mirror_update_text that edits all counterparts by one statement. It names every column, so it is not for tables with triggers UPDATE OF columns.';

create or replace function crossfade_private.single_update_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$elsif {is_plain} and {counter} > 0 then
    select not ({same_key_given_s_o}), {flags} into cf_moved, {flag_names}
    from (select row(cf_x.*)::{source} as cf_o from {old_rows} cf_x) cf_p
    cross join (select row(cf_x.*)::{source} as cf_s from {new_rows} cf_x) cf_q
    where not exists (select from cf_old offset 1);
    if cf_moved is false then
      -- What the converter does not read must not even lock the other table.
      if not ({any_flag}) then
        return null;
      end if;
      begin
        -- SAFETY: not the new row of the transition table. A statement that writes both tables,
        -- also by foreign keys, has mirrored the other one by now.
        update {target} cf_t set {edits_by_flag}
        from (select row(cf_x.*)::{source} as cf_o from {old_rows} cf_x) cf_p
        join {source} cf_s on {same_key_s_o}
        where {same_key_t_s} and ({edited_by_flag});
        if found then
          return null;
        end if;
      exception when others or assert_failure then
        if crossfade_private.is_transient(sqlstate) then
          raise;
        end if;
      end;
    end if;$body$;
$text$;

comment on function crossfade_private.single_update_text is
  'The part of mirror_update_text for a statement that updated one row: what was edited is asked once, in variables.';
