-- A rollout under way: showing it, changing its state.

create or replace function crossfade_private.active_rollout(pair text)
returns crossfade.rollouts
language plpgsql stable
set search_path = pg_catalog, pg_temp
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

create or replace function crossfade_private.rollout_json(pair text, automatic boolean default true)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'pair', p.name, 'stage', p.stage, 'percentage', c.percentage,
    'backend', crossfade_private.backend_share(p), 'step', p.step,
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
set search_path = pg_catalog, pg_temp
set jit = off
as $$
begin
  perform crossfade_private.get_pair(pair);
  return crossfade_private.rollout_json(pair);
end $$;

comment on function crossfade.rollout_status is
  'The newest rollout of a pair and where it stands: {"pair", "stage", "percentage", "backend": see pair_status, "step", "latched", "rollout": {id, state, speed, reason, approved, ...} or null, "plan", "steps", "reached", "current", "next", "elapsed_s", "requests", "waits": [{"code", "message"}], "flags_version"}. Waits [] while running: the next step may be taken. CF001.';

create or replace function crossfade_private.put_rollout(
  rollout crossfade.rollouts, state text, reason text
)
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
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
set search_path = pg_catalog, pg_temp
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
