-- The text that carries rows over: static SQL, made once per pair, no dynamic SQL at run time but
-- constant statements that must be planned for the number of rows at hand.
--
-- Few rows go one by one through plans with scalar parameters. Many rows go through EXECUTE: a plan
-- cached for one row would be slow for 40,000, and one cached for 40,000 would scan the table
-- for one.

create or replace function crossfade_private.mirror_put_template()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
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
set search_path = pg_catalog, pg_temp
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
set search_path = pg_catalog, pg_temp
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
