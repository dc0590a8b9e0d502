-- The text of the generated trigger functions: static SQL, made once per pair, no dynamic SQL at
-- run time
-- but constant statements that must be planned for the number of rows at hand.
--
-- Few rows go one by one through plans with scalar parameters. Many rows go through EXECUTE: a plan
-- cached for one row would be slow for 40,000, and one cached for 40,000 would scan the table
-- for one.

create or replace function crossfade_private.mirror_put_template()
returns text
language sql immutable
set search_path = ''
as $outer$
  select $template$
      -- Insert and update take turns until one of them finds the row: between the two statements a
      -- writer of the other table may have inserted or deleted it.
      v_present := false;
      for v_attempt in {first_attempt}..5 loop
        if v_attempt % 2 = 0 then
          insert into {target} ({target_columns}) overriding system value
          select {tcolumns_c} from {convert} v_row {with} null::{target} {converted} cf_c
          on conflict ({target_key}) do nothing;
          v_present := found;
        else
          -- SAFETY: lock before converting, or the merge would start from a version
          -- already replaced.
          select cf_t.* into v_counterpart from {target} cf_t
          where ({tkey_t}) = ({skey_v_row}) for update;
          v_present := found;
          if v_present then
            update {target} cf_t set {set_list}
            from {convert} v_row {with} v_counterpart {converted} cf_c
            where ({tkey_t}) = ({skey_v_row}) and row({tcompare_t}) is distinct
              from row({tcompare_c});
          end if;
        end if;
        exit when v_present;
      end loop;
      if not v_present then
        raise exception using errcode = 'CF017',
          message =
            'the mirrored row is missing after the write (a trigger or rule of the table may drop it)';
      end if;$template$;
$outer$;

comment on function crossfade_private.mirror_put_template is
  'One row v_row of the source becomes its counterpart in the target, merged with what is there.';

create or replace function crossfade_private.mirror_insert_template()
returns text
language sql immutable
set search_path = ''
as $outer$
  select $template$
  -- New rows have no counterpart as a rule: one statement whose plan is the same for one row and
  -- for 40,000, because it joins nothing. Without ON CONFLICT a row costs one index search and one
  -- WAL record less; if a counterpart is there after all, the same with it leaves that to the
  -- statements below.
  if not v_nested then
    begin
      insert into {target} ({target_columns}) overriding system value
      select {tcolumns_c} from crossfade_rows cf_n
      cross join lateral {convert} row(cf_n.*)::{source} {with} null::{target} {converted} cf_c
      order by {tkey_c};
      get diagnostics v_count = row_count;
      v_done := v_count = (select count(*) from crossfade_rows);
    exception when others then
      v_taken := sqlstate = '23505';
      if not v_taken and (v_state.failure_policy = 'raise' or sqlstate = '40001') then
        raise;
      end if;
    end;
  end if;
  if v_taken then
    begin
      insert into {target} ({target_columns}) overriding system value
      select {tcolumns_c} from crossfade_rows cf_n
      cross join lateral {convert} row(cf_n.*)::{source} {with} null::{target} {converted} cf_c
      order by {tkey_c} on conflict ({target_key}) do nothing;
      get diagnostics v_count = row_count;
      v_done := v_count = (select count(*) from crossfade_rows);
    exception when others then
      if v_state.failure_policy = 'raise' or sqlstate = '40001' then
        raise;
      end if;
    end;
  end if;$template$;
$outer$;

comment on function crossfade_private.mirror_insert_template is
  'First statement for inserted rows; v_done says whether it was enough.';

