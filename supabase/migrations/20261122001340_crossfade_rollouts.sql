-- Rollouts: following a plan. Widening is one function that compares before it sets, so that two
-- controllers or operators cannot take a step twice, and nothing but this file widens by itself.

create or replace function crossfade_private.active_rollout(pair text)
returns crossfade.rollouts
language plpgsql stable
set search_path = ''
as $$
declare
  v_row crossfade.rollouts;
begin
  select r.* into v_row from crossfade.rollouts r
  where r.pair = active_rollout.pair and r.state not in ('aborted', 'finished');
  if not found then
    perform crossfade_private.fail(409, 'CF023',
      format('No rollout is under way for "%s"', active_rollout.pair),
      jsonb_build_object('pair', active_rollout.pair), 'crossfade rollout start PAIR');
  end if;
  return v_row;
end $$;

comment on function crossfade_private.active_rollout is
  'The rollout under way for a pair; CF023 without one.';

create or replace function crossfade_private.rollout_facts(
  pair crossfade.pairs, rollout crossfade.rollouts
)
returns table (
  steps integer, reached integer, current jsonb, next jsonb, elapsed_s numeric, requests bigint
)
language sql stable
set search_path = ''
as $$
  select jsonb_array_length((rollout_facts.rollout).plan -> 'steps'), k.reached,
    (rollout_facts.rollout).plan -> 'steps' -> (k.reached - 1),
    -- ->-1 would be the last one.
    (rollout_facts.rollout).plan -> 'steps' -> k.reached,
    -- A step begins when the pair got there, or when the plan found it there.
    round((extract(epoch from clock_timestamp() - greatest((rollout_facts.pair).step_started_at,
      (rollout_facts.rollout).started_at)) * (rollout_facts.rollout).speed)::numeric, 1),
    (
      select coalesce(sum(m.requests), 0)::bigint from crossfade.request_minutes m
      where m.pair = (rollout_facts.pair).name and m.step = (rollout_facts.pair).step
        and m.minute >= date_trunc('minute', (rollout_facts.pair).step_started_at)
        and m.backend_version = 2 and m.outcome in ('ok', 'error', 'fallback'))
  from (
    select crossfade_private.reached_steps((rollout_facts.rollout).plan,
      (rollout_facts.pair).stage, c.percentage) as reached
    from crossfade.cohorts c where c.pair = (rollout_facts.pair).name
  ) k;
$$;

comment on function crossfade_private.rollout_facts is
  'Where a pair stands in its plan: reached counts from 1 (0: before the first step), elapsed_s includes the rollout''s speed, requests are those of V2 in the whole step.';

create or replace function crossfade_private.wait_for(code text, message text)
returns jsonb
language sql immutable
set search_path = ''
as $$
  select jsonb_build_object('code', wait_for.code, 'message', wait_for.message);
$$;

comment on function crossfade_private.wait_for is 'One thing a rollout waits for.';

create or replace function crossfade_private.person_waits(
  pair crossfade.pairs, rollout crossfade.rollouts, next jsonb
)
returns setof jsonb
language sql stable
set search_path = ''
as $$
  select w.wait from (
    select 1 as place, crossfade_private.wait_for((rollout).state,
      format('%s: %s', replace((rollout).state, '_', ' '), (rollout).reason)) as wait
    where (rollout).state <> 'running'
    union all
    select 2, crossfade_private.wait_for('latched', format(
      'rolled back automatically (%s); crossfade rollout rearm %s', (pair).latch_reason,
      (pair).name))
    where (pair).latched_at is not null
    union all
    select 3, crossfade_private.wait_for('kill_switch', format('kill switch %s is engaged', k))
    from jsonb_array_elements_text(crossfade_private.engaged_fences((pair).name)) k
    union all
    select 4, crossfade_private.wait_for('cool_down', format(
      'cooling down until %s after an automatic rollback', c.ends_at::timestamp(0)))
    from (
      select max(b.at) + make_interval(secs => (crossfade_private.setting_number(
        'rollout_cooldown_s') / (rollout).speed)::double precision) as ends_at
      from crossfade.rollbacks b where b.automatic and b.scope in ((pair).name, '*')
    ) c
    where c.ends_at > clock_timestamp()
    union all
    select 5, crossfade_private.wait_for('approval', format(
      'a person approves step "%s": crossfade rollout approve %s', next ->> 'name', (pair).name))
    where next ->> 'approval' = 'manual' and not (next ->> 'name') = any ((rollout).approved)
  ) w order by w.place;
$$;

comment on function crossfade_private.person_waits is
  'What only a person can end: a hold, the latch, a kill switch, an approval; and the cool-down.';

