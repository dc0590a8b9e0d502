-- Starting a rollout.

create or replace function crossfade.start_rollout(
  pair text, plan jsonb, reason text, speed numeric default 1
)
returns jsonb
language plpgsql volatile
security definer -- rollouts are changed by functions only
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_row crossfade.rollouts;
begin
  perform crossfade_private.require_reason(reason, format('start a rollout of "%s"', pair));
  perform crossfade_private.check_plan(plan);
  if speed is null or speed not between 1 and 1000000 then
    perform crossfade_private.fail(400, 'CF012', format('Invalid speed %s', speed),
      jsonb_build_object('field', 'speed', 'value', speed), 'Use 1 to 1000000.');
  end if;
  -- Order matters: the pair's row first, as everywhere.
  perform 1 from crossfade.pairs p where p.name = start_rollout.pair for no key update;
  select r.* into v_row from crossfade.rollouts r
  where r.pair = start_rollout.pair and r.state not in ('aborted', 'finished');
  if found and v_row.plan = start_rollout.plan and v_row.speed = start_rollout.speed then
    return crossfade_private.rollout_json(pair) || '{"already": true}';
  elsif found then
    perform crossfade_private.fail(409, 'CF024',
      format('A rollout of "%s" by plan "%s" is under way', pair, v_row.plan ->> 'name'),
      jsonb_build_object('pair', pair, 'plan', v_row.plan ->> 'name', 'state', v_row.state),
      'Follow it, or end it first: crossfade rollout abort PAIR --keep.');
  elsif v_pair.latched_at is not null then
    perform crossfade_private.fail(409, 'CF006',
      format('Cannot start a rollout of "%s": it was rolled back automatically (%s)', pair,
        v_pair.latch_reason),
      jsonb_build_object('pair', pair, 'latch_reason', v_pair.latch_reason),
      'Find the cause, then crossfade rollout rearm PAIR --reason "...".');
  end if;
  insert into crossfade.rollouts (pair, plan, speed, reason)
  values (start_rollout.pair, start_rollout.plan, start_rollout.speed, start_rollout.reason)
  returning * into v_row;
  perform crossfade_private.bump_version();
  perform crossfade_private.audit('rollout.start', pair, reason, null,
    jsonb_build_object('plan', plan ->> 'name', 'speed', speed));
  return crossfade_private.rollout_json(pair) || '{"already": false}';
end $$;

comment on function crossfade.start_rollout is
  'Begin to follow a plan; nothing moves yet, advance_rollout does. Starting the same plan again while it is under way changes nothing ("already": true). speed: time runs so many times faster, for rehearsals. Returns rollout_status and "already". CF001, CF002, CF004, CF006 latched, CF007, CF012 with step and field, CF024 another plan is under way.';
