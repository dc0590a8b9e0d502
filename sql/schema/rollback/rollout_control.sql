-- Steering a rollout. Here, because to abort one is to roll back.

create or replace function crossfade.control_rollout(
  pair text, action text, reason text, step text default null, keep boolean default false
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
  v_changed boolean := false;
begin
  perform crossfade_private.require_reason(reason, format('%s the rollout of "%s"', action, pair));
  -- Order matters: fence, pair, control row, then the rollout.
  perform crossfade_private.lock_control(false, array[pair]);
  select p.* into v_pair from crossfade.pairs p where p.name = control_rollout.pair;
  v_row := crossfade_private.active_rollout(pair);
  if action = 'hold' then
    v_changed := v_row.state = 'running' and crossfade_private.put_rollout(v_row, 'held', reason);
  elsif action = 'resume' then
    if v_pair.latched_at is not null then
      perform crossfade_private.fail(409, 'CF006',
        format('Cannot resume the rollout of "%s": it was rolled back automatically (%s)', pair,
          v_pair.latch_reason),
        jsonb_build_object('pair', pair, 'latch_reason', v_pair.latch_reason),
        'Find the cause, then crossfade rollout rearm PAIR --reason "...".');
    end if;
    v_changed := crossfade_private.put_rollout(v_row, 'running', reason);
  elsif action = 'approve' then
    v_changed := crossfade_private.approve_step(v_row, step,
      (select f.next from crossfade_private.rollout_facts(v_pair, v_row) f));
  elsif action = 'abort' then
    if not keep and v_pair.stage in ('live', 'rampdown') then
      perform crossfade.rollback('COMPLETE', pair, reason);
    end if;
    v_changed := crossfade_private.put_rollout(v_row, 'aborted', reason);
  else
    perform crossfade_private.fail(400, 'CF012', format('Unknown action "%s"', action),
      jsonb_build_object('field', 'action', 'value', action), 'hold, resume, approve or abort.');
  end if;
  return crossfade_private.rollout_json(pair) || jsonb_build_object('changed', v_changed);
end $$;

comment on function crossfade.control_rollout is
  'hold: nothing advances until somebody resumes; the rules go on. resume. approve: a manual step, the next one unless step names it (* = all). abort: end the plan and, unless keep, take all users back to V1 in the same transaction (rollback COMPLETE). Safe to repeat ("changed": false). Returns rollout_status and "changed". CF001, CF006, CF007, CF012, CF023 no rollout is under way.';
