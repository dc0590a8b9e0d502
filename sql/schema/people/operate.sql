-- The one door of operators: which role may call what, and the call.

create or replace function crossfade_private.rights()
returns table (rpc text, role text)
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  -- An RPC that is not named here needs the secret key: a new one is closed until somebody decides.
  select unnest(r.rpcs), r.role
  from (
    values
    ('viewer', '{
      bucket, choose_backend, diagnose, evaluate_flag, explain_flag, flags_version, group_status,
      health_sample, overview, pair_status, pair_writes, read_flags, rollout_status, run_status,
      whoami
    }'::text[]),
    ('operator', '{
      advance_rollout, apply_changes, apply_due_changes, backfill_batch, cancel_changes,
      check_conversion, control_rollout, control_run, drive_monitor, drive_run,
      engage_kill_switch, handover_plan, monitor_beat, plan_pair, plan_repair, rearm,
      record_verdicts, release_kill_switch, repair, restore_snapshot, roll_up_requests, rollback,
      run_check, sample_keys, schedule_changes, set_cohort, set_flag, set_group_stage, set_mirror,
      set_stage, show_rows, start_backfill, start_rollout, start_verify, take_snapshot,
      verify_batch, verify_some
    }'),
    ('admin', '{
      add_operator, carry_batch, carry_plan, describe_table, ignore_dependents, judge_pair,
      refresh_pair, register_pair, relabel_plan, remove_operator, remove_partition,
      set_operator_role, set_setting, unregister_pair
    }')
  ) as r (role, rpcs);
$$;

comment on function crossfade_private.rights is
  'The lowest role of an operator that may call an RPC through crossfade.operate. control/OPERATORS.md shows the same to people, and a test compares them.';

create or replace function crossfade_private.operate(rpc text, params jsonb)
returns jsonb
language plpgsql volatile
-- Definer: operators hold no right on any other function. Not in the exposed schema, so that
-- crossfade.operate is the only way in.
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_role text;
  v_columns text;
  v_arguments text;
  v_unknown text;
  v_answer jsonb;
begin
  select r.role into v_role from crossfade_private.rights() r where r.rpc = operate.rpc;
  perform crossfade_private.require_role(coalesce(v_role, 'viewer'), format('call "%s"', rpc));
  if v_role is null or jsonb_typeof(coalesce(params, '{}')) <> 'object' then
    perform crossfade_private.fail(
      case when v_role is null then 403 else 400 end,
      case when v_role is null then 'CF020' else 'CF012' end,
      case when v_role is null then format('Cannot call "%s" as an operator', rpc)
        else format('Cannot call "%s": params must be a JSON object', rpc) end,
      jsonb_build_object('rpc', rpc),
      case when v_role is null then 'It needs the secret key of the project.' else '' end);
  end if;
  -- As the Data API does it: the arguments that are given, by name, converted from JSON.
  select
    string_agg(format('%I %s', a.name, pg_catalog.format_type(a.kind, null)), ', ')
      filter (where params ? a.name),
    string_agg(format('%I => cf_given.%I', a.name, a.name), ', ') filter (where params ? a.name)
  into v_columns, v_arguments
  from pg_catalog.pg_proc p
  cross join lateral unnest(p.proargnames, p.proargtypes::oid[]) as a (name, kind)
  where p.pronamespace = 'crossfade'::regnamespace and p.proname = operate.rpc;
  select string_agg(k.name, ', ') into v_unknown
  from jsonb_object_keys(coalesce(params, '{}')) k (name)
  where not exists (
    select from pg_catalog.pg_proc p
    where p.pronamespace = 'crossfade'::regnamespace and p.proname = operate.rpc
      and k.name = any (p.proargnames));
  if v_unknown is not null then
    perform crossfade_private.fail(
      400, 'CF012', format('Cannot call "%s": it has no parameter %s', rpc, v_unknown),
      jsonb_build_object('rpc', rpc, 'params', params));
  end if;
  execute format('select to_jsonb(crossfade.%I(%s))%s', rpc, coalesce(v_arguments, ''),
    coalesce(' from jsonb_to_record($1) as cf_given (' || v_columns || ')', ''))
  into v_answer using params;
  return v_answer;
end $$;

comment on function crossfade_private.operate is
  'What crossfade.operate does, with the rights of its owner.';

-- Standard SQL body: names are bound here, so that callers need no USAGE on crossfade_private.
create or replace function crossfade.operate(rpc text, params jsonb default '{}')
returns jsonb
language sql volatile
set search_path = pg_catalog, pg_temp
set jit = off
begin atomic
select crossfade_private.operate(rpc, params);
end;

comment on function crossfade.operate is
  'Call an RPC as a signed-in operator: params holds its parameters by name, the answer is its answer. The role it needs stands in crossfade_private.rights(). CF020 no operator, role too low, or an RPC that needs the secret key; CF012 unknown parameter; else what the RPC raises.';

create or replace function crossfade.whoami()
returns jsonb
language plpgsql stable
-- Definer: API roles hold no right on crossfade_private.
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return jsonb_build_object(
    'actor', crossfade_private.actor(), 'user_id', crossfade_private.actor_id(),
    'role', crossfade_private.operator_role(), 'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.whoami is
  'Who asks: {"actor", "user_id", "role": viewer, operator or admin, "flags_version"}; user_id and role are null with the secret key.';
