-- Rolling back, and arming again afterwards.

create or replace function crossfade.rollback(
  level text, scope text, reason text,
  automatic boolean default false, dry_run boolean default false,
  expected_step bigint default null
)
returns jsonb
language plpgsql volatile
-- Definer: API roles hold no right on the tables it writes.
security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_plan jsonb;
  v_touches jsonb;
  v_switches text[];
  v_done crossfade.rollbacks;
begin
  if automatic then
    -- What the rules found may quote anything, and must not keep the pair from going back.
    reason := crossfade_private.plain_reason(reason);
  end if;
  perform crossfade_private.check_rollback(level, scope);
  v_switches := array(select crossfade_private.rollback_switches(level, scope, automatic));
  perform crossfade_private.check_switches(v_switches);
  if not dry_run then
    perform crossfade_private.require_reason(rollback.reason, 'roll back');
    perform crossfade_private.lock_control(
      exists (
        select from crossfade.kill_switches k where k.name = any (v_switches) and not k.engaged),
      array(select p.name from crossfade_private.rollback_pairs(level, scope) p));
  end if;
  v_plan := crossfade_private.rollback_plan(level, scope, rollback.reason, automatic);
  -- Somebody has moved the pair since the caller looked: going back again would be once too often.
  if exists (
    select from crossfade.pairs p
    where p.name = rollback.scope and p.step <> rollback.expected_step) then
    v_plan := '[]';
  end if;
  v_touches := case when v_plan = '[]' then '[]'
    else crossfade_private.rollback_touches(level, scope, automatic) end;
  if not dry_run and v_plan <> '[]' then
    v_done := crossfade_private.run_rollback(
      level, scope, rollback.reason, automatic, v_plan, v_touches);
  end if;
  return jsonb_build_object(
    'level', level, 'scope', scope, 'plan', v_plan, 'touches', v_touches, 'dry_run', dry_run,
    'snapshot', v_done.snapshot,
    'rollback', v_done.id, 'flags_version', crossfade.flags_version(),
    'committed_at', case when not dry_run then clock_timestamp() end);
end $$;

comment on function crossfade.rollback is
  'Go back in one transaction. level: FEATURE (scope = flag: off), PARTIAL (scope = pair: the step before; rampdown goes to live first), COMPLETE (pair: live and rampdown go to shadow, percentage 0), EMERGENCY (COMPLETE and engage emergency_rollback, which stops every pair; automatic: disable_v2_<pair> of the pairs it is about instead). A pair brings the others of its group with it; scope * = every pair. Data is not touched and dual write stays on. automatic: latch the pairs until rearm. expected_step: the "step" the caller has seen; when the pair has moved since, the plan is empty. dry_run: only the plan, nothing is written or locked. Repeating it is safe: the plan is empty and snapshot and rollback are null. Returns {"level", "scope", "plan": [{action, object, before, after}], "touches": what else changes [{object, effect}], "dry_run", "snapshot", "rollback", "flags_version", "committed_at"}. CF001, CF002, CF003 a kill switch to engage is missing, CF005 stage complete, CF007 no reason, CF012.';

create or replace function crossfade.rearm(pair text, reason text)
returns jsonb
language plpgsql volatile
-- Definer: pairs are changed by functions only.
security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_pairs text[];
begin
  perform crossfade_private.get_pair(pair);
  perform crossfade_private.require_reason(rearm.reason, format('rearm "%s"', rearm.pair));
  v_pairs := array(select crossfade_private.group_of(pair));
  perform crossfade_private.lock_control(false, v_pairs);
  update crossfade.pairs p set latched_at = null, latch_reason = null
  where p.name = any (v_pairs) and p.latched_at is not null;
  perform crossfade_private.put_rollout(r, 'running', rearm.reason)
  from crossfade.rollouts r where r.pair = any (v_pairs) and r.state = 'rolled_back';
  return jsonb_build_object('pair', rearm.pair, 'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.rearm is
  'Allow a pair and the rest of its group to go forward again after an automatic rollback; a rollout that was rolled back goes on from the step the pair is at. Safe to repeat. Returns {"pair", "flags_version"}. CF001, CF007 no reason.';
