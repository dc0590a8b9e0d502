-- What the health rules look at. The rules themselves are in the control plane.

create or replace function crossfade_private.engaged_fences(pair text)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(k.name order by k.name), '[]')
  from crossfade.kill_switches k
  where k.engaged and k.fences
    and (k.overrides_all or coalesce(k.pair = engaged_fences.pair, true));
$$;

comment on function crossfade_private.engaged_fences is
  'Names of the engaged kill switches that keep backend 2 from serving a pair.';

create or replace function crossfade_private.health_inputs(pair text)
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return jsonb_build_object(
    'memory_bytes', (
      select coalesce(jsonb_agg(m.used_bytes order by m.id desc), '[]')
      from (
        -- Of this step: what made the one before go back must not make this one go back again.
        select r.id, r.used_bytes from crossfade.memory_reports r
        join crossfade.pairs p on p.name = r.pair and r.at >= p.step_started_at
        where r.pair = health_inputs.pair and r.at > clock_timestamp()
          - crossfade_private.setting_number('r6_window_s') * interval '1 s'
        order by r.id desc limit 100
      ) m),
    'baseline', (
      select to_jsonb(b) - 'pair' from crossfade.baselines b where b.pair = health_inputs.pair),
    'heartbeat_at', (select m.heartbeat_at from crossfade.monitors m),
    'engaged', crossfade_private.engaged_fences(health_inputs.pair),
    'lost_rows', (
      select count(*) from crossfade.mismatches x
      where x.pair = health_inputs.pair and x.resolved_at is null and x.kind <> 'different'),
    'checked', (
      select crossfade_private.run_json(r.id) from crossfade.runs r
      where r.pair = health_inputs.pair and r.kind = 'verify' order by r.id desc limit 1),
    'rollout', (
      select jsonb_build_object('id', r.id, 'plan', r.plan ->> 'name', 'state', r.state,
        'reason', r.reason, 'changed_by', r.changed_by)
      from crossfade.rollouts r
      where r.pair = health_inputs.pair and r.state not in ('aborted', 'finished')));
end $$;

comment on function crossfade_private.health_inputs is
  'The part of a health sample that is not about requests.';

create or replace function crossfade.health_sample(pair text)
returns jsonb
language plpgsql stable
-- Definer: API roles hold no right on crossfade_private.
security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_since timestamptz := crossfade_private.window_start(
    v_pair.name, v_pair.step, v_pair.step_started_at);
  v_recent timestamptz := date_trunc('minute', greatest(v_pair.step_started_at,
    now() - crossfade_private.setting_number('health_window_s') * interval '1 s'));
begin
  return (
    select jsonb_build_object(
      'pair', v_pair.name, 'at', clock_timestamp(), 'stage', v_pair.stage,
      'percentage', coalesce(
        (select c.percentage from crossfade.cohorts c where c.pair = v_pair.name), 0),
      'step', v_pair.step, 'step_started_at', v_pair.step_started_at,
      'latched', v_pair.latched_at is not null, 'window_from', v_since,
      'backends', (
        select jsonb_object_agg(b,
          crossfade_private.backend_window(v_pair.name, v_pair.step, b, v_since)
          || jsonb_build_object('recent',
            crossfade_private.backend_window(v_pair.name, v_pair.step, b, v_recent),
            'whole', crossfade_private.backend_counts(
              v_pair.name, v_pair.step, b, v_pair.step_started_at)))
        from generate_series(1, 2) b),
      'streak', coalesce((
        select s.errors from crossfade_private.request_streaks s
        where s.pair = v_pair.name and s.step = v_pair.step), 0),
      -- Not through pair_status: its blockers may fail when a table has gone, and this must not.
      'open_failures', (
        select count(*) from crossfade.mirror_failures f
        where f.pair = v_pair.name and f.resolved_at is null),
      'open_mismatches', (
        select count(*) from crossfade.mismatches x
        where x.pair = v_pair.name and x.resolved_at is null),
      'drift_count', (select count(*) from crossfade.mirror_failures f where f.pair = v_pair.name),
      'runs', (
        select coalesce(jsonb_agg(crossfade_private.run_json(r.id) order by r.id), '[]')
        from crossfade.runs r where r.pair = v_pair.name and r.state in ('running', 'paused')),
      'shadow', (
        select jsonb_build_object('compared', coalesce(sum(r.requests), 0),
          'mismatched', coalesce(sum(r.requests) filter (where r.outcome = 'shadow_mismatch'), 0))
        from crossfade.request_minutes r
        where r.pair = v_pair.name and r.step = v_pair.step
          and r.outcome in ('shadow_match', 'shadow_mismatch')
          and r.minute >= date_trunc('minute', v_pair.step_started_at)),
      'evidence', (select to_jsonb(e) from crossfade_private.step_evidence(v_pair) e),
      'newest_request_at', (
        select max(r.last_at) from crossfade.request_minutes r
        where r.pair = v_pair.name and r.minute >= now() - interval '1 day'),
      'flags_version', crossfade.flags_version())
      || crossfade_private.health_inputs(v_pair.name));
end $$;

comment on function crossfade.health_sample is
  'What the rules decide on, read at one moment, of the current step only: stage, percentage, "backends": {"1", "2"} each with requests, errors (error + fallback; client errors count in neither), error_rate, p50_ms, p95_ms and the same as "recent" (at most the last 5 min) and "whole" (counts of the whole step), streak of V2 errors now, open failures and mismatches, drift, shadow reads of the whole step, evidence of the whole step ({"kind": requests or, where no function reports, writes of V2 by users; "v2": how many; "failed": of the writes}), newest_request_at (of the last day), active runs, the last verify run (checked), lost_rows, memory_bytes of the last r6_window_s, baseline of V1, heartbeat_at of the monitor, engaged fences, rollout. Windows begin at a full minute. CF001.';
