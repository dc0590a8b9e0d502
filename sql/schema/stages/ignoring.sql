-- Objects that may go on depending on V1.

create or replace function crossfade.ignore_dependents(pair text, names text[], reason text)
returns jsonb
language plpgsql volatile
security definer -- pairs are changed by functions only
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_before jsonb := coalesce(v_pair.options -> 'ignore_dependents', '[]');
  v_known text[] := array(
    select d.object from crossfade_private.v1_dependents(v_pair) d
    union select b.name from crossfade_private.v1_bound_objects(v_pair) b
    union select k.name from crossfade_private.archive_keys(v_pair) k
    union select format('policies of %s', v_pair.v1_table)
    where exists (select from crossfade_private.policy_blockers(v_pair)));
  v_unknown text;
  v_after jsonb;
begin
  perform crossfade_private.require_reason(reason,
    format('let objects depend on version 1 of "%s"', pair));
  select n into v_unknown from unnest(names) n where n <> all (v_known) limit 1;
  if v_unknown is not null then
    perform crossfade_private.fail(400, 'CF012',
      format('"%s" does not depend on version 1 of "%s"', v_unknown, pair),
      jsonb_build_object('pair', pair, 'name', v_unknown, 'known', to_jsonb(v_known)),
      format('Write the name as it stands in: crossfade plan %s', pair));
  end if;
  select p.* into v_pair from crossfade.pairs p where p.name = ignore_dependents.pair
  for no key update;
  -- No name at all takes every exception back.
  select case when cardinality(names) = 0 then '[]' else coalesce(jsonb_agg(distinct n), '[]') end
  into v_after
  from (select jsonb_array_elements_text(v_before) union select unnest(names)) q(n);
  update crossfade.pairs p
  set options = p.options || jsonb_build_object('ignore_dependents', v_after)
  where p.name = ignore_dependents.pair;
  perform crossfade_private.audit('pair.ignore', pair, reason,
    jsonb_build_object('ignore_dependents', v_before),
    jsonb_build_object('ignore_dependents', v_after));
  return jsonb_build_object('pair', pair, 'before', v_before, 'after', v_after, 'flags_version',
    crossfade.flags_version());
end $$;

comment on function crossfade.ignore_dependents is
  'Go on to complete or retired although these objects depend on V1: names as crossfade plan and the blockers show them, added to those of before; an empty list takes all back: {"pair", "before", "after", "flags_version"}. CF001, CF007, CF012 for a name that depends on nothing.';