create or replace function crossfade_private.gate_waits(pair crossfade.pairs, gates jsonb)
returns setof jsonb
language plpgsql stable
set search_path = ''
as $$
begin
  return query
  with newest as (
    select distinct on (v.rule) v.rule, v.verdict, v.mode, v.details
    from crossfade.verdicts v
    where v.pair = (gate_waits.pair).name and v.at >= (gate_waits.pair).step_started_at
      and v.at > clock_timestamp() - make_interval(secs => greatest(60,
        4 * crossfade_private.setting_number('monitor_interval_s'))::double precision)
    order by v.rule, v.id desc
  )
  select crossfade_private.wait_for('verdict', case
    when n.rule is null then 'no fresh verdict: is crossfade monitor running?'
    else format('%s says %s: %s', n.rule, n.verdict, n.details ->> 'message') end)
  from newest n
  full join (
    -- Whoever evaluates the rules stores this one, and R13 cannot be switched off.
    select case when crossfade_private.setting('rule_modes') ->> 'R3' = 'off' then 'R13'
      else 'R3' end as rule
  ) needed on n.rule = needed.rule
  where n.rule is null or (n.mode = 'enforce' and n.verdict <> 'PASS'
    and (gate_waits.gates = '[]' or gate_waits.gates ? n.rule))
  order by n.rule;
end $$;

comment on function crossfade_private.gate_waits is
  'Rules whose newest verdict in this step objects; no verdict at all, or only old ones, is no consent. gates []: every enforced rule.';

create or replace function crossfade_private.rollout_waits(
  pair crossfade.pairs, rollout crossfade.rollouts, automatic boolean
)
returns jsonb
language sql stable
set search_path = ''
as $$
  with f as materialized (
    select * from crossfade_private.rollout_facts(rollout_waits.pair, rollout_waits.rollout)
  ),
  waits as (
    select 1 as place, w as wait from f
    cross join lateral crossfade_private.person_waits(
      rollout_waits.pair, rollout_waits.rollout, f.next) w
    union all
    select 2, crossfade_private.wait_for('monitor',
      case when m.heartbeat_at is null then 'no monitor runs'
      else format('the monitor has been silent since %s', m.heartbeat_at::timestamp(0)) end)
    from crossfade.monitors m
    where rollout_waits.automatic and coalesce(m.heartbeat_at < clock_timestamp()
      - crossfade_private.setting_number('r12_dead_s') * interval '1 s', true)
    union all
    select 3, crossfade_private.wait_for('time',
      format('%s of %s s on this step', f.elapsed_s, f.current ->> 'min_s'))
    from f where f.elapsed_s < (f.current ->> 'min_s')::numeric
    union all
    select 4, crossfade_private.wait_for('requests',
      format('%s of %s V2 requests on this step', f.requests, f.current ->> 'min_requests'))
    from f where f.requests < (f.current ->> 'min_requests')::bigint
    union all
    select 5, w from f
    cross join lateral crossfade_private.gate_waits(
      rollout_waits.pair, coalesce(f.current -> 'gates', '[]')) w
    where f.reached > 0
    union all
    select 6, crossfade_private.wait_for('stage', b ->> 'message') || jsonb_build_object(
      'blocker', b ->> 'code', 'hint', b ->> 'hint')
    from f
    cross join lateral crossfade_private.stage_blockers(rollout_waits.pair,
      (array['dualwrite', 'shadow', 'live', 'rampdown', 'complete'])[
        crossfade_private.stage_number((rollout_waits.pair).stage)]) b
    where f.next is not null and f.next ->> 'stage' <> (rollout_waits.pair).stage
      -- On the way through live the percentage rises first.
      and b ->> 'code' <> 'percentage'
  )
  select coalesce(jsonb_agg(w.wait order by w.place), '[]') from waits w;
$$;

comment on function crossfade_private.rollout_waits is
  'Everything the next step waits for: [{"code", "message"}]; [] when it may be taken now. automatic: a living monitor is needed as well.';

create or replace function crossfade_private.rollout_json(pair text, automatic boolean default true)
returns jsonb
language sql stable
set search_path = ''
as $$
  select jsonb_build_object(
    'pair', p.name, 'stage', p.stage, 'percentage', c.percentage, 'step', p.step,
    'latched', p.latched_at is not null, 'rollout', to_jsonb(r) - 'plan' - 'pair',
    'plan', r.plan, 'steps', f.steps, 'reached', f.reached, 'current', f.current, 'next', f.next,
    'elapsed_s', f.elapsed_s, 'requests', f.requests,
    'waits', case when r.state in ('aborted', 'finished') then '[]'
      else crossfade_private.rollout_waits(p, r, rollout_json.automatic) end,
    'flags_version', crossfade.flags_version())
  from crossfade.pairs p
  join crossfade.cohorts c on c.pair = p.name
  left join lateral (
    select o.* from crossfade.rollouts o where o.pair = p.name order by o.id desc limit 1
  ) r on true
  left join lateral crossfade_private.rollout_facts(p, r) f on r.id is not null
  where p.name = rollout_json.pair;
$$;

comment on function crossfade_private.rollout_json is 'What rollout_status answers.';

