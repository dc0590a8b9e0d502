-- Repair of a set of keys from one side.

create or replace function crossfade_private.unreadable_keys(pieces jsonb, keys jsonb[])
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_size constant integer := cardinality(keys);
  v_step constant integer := greatest(1, v_size / 16);
  v_errors jsonb := '{}'::jsonb;
begin
  begin
    execute crossfade_private.render(
      'select count(q) from (select {skey_z} from unnest($1) cf_z(key)) q', pieces) using keys;
    return v_errors;
  exception when others then
    if v_size = 1 then
      return crossfade_private.same_error(keys, format('%s: %s', sqlstate, sqlerrm));
    end if;
  end;
  for v_at in 1..v_size by v_step loop
    v_errors := v_errors || crossfade_private.unreadable_keys(
      pieces, keys[v_at : v_at + v_step - 1]);
  end loop;
  return v_errors;
end $$;

comment on function crossfade_private.unreadable_keys is
  'Why some keys are no keys of these tables, by the text of the key: somebody wrote them by hand, or the type of the key was another then.';

create or replace function crossfade_private.workable_keys(
  pair text, pieces jsonb, keys jsonb[], side integer, has_failure boolean
)
returns jsonb[]
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_held constant jsonb[] := crossfade_private.lock_keys(pieces, keys);
  v_failed jsonb[];
begin
  -- Order matters: rows first, as writers do, then the failures, which may have been recorded anew
  -- since the turn was given. Only those that are locked here are settled.
  v_failed := array(
    select f.key from crossfade.mirror_failures f
    where f.pair = workable_keys.pair and f.key = any (keys) and f.resolved_at is null
      and f.written_side = workable_keys.side
    order by f.id for update skip locked);
  if cardinality(v_held) > 0 then
    perform crossfade_private.mark_tried(pair,
      crossfade_private.same_error(v_held, 'another session holds a row of this key'));
  end if;
  return array(
    select k from unnest(keys) k
    where k <> all (v_held) and case when has_failure then k = any (v_failed)
      else not exists (
        select from crossfade.mirror_failures f
        where f.pair = workable_keys.pair and f.key = k and f.resolved_at is null) end);
end $$;

comment on function crossfade_private.workable_keys is
  'Lock both rows and the failure of each key; returns the keys that nobody else holds and of which the same is known as when they were chosen.';

create or replace function crossfade_private.write_plan(
  pair crossfade.pairs, pieces jsonb, plan jsonb, reason text
)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_keys constant jsonb[] := array(select p.key::jsonb from jsonb_each(plan) p);
  v_before constant jsonb := crossfade_private.target_rows(pieces, v_keys);
  v_errors jsonb := '{}'::jsonb;
  v_action text;
  v_after jsonb;
begin
  -- Deletes first: they may free what the others need.
  foreach v_action in array array['delete', 'update', 'insert'] loop
    v_errors := v_errors || crossfade_private.put_keys(pieces, v_action, array(
      select p.key::jsonb from jsonb_each(plan) p where p.value ->> 'action' = v_action));
  end loop;
  v_after := crossfade_private.target_rows(pieces, v_keys);
  perform crossfade_private.audit('repair.row',
    format('%s v%s %s', (pair).name, pieces ->> 'other', k), reason, v_before -> k::text,
    v_after -> k::text)
  from unnest(v_keys) k where not v_errors ? k::text;
  return v_errors || (
    select coalesce(jsonb_object_agg(j.key, coalesce(j.value ->> 'error',
      'the rows still differ after the repair')), '{}')
    from jsonb_each(crossfade_private.judge_keys(
      pieces, array(select k from unnest(v_keys) k where not v_errors ? k::text))) j
    where j.value ->> 'action' is not null);
end $$;

comment on function crossfade_private.write_plan is
  'Do what is planned, {key: {"action"}}; returns the errors by the text of the key. A replaced or deleted row is kept in crossfade.audit.';

create or replace function crossfade_private.repair_keys(
  pair crossfade.pairs, keys jsonb[], side integer, has_failure boolean, gone text, reason text
)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_name constant text := (pair).name;
  v_pieces constant jsonb := crossfade_private.run_pieces(
    pair, case side when 1 then 'v1_to_v2' else 'v2_to_v1' end);
  v_errors jsonb := crossfade_private.unreadable_keys(v_pieces, keys);
  v_keys constant jsonb[] := crossfade_private.workable_keys(v_name, v_pieces,
    array(select k from unnest(keys) k where not v_errors ? k::text), side, has_failure);
  v_plan constant jsonb := crossfade_private.judge_keys(v_pieces, v_keys);
  v_left jsonb[];
  v_settled jsonb[];
begin
  v_left := array(select p.key::jsonb from jsonb_each(v_plan) p
    where p.value ->> 'action' = 'gone' and gone <> 'delete');
  v_errors := v_errors || (
    select coalesce(jsonb_object_agg(p.key, p.value -> 'error'), '{}') from jsonb_each(v_plan) p
    where p.value ? 'error');
  v_errors := v_errors || crossfade_private.write_plan(pair, v_pieces, (
    select coalesce(jsonb_object_agg(p.key, case p.value ->> 'action' when 'gone'
      then '{"action": "delete"}' else p.value end), '{}')
    from jsonb_each(v_plan) p
    where p.value ->> 'action' is not null and p.key::jsonb <> all (v_left)
      and not v_errors ? p.key), reason);
  if v_errors <> '{}' then
    perform crossfade_private.mark_tried(v_name, v_errors);
  end if;
  -- What only the follower has is known as that from now on, and asked for no more.
  update crossfade.mismatches m set kind = format('missing_v%s', side), columns = '{}'
  where m.pair = v_name and m.key = any (v_left) and m.resolved_at is null
    and m.kind <> format('missing_v%s', side);
  v_settled := array(
    select k from unnest(v_keys) k where k <> all (v_left) and not v_errors ? k::text);
  perform crossfade_private.settle_repaired(v_name, v_settled);
  return jsonb_build_object('repaired', cardinality(v_settled),
    'failed', cardinality(keys) - cardinality(v_settled) - cardinality(v_left),
    'left_alone', to_jsonb(v_left));
end $$;

comment on function crossfade_private.repair_keys is
  'Repair keys from side (1 or 2): {"repaired", "failed", "left_alone": keys that only the other side has}. gone says what becomes of those: delete, or anything else to leave them. A row that cannot be repaired stays open, with the error, and keeps no other from being repaired.';
