-- The complete text of one generated trigger function.

create or replace function crossfade_private.mirror_template(operation text)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $outer$
  select replace(replace(replace(replace(replace($template$
create or replace function crossfade_private.mirror_{pair}_v{side}_{operation}()
returns trigger
language plpgsql volatile
security definer -- who may write one table often has no right on the other
set search_path = pg_catalog, pg_temp
as $body$
declare
  v_state crossfade_private.mirror_state;
  v_guard text;
  v_set text;
  v_frozen constant boolean := current_setting('transaction_isolation') <> 'read committed';
  v_nested boolean := coalesce(current_setting('crossfade.nested_{pair}_v{side}', true), '') <> '';
<<variables>>
begin
  if v_frozen then
    v_state := crossfade_private.mirror_mode({pair_literal});
  else
    select m.* into v_state from crossfade_private.mirror_state m where m.pair = {pair_literal};
  end if;
  if v_state.mirror is null or v_state.mirror = 'off' then
    return null;
  end if;
  if (v_state.mirror = 'archived' or v_state.mirror = 'reverse' and {side} = 1)
    and crossfade_private.refuse_archived_write({pair_literal}, {side}) then
    return null;
  end if;
<<log>>
  v_guard := current_setting('crossfade.echo_{pair}_v{other}', true);
  -- Assignments and not PERFORM: those are evaluated without a query.
  v_set := set_config('crossfade.echo_{pair}_v{other}', (pg_trigger_depth() + 1)::text, true);
<<action>>
  v_set := set_config('crossfade.echo_{pair}_v{other}', coalesce(v_guard, ''), true);
  if pg_trigger_depth() > 1 then
    -- Both tables have been written while a statement on either may wait for its own mirror.
    v_set := set_config('crossfade.nested_{pair}_v{side}', 'on', true);
    v_set := set_config('crossfade.nested_{pair}_v{other}', 'on', true);
  elsif v_nested then
    v_set := set_config('crossfade.nested_{pair}_v{side}', '', true);
  end if;
  return null;
end $body$
$template$, '<<variables>>', case
    when operation = 'merge' then '  v_own_guard text; v_counterpart {target};'
    when operation in ('insert', 'update', 'delete') then
      '  v_row {source}; v_current {source}; v_rows bigint; v_count bigint;
  v_bulk boolean; v_tried boolean := false; v_done boolean := false;'
      || case operation when 'delete' then ''
        else ' v_counterpart {target}; v_added bigint; v_present boolean;' end
      || case operation when 'insert' then ' v_taken boolean := false;' else '' end
    else '' end), '<<action>>', case operation
    when 'truncate' then
      -- DELETE and not TRUNCATE: it takes no exclusive lock on the other table and knows
      -- its cascades. But TRUNCATE also removes rows younger than the snapshot, and DELETE
      -- above READ COMMITTED does not even see them.
      $truncate$
  begin
    if v_frozen then
      truncate {target};
    else
      delete from {target};
    end if;
  exception when others then
    if v_state.failure_policy = 'raise' or v_frozen or sqlstate = '40001' then
      raise;
    end if;
    perform crossfade_private.record_failure(
      {pair_literal}, {side}, {tkey_json_t}, tg_op, sqlstate, sqlerrm)
    from {target} cf_t order by {tkey_t};
  end;$truncate$
    when 'move' then $move$
  begin
    {move};
    if v_frozen and not found then
      perform crossfade_private.record_failure({pair_literal}, {side}, {skey_json_old}, 'MOVE',
        'CF017', 'the row to be moved is not visible to the transaction, or not there');
    end if;
  exception when others then
    if v_state.failure_policy = 'raise' or sqlstate = '40001' then
      raise;
    end if;
    perform crossfade_private.record_failure(
      {pair_literal}, {side}, {skey_json_old}, 'MOVE', sqlstate, sqlerrm);
  end;$move$
    when 'merge' then crossfade_private.mirror_merge_template()
    else crossfade_private.mirror_rows_template(operation)
  end), '<<log>>', crossfade_private.mirror_log_template(operation)), '{operation}', operation),
  '{first_attempt}', case operation when 'insert' then '2' else '1' end);
$outer$;

comment on function crossfade_private.mirror_template is
  'The text of a mirror trigger function: operation is insert, update, delete, truncate, move (a changed key) or merge (a row updated by a trigger).';
