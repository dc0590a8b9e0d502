-- Repair of one row: make the follower equal to the leader; the audit keeps what is replaced.

create or replace function crossfade_private.leader(stage text)
returns integer
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select case when stage in ('rampdown', 'complete') then 2 else 1 end;
$$;

comment on function crossfade_private.leader is
  'The table that wins a repair when no record says which side was written: V1 up to live, V2 from rampdown on.';

create or replace function crossfade_private.put_one(pieces jsonb, key jsonb)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  execute crossfade_private.render($sql$
    delete from {target} cf_t
    where ({tkey_t}) = ({skey_1}) and not exists (select from {source} cf_s
      where ({skey_s}) = ({skey_1}))
  $sql$, pieces) using key;
  execute crossfade_private.render($sql$
    update {target} cf_t set {set_list}
    from (
      select cf_c.* from {source} cf_n join {target} cf_o on ({tkey_o}) = ({skey_n})
      cross join lateral {convert} cf_n {with} cf_o {converted} cf_c
      where ({skey_n}) = ({skey_1})
    ) cf_c
    where ({tkey_t}) = ({tkey_c})
  $sql$, pieces) using key;
  execute crossfade_private.render($sql$
    insert into {target} ({target_columns}) overriding system value
    select {tcolumns_c} from {source} cf_n
    cross join lateral {convert} cf_n {with} null::{target} {converted} cf_c
    where ({skey_n}) = ({skey_1}) and not exists (select from {target} cf_o
      where ({tkey_o}) = ({skey_1}))
    on conflict ({target_key}) do nothing
  $sql$, pieces) using key;
end $$;

comment on function crossfade_private.put_one is
  'Make the target''s row of one key what the source''s row says: deleted, merged or inserted. Both rows must be locked.';

create or replace function crossfade_private.repair_one(
  pair crossfade.pairs, key jsonb, side integer, reason text
)
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pieces jsonb := crossfade_private.run_pieces(pair, case side when 1 then 'v1_to_v2'
    else 'v2_to_v1' end);
  v_before jsonb;
  v_after jsonb;
begin
  perform crossfade_private.lock_both(v_pieces, key);
  if not exists (select from crossfade_private.find_one(v_pieces, key)) then
    return true;
  end if;
  execute crossfade_private.render(
    'select crossfade_private.json_value(to_json(cf_t)) from {target} cf_t
      where ({tkey_t}) = ({skey_1})', v_pieces) into v_before using key;
  perform crossfade_private.put_one(v_pieces, key);
  execute crossfade_private.render(
    'select crossfade_private.json_value(to_json(cf_t)) from {target} cf_t
      where ({tkey_t}) = ({skey_1})', v_pieces) into v_after using key;
  perform crossfade_private.audit(
    'repair.row', format('%s v%s %s', (pair).name, 3 - side, key), reason, v_before, v_after);
  return not exists (select from crossfade_private.find_one(v_pieces, key));
end $$;

comment on function crossfade_private.repair_one is
  'Repair one key from side (1 or 2); true when both rows agree afterwards. The replaced or deleted row is kept in crossfade.audit.';
