-- Evaluating a flag: the rules in their order. The same exists in TypeScript and Python;
-- tests/vectors pins all three.

create or replace function crossfade_private.context_id(context jsonb, name text)
returns text
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
  select case jsonb_typeof(context -> context_id.name)
    when 'string' then nullif(context ->> context_id.name, '')
    when 'number' then (
      select trunc(n.value)::bigint::text
      from (select (context ->> context_id.name)::numeric as value) n
      where n.value = trunc(n.value) and abs(n.value) <= 9007199254740991)
  end;
$$;

comment on function crossfade_private.context_id is
  'An id of a context: text that is not empty, or the decimal text of an integer that every language reads alike; null for anything else.';

create or replace function crossfade_private.unit(context jsonb)
returns text
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(
    crossfade_private.context_id(context, 'user_id'),
    crossfade_private.context_id(context, 'agent_id'),
    crossfade_private.context_id(context, 'conversation_id'));
$$;

comment on function crossfade_private.unit is
  'What a percentage is taken over: the first of user_id, agent_id, conversation_id that is an id (see context_id); else null.';

create or replace function crossfade_private.flag_rules(
  flag crossfade.flags, context jsonb, follow boolean
)
returns table (
  place integer, rule text, matched boolean, value boolean, reason text, details jsonb
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_user text := crossfade_private.context_id(context, 'user_id');
  v_agent text := crossfade_private.context_id(context, 'agent_id');
  v_bucket integer := crossfade.bucket(flag.cohort_key, crossfade_private.unit(context));
  v_threshold integer := flag.percentage * 1000;
  v_switch text;
  v_unmet text;
begin
  select k.name into v_switch from crossfade.kill_switches k
  where k.engaged and (k.overrides_all or k.name = any (flag.killed_by))
  order by k.name collate "C" limit 1;
  if follow then
    select p.name into v_unmet
    from unnest(flag.prerequisites) with ordinality p(name, n)
    left join crossfade.flags f on f.name = p.name
    left join lateral (
      select r.value from crossfade_private.flag_rules(f, context, false) r
      where f.name is not null and r.matched order by r.place limit 1
    ) d on true
    where d.value is distinct from true
    order by p.n limit 1;
  end if;
  return query values
    (1, 'kill_switch', v_switch is not null, false, 'DISABLED',
      jsonb_build_object('kill_switch', v_switch)),
    (2, 'disabled', not flag.enabled, false, 'DISABLED', '{}'::jsonb),
    (3, 'prerequisite', v_unmet is not null, false, 'DISABLED',
      jsonb_build_object('prerequisite', v_unmet)),
    (4, 'deny', coalesce(v_user = any (flag.deny_user_ids), false)
      or coalesce(v_agent = any (flag.deny_agent_ids), false), false, 'TARGETING_MATCH', '{}'),
    (5, 'allow', coalesce(v_user = any (flag.allow_user_ids), false)
      or coalesce(v_agent = any (flag.allow_agent_ids), false), true, 'TARGETING_MATCH', '{}'),
    (6, 'percentage', v_threshold is not null and (v_threshold = 100000 or v_bucket is not null),
      coalesce(v_bucket < v_threshold, v_threshold = 100000, false), 'SPLIT',
      jsonb_build_object(
        'bucket', case when v_threshold is not null then v_bucket end, 'threshold', v_threshold)),
    (7, 'default', true, flag.default_value, 'DEFAULT', '{}');
end $$;

comment on function crossfade_private.flag_rules is
  'Every rule with whether it applies and what it would answer; the first that applies (by place) decides. follow: look at prerequisites, whose own prerequisites are not looked at, so that a circle ends.';

create or replace function crossfade.explain_flag(name text, context jsonb default '{}')
returns jsonb
language plpgsql stable
-- Definer: API roles hold no right on crossfade_private.
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_flag crossfade.flags;
  v_answer jsonb;
begin
  if jsonb_typeof(coalesce(context, '{}')) <> 'object' then
    perform crossfade_private.fail(
      400, 'CF012',
      format('Cannot evaluate "%s": context must be a JSON object', explain_flag.name),
      jsonb_build_object('context', context));
  end if;
  select f.* into v_flag from crossfade.flags f where f.name = explain_flag.name;
  if not found then
    return jsonb_build_object(
      'flag', explain_flag.name, 'value', false, 'variant', 'off', 'reason', 'ERROR',
      'error_code', 'FLAG_NOT_FOUND', 'steps', '[]'::jsonb,
      'metadata',
      jsonb_build_object('rule', 'unknown', 'flags_version', crossfade.flags_version()));
  end if;
  with r as materialized (
    select * from crossfade_private.flag_rules(v_flag, coalesce(context, '{}'), true)
  )
  select jsonb_build_object(
    'flag', explain_flag.name, 'value', d.value,
    'variant', case when d.value then 'on' else 'off' end, 'reason', d.reason,
    'metadata', jsonb_strip_nulls(d.details)
      || jsonb_build_object('rule', d.rule, 'flags_version', crossfade.flags_version()),
    'steps', (
      select jsonb_agg(jsonb_strip_nulls(s.details) || jsonb_build_object(
        'rule', s.rule, 'matched', s.matched, 'value', s.value, 'decides', s.place = d.place)
        order by s.place)
      from r s))
  into v_answer
  from r d where d.matched order by d.place limit 1;
  return v_answer;
end $$;

comment on function crossfade.explain_flag is
  'evaluate_flag plus "steps": every rule in order with rule, matched, the value it stands for, decides (true for one), and bucket, threshold, kill_switch or prerequisite.';

create or replace function crossfade.evaluate_flag(name text, context jsonb default '{}')
returns jsonb
language sql stable
-- Definer: as explain_flag.
security definer
set search_path = pg_catalog, pg_temp
as $$
  select crossfade.explain_flag(evaluate_flag.name, evaluate_flag.context) - 'steps';
$$;

comment on function crossfade.evaluate_flag is
  'Value of a flag for {"user_id", "agent_id", "conversation_id"}: {"flag", "value", "variant" on|off, "reason", "metadata": {"rule", "flags_version", ...}}. An unknown flag is false with error_code FLAG_NOT_FOUND. CF012 when context is not an object.';
