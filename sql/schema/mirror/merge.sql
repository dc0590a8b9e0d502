-- The text that merges an update into the row of the other side, and the text that only logs.

create or replace function crossfade_private.mirror_merge_template()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
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
set search_path = pg_catalog, pg_temp
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
