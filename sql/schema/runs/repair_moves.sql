-- Repair of counterparts that could not follow a changed key.

create or replace function crossfade_private.move_counterpart(
  pair crossfade.pairs, side integer, from_key jsonb, to_key jsonb
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
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
  $sql$, (pair).name, side), v_pieces)
  using (
    select jsonb_object_agg(s, from_key -> name)
    from unnest(case side when 1 then (pair).key_columns else (pair).v2_key_columns end,
      (pair).key_columns) u(s, name)
  ), to_key, from_key;
end $$;

comment on function crossfade_private.move_counterpart is
  'Give the counterpart under from_key the key to_key, by the function of the mirror. Does nothing where either table has moved on. What is refused is recorded again.';

create or replace function crossfade_private.move_counterparts(
  pair crossfade.pairs, keys jsonb[]
)
returns jsonb[]
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_failure record;
  v_left jsonb[] := '{}'::jsonb[];
begin
  for v_failure in
    select f.id, f.key, f.moved_to, f.written_side
    from crossfade.mirror_failures f
    where f.pair = (move_counterparts.pair).name and f.resolved_at is null
      and (f.key = any (keys) or f.moved_to = any (keys)) and f.moved_to is not null
    order by f.id for update skip locked
  loop
    update crossfade.mirror_failures f set moved_to = null where f.id = v_failure.id;
    begin
      perform crossfade_private.move_counterpart(
        pair, v_failure.written_side, v_failure.key, v_failure.moved_to);
    exception when others or assert_failure then
      update crossfade.mirror_failures f set moved_to = v_failure.moved_to
      where f.id = v_failure.id;
      perform crossfade_private.mark_tried((pair).name, crossfade_private.same_error(
        array[v_failure.key], format('%s: %s', sqlstate, sqlerrm)));
    end;
    if exists (
      select from crossfade.mirror_failures f
      where f.id = v_failure.id and f.resolved_at is null and f.moved_to is not null) then
      v_left := v_left || array[v_failure.key, v_failure.moved_to];
    end if;
  end loop;
  return v_left;
end $$;

comment on function crossfade_private.move_counterparts is
  'Move the counterparts that could not follow one of the keys. Returns the keys, old and new, of those that still cannot: by key they would be deleted and made anew, and what only their table holds would be lost.';
