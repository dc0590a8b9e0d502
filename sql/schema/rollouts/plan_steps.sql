-- Which steps of its plan a pair has reached. The step is never stored: it follows from stage and
-- percentage, so that no change by hand can contradict it.

create or replace function crossfade_private.step_order(stage text, percentage numeric)
returns numeric
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  -- In rampdown and complete everybody is on V2, whatever the cohort says.
  select crossfade_private.stage_number(step_order.stage) * 1000
    + case when step_order.stage in ('rampdown', 'complete', 'retired') then 100
      when step_order.stage = 'live' then step_order.percentage else 0 end;
$$;

comment on function crossfade_private.step_order is
  'A number that grows on the way from stage off to complete.';

create or replace function crossfade_private.reached_steps(
  plan jsonb, stage text, percentage numeric
)
returns integer
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(max(s.n), 0)::integer
  from jsonb_array_elements(reached_steps.plan -> 'steps') with ordinality s(value, n)
  where crossfade_private.step_order(s.value ->> 'stage', (s.value ->> 'percentage')::numeric)
    <= crossfade_private.step_order(reached_steps.stage, reached_steps.percentage);
$$;

comment on function crossfade_private.reached_steps is
  'How many steps of a plan a pair in this stage, at this percentage, has reached; 0 before the first.';

create or replace function crossfade_private.active_plan(pair text)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select r.plan from crossfade.rollouts r
  where r.pair = active_plan.pair and r.state not in ('aborted', 'finished');
$$;

comment on function crossfade_private.active_plan is 'The plan under way for a pair; null without one.';

create or replace function crossfade_private.flags_beyond(
  pair text, stage text, percentage numeric
)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with s as (
    select f.key as flag, f.value not in ('false', '0') as is_on,
      n > crossfade_private.reached_steps(a.plan, flags_beyond.stage, flags_beyond.percentage)
        as is_beyond
    from (select crossfade_private.active_plan(flags_beyond.pair) as plan) a
    cross join lateral jsonb_array_elements(a.plan -> 'steps') with ordinality e(value, n)
    cross join lateral jsonb_each(coalesce(e.value -> 'flags', '{}')) f
  )
  select s.flag from s where s.is_on
  group by s.flag having bool_and(s.is_beyond) order by s.flag;
$$;

comment on function crossfade_private.flags_beyond is
  'Flags that only steps beyond this point of the plan under way switch on.';
