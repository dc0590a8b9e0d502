-- The texts of the functions that mirror DELETE and TRUNCATE.

create or replace function crossfade_private.mirror_delete_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$
-- {made_by}: rows deleted from V{side}.
#variable_conflict use_column
declare
  cf_depth integer;
  cf_state text;
  cf_nested boolean;
  cf_number bigint;
  cf_context text;
  cf_count bigint;
  cf_written bigint;
  cf_unseen jsonb[];
begin
  {not_detached}cf_depth := pg_trigger_depth();
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
  cf_number := {counter};
  cf_nested := {nested};
  if cf_state = 'log' then
    perform crossfade_private.note_keys({pair_literal}, {side}, tg_op,
      array(select {key_json_x} from cf_old cf_x));
    return null;
  end if;
  select count(*) into cf_count from cf_old;
  if current_setting('transaction_isolation') <> 'read committed' then
    -- A copy made after the snapshot of this transaction is not visible here; it would outlive the
    -- row.
    cf_unseen := array(select {key_json_r} from cf_old cf_r
      where not exists (select from {target} cf_t where {same_key_t_r}));
  end if;
  begin
    {spare_left_out}-- Not where the row is there again: a trigger of the owner's may have
    -- put it back.
    if cf_count < 9 then
      delete from {target} cf_t using cf_old cf_r
      where {same_key_t_r} and not exists (select from {source} cf_s where {same_key_s_r});
    else
      execute {delete_many};
    end if;
    get diagnostics cf_written = row_count;
    if cf_written < cf_count then
      -- As a rule the counterparts have gone before: a foreign key deleted them with their parent.
      if exists (select from cf_old cf_r join {source} cf_s on {same_key_s_r}) then
        -- Another row has the key now: it must not inherit what only the other table held of the
        -- old. A counterpart that was already made of that row does not differ.
        delete from {target} cf_t using cf_old cf_r, {source} cf_s
        where {same_key_t_r} and {same_key_s_r}
          and not exists (select from lateral {convert} cf_c where not ({differs}));
        perform {function}_put(array(select row(cf_s.*)::{source}
          from {source} cf_s join cf_old cf_r on {same_key_s_r}), tg_op, cf_state = 'whole');
      end if;
      -- Counterparts first (offset 0): as a rule there are none, and nothing else is looked up.
      if exists (
          select from (select cf_r.* from cf_old cf_r join {target} cf_t on {same_key_t_r} offset 0)
            cf_r
          where not exists (select from {source} cf_s where {same_key_s_r})) then
        {raise_dropped}
      end if;
      if crossfade_private.is_any_behind({pair_literal}) then
        perform crossfade_private.note_behind({pair_literal}, {side}, tg_op,
          array(select {key_json_r} from cf_old cf_r));
      end if;
    end if;
    if cardinality(cf_unseen) > 0 then
      perform crossfade_private.note_unseen(
        {pair_literal}, {side}, 'DELETE', cf_unseen);
    end if;
    return null;
  exception when others or assert_failure then
    if crossfade_private.is_transient(sqlstate) then
      raise;
    end if;
  end;
  perform {function}_remove(array(select row(cf_x.*)::{source} from {old_rows} cf_x));
  return null;
end $body$;
$text$;

comment on function crossfade_private.mirror_delete_text is
  'Body of crossfade_private.mirror_<pair>_v<side>_delete: AFTER STATEMENT trigger with the deleted rows as cf_old.';

create or replace function crossfade_private.spare_left_out_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$-- A foreign key deletes rows with a parent that the other side has left out of this
    -- one. They are left out as well, and the rows they were made of stay where they are.
    if cf_depth > 1 and cf_context ~ ' "?crossfade_private"?[.]"?mirror_[^\n]*_v{other}_'
      and exists (
        select from cf_old cf_r join {target} cf_t on {same_key_t_r}
        where not exists (select from lateral {convert_back_alone} cf_c)) then
      perform {function}_remove(array(select row(cf_r.*)::{source} from {old_rows} cf_r
        where not exists (select from {target} cf_t where {same_key_t_r}
          and not exists (select from lateral {convert_back_alone} cf_c))));
      return null;
    end if;
    $body$;
$text$;

comment on function crossfade_private.spare_left_out_text is
  'The part of mirror_delete_text for rows that are deleted with their parent because a write of the other side has left that out: only where the converter of the other side may give no row.';

create or replace function crossfade_private.delete_many_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$delete from {target} cf_t using cf_old cf_r
      where {same_key_t_r} and not exists (select from {source} cf_s where {same_key_s_r})$body$;
$text$;

comment on function crossfade_private.delete_many_text is
  'The statement by which the DELETE trigger deletes many counterparts.';

create or replace function crossfade_private.mirror_remove_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$
-- {made_by}: counterparts of rows deleted from V{side}, some of which cannot be deleted.
#variable_conflict use_column
declare
  cf_size constant integer := cardinality(cf_rows);
  cf_step constant integer := greatest(1, cf_size / 16);
  cf_written bigint;
  cf_constraint text;
begin
  begin
    delete from {target} cf_t using unnest(cf_rows) cf_r
    where {same_key_t_r} and not exists (select from {source} cf_s where {same_key_s_r});
    get diagnostics cf_written = row_count;
    if cf_written < cf_size and exists (
        select from unnest(cf_rows) cf_r join {target} cf_t on {same_key_t_r}
        where not exists (select from {source} cf_s where {same_key_s_r})) then
      {raise_dropped}
    end if;
    return;
  exception when others or assert_failure then
    get stacked diagnostics cf_constraint = constraint_name;
    if crossfade_private.is_transient(sqlstate) then
      raise;
    elsif cf_size = 1 then
      perform crossfade_private.refuse_or_record(
        {pair_literal}, {side}, {key_json_row}, 'DELETE', sqlstate, sqlerrm, cf_constraint);
      return;
    end if;
  end;
  for cf_at in 1..cf_size by cf_step loop
    perform {function}_remove(cf_rows[cf_at : cf_at + cf_step - 1]);
  end loop;
