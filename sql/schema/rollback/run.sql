-- Carrying a rollback out.

create or replace function crossfade_private.apply_rollback_step(step jsonb, reason text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_object text := step ->> 'object';
begin
  case step ->> 'action'
    when 'engage_kill_switch' then
      perform crossfade_private.switch_kill(v_object, true, reason);
    when 'disable_flag' then
      update crossfade.flags f set enabled = false where f.name = v_object;
    when 'set_stage' then
      perform crossfade.set_stage(v_object, step -> 'after' ->> 'stage', reason);
    when 'set_percentage' then
      perform crossfade.set_cohort(v_object, step -> 'after', reason);
    when 'latch' then
      update crossfade.pairs p
      set latched_at = clock_timestamp(), latch_reason = apply_rollback_step.reason
      where p.name = v_object;
  end case;
end $$;

comment on function crossfade_private.apply_rollback_step is 'Make one change of a rollback plan.';

create or replace function crossfade_private.plan_values(plan jsonb, field text)
returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_object_agg(o.object, o.fields), '{}')
  from (
    select s.value ->> 'object' as object, jsonb_object_agg(e.key, e.value) as fields
    from jsonb_array_elements(plan_values.plan) s
    cross join lateral jsonb_each(s.value -> plan_values.field) e
    group by s.value ->> 'object'
  ) o;
$$;

comment on function crossfade_private.plan_values is
  'The before or after values of a plan: object -> {field: value}.';

create or replace function crossfade_private.run_rollback(
  level text, scope text, reason text, automatic boolean, plan jsonb, touches jsonb
)
returns crossfade.rollbacks
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pairs crossfade.pairs[] := array(
    select p from crossfade_private.rollback_pairs(level, scope) p);
  v_row crossfade.rollbacks;
  v_step jsonb;
begin
  v_row.snapshot := (crossfade_private.save_snapshot(
    format('before %s rollback of %s: %s', level, scope, reason)) ->> 'id')::bigint;
  v_row.preserved := crossfade_private.preserve(v_pairs);
  for v_step in
    select s.value from jsonb_array_elements(plan) with ordinality s(value, n) order by s.n
  loop
    perform crossfade_private.apply_rollback_step(v_step, reason);
  end loop;
  v_row.after := crossfade_private.plan_values(plan, 'after');
  -- restore_snapshot releases exactly this engagement and no later one.
  select v_row.after || coalesce(jsonb_object_agg(k.name, v_row.after -> k.name
    || jsonb_build_object('engaged_at', k.engaged_at)), '{}')
  into v_row.after
  from jsonb_array_elements(plan) s
  join crossfade.kill_switches k on k.name = s.value ->> 'object'
  where s.value ->> 'action' = 'engage_kill_switch';
  insert into crossfade.rollbacks (
    actor, level, scope, reason, automatic, before, after, snapshot, flags_version, preserved,
    touches)
  values (
    crossfade_private.actor(), run_rollback.level, run_rollback.scope, run_rollback.reason,
    run_rollback.automatic, crossfade_private.plan_values(plan, 'before'), v_row.after,
    v_row.snapshot, crossfade.flags_version(), v_row.preserved, run_rollback.touches)
  returning * into v_row;
  perform crossfade_private.audit(
    'rollback.' || lower(level), scope, reason, v_row.before,
    v_row.after || case touches when '[]' then '{}'
      else jsonb_build_object('touches', touches) end);
  perform crossfade_private.broadcast('rollback', jsonb_build_object(
    'flags_version', v_row.flags_version, 'pair', p.name, 'level', run_rollback.level))
  from unnest(v_pairs) p;
  return v_row;
end $$;

comment on function crossfade_private.run_rollback is
  'Snapshot, keep what is unmirrored, make the changes of the plan, log, audit, broadcast "rollback" for each pair.';
