-- Rollback: one transaction that moves reads back. It never touches data, and dual write stays on.

create or replace function crossfade_private.previous_step(pair text, percentage numeric)
returns numeric
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with a as (select crossfade_private.active_plan(previous_step.pair) as plan)
  select coalesce(max(s.percentage), 0)
  from (
    select (e ->> 'percentage')::numeric as percentage
    from a cross join lateral jsonb_array_elements(a.plan -> 'steps') e
    union all
    select t.value::numeric
    from a cross join lateral jsonb_array_elements_text(
      crossfade_private.setting('rollout_steps')) t
    where a.plan is null
  ) s
  where s.percentage < previous_step.percentage;
$$;

comment on function crossfade_private.previous_step is
  'The largest percentage below this one among the steps of the plan under way, else of setting rollout_steps; 0 below the first one.';

create or replace function crossfade_private.plan_pair(level text, pair crossfade.pairs)
returns table (place integer, action text, object text, before jsonb, after jsonb)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_percentage numeric := coalesce(
    (select trim_scale(c.percentage) from crossfade.cohorts c
     where c.pair = (plan_pair.pair).name), 0);
  v_stage text := (plan_pair.pair).stage;
  v_to_stage text := v_stage;
  v_to_percentage numeric := 0;
begin
  -- Complete has no instant way back: V1 is an archive. An emergency can still stop its flags.
  if v_stage in ('complete', 'retired') then
    return;
  end if;
  if level = 'PARTIAL' then
    -- In rampdown everybody is on V2 whatever the percentage says: the step before is in live.
    v_to_percentage := crossfade_private.previous_step((plan_pair.pair).name,
      case v_stage when 'rampdown' then 100 else v_percentage end);
    v_to_stage := case v_stage when 'rampdown' then 'live' else v_stage end;
  elsif v_stage in ('live', 'rampdown') then
    v_to_stage := 'shadow';
  end if;
  return query
  select v.* from (
    values
    (2, 'set_stage', (plan_pair.pair).name,
      jsonb_build_object('stage', v_stage), jsonb_build_object('stage', v_to_stage)),
    (3, 'set_percentage', (plan_pair.pair).name,
      jsonb_build_object('percentage', v_percentage),
      jsonb_build_object('percentage', v_to_percentage))
  ) as v (place, action, object, before, after)
  where v.before <> v.after;
  if level = 'PARTIAL' then
    -- The step before had not switched these on: one of them may be what broke.
    return query
    select 1, 'disable_flag', f.name, '{"enabled": true}'::jsonb, '{"enabled": false}'::jsonb
    from crossfade_private.flags_beyond((plan_pair.pair).name, v_to_stage, v_to_percentage) b
    join crossfade.flags f on f.name = b and f.enabled;
  end if;
end $$;

comment on function crossfade_private.plan_pair is
  'What a PARTIAL, COMPLETE or EMERGENCY rollback changes on one pair; no row when there is nothing to do.';

create or replace function crossfade_private.rollback_plan(
  level text, scope text, reason text, automatic boolean
)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with steps as (
    select 1 as place, 'engage_kill_switch' as action, k.name as object,
      '{"engaged": false}'::jsonb as before, '{"engaged": true}'::jsonb as after
    from crossfade.kill_switches k
    where not k.engaged and k.name in (
      select crossfade_private.rollback_switches(
        rollback_plan.level, rollback_plan.scope, rollback_plan.automatic))
    union all
    select 1, 'disable_flag', f.name, '{"enabled": true}', '{"enabled": false}'
    from crossfade.flags f
    where rollback_plan.level = 'FEATURE' and f.name = rollback_plan.scope and f.enabled
    union all
    select s.*
    from crossfade_private.rollback_pairs(rollback_plan.level, rollback_plan.scope) p
    cross join lateral crossfade_private.plan_pair(rollback_plan.level, p) s
    where rollback_plan.level <> 'FEATURE'
    union all
    select 4, 'latch', p.name, '{"latched": false}',
      jsonb_build_object('latched', true, 'latch_reason', rollback_plan.reason)
    from crossfade_private.rollback_pairs(rollback_plan.level, rollback_plan.scope) p
    where rollback_plan.automatic and p.latched_at is null
  )
  select coalesce(jsonb_agg(jsonb_build_object(
    'action', s.action, 'object', s.object, 'before', s.before, 'after', s.after)
    order by s.place, s.object), '[]')
  from steps s;
$$;

comment on function crossfade_private.rollback_plan is
  'Changes that a rollback would make now, in the order they are made: [{"action": engage_kill_switch|disable_flag|set_stage|set_percentage|latch, "object", "before", "after"}]; [] when that state is reached already.';

create or replace function crossfade_private.check_rollback(level text, scope text)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair crossfade.pairs;
begin
  if level is null or level not in ('FEATURE', 'PARTIAL', 'COMPLETE', 'EMERGENCY') then
    perform crossfade_private.fail(
      400, 'CF012', format('Unknown rollback level "%s"', level),
      jsonb_build_object('level', level), 'Levels: FEATURE, PARTIAL, COMPLETE, EMERGENCY.');
  elsif level = 'FEATURE' then
    if not exists (select from crossfade.flags f where f.name = scope) then
      perform crossfade_private.fail(
        404, 'CF002', format('Unknown flag "%s"', scope), jsonb_build_object('flag', scope));
    end if;
  elsif scope is distinct from '*' then
    v_pair := crossfade_private.get_pair(scope);
    if v_pair.stage in ('complete', 'retired') and level <> 'EMERGENCY' then
      perform crossfade_private.fail(
        409, 'CF005',
        format('Cannot roll "%s" back: stage %s has no instant way back to version 1', scope,
          v_pair.stage),
        jsonb_build_object('pair', scope, 'stage', v_pair.stage, 'blockers', jsonb_build_array(
          crossfade_private.blocker('archived', 'V1 is a read-only archive', ''))),
        'In stage complete run a reverse backfill and a clean verify, then set it to rampdown.');
    end if;
  end if;
end $$;

comment on function crossfade_private.check_rollback is
  'Refuse an unknown level (CF012), flag (CF002) or pair (CF001), and a pair in stage complete (CF005; EMERGENCY still engages its switch).';
