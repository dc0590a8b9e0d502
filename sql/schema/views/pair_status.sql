-- What an operator sees of the pairs.

create or replace function crossfade_private.pair_json(pair crossfade.pairs)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'name', (pair_json.pair).name, 'v1_table', (pair_json.pair).v1_table,
    'v2_table', (pair_json.pair).v2_table,
    'to_v2', (pair_json.pair).to_v2, 'to_v1', (pair_json.pair).to_v1,
    'key_columns', (pair_json.pair).key_columns,
    'group', (
      select g.name from crossfade_private.pair_groups() g where g.pair = (pair_json.pair).name),
    'stage', (pair_json.pair).stage, 'gate_flag', (pair_json.pair).gate_flag,
    'mirror', m.mirror, 'failure_policy', m.failure_policy,
    'latched_at', (pair_json.pair).latched_at, 'latch_reason', (pair_json.pair).latch_reason,
    'step', (pair_json.pair).step, 'step_started_at', (pair_json.pair).step_started_at,
    'percentage', c.percentage, 'cohort', to_jsonb(c),
    'backend', crossfade_private.backend_share(pair_json.pair),
    'open_failures', (
      select count(*) from crossfade.mirror_failures f where f.pair = (pair_json.pair).name
        and f.resolved_at is null),
    'open_mismatches', (
      select count(*) from crossfade.mismatches x where x.pair = (pair_json.pair).name
        and x.resolved_at is null),
    'drift_count',
    (select count(*) from crossfade.mirror_failures f where f.pair = (pair_json.pair).name),
    'last_backfill_at', (pair_json.pair).last_backfill_at,
    'last_clean_verify_at', (pair_json.pair).last_clean_verify_at,
    'full_since', (pair_json.pair).full_since,
    'needs_reverse_backfill', (pair_json.pair).needs_reverse_backfill,
    'registered_at', (pair_json.pair).registered_at,
    'runs', (
      select coalesce(jsonb_agg(crossfade_private.run_json(r.id) order by r.id), '[]')
      from crossfade.runs r where r.pair = (pair_json.pair).name
        and r.state in ('running', 'paused')),
    'last_runs', (
      select coalesce(jsonb_agg(crossfade_private.run_json(l.id) order by l.id), '[]')
      from (
        select max(r.id) id from crossfade.runs r
          where r.pair = (pair_json.pair).name group by r.kind
      ) l),
    'next_stage', n.stage,
    'blockers', (
      select coalesce(jsonb_agg(b), '[]')
      from crossfade_private.stage_blockers(pair_json.pair, n.stage) b
      where n.stage is not null))
  from crossfade_private.mirror_state m
  join crossfade.cohorts c on c.pair = m.pair
  cross join lateral (
    select crossfade_private.next_stage((pair_json.pair).stage) stage
  ) n
  where m.pair = (pair_json.pair).name;
$$;

comment on function crossfade_private.pair_json is 'Everything status shows of one pair.';

create or replace function crossfade.pair_status(pair text default null)
returns jsonb
language plpgsql stable
security definer -- one door to what an operator may see of a pair
set search_path = pg_catalog, pg_temp
set jit = off
as $$
begin
  if pair is not null then
    perform crossfade_private.get_pair(pair);
  end if;
  return jsonb_build_object(
    'pairs', (
      select coalesce(jsonb_agg(crossfade_private.pair_json(p) order by p.name), '[]')
      from crossfade.pairs p where pair_status.pair is null or p.name = pair_status.pair),
    'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.pair_status is
  'Stage, cohort, mirror, latch, "backend" (who is served by V2: {"share_pct", "set_pct", "causes": [{"code", "message", "hint"}]}), open failures and mismatches, runs, next_stage and what blocks it, of one pair or of all: {"pairs": [...], "flags_version"}. drift_count counts every write ever recorded as not mirrored. CF001.';
