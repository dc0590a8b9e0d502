-- Repair of a set of rows: make one table what the other says; the audit keeps what is replaced.

create or replace function crossfade_private.look_at_keys(pieces jsonb, keys jsonb[])
returns table (key jsonb, action text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
begin
  return query execute crossfade_private.render($sql$
    select cf_z.key, case
      when cf_a.cf_here is null then case when exists (
        select from {convert_back} cf_b.cf_row {with_back} null::{source} {converted_back} cf_e
        where cf_b.cf_here) then 'gone' end
      when not exists (
        select from {convert} cf_a.cf_row {with} cf_b.cf_row {converted} cf_e)
        then case when cf_b.cf_here then 'delete' end
      when cf_b.cf_here is null then 'insert'
      when {rows_differ} then 'update' end
    from unnest($1) cf_z(key)
    left join lateral (select cf_t as cf_row, true as cf_here from {source} cf_t
      where ({skey_t}) = ({skey_z})) cf_a on true
    left join lateral (select cf_t as cf_row, true as cf_here from {target} cf_t
      where ({tkey_t}) = ({skey_z})) cf_b on true
    left join lateral (
      select cf_e.* from {convert} cf_a.cf_row {with} cf_b.cf_row {converted} cf_e
      where cf_a.cf_here and cf_b.cf_here offset 0) cf_c on true
    left join lateral (
      select cf_e.*
      from {convert_back} cf_b.cf_row {with_back} cf_a.cf_row {converted_back} cf_e
      where cf_a.cf_here and cf_b.cf_here offset 0) cf_d on true
  $sql$, pieces) using keys;
end $$;

comment on function crossfade_private.look_at_keys is
  'What makes the target agree with the source, by key: insert, update, delete (the converter gives no row), gone (only the target has a row, which it ought to have from the source), or null when both agree.';

create or replace function crossfade_private.judge_keys(pieces jsonb, keys jsonb[])
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_size constant integer := cardinality(keys);
  v_step constant integer := greatest(1, v_size / 16);
  v_plan jsonb := '{}'::jsonb;
begin
  begin
    return (
      select coalesce(jsonb_object_agg(
        l.key::text, jsonb_build_object('action', l.action)), '{}')
      from crossfade_private.look_at_keys(pieces, keys) l);
  exception when others or assert_failure then
    if v_size = 1 then
      return jsonb_build_object(keys[1]::text, jsonb_build_object(
        'action', 'update', 'error', format('%s: %s', sqlstate, sqlerrm)));
    end if;
  end;
  for v_at in 1..v_size by v_step loop
    v_plan := v_plan || crossfade_private.judge_keys(pieces, keys[v_at : v_at + v_step - 1]);
  end loop;
  return v_plan;
end $$;

comment on function crossfade_private.judge_keys is
  'What look_at_keys says, by the text of the key: {"action", "error"?: why the rows cannot be compared}.';

create or replace function crossfade_private.target_rows(pieces jsonb, keys jsonb[])
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_rows jsonb;
begin
  execute crossfade_private.render($sql$
    select jsonb_object_agg(cf_z.key::text, crossfade_private.json_value(to_json(cf_t)))
    from unnest($1) cf_z(key) join {target} cf_t on ({tkey_t}) = ({skey_z})
  $sql$, pieces) into v_rows using keys;
  return coalesce(v_rows, '{}');
end $$;

comment on function crossfade_private.target_rows is
  'The target''s rows by the text of their key.';

create or replace function crossfade_private.put_sql(action text)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $outer$
  select case action
    when 'delete' then $sql$
      delete from {target} cf_t using unnest($3) cf_z(key) where ({tkey_t}) = ({skey_z})$sql$
    when 'update' then $sql$
      update {target} cf_t set {set_list}
      from unnest($3) cf_z(key)
      join {source} cf_n on ({skey_n}) = ({skey_z})
      join {target} cf_o on ({tkey_o}) = ({skey_z})
      cross join lateral {convert} cf_n {with} cf_o {converted} cf_c
      where ({tkey_t}) = ({tkey_o})$sql$
    when 'insert' then $sql$
      insert into {target} ({target_columns}) overriding system value
      select {tcolumns_c}
      from unnest($3) cf_z(key)
      join {source} cf_n on ({skey_n}) = ({skey_z})
      cross join lateral {convert} cf_n {with} null::{target} {converted} cf_c
      on conflict ({target_key}) do nothing$sql$
    end;
$outer$;

comment on function crossfade_private.put_sql is
  'Template that makes the target''s rows of the keys $3 what the source''s rows say: delete, update or insert.';

create or replace function crossfade_private.put_keys(pieces jsonb, action text, keys jsonb[])
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_size constant integer := cardinality(keys);
  v_step constant integer := greatest(1, v_size / 16);
  v_errors jsonb := '{}'::jsonb;
begin
  if v_size = 0 then
    return v_errors;
  end if;
  begin
    perform crossfade_private.write_rows(
      pieces, crossfade_private.put_sql(action), null, null, keys);
    return v_errors;
  exception when others or assert_failure then
    if v_size = 1 then
      return crossfade_private.same_error(keys, format('%s: %s', sqlstate, sqlerrm));
    end if;
  end;
  for v_at in 1..v_size by v_step loop
    v_errors := v_errors || crossfade_private.put_keys(
      pieces, action, keys[v_at : v_at + v_step - 1]);
  end loop;
  return v_errors;
end $$;

comment on function crossfade_private.put_keys is
  'Write the target''s rows of these keys: all at once, then in sixteenths, then one by one. Returns the errors of those that were refused, by the text of the key. Both rows must be locked.';

create or replace function crossfade_private.settle_repaired(pair text, keys jsonb[])
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  update crossfade.mirror_failures f
  set resolved_at = clock_timestamp(), resolution = 'repaired'
  where f.pair = settle_repaired.pair and f.key = any (keys) and f.resolved_at is null;
  update crossfade.mismatches m set resolved_at = clock_timestamp(), resolution = 'repaired'
  where m.pair = settle_repaired.pair and m.key = any (keys) and m.resolved_at is null;
$$;

comment on function crossfade_private.settle_repaired is
  'Close the failures and mismatches of keys whose rows agree.';
