-- Stages: one way forward, with every precondition; the way back needs only a reason.

create or replace function crossfade.set_stage(
  pair text, stage text, reason text, confirm boolean default false
)
returns jsonb
language plpgsql volatile
security definer -- stages are changed by functions only
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_before text;
  v_blockers jsonb;
begin
  if crossfade_private.stage_number(stage) is null then
    perform crossfade_private.fail(400, 'CF012', format('Unknown stage "%s"', stage),
      jsonb_build_object('stage', stage),
      'Stages: off, dualwrite, shadow, live, rampdown, complete.');
  end if;
  perform crossfade_private.require_reason(reason, format('set "%s" to %s', pair, stage));
  select p.* into v_pair from crossfade.pairs p where p.name = set_stage.pair for no key update;
  v_before := v_pair.stage;
  if stage <> v_before
    and crossfade_private.stage_number(stage) > crossfade_private.stage_number(v_before) then
    if v_pair.latched_at is not null then
      perform crossfade_private.fail(409, 'CF006',
        format('Cannot set "%s" to %s: it was rolled back automatically (%s)', pair, stage,
        v_pair.latch_reason),
        jsonb_build_object('pair', pair, 'latched_at', v_pair.latched_at, 'latch_reason',
          v_pair.latch_reason),
        'Find the cause, then crossfade rollout rearm PAIR --reason "...".');
    end if;
    if stage = 'complete' then
      perform crossfade_private.await_v1_writers(v_pair);
    end if;
    select jsonb_agg(b) into v_blockers from crossfade_private.stage_blockers(v_pair, stage) b;
    if v_blockers is not null then
      perform crossfade_private.refuse_stage(v_pair, stage, v_blockers);
    end if;
    if stage = 'complete' and not coalesce(confirm, false) then
      perform crossfade_private.fail(409, 'CF013',
        format(
        'Setting "%s" to complete needs a confirmation: version 1 becomes a read-only archive',
        pair),
        jsonb_build_object('pair', pair), 'crossfade stage set PAIR complete --confirm');
    end if;
    v_pair := crossfade_private.enter_stage(v_pair, stage);
  elsif stage <> v_before then
    perform crossfade_private.check_way_back(v_pair, stage);
    v_pair := crossfade_private.enter_stage(v_pair, stage);
  end if;
  return jsonb_build_object('pair', pair, 'before', v_before, 'after', stage, 'step', v_pair.step,
    'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.set_stage is
  'Move a pair to a stage: {"pair", "before", "after", "step", "flags_version"}. Forward one stage at a time with all preconditions (CF005 with detail.blockers, CF006 latched, CF013 unconfirmed complete); back at any time with a reason (CF007), except from complete, which needs a reverse backfill and a clean verify. Takes no table lock, except that complete waits up to 2 s (55P03) for the writers of V1.';