end $body$;
$text$;

comment on function crossfade_private.mirror_remove_text is
  'Body of crossfade_private.mirror_<pair>_v<side>_remove(cf_rows): all rows at once, then in sixteenths, then one by one; what is refused is recorded.';

create or replace function crossfade_private.mirror_truncate_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$
-- {made_by}: V{side} is truncated.
#variable_conflict use_column
declare
  cf_depth integer;
  cf_state text;
  cf_nested boolean;
  cf_number bigint;
  cf_context text;
  cf_constraint text;
begin
  {not_detached}cf_depth := pg_trigger_depth();
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
  if tg_when = 'BEFORE' then
    cf_number := {counter};
  end if;
  cf_nested := {nested};
  -- Also while changes are only noted: afterwards there is no key to note.
  if tg_when = 'BEFORE' then
    {of_partition}-- Only the rows that are still there tell which rows of the other table have a
    -- counterpart: one that is not copied yet, or was refused, is nobody's to empty.
    if current_setting('transaction_isolation') <> 'read committed' then
      perform crossfade_private.refuse_blind_truncate({pair_literal}, {source_literal});
    else
      {note_truncated}
      -- A counterpart that could not follow a changed key has another one.
      if crossfade_private.is_any_behind({pair_literal}) then
        perform crossfade_private.note_behind({pair_literal}, {side}, 'DELETE', array(
          select {key_json_s} from {source} cf_s
          where {key_json_s} in (
            select k from crossfade.mirror_failures f cross join unnest(array[f.key, f.moved_to]) k
            where f.pair = {pair_literal} and f.resolved_at is null and f.moved_to is not null)
            {in_partition}));
      end if;
    end if;
    return null;
  end if;
  {of_root}if current_setting('transaction_isolation') <> 'read committed' then
    -- It also removes rows younger than the snapshot, which DELETE would not see. The same command
    -- may have emptied both tables.
    if {target_bytes} > 0 then
      truncate {target};
    end if;
    return null;
  end if;
  begin
    -- After the files are emptied: checks that wait for COMMIT look for no row of theirs. DELETE
    -- takes no exclusive lock on the other table and knows its cascades.
    delete from {target} cf_t using crossfade_private.truncated_keys cf_k
    where cf_k.pair = {pair_literal} and cf_k.side = {side} and cf_k.key = {key_json_t}
      and not exists (select from {source} cf_s where {same_key_s_t});
    if exists (
        select from {target} cf_t join crossfade_private.truncated_keys cf_k
        on cf_k.pair = {pair_literal} and cf_k.side = {side} and cf_k.key = {key_json_t}
        where not exists (select from {source} cf_s where {same_key_s_t})) then
      {raise_dropped}
    end if;
  exception when others or assert_failure then
    get stacked diagnostics cf_constraint = constraint_name;
    if crossfade_private.is_transient(sqlstate) then
      raise;
    end if;
    perform crossfade_private.refuse_or_record(
      {pair_literal}, {side}, {key_json_t}, tg_op, sqlstate, sqlerrm, cf_constraint)
    from {target} cf_t join crossfade_private.truncated_keys cf_k
      on cf_k.pair = {pair_literal} and cf_k.side = {side} and cf_k.key = {key_json_t};
  end;
  delete from crossfade_private.truncated_keys cf_k
  where cf_k.pair = {pair_literal} and cf_k.side = {side};
  return null;
end $body$;
$text$;

comment on function crossfade_private.mirror_truncate_text is
  'Body of crossfade_private.mirror_<pair>_v<side>_truncate: BEFORE TRUNCATE trigger, which notes the counterparts of the rows that are there, and AFTER TRUNCATE trigger, which deletes them, and no other row.';

create or replace function crossfade_private.note_truncated_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$insert into crossfade_private.truncated_keys (pair, side, key)
      select {pair_literal}, {side}, {key_json_t}
      from {target} cf_t join {truncated} cf_s on {same_key_s_t}$body$;
$text$;

comment on function crossfade_private.note_truncated_text is
  'The statement by which the TRUNCATE trigger notes the counterparts of the rows that are there.';

create or replace function crossfade_private.of_partition_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$-- TRUNCATE of the root comes first and notes everything; then come its partitions.
    if tg_relid = {source_literal}::regclass then
      insert into crossfade_private.truncated_keys (pair, side, key)
      values ({pair_literal}, {side}, 'null');
    elsif exists (select from crossfade_private.truncated_keys cf_k
        where cf_k.pair = {pair_literal} and cf_k.side = {side} and cf_k.key = 'null') then
      return null;
    elsif current_setting('transaction_isolation') <> 'read committed' then
      raise exception using errcode = '55000',
        message = format('Cannot truncate partition %s above READ COMMITTED: the snapshot does not '
          'show which rows of the other table are counterparts of its own', tg_relid::regclass),
        hint = 'Truncate it in a READ COMMITTED transaction.';
    end if;
    $body$;
$text$;

comment on function crossfade_private.of_partition_text is
  'The part of mirror_truncate_text that tells the root of a partitioned table from its partitions, whose triggers fire as well.';
