-- The texts of the functions that follow a changed key.

create or replace function crossfade_private.mirror_move_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$
-- {made_by}: counterparts follow keys that changed in V{side}.
#variable_conflict use_column
declare
  cf_move record;
  cf_from {source};
  cf_to {source};
  cf_further jsonb;
  cf_constraint text;
  cf_refused integer[] := '{}'::integer[];
  -- Keys are followed also while all else is only noted, and then no client is refused for it.
  cf_noting constant boolean := {state} = 'log';
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
    continue when {same_key_moved};
    cf_is_another := cf_noting
      and crossfade_private.is_noted_delete({pair_literal}, {side}, {key_json_from});
    cf_is_stale := cf_noting
      and crossfade_private.is_noted_delete({pair_literal}, {side}, {key_json_to});
    perform crossfade_private.move_failure({pair_literal}, {key_json_from}, {key_json_to});
    begin
      if cf_is_stale then
        -- The row that had the key was deleted, which was only noted: its counterpart goes now.
        delete from {target} cf_t where {same_key_t_to};
        if not cf_is_another then
          perform crossfade_private.forget_noted_delete({pair_literal}, {key_json_to});
        end if;
      end if;
      -- Where a trigger of the owner's wrote the moved row, a counterpart was made of it: it is of
      -- this transaction and does not differ. One that was there before is another row.
      delete from {target} cf_t using {source} cf_s
      where {same_key_t_to} and {same_key_s_to}
        and crossfade_private.is_of_this_transaction(cf_t.xmin)
        and exists (select from lateral {convert} cf_c where not ({differs}))
        and exists (select from {target} cf_t where {same_key_t_from});
      {drop_what_is_left_out}
      {move_statement}
      if not found then
        {forget_new_key}if exists (select from {target} cf_t where {same_key_t_from}) then
          {raise_dropped}
        end if;
        -- An outer statement has still to bring it here: it looks for this note.
        perform crossfade_private.note_move({moves}, {key_json_from}, {key_json_to});
        if current_setting('transaction_isolation') <> 'read committed' then
          perform crossfade_private.note_unseen(
            {pair_literal}, {side}, 'MOVE', array[{key_json_from}]);
        end if;
        continue;
      end if;
      cf_further := crossfade_private.noted_move({moves}, {key_json_to});
      if cf_further is not null
        and not exists (select from {source} cf_s where {same_key_s_to})
        and exists (select from {source} cf_s where {same_key_s_further}) then
        {move_further_statement}
      end if;
    exception when others or assert_failure then
      get stacked diagnostics cf_constraint = constraint_name;
      if crossfade_private.is_transient(sqlstate)
        or sqlstate = '23505' and cf_constraint = any ({target_key_names}) then
        raise;
      end if;
      if cf_noting then
        perform crossfade_private.record_failure(
          {pair_literal}, {side}, {key_json_to}, 'MOVE', sqlstate, sqlerrm);
      else
        perform crossfade_private.refuse_or_record(
          {pair_literal}, {side}, {key_json_to}, 'MOVE', sqlstate, sqlerrm, cf_constraint);
      end if;
      -- The row under the old key is left behind: repair has to hear of it as well.
      perform crossfade_private.record_failure(
        {pair_literal}, {side}, {key_json_from}, 'MOVE', sqlstate, sqlerrm, {key_json_to});
      cf_refused := cf_refused || cf_move.cf_place;
    end;
  end loop;
  return cf_refused;
end $body$;
$text$;

comment on function crossfade_private.mirror_move_text is
  'Body of crossfade_private.mirror_<pair>_v<side>_move(cf_olds, cf_news): the counterpart is updated and keeps what only it holds; 23505 when the new key is another row''s. Returns the places of those that could not be moved, which are recorded.';

create or replace function crossfade_private.drop_what_is_left_out_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$-- A row that the converter leaves out under its new key has no counterpart any more.
      if exists (select from {source} cf_s where {same_key_s_to}) and not exists (
        select from {source} cf_s cross join lateral {convert_now} cf_c
        where {same_key_s_to}) then
        delete from {target} cf_t where {same_key_t_from};
        if exists (select from {target} cf_t where {same_key_t_from}) then
          {raise_dropped}
        end if;
        continue;
      end if;$body$;
$text$;

comment on function crossfade_private.drop_what_is_left_out_text is
  'The part of mirror_move_text for converters that may give no row.';

create or replace function crossfade_private.mirror_push_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$
-- {made_by}: what triggers wrote into V{other} under the old key comes back to V{side}.
#variable_conflict use_column
declare
  cf_wanted bigint;
  cf_written bigint;
  cf_constraint text;
begin
  select count(*) into cf_wanted
  from unnest(cf_news) cf_r
  join {target} cf_t on {same_key_t_r} join {source} cf_s on {same_key_s_t}
  where exists (select from lateral {convert_back} cf_c where {differs_back});
  update {source} cf_s set {whole_back}
  from (select unnest(cf_olds) as cf_o, unnest(cf_news) as cf_r) cf_q
  join {target} cf_t on {same_key_t_r}
  where {same_key_s_t} and exists (select from lateral {convert_back} cf_c where {differs_back});
  get diagnostics cf_written = row_count;
  if cf_written < cf_wanted then
    {raise_dropped_back}
  end if;
exception when others or assert_failure then
  get stacked diagnostics cf_constraint = constraint_name;
  if crossfade_private.is_transient(sqlstate) then
    raise;
  end if;
  perform crossfade_private.refuse_or_record(
    {pair_literal}, {other}, {key_json_x}, 'MOVE', sqlstate, sqlerrm, cf_constraint)
  from unnest(cf_news) cf_x;
end $body$;
$text$;

comment on function crossfade_private.mirror_push_text is
  'Body of crossfade_private.mirror_<pair>_v<side>_push(cf_olds, cf_news): after a move, edits of the counterpart that a nested statement made while it had the old key.';