create or replace function crossfade.rollout_status(pair text)
returns jsonb
language plpgsql stable
security definer -- API roles hold no right on crossfade_private
set search_path = ''
as $$
begin
  perform crossfade_private.get_pair(pair);
  return crossfade_private.rollout_json(pair);
end $$;

comment on function crossfade.rollout_status is
  'The newest rollout of a pair and where it stands: {"pair", "stage", "percentage", "step", "latched", "rollout": {id, state, speed, reason, approved, ...} or null, "plan", "steps", "reached", "current", "next", "elapsed_s", "requests", "waits": [{"code", "message"}], "flags_version"}. Waits [] while running: the next step may be taken. CF001.';

-- Starting and steering ---------------------------------------------------------------------------

create or replace function crossfade.start_rollout(
  pair text, plan jsonb, reason text, speed numeric default 1
)
returns jsonb
language plpgsql volatile
security definer -- rollouts are changed by functions only
set search_path = ''
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

create or replace function crossfade_private.put_rollout(
  rollout crossfade.rollouts, state text, reason text
)
returns boolean
language plpgsql volatile
set search_path = ''
as $$
begin
  update crossfade.rollouts r
  set state = put_rollout.state, reason = put_rollout.reason, changed_at = clock_timestamp(),
    changed_by = crossfade_private.actor(),
    -- What was approved before something broke has to be approved again.
    approved = case when put_rollout.state = 'rolled_back' then '{}' else r.approved end,
    extended_at = case when put_rollout.state = 'running' then clock_timestamp()
      else r.extended_at end,
    finished_at = case when put_rollout.state in ('aborted', 'finished') then clock_timestamp() end
  where r.id = (put_rollout.rollout).id and r.state <> put_rollout.state;
  if not found then
    return false;
  end if;
  perform crossfade_private.bump_version();
  perform crossfade_private.audit('rollout.' || state, (rollout).pair, reason,
    jsonb_build_object('state', (rollout).state), jsonb_build_object('state', state));
  return true;
end $$;

comment on function crossfade_private.put_rollout is
  'Change the state of a rollout, audited; false when it has it already.';

create or replace function crossfade_private.approve_step(
  rollout crossfade.rollouts, step text, next jsonb
)
returns boolean
language plpgsql volatile
set search_path = ''
as $$
declare
  v_names text[] := array(
    select s ->> 'name' from jsonb_array_elements((rollout).plan -> 'steps') s
    where s ->> 'approval' = 'manual'
      and (approve_step.step = '*' or s ->> 'name' = coalesce(approve_step.step, next ->> 'name')));
begin
  if v_names = '{}' then
    perform crossfade_private.fail(400, 'CF012',
      format('No step "%s" that a person approves', coalesce(step, next ->> 'name')),
      jsonb_build_object('field', 'step', 'value', step, 'known', (
        select jsonb_agg(s ->> 'name') from jsonb_array_elements((rollout).plan -> 'steps') s
        where s ->> 'approval' = 'manual')),
      'Leave the step out to approve the next one.');
  elsif (rollout).approved @> v_names then
    return false;
  end if;
  update crossfade.rollouts r
  set approved = array(select distinct a from unnest(r.approved || v_names) a order by a)
  where r.id = (rollout).id;
  perform crossfade_private.bump_version();
  perform crossfade_private.audit('rollout.approve', (rollout).pair, null,
    to_jsonb((rollout).approved), to_jsonb(v_names));
  return true;
end $$;

comment on function crossfade_private.approve_step is
  'Approve a manual step by name, the next one (null) or all of them (*). CF012.';

create or replace function crossfade.control_rollout(
  pair text, action text, reason text, step text default null, keep boolean default false
)
returns jsonb
language plpgsql volatile
security definer -- rollouts are changed by functions only
set search_path = ''
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

-- The one way forward -----------------------------------------------------------------------------

create or replace function crossfade_private.enter_step(
  pair crossfade.pairs, step jsonb, reason text
)
returns void
language plpgsql volatile
set search_path = ''
as $$
declare
  v_stages text[] := array['off', 'dualwrite', 'shadow', 'live', 'rampdown', 'complete'];
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
    perform crossfade.set_stage((pair).name, v_stages[v_place], reason, true);
  end loop;
  if step ->> 'stage' = 'live' then
    perform crossfade.set_cohort((pair).name,
      jsonb_build_object('percentage', step -> 'percentage'), reason);
  end if;
end $$;

comment on function crossfade_private.enter_step is
  'Set flags, stage and percentage of a step through set_flag, set_stage and set_cohort, with their refusals (CF005, CF006).';

create or replace function crossfade_private.may_give_up(
  pair crossfade.pairs, rollout crossfade.rollouts, waits jsonb
)
returns boolean
language sql stable
set search_path = ''
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
set search_path = ''
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
  v_why := coalesce(nullif(btrim(reason), ''),
    format('plan "%s": %s', v_row.plan ->> 'name', coalesce(v_next ->> 'name', 'the end')));
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
