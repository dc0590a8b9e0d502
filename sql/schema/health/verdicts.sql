-- What the health rules said.

create or replace function crossfade.record_verdicts(pair text, verdicts jsonb)
returns jsonb
language plpgsql volatile
-- Definer: API roles hold no right on the table it writes.
security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
#variable_conflict use_column
declare
  v_pair record := crossfade_private.get_pair(record_verdicts.pair);
  v_answer jsonb;
begin
  if jsonb_typeof(verdicts) is distinct from 'array' then
    perform crossfade_private.fail(
      400, 'CF012', 'Cannot record verdicts: verdicts must be a JSON array',
      jsonb_build_object('field', 'verdicts', 'value', verdicts));
  end if;
  perform crossfade_private.sample_writes(v_pair.name);
  with given as (
    select v.* from jsonb_to_recordset(verdicts) as v(
      rule text, verdict text, mode text, value double precision, n bigint, bound double precision,
      threshold double precision, window_s double precision, rule_version integer, details jsonb)
  ),
  stored as (
    insert into crossfade.verdicts (
      pair, rule, verdict, mode, value, n, bound, threshold, window_s, rule_version, details,
      breach_since)
    select v_pair.name, g.rule, g.verdict, coalesce(g.mode, 'enforce'), g.value, g.n, g.bound,
      g.threshold, g.window_s, coalesce(g.rule_version, 1), coalesce(g.details, '{}'),
      case when g.verdict in ('HOLD', 'FAIL') then coalesce(l.breach_since, clock_timestamp()) end
    from given g
    left join lateral (
      select o.breach_since from crossfade.verdicts o
      -- A breach of an earlier step says nothing about this one.
      where o.pair = v_pair.name and o.rule = g.rule and o.at >= v_pair.step_started_at
      order by o.id desc limit 1
    ) l on true
    returning id, rule, breach_since
  )
  select coalesce(jsonb_agg(
    jsonb_build_object('rule', s.rule, 'breach_since', s.breach_since) order by s.id), '[]')
  into v_answer
  from stored s;
  return jsonb_build_object('verdicts', v_answer);
exception when check_violation or not_null_violation or invalid_text_representation then
  perform crossfade_private.fail(
    400, 'CF012', format('Cannot record verdicts of "%s": %s', record_verdicts.pair, sqlerrm),
    jsonb_build_object('field', 'verdicts', 'value', verdicts));
end $$;

comment on function crossfade.record_verdicts is
  'Store one evaluation: array of {"rule", "verdict", "mode", "value", "n", "bound", "threshold", "window_s", "rule_version", "details"}. Returns {"verdicts": [{"rule", "breach_since"}]}: since when the rule has said HOLD or FAIL without a break in this step, else null. CF001, CF012.';
