-- The text of the function that mirrors INSERT. {names} are filled in for each pair
-- (mirror_pieces).

create or replace function crossfade_private.mirror_insert_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$
-- {made_by}: rows inserted into V{side}.
#variable_conflict use_column
declare
  cf_depth integer;
  cf_state text;
  cf_nested boolean;
  cf_number bigint;
  cf_context text;
  cf_stale jsonb[];
  cf_rows {source}[];
  cf_taken jsonb;
  cf_constraint text;
begin
  {not_detached}-- Order matters for speed: each expression costs, so common cases come first.
  if pg_trigger_depth() = 2 then
    get diagnostics cf_context = pg_context;
    if split_part(cf_context, e'\n', -1) = {own_insert} then
      return null;
    end if;
  elsif {is_plain} and {counter} > 0 then
    -- New rows have no counterpart as a rule. One plan does for one row and for 40,000: it joins
    -- nothing, and without ON CONFLICT a row costs one index search less.
    begin
      insert into {target} ({target_columns}) overriding system value
      select {made_columns}
      from (select row(cf_x.*)::{source} as cf_n from {new_rows} cf_x) cf_q
      cross join lateral {convert_new} cf_c;
      {when_written}
    exception when others or assert_failure then
      if crossfade_private.is_transient(sqlstate) then
        raise;
      end if;
    end;
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
  {count_if_not_plain}
  cf_nested := {nested};
  if cf_state = 'log' then
    -- The row that had the key was deleted, which was only noted: its counterpart goes now, or this
    -- row would inherit what only the other table held of that one.
    cf_stale := array(select cf_key from (select {key_json_x} as cf_key from cf_new cf_x) cf_q
      where crossfade_private.is_noted_delete({pair_literal}, {side}, cf_key));
    if cardinality(cf_stale) > 0 then
      begin
        delete from {target} cf_t using {new_rows} cf_r
        where {same_key_t_r} and {key_json_r} = any (cf_stale);
        if exists (select from {new_rows} cf_r join {target} cf_t on {same_key_t_r}
            where {key_json_r} = any (cf_stale)) then
          {raise_dropped}
        end if;
        perform crossfade_private.forget_noted_delete({pair_literal}, cf_key)
        from unnest(cf_stale) cf_key;
      exception when others or assert_failure then
        if crossfade_private.is_transient(sqlstate) then
          raise;
        end if;
      end;
    end if;
    -- Waits for whoever notes the same key at this moment, and sees that row below.
    perform crossfade_private.note_keys({pair_literal}, {side}, tg_op,
      array(select {key_json_x} from cf_new cf_x));
    begin
      cf_rows := array(select row(cf_r.*)::{source} from {new_rows} cf_r
        where {key_json_r} <> all (cf_stale));
      {refuse_taken}
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
  perform {function}_put(array(select row(cf_x.*)::{source} from {new_rows} cf_x), tg_op,
    cf_state = 'whole');
  return null;
end $body$;
$text$;

comment on function crossfade_private.mirror_insert_text is
  'Body of crossfade_private.mirror_<pair>_v<side>_insert: AFTER STATEMENT trigger with the new rows as cf_new.';
