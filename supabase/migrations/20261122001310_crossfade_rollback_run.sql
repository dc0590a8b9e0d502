-- Carrying a rollback out.

create or replace function crossfade_private.unmirrored_rows(pair crossfade.pairs, side integer)
returns jsonb
language plpgsql stable
set search_path = ''
as $$
declare
  v_table regclass;
  v_condition text;
  v_rows jsonb;
begin
  -- In here and not in declare: the table may be gone, and only the block's errors are caught.
  v_table := case side when 1 then (pair).v1_table else (pair).v2_table end::regclass;
  -- Cast to the column's type, so that each row is found by its index.
  select string_agg(
    format('t.%I = (f.key ->> %L)::%s',
      k.side_name, k.key_name, format_type(a.atttypid, a.atttypmod)), ' and ')
  into v_condition
  from unnest(
    (pair).key_columns, case side when 1 then (pair).key_columns else (pair).v2_key_columns end
  ) k(key_name, side_name)
  join pg_catalog.pg_attribute a on a.attrelid = v_table and a.attname = k.side_name;
  execute format($sql$
    select coalesce(jsonb_agg(
      jsonb_build_object('failure', to_jsonb(f), 'row', to_jsonb(t)) order by f.id), '[]')
    from (
      select m.* from crossfade.mirror_failures m
      where m.pair = $1 and m.written_side = $2 and m.resolved_at is null
      order by m.id limit 1000
    ) f
    left join %s t on %s$sql$, v_table, v_condition)
  into v_rows using (pair).name, side;
  return v_rows;
exception when others then
  -- Keeping a copy is a precaution: nothing is deleted, and a rollback must not fail for it.
  return jsonb_build_array(jsonb_build_object('error', sqlerrm));
end $$;

comment on function crossfade_private.unmirrored_rows is
  'Open mirror failures of one side with the row that only this side holds (null: it was deleted), at most 1000. Never raises: an error becomes [{"error"}].';

create or replace function crossfade_private.preserve(pairs crossfade.pairs[])
returns jsonb
language sql stable
set search_path = ''
as $$
  select coalesce(jsonb_object_agg(f.name, jsonb_build_object(
    'open_failures', f.open_failures, 'rows', f.kept,
    'truncated', f.open_failures > jsonb_array_length(f.kept))), '{}')
  from (
    select p.name, n.open_failures,
      crossfade_private.unmirrored_rows(p, 1) || crossfade_private.unmirrored_rows(p, 2) as kept
    from unnest(preserve.pairs) p
    cross join lateral (
      select count(*) as open_failures from crossfade.mirror_failures m
      where m.pair = p.name and m.resolved_at is null
    ) n
    where n.open_failures > 0
  ) f;
$$;

comment on function crossfade_private.preserve is
  'What one table of a pair holds alone: pair -> {"open_failures", "rows", "truncated"}; {} when nothing is open.';

create or replace function crossfade_private.apply_rollback_step(step jsonb, reason text)
returns void
language plpgsql volatile
set search_path = ''
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
set search_path = ''
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
  level text, scope text, reason text, automatic boolean, plan jsonb
)
returns crossfade.rollbacks
language plpgsql volatile
set search_path = ''
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
    actor, level, scope, reason, automatic, before, after, snapshot, flags_version, preserved)
  values (
    crossfade_private.actor(), run_rollback.level, run_rollback.scope, run_rollback.reason,
    run_rollback.automatic, crossfade_private.plan_values(plan, 'before'), v_row.after,
    v_row.snapshot, crossfade.flags_version(), v_row.preserved)
  returning * into v_row;
  perform crossfade_private.audit(
    'rollback.' || lower(level), scope, reason, v_row.before, v_row.after);
  perform crossfade_private.broadcast('rollback', jsonb_build_object(
    'flags_version', v_row.flags_version, 'pair', p.name, 'level', run_rollback.level))
  from unnest(v_pairs) p;
  return v_row;
end $$;

comment on function crossfade_private.run_rollback is
  'Snapshot, keep what is unmirrored, make the changes of the plan, log, audit, broadcast "rollback" for each pair.';

create or replace function crossfade.rollback(
  level text, scope text, reason text,
  automatic boolean default false, dry_run boolean default false,
  expected_step bigint default null
)
returns jsonb
language plpgsql volatile
-- Definer: API roles hold no right on the tables it writes.
security definer
set search_path = ''
as $$
declare
  v_plan jsonb;
  v_done crossfade.rollbacks;
begin
  perform crossfade_private.check_rollback(level, scope);
  if not dry_run then
    perform crossfade_private.require_reason(rollback.reason, 'roll back');
    perform crossfade_private.lock_control(
      level = 'EMERGENCY' and exists (
        select from crossfade.kill_switches k
        where k.name = 'emergency_rollback' and not k.engaged),
      array(select p.name from crossfade_private.rollback_pairs(level, scope) p));
  end if;
  v_plan := crossfade_private.rollback_plan(level, scope, rollback.reason, automatic);
  -- Somebody has moved the pair since the caller looked: going back again would be once too often.
  if exists (
    select from crossfade.pairs p
    where p.name = rollback.scope and p.step <> rollback.expected_step) then
    v_plan := '[]';
  end if;
  if not dry_run and v_plan <> '[]' then
    v_done := crossfade_private.run_rollback(level, scope, rollback.reason, automatic, v_plan);
  end if;
  return jsonb_build_object(
    'level', level, 'scope', scope, 'plan', v_plan, 'dry_run', dry_run, 'snapshot', v_done.snapshot,
    'rollback', v_done.id, 'flags_version', crossfade.flags_version(),
    'committed_at', case when not dry_run then clock_timestamp() end);
end $$;

comment on function crossfade.rollback is
  'Go back in one transaction. level: FEATURE (scope = flag: off), PARTIAL (scope = pair: the step before; rampdown goes to live first), COMPLETE (pair: live and rampdown go to shadow, percentage 0), EMERGENCY (COMPLETE and engage emergency_rollback); scope * = every pair. Data is not touched and dual write stays on. automatic: latch the pairs until rearm. expected_step: the "step" the caller has seen; when the pair has moved since, the plan is empty. dry_run: only the plan, nothing is written or locked. Repeating it is safe: the plan is empty and snapshot and rollback are null. Returns {"level", "scope", "plan": [{action, object, before, after}], "dry_run", "snapshot", "rollback", "flags_version", "committed_at"}. CF001, CF002, CF005 stage complete, CF007 no reason, CF012.';

create or replace function crossfade.rearm(pair text, reason text)
returns jsonb
language plpgsql volatile
-- Definer: pairs are changed by functions only.
security definer
set search_path = ''
as $$
begin
  perform crossfade_private.get_pair(pair);
  perform crossfade_private.require_reason(rearm.reason, format('rearm "%s"', rearm.pair));
  perform crossfade_private.lock_control(false, array[pair]);
  update crossfade.pairs p set latched_at = null, latch_reason = null
  where p.name = rearm.pair and p.latched_at is not null;
  perform crossfade_private.put_rollout(r, 'running', rearm.reason)
  from crossfade.rollouts r where r.pair = rearm.pair and r.state = 'rolled_back';
  return jsonb_build_object('pair', rearm.pair, 'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.rearm is
  'Allow a pair to go forward again after an automatic rollback; a rollout that was rolled back goes on from the step the pair is at. Safe to repeat. Returns {"pair", "flags_version"}. CF001, CF007 no reason.';