create or replace function crossfade_private.mirror_bulk_template(operation text)
returns text
language sql immutable
set search_path = ''
as $outer$
  select case operation
    when 'delete' then $template$
      execute $sql$select count(*) from (
        select from {target} cf_t join crossfade_rows cf_n on ({tkey_t}) = ({skey_n})
        order by {tkey_t} for update of cf_t) l$sql$ into v_count;
      -- With an old snapshot every missing row must be looked at: see the deletion of one row.
      v_done := v_count >= v_rows or not v_frozen;
      if v_done then
        execute $sql$delete from {target} cf_t using crossfade_rows cf_n
          where ({tkey_t}) = ({skey_n})$sql$;
      end if;$template$
    else $template$
      -- Order matters: by key, so that two bulk writers cannot deadlock on the other table.
      execute $sql$select count(*) from (
        select from {target} cf_t join crossfade_rows cf_n on ({tkey_t}) = ({skey_n})
        order by {tkey_t} for update of cf_t) l$sql$ into v_count;
      execute $sql$update {target} cf_t set {set_list}
        from (
          select cf_c.* from crossfade_rows cf_n join {target} cf_o on ({tkey_o}) = ({skey_n})
          cross join lateral {convert} row(cf_n.*)::{source} {with} cf_o {converted} cf_c
        ) cf_c
        where ({tkey_t}) = ({tkey_c})
          and row({tcompare_t}) is distinct from row({tcompare_c})$sql$;
      if v_count < v_rows and tg_op = 'UPDATE' then
        execute $sql$insert into {target} ({target_columns}) overriding system value
          select {tcolumns_c} from crossfade_rows cf_n
          cross join lateral {convert} row(cf_n.*)::{source} {with} null::{target} {converted} cf_c
          where not exists (select from {target} cf_o where ({tkey_o}) = ({skey_n}))
          order by {tkey_c} on conflict ({target_key}) do nothing$sql$;
        get diagnostics v_added = row_count;
        v_count := v_count + v_added;
      end if;
      v_done := v_count >= v_rows;$template$
  end;
$outer$;

comment on function crossfade_private.mirror_bulk_template is
  'All rows of a large statement at once; v_done stays false when a row is missing afterwards.';

create or replace function crossfade_private.mirror_rows_template(operation text)
returns text
language sql immutable
set search_path = ''
as $outer$
  select case operation when 'insert' then crossfade_private.mirror_insert_template() else '' end
    || replace(replace($template$
  if not v_done then
    select count(*) into v_rows from crossfade_rows;
  end if;
  v_bulk := v_rows > 8 and not v_nested;
  while not v_done loop
    if v_bulk then
      v_bulk := false;
      v_tried := true;
      begin
        <<bulk>>
      exception when others then
        -- A serialization failure spoils the whole transaction whatever we record.
        if v_state.failure_policy = 'raise' or sqlstate = '40001' then
          raise;
        end if;
      end;
      continue;
    end if;
    for v_row in select cf_n.* from crossfade_rows cf_n order by {skey_n} loop
      -- Looked at again for every row: a trigger on the row before may have written this one.
      v_nested := v_nested or v_rows > 1
        and coalesce(current_setting('crossfade.nested_{pair}_v{side}', true), '') <> '';
      if v_nested then
        -- The owner's own trigger wrote this table after the statement did: the transition table is
        -- older than the row, and the nested statement has been mirrored already.
        select cf_s.* into v_current from {source} cf_s where ({skey_s}) = ({skey_v_row});
        continue when found = (tg_op = 'DELETE');
        if tg_op <> 'DELETE' then
          v_row := v_current;
        end if;
      end if;
      begin
        <<row>>
      exception when others then
        -- Unique values that change places: one statement can do what single rows cannot, where the
        -- constraint is deferrable.
        v_bulk := v_rows > 1 and not v_tried and not v_nested and sqlstate in ('23505', '23P01');
        exit when v_bulk;
        if v_state.failure_policy = 'raise' or sqlstate = '40001' then
          raise;
        end if;
        perform crossfade_private.record_failure(
          {pair_literal}, {side}, {skey_json_v_row}, tg_op, sqlstate, sqlerrm);
      end;
    end loop;
    v_done := not v_bulk;
  end loop;
  if tg_op = 'DELETE' and v_state.tombstones then
    insert into crossfade_private.tombstones (pair, side, key)
    select {pair_literal}, {side}, {skey_json_n} from crossfade_rows cf_n;
  end if;$template$,
    '<<bulk>>', crossfade_private.mirror_bulk_template(operation)),
    '<<row>>', case operation
      when 'delete' then $delete$
        delete from {target} cf_t where ({tkey_t}) = ({skey_v_row});
        -- SAFETY: a copy made by backfill or repair after the snapshot was taken is not visible
        -- here and would outlive the row. Repair looks with a snapshot of its own.
        if v_frozen and not found and not v_state.tombstones then
          perform crossfade_private.record_failure({pair_literal}, {side}, {skey_json_v_row}, tg_op,
            'CF017', 'the row to be deleted is not visible to the transaction, or not there');
        end if;$delete$
      else crossfade_private.mirror_put_template() end);
