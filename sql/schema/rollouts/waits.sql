-- What a rollout waits for before its next step.

create or replace function crossfade_private.rollout_facts(
  pair crossfade.pairs, rollout crossfade.rollouts
)
returns table (
  steps integer, reached integer, current jsonb, next jsonb, elapsed_s numeric, requests bigint,
  counted text
)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_array_length((rollout_facts.rollout).plan -> 'steps'), k.reached,
    (rollout_facts.rollout).plan -> 'steps' -> (k.reached - 1),
    -- ->-1 would be the last one.
    (rollout_facts.rollout).plan -> 'steps' -> k.reached,
    -- A step begins when the pair got there, or when the plan found it there.
    round((extract(epoch from clock_timestamp() - greatest((rollout_facts.pair).step_started_at,
      (rollout_facts.rollout).started_at)) * (rollout_facts.rollout).speed)::numeric, 1),
    e.v2, e.kind
  from (
    select crossfade_private.reached_steps((rollout_facts.rollout).plan,
      (rollout_facts.pair).stage, c.percentage) as reached
    from crossfade.cohorts c where c.pair = (rollout_facts.pair).name
  ) k
  cross join crossfade_private.step_evidence(rollout_facts.pair) e;
$$;

comment on function crossfade_private.rollout_facts is
  'Where a pair stands in its plan: reached counts from 1 (0: before the first step), elapsed_s includes the rollout''s speed, requests are those of V2 in the whole step, or its users'' writes where no function reports (counted: requests or writes).';

create or replace function crossfade_private.wait_for(code text, message text)
returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object('code', wait_for.code, 'message', wait_for.message);
$$;

comment on function crossfade_private.wait_for is 'One thing a rollout waits for.';

create or replace function crossfade_private.person_waits(
  pair crossfade.pairs, rollout crossfade.rollouts, next jsonb
)
returns setof jsonb
language sql stable
set search_path = pg_catalog, pg_temp
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
    -- Of the group: its pairs go with it.
    select distinct 3, crossfade_private.wait_for(s.code, s.message)
    from crossfade_private.group_of((pair).name) g(name)
    join crossfade.pairs o on o.name = g.name
    cross join lateral crossfade_private.stops(o) s
    where s.code = 'kill_switch'
    union all
    select 4, crossfade_private.wait_for('cool_down', format(
      'cooling down until %s after an automatic rollback', c.ends_at::timestamp(0)))
    from (
      select max(b.at) + make_interval(secs => (crossfade_private.setting_number(
        'rollout_cooldown_s') / (rollout).speed)::double precision) as ends_at
      from crossfade.rollbacks b where b.automatic and (
        b.scope = '*' or b.scope in (select crossfade_private.group_of((pair).name)))
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
set search_path = pg_catalog, pg_temp
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
set search_path = pg_catalog, pg_temp
as $$
  with f as materialized (
    select * from crossfade_private.rollout_facts(rollout_waits.pair, rollout_waits.rollout)
  ),
  -- The pairs that would change stage with it; to ask what is in their way is not cheap.
  moving as materialized (
    select o as pair
    from f
    cross join crossfade_private.group_of((rollout_waits.pair).name) with ordinality g(name, n)
    join crossfade.pairs o on o.name = g.name
    where f.next is not null and f.next ->> 'stage' <> (rollout_waits.pair).stage
      and crossfade_private.stage_number(o.stage)
        <= crossfade_private.stage_number((rollout_waits.pair).stage)
    order by g.n
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
      format('%s of %s V2 %s on this step', f.requests, f.current ->> 'min_requests', f.counted))
    from f where f.requests < (f.current ->> 'min_requests')::bigint
    union all
    select 5, w from f
    cross join lateral crossfade_private.gate_waits(
      rollout_waits.pair, coalesce(f.current -> 'gates', '[]')) w
    where f.reached > 0
    union all
    select 6, crossfade_private.wait_for('stage', case
        when (m.pair).name = (rollout_waits.pair).name then b ->> 'message'
        else format('"%s": %s', (m.pair).name, b ->> 'message') end)
      || jsonb_build_object('pair', (m.pair).name, 'blocker', b ->> 'code', 'hint', b ->> 'hint')
    from moving m
    cross join lateral crossfade_private.own_blockers(m.pair,
      crossfade_private.next_stage((rollout_waits.pair).stage)) b
    -- On the way through live the percentage rises first.
    where b ->> 'code' <> 'percentage' or (m.pair).name <> (rollout_waits.pair).name
  )
  select coalesce(jsonb_agg(w.wait order by w.place), '[]') from waits w;
$$;

comment on function crossfade_private.rollout_waits is
  'Everything the next step waits for: [{"code", "message"}], with "pair", "blocker" and "hint" where a stage of that pair of the group is waited for; [] when it may be taken now. automatic: a living monitor is needed as well.';
