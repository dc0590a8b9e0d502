-- The part of the overview that is about one pair.

create or replace function crossfade_private.last_verdicts(pair text)
returns setof crossfade.verdicts
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- One index probe a rule, however many verdicts are kept.
  with recursive r (rule) as (
    select min(v.rule) from crossfade.verdicts v where v.pair = last_verdicts.pair
    union all
    select (
      select min(v.rule) from crossfade.verdicts v
      where v.pair = last_verdicts.pair and v.rule > r.rule)
    from r where r.rule is not null
  )
  select l.*
  from r
  cross join lateral (
    select v.* from crossfade.verdicts v
    where v.pair = last_verdicts.pair and v.rule = r.rule
    order by v.id desc limit 1
  ) l;
$$;

comment on function crossfade_private.last_verdicts is 'The newest verdict of each rule on a pair.';

create or replace function crossfade_private.sees_rows()
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select not crossfade_private.is_api_user() or crossfade_private.has_role('operator');
$$;

comment on function crossfade_private.sees_rows is
  'Whether the caller may see keys and values of the user''s tables: everybody but viewers.';

create or replace function crossfade_private.overview_runs(pair text)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(j.run || jsonb_build_object(
    'rows_per_s', round(j.rows_per_s, 1),
    -- Beyond the estimate, or not running: nobody can say.
    'left_s', case when j.run ->> 'state' = 'running' and j.rows_total >= j.rows_done
      then round((j.rows_total - j.rows_done) / nullif(j.rows_per_s, 0), 1) end)
    order by (j.run ->> 'id')::bigint desc), '[]')
  from (
    select l.run, (l.run ->> 'rows_total')::numeric as rows_total,
      (l.run ->> 'rows_done')::numeric as rows_done,
      (l.run ->> 'rows_done')::numeric / nullif(extract(epoch from
        (l.run ->> 'progress_at')::timestamptz - (l.run ->> 'started_at')::timestamptz), 0)
        as rows_per_s
    from (
      select crossfade_private.run_json(max(r.id)) as run from crossfade.runs r
      where r.pair = overview_runs.pair group by r.kind
    ) l
  ) j;
$$;

comment on function crossfade_private.overview_runs is
  'The newest run of each kind with "rows_per_s" (since it began) and "left_s" (null when unknown).';

create or replace function crossfade_private.overview_differences(pair text)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'failures', (
      select coalesce(jsonb_agg(to_jsonb(f) - 'pair' - 'resolved_at' - 'resolution'
        order by f.id desc), '[]')
      from (
        select m.* from crossfade.mirror_failures m
        where m.pair = overview_differences.pair and m.resolved_at is null
          and crossfade_private.sees_rows()
        order by m.id desc limit 20
      ) f),
    'mismatches', (
      select coalesce(jsonb_agg(to_jsonb(x)
        - '{pair,resolved_at,resolution,preserved}'::text[] order by x.id desc), '[]')
      from (
        select m.* from crossfade.mismatches m
        where m.pair = overview_differences.pair and m.resolved_at is null
          and crossfade_private.sees_rows()
        order by m.id desc limit 20
      ) x));
$$;

comment on function crossfade_private.overview_differences is
  'The newest 20 open mirror failures and mismatches of a pair; none for viewers, because they hold keys and values.';

create or replace function crossfade_private.overview_pair(pair crossfade.pairs)
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair crossfade.pairs := pair;
  v_name text := v_pair.name;
  v_now timestamptz := date_trunc('minute', now());
  v_status jsonb;
begin
  begin
    v_status := crossfade_private.pair_json(v_pair)
      || jsonb_build_object('rollout', crossfade_private.rollout_json(v_name));
  exception when others then
    -- A table of the pair may be gone. The rest is then needed more than ever.
    v_status := jsonb_build_object('name', v_name, 'stage', v_pair.stage,
      'v1_table', v_pair.v1_table, 'v2_table', v_pair.v2_table, 'problem', sqlerrm);
  end;
  return v_status || jsonb_build_object(
    'progress', crossfade_private.overview_runs(v_name),
    'traffic', crossfade_private.traffic_window(v_name,
      v_now - crossfade_private.setting_number('health_window_s') * interval '1 s',
      v_now + interval '1 minute'),
    'shadow', (
      select jsonb_build_object('compared', coalesce(sum(m.requests), 0),
        'mismatched', coalesce(sum(m.requests) filter (where m.outcome = 'shadow_mismatch'), 0))
      from crossfade.request_minutes m
      where m.pair = v_name and m.minute >= date_trunc('minute', greatest(v_pair.step_started_at,
          now() - interval '1 day'))
        and m.step = v_pair.step and m.outcome in ('shadow_match', 'shadow_mismatch')
        and v_pair.stage = 'shadow'),
    'streak', coalesce((
      select s.errors from crossfade_private.request_streaks s
      where s.pair = v_name and s.step = v_pair.step), 0),
    'baseline', (select to_jsonb(b) - 'pair' from crossfade.baselines b where b.pair = v_name),
    'newest_request_at', (
      select max(m.last_at) from crossfade.request_minutes m
      where m.pair = v_name and m.minute = (
        select max(n.minute) from crossfade.request_minutes n where n.pair = v_name)),
    'verdicts', (
      select coalesce(jsonb_agg(to_jsonb(v) - 'id' - 'pair' order by v.rule), '[]')
      from crossfade_private.last_verdicts(v_name) v))
    || crossfade_private.overview_differences(v_name);
end $$;

comment on function crossfade_private.overview_pair is
  'pair_status of one pair (or "problem" when it fails) and what is measured of it now. Never raises for what a project may do.';
