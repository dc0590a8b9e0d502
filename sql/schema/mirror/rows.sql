-- The text that carries the rows of a statement over, few and many.

create or replace function crossfade_private.mirror_rows_template(operation text)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
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
