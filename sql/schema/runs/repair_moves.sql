-- Repair of counterparts that could not follow a changed key.

create or replace function crossfade_private.move_counterpart(
  pair crossfade.pairs, side integer, from_key jsonb, to_key jsonb
)
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_refused integer[];
  v_pieces constant jsonb := crossfade_private.run_pieces(
    pair, case side when 1 then 'v1_to_v2' else 'v2_to_v1' end);
begin
  execute crossfade_private.render(format($sql$
    select crossfade_private.mirror_%s_v%s_move(
      array[jsonb_populate_record(cf_t, $1)], array[cf_t])
    from {source} cf_t cross join (select $2 as key) cf_z
    where ({skey_t}) = ({skey_z})
      and not exists (
        select from {source} cf_t cross join (select $3 as key) cf_z where ({skey_t}) = ({skey_z}))
      and not exists (
        select from {target} cf_t cross join (select $2 as key) cf_z where ({tkey_t}) = ({skey_z}))
      and exists (
        select from {target} cf_t cross join (select $3 as key) cf_z where ({tkey_t}) = ({skey_z}))
  $sql$, (pair).name, side), v_pieces) into v_refused
  using (
    select jsonb_object_agg(s, from_key -> name)
    from unnest(case side when 1 then (pair).key_columns else (pair).v2_key_columns end,
      (pair).key_columns) u(s, name)
  ), to_key, from_key;
  return v_refused is not null;
end $$;

comment on function crossfade_private.move_counterpart is
  'Give the counterpart under from_key the key to_key, which its row of this side has, by the function of the mirror. False, and nothing is done, where it is not so. What is refused is recorded again.';

create or replace function crossfade_private.move_counterparts(
  pair crossfade.pairs, keys jsonb[]
)
returns jsonb[]
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_failure crossfade.mirror_failures;
  v_known crossfade.mirror_failures[];
  v_moved_side integer;
  v_left jsonb[] := '{}'::jsonb[];
begin
  for v_failure in
    select f.*
    from crossfade.mirror_failures f
    where f.pair = (move_counterparts.pair).name and f.resolved_at is null
      and (f.key = any (keys) or f.moved_to = any (keys)) and f.moved_to is not null
    order by f.id for update skip locked
  loop
    v_known := array(
      select f from crossfade.mirror_failures f
      where f.pair = (move_counterparts.pair).name and f.resolved_at is null
        and f.key in (v_failure.key, v_failure.moved_to));
    update crossfade.mirror_failures f set moved_to = null where f.id = v_failure.id;
    begin
      -- Not the side that was written last: that may be the one that could not follow.
      v_moved_side := case
        when crossfade_private.move_counterpart(pair, 1, v_failure.key, v_failure.moved_to) then 1
        when crossfade_private.move_counterpart(pair, 2, v_failure.key, v_failure.moved_to) then 2
        when v_failure.operation = 'DELETE' then 3 - v_failure.written_side end;
    exception when others or assert_failure then
      update crossfade.mirror_failures f set moved_to = v_failure.moved_to
      where f.id = v_failure.id;
      perform crossfade_private.mark_tried((pair).name, crossfade_private.same_error(
        array[v_failure.key], format('%s: %s', sqlstate, sqlerrm)));
    end;
    if exists (
      select from crossfade.mirror_failures f
      where f.id = v_failure.id and f.resolved_at is null and f.moved_to is not null) then
      -- Who wrote last is not who was refused again.
      update crossfade.mirror_failures f
      set written_side = k.written_side, operation = k.operation, at = k.at
      from unnest(v_known) k where f.id = k.id;
      v_left := v_left || array[v_failure.key, v_failure.moved_to];
    elsif v_failure.written_side <> v_moved_side and not exists (
        select from unnest(v_known) k
        where k.key = v_failure.moved_to and k.at > v_failure.at) then
      -- What was written there since, or deleted, is what the row under the new key has to become.
      perform crossfade_private.record_failure((pair).name, v_failure.written_side,
        v_failure.moved_to, v_failure.operation, v_failure.error_code, v_failure.message);
    elsif v_moved_side is null then
      -- Of a row that was deleted after its counterpart was written, that goes as well.
      update crossfade.mirror_failures f
      set written_side = k.written_side, operation = k.operation
      from unnest(v_known) k
      where f.id = v_failure.id and k.key = v_failure.moved_to and k.operation = 'DELETE'
        and k.at > v_failure.at;
    end if;
  end loop;
  return v_left;
end $$;

comment on function crossfade_private.move_counterparts is
  'Move the counterparts that could not follow one of the keys. Returns the keys, old and new, of those that still cannot: by key they would be deleted and made anew, and what only their table holds would be lost.';