$outer$;

comment on function crossfade_private.mirror_rows_template is
  'Body for insert, update and delete: in bulk when there are many rows, else or after an error one by one, so that one bad row of a thousand costs one failure record and not a thousand.';

create or replace function crossfade_private.mirror_merge_template()
returns text
language sql immutable
set search_path = ''
as $outer$
  select $template$
  -- A trigger of the owner's wrote this row. When a statement on the other table, whose turn to be
  -- mirrored has not come, changed the counterpart as well, then neither row holds both changes,
  -- and mirroring this one would undo the other. So both are merged by column, here and now.
  begin
    select cf_t.* into v_counterpart from {target} cf_t where ({tkey_t}) = ({skey_old}) for update;
    if exists (
      select from {target} cf_t cross join lateral {convert} old {with} cf_t {converted} cf_b
      where ({tkey_t}) = ({skey_old}) and row({tcompare_b}) is distinct from row({tcompare_t})
    ) then
      update {target} cf_t set {merge_list}
      from {convert} old {with} v_counterpart {converted} cf_b,
        {convert} new {with} v_counterpart {converted} cf_c
      where ({tkey_t}) = ({skey_old})
      returning cf_t.* into v_counterpart;
      v_own_guard := current_setting('crossfade.echo_{pair}_v{side}', true);
      v_set := set_config('crossfade.echo_{pair}_v{side}', (pg_trigger_depth() + 1)::text, true);
      update {source} cf_s set {source_set_list}
      from {convert_back} v_counterpart {with_back} new {converted_back} cf_c
      where ({skey_s}) = ({skey_new}) and row({scompare_s}) is distinct from row({scompare_c});
      v_set := set_config('crossfade.echo_{pair}_v{side}', coalesce(v_own_guard, ''), true);
    end if;
  exception when others then
    if v_state.failure_policy = 'raise' or sqlstate = '40001' then
      raise;
    end if;
    perform crossfade_private.record_failure(
      {pair_literal}, {side}, {skey_json_old}, 'MERGE', sqlstate, sqlerrm);
  end;$template$;
$outer$;

comment on function crossfade_private.mirror_merge_template is
  'Body for a row that a trigger updated: take in what waits to be mirrored from the other side.';

create or replace function crossfade_private.mirror_log_template(operation text)
returns text
language sql immutable
set search_path = ''
as $outer$
  select case operation
    -- The rows of a TRUNCATE are gone, so there is no key to note: it is mirrored all the same.
    when 'truncate' then ''
    when 'merge' then $template$
  if v_state.mirror = 'log_only' then
    return null;
  end if;$template$
    else replace(replace($template$
  if v_state.mirror = 'log_only' then
    insert into crossfade.mirror_failures as f (pair, written_side, key, operation, error_code,
      message)
    select {pair_literal}, {side}, <<key>>, tg_op, 'LOGGED', 'only noted: the mirror is log_only'
    from <<rows>> order by 3
    on conflict (pair, key) where resolved_at is null do update
    set written_side = excluded.written_side, at = clock_timestamp();
    return null;
  end if;$template$,
      '<<key>>', case operation when 'move' then '{skey_json_old}' else '{skey_json_n}' end),
      '<<rows>>',
      case operation when 'move' then '(select) one' else 'crossfade_rows cf_n' end) end;
$outer$;

comment on function crossfade_private.mirror_log_template is
  'Body for mirror mode log_only: note the keys and do nothing else.';

create or replace function crossfade_private.mirror_template(operation text)
returns text
language sql immutable
set search_path = ''
as $outer$
  select replace(replace(replace(replace(replace($template$
create or replace function crossfade_private.mirror_{pair}_v{side}_{operation}()
returns trigger
language plpgsql volatile
security definer -- who may write one table often has no right on the other
set search_path = ''
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
