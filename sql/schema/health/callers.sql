-- Whose failure a failure is: what one caller's own rows and bodies make fail is no evidence
-- against a backend.

create or replace function crossfade_private.judge_callers(failures jsonb)
returns table (pair text, backend_version smallint, caller smallint, counted bigint)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  -- As long as the longest window of the rules.
  v_since timestamptz := clock_timestamp()
    - crossfade_private.setting_number('health_window_max_s') * interval '1 s';
begin
  return query
  with given as (
    select g.pair, g.backend_version, g.caller, p.step, g.failures
    from jsonb_to_recordset(judge_callers.failures) g(
      pair text, backend_version smallint, caller smallint, failures bigint)
    join crossfade.pairs p on p.name = g.pair
  ),
  seen as (
    select k.pair, k.backend_version, k.caller,
      sum(k.failures) as failures, sum(k.counted) as counted
    from (
      select g.pair, g.backend_version, g.caller, g.failures, 0 as counted from given g
      union all
      select c.pair, c.backend_version, c.caller, c.failures, c.counted
      from crossfade_private.failing_callers c
      join crossfade.pairs p on p.name = c.pair and p.step = c.step
      where c.last_at > v_since
    ) k
    group by k.pair, k.backend_version, k.caller
  ),
  judged as (
    select g.*, least(g.failures, greatest(0, coalesce((
      select max(o.failures) from seen o
      where o.pair = g.pair and o.backend_version = g.backend_version and o.caller <> g.caller
    ), 0) - s.counted))::bigint as counted
    from given g
    join seen s using (pair, backend_version, caller)
  )
  insert into crossfade_private.failing_callers as c (
    pair, backend_version, caller, step, failures, counted)
  select j.pair, j.backend_version, j.caller, j.step, j.failures, j.counted from judged j
  on conflict on constraint failing_callers_pkey do update
  set failures = excluded.failures
      + case when c.step = excluded.step and c.last_at > v_since then c.failures else 0 end,
    counted = excluded.counted
      + case when c.step = excluded.step and c.last_at > v_since then c.counted else 0 end,
    step = excluded.step, last_at = excluded.last_at
  returning c.pair, c.backend_version, c.caller, (
    select j.counted from judged j where j.pair = c.pair
      and j.backend_version = c.backend_version and j.caller = c.caller);
end $$;

comment on function crossfade_private.judge_callers is
  'How many of the new failures of each caller count against the backend: all of them, but never more in a step and in health_window_max_s than any one other caller has had. failures: array of {"pair", "backend_version", "caller", "failures"}. Remembers them; the caller of this function serialises.';

create or replace function crossfade_private.failed_events(batch jsonb)
returns table (
  place bigint, pair text, backend_version smallint, caller smallint, requests bigint
)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select e.n, e.event ->> 'pair',
    -- As in request_events: a fallback is a failure of V2.
    case e.event ->> 'outcome' when 'fallback' then 2
      else (e.event ->> 'backend_version')::integer end::smallint,
    (e.event ->> 'caller')::smallint, coalesce((e.event ->> 'count')::bigint, 1)
  from jsonb_array_elements(batch) with ordinality e(event, n)
  where e.event ->> 'outcome' in ('error', 'fallback')
    and jsonb_typeof(e.event -> 'caller') = 'number';
$$;

comment on function crossfade_private.failed_events is
  'The failures of a checked batch that name their caller; place from 1.';

create or replace function crossfade_private.leave_out_own_failures(batch jsonb)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_failures jsonb;
begin
  select jsonb_agg(to_jsonb(g)) into v_failures
  from (
    select e.pair, e.backend_version, e.caller, sum(e.requests) as failures
    from crossfade_private.failed_events(batch) e
    group by e.pair, e.backend_version, e.caller
  ) g;
  if v_failures is null then
    return batch;
  end if;
  -- Before every other lock of a report, in one order: so no two reports wait for each other.
  perform pg_advisory_xact_lock(hashtextextended('crossfade failing callers ' || p.pair, 0))
  from (select distinct f ->> 'pair' as pair from jsonb_array_elements(v_failures) f order by 1) p;
  return (
    with own as (
      select f.place, f.backend_version from (
        select e.place, e.backend_version, j.counted, sum(e.requests) over (
          partition by e.pair, e.backend_version, e.caller order by e.place desc) as upto
        from crossfade_private.failed_events(batch) e
        join crossfade_private.judge_callers(v_failures) j using (pair, backend_version, caller)
      ) f
      where f.upto > f.counted
    )
    select jsonb_agg(case when o.place is null then a.event
      else a.event || jsonb_build_object(
        'outcome', 'client_error', 'backend_version', o.backend_version) end order by a.n)
    from jsonb_array_elements(batch) with ordinality a (event, n)
    left join own o on o.place = a.n
  );
end $$;

comment on function crossfade_private.leave_out_own_failures is
  'A checked batch in which failures that are one caller''s alone (see judge_callers) are client errors. Events that name no caller stay as they are. Holds an advisory lock of each pair with such failures until commit.';
