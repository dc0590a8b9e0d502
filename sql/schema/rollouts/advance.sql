-- Following a plan. Widening is one function that compares before it sets, so that two controllers
-- or operators cannot take a step twice, and nothing but this file widens by itself.

create or replace function crossfade_private.enter_step(
  pair crossfade.pairs, step jsonb, reason text
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_stages text[] := crossfade_private.stages();
  v_flag record;
begin
  -- Flags first: whoever the step lets in finds them as the step wants them.
  for v_flag in select f.key as name, f.value from jsonb_each(step -> 'flags') f order by f.key loop
    perform crossfade.set_flag(v_flag.name, case jsonb_typeof(v_flag.value)
      when 'number' then jsonb_build_object('enabled', true, 'percentage', v_flag.value)
      when 'boolean' then jsonb_build_object('enabled', v_flag.value)
        || case when v_flag.value = 'true' then '{"percentage": 100}' else '{}' end::jsonb
      end, reason);
  end loop;
  for v_place in crossfade_private.stage_number((pair).stage) + 1
    .. crossfade_private.stage_number(step ->> 'stage')
  loop
    if v_stages[v_place] = 'rampdown' then
      perform crossfade.set_cohort((pair).name, '{"percentage": 100}', reason);
    end if;
    -- A plan opens the stages of its pair's group, too: none of it may be overtaken.
    perform crossfade_private.move_pairs(array(
        select g.name from crossfade_private.group_of((pair).name) with ordinality g(name, n)
        join crossfade.pairs p on p.name = g.name
          and crossfade_private.stage_number(p.stage) < v_place
        order by g.n), v_stages[v_place], reason, true, false, false);
  end loop;
  if step ->> 'stage' = 'live' then
    perform crossfade.set_cohort((pair).name,
      jsonb_build_object('percentage', step -> 'percentage'), reason);
  end if;
end $$;

comment on function crossfade_private.enter_step is
  'Set flags, stage and percentage of a step through set_flag, set_cohort and, for the whole group, move_pairs, with their refusals (CF005, CF006).';

create or replace function crossfade_private.may_give_up(
  pair crossfade.pairs, rollout crossfade.rollouts, waits jsonb
)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select (rollout).state = 'running'
    and not exists (
      select from jsonb_array_elements(waits) w
      where w ->> 'code' in ('approval', 'kill_switch', 'cool_down', 'monitor', 'time'))
    and f.reached > 0 and f.current ? 'max_extension_s'
    and extract(epoch from clock_timestamp() - greatest((pair).step_started_at,
      (rollout).started_at, (rollout).extended_at)) * (rollout).speed
      > coalesce((f.current ->> 'min_s')::numeric, 0) + (f.current ->> 'max_extension_s')::numeric
  from crossfade_private.rollout_facts(pair, rollout) f;
$$;

comment on function crossfade_private.may_give_up is
  'Whether a step has waited for requests, verdicts or blockers longer than its max_extension_s.';

create or replace function crossfade.advance_rollout(
  pair text, expected_step bigint, automatic boolean default true, reason text default null
)
returns jsonb
language plpgsql volatile
security definer -- the only way a rollout goes forward
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_row crossfade.rollouts;
  v_next jsonb;
  v_waits jsonb;
  v_why text;
  v_advanced boolean := false;
begin
  perform crossfade_private.lock_control(false, array[pair]);
  select p.* into v_pair from crossfade.pairs p where p.name = advance_rollout.pair;
  v_row := crossfade_private.active_rollout(pair);
  if v_pair.step is distinct from expected_step then
    -- Somebody else moved the pair: what the caller decided on is no longer so.
    return crossfade_private.rollout_json(pair, automatic)
      || '{"advanced": false, "stale": true}';
  end if;
  v_waits := crossfade_private.rollout_waits(v_pair, v_row, automatic);
  select f.next into v_next from crossfade_private.rollout_facts(v_pair, v_row) f;
  v_why := coalesce(nullif(btrim(reason), ''), crossfade_private.plain_reason(
    format('plan "%s": %s', v_row.plan ->> 'name', coalesce(v_next ->> 'name', 'the end'))));
  if v_waits <> '[]' then
    if automatic and crossfade_private.may_give_up(v_pair, v_row, v_waits) then
      perform crossfade_private.set_reason(v_why);
      perform crossfade_private.put_rollout(v_row, 'held', format('the extension is over: %s',
        v_waits -> 0 ->> 'message'));
    end if;
  else
    perform crossfade_private.set_reason(v_why);
    v_advanced := true;
    if v_next is null then
      perform crossfade_private.put_rollout(v_row, 'finished', 'the plan is done');
    else
      perform crossfade_private.enter_step(v_pair, v_next, v_why);
      perform crossfade_private.bump_version();
      perform crossfade_private.audit('rollout.advance', pair, v_why,
        jsonb_build_object('stage', v_pair.stage, 'step', v_pair.step),
        v_next || jsonb_build_object('automatic', automatic));
    end if;
  end if;
  return crossfade_private.rollout_json(pair, automatic)
    || jsonb_build_object('advanced', v_advanced, 'stale', false);
end $$;

comment on function crossfade.advance_rollout is
  'Take the next step of the plan if nothing stands against it. expected_step is the "step" the caller has seen: when the pair has moved since, nothing happens ("stale": true), so two callers never take two steps. automatic: also needs a living monitor; a step that waits beyond its max_extension_s is held for a person. Returns rollout_status with "advanced" and "stale". CF001, CF005, CF006, CF023.';
