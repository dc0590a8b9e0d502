-- Which backend serves a request.

create or replace function crossfade_private.backend_rules(pair_name text, context jsonb)
returns table (
  place integer, rule text, matched boolean, backend integer, reason text, details jsonb
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_user text := crossfade_private.context_id(context, 'user_id');
  v_agent text := crossfade_private.context_id(context, 'agent_id');
  v_pair crossfade.pairs := crossfade_private.get_pair(pair_name);
  v_cohort crossfade.cohorts;
  v_gate jsonb;
  v_bucket integer;
  v_threshold integer;
begin
  select c.* into v_cohort from crossfade.cohorts c where c.pair = pair_name;
  v_bucket := crossfade.bucket(v_cohort.cohort_key, crossfade_private.unit(context));
  v_threshold := coalesce(v_cohort.percentage, 0) * 1000;
  if v_pair.gate_flag is not null then
    v_gate := crossfade.evaluate_flag(v_pair.gate_flag, context);
  end if;
  return query values
    -- From stage complete on V1 is an archive, so no switch can serve it.
    (1, 'kill_switch', v_pair.stage not in ('complete', 'retired') and exists (
      select from crossfade.kill_switches k
      where k.engaged and (k.overrides_all or k.fences and coalesce(k.pair = pair_name, true))
    ), 1, 'DISABLED', '{}'::jsonb),
    (2, 'stage', v_pair.stage not in ('live', 'rampdown'),
      case when v_pair.stage in ('complete', 'retired') then 2 else 1 end, 'STATIC', '{}'),
    (3, 'gate_flag', v_gate -> 'value' is not distinct from 'false', 1, v_gate ->> 'reason', '{}'),
    (4, 'stage', v_pair.stage = 'rampdown', 2, 'STATIC', '{}'),
    (5, 'deny', coalesce(v_user = any (v_cohort.denied_user_ids), false)
      or coalesce(v_agent = any (v_cohort.denied_agent_ids), false), 1, 'TARGETING_MATCH', '{}'),
    (6, 'allow', coalesce(v_user = any (v_cohort.enabled_user_ids), false)
      or coalesce(v_agent = any (v_cohort.enabled_agent_ids), false), 2, 'TARGETING_MATCH', '{}'),
    (7, 'percentage', v_threshold = 100000 or v_bucket is not null,
      case when coalesce(v_bucket < v_threshold, true) then 2 else 1 end, 'SPLIT',
      jsonb_build_object('bucket', v_bucket, 'threshold', v_threshold)),
    (8, 'default', true, 1, 'DEFAULT', '{}');
end $$;

comment on function crossfade_private.backend_rules is
  'Like flag_rules, for the backend version that serves a request. CF001 unknown pair.';

create or replace function crossfade.choose_backend(pair text, context jsonb default '{}')
returns jsonb
language plpgsql stable
-- Definer: API roles hold no right on crossfade_private.
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_answer jsonb;
begin
  if jsonb_typeof(coalesce(context, '{}')) <> 'object' then
    perform crossfade_private.fail(
      400, 'CF012', format('Cannot choose a backend for "%s": context must be a JSON object', pair),
      jsonb_build_object('context', context));
  end if;
  select jsonb_strip_nulls(r.details) || jsonb_build_object(
    'backend', r.backend, 'reason', r.reason, 'rule', r.rule,
    'flags_version', crossfade.flags_version())
  into v_answer
  from crossfade_private.backend_rules(choose_backend.pair, coalesce(context, '{}')) r
  where r.matched order by r.place limit 1;
  return v_answer;
end $$;

comment on function crossfade.choose_backend is
  'Which backend version serves the unit of context: {"backend": 1 or 2, "reason", "rule", "flags_version"}, and bucket and threshold when the percentage decided. CF001 unknown pair, CF012 context is not an object.';

create or replace function crossfade_private.compares_rights()
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select from crossfade_private.rights_checks c
    where c.transaction_id = pg_current_xact_id_if_assigned());
$$;

comment on function crossfade_private.compares_rights is
  'Whether check_rls runs in this transaction. Written by functions of the secret key only, so that no user can say so.';

create or replace function crossfade_private.my_backend(pair text)
returns integer
language plpgsql stable
-- Definer: users hold no right on the tables of crossfade. Not in the exposed schema, so that
-- crossfade.my_backend is the only way in.
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select from crossfade.pairs p where p.name = my_backend.pair) then
    -- Not get_pair: it names all pairs, which is no business of a user's.
    perform crossfade_private.fail(404, 'CF001', format('Unknown pair "%s"', pair),
      jsonb_build_object('pair', pair), '');
  end if;
  -- sub alone is taken from the token: every other claim may hold what the user has chosen.
  -- check_rls asks who may see what at all.
  return (
    select case when r.backend = 1 and crossfade_private.compares_rights() then 2
      else r.backend end
    from crossfade_private.backend_rules(my_backend.pair, jsonb_strip_nulls(
      jsonb_build_object('user_id', crossfade_private.actor_id()))) r
    where r.matched order by r.place limit 1);
end $$;

comment on function crossfade_private.my_backend is
  'What crossfade.my_backend answers, for whoever asks.';

create or replace function crossfade.my_backend(pair text)
returns integer
language sql stable
set search_path = pg_catalog, pg_temp
begin atomic
select crossfade_private.my_backend(pair);
end;

comment on function crossfade.my_backend is
  'Which backend version serves the signed-in user who asks: 1 or 2, as choose_backend with the user id of the token. Beside operate the one function that every signed-in user may call: for clients without an edge function and for policies. CF001 unknown pair.';
