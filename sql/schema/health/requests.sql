-- Recording requests.

create or replace function crossfade_private.record_streak(
  pair text, step bigint, has_ok boolean, errors bigint
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- The usual batch is all ok and there is no streak: take no lock, or every caller would queue
  -- here. A streak that starts at this moment in another session is ended by the next batch.
  if errors = 0 and not exists (
    select from crossfade_private.request_streaks s
    where s.pair = record_streak.pair and s.errors > 0) then
    return;
  end if;
  insert into crossfade_private.request_streaks as s (pair, step, errors)
  values (record_streak.pair, record_streak.step, record_streak.errors)
  on conflict on constraint request_streaks_pkey do update
  set step = excluded.step,
    errors = excluded.errors
      + case when record_streak.has_ok or s.step <> excluded.step then 0 else s.errors end;
end $$;

comment on function crossfade_private.record_streak is
  'Carry the streak of consecutive V2 errors of a pair on. has_ok: the batch has an ok, so that only errors, those after the last ok, count. A new step starts at 0.';

create or replace function crossfade_private.record_memory(batch jsonb)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into crossfade.memory_reports (pair, used_bytes)
  select e.value ->> 'pair', (e.value ->> 'memory_bytes')::bigint
  from jsonb_array_elements(batch) e
  where e.value ? 'memory_bytes' and jsonb_typeof(e.value -> 'memory_bytes') = 'number';
  if found then
    delete from crossfade.memory_reports m
    where m.at < clock_timestamp() - interval '1 hour'
      and m.pair in (select e.value ->> 'pair' from jsonb_array_elements(batch) e);
  end if;
end $$;

comment on function crossfade_private.record_memory is
  'Keep the memory that events of a checked batch report, and forget what is older than an hour.';

create or replace function crossfade.record_requests(batch jsonb)
returns jsonb
language plpgsql volatile
-- Definer: API roles hold no right on the tables it writes.
security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_recorded bigint;
  v_streaks jsonb;
  v_batch jsonb;
begin
  perform crossfade_private.check_requests(batch);
  perform crossfade_private.get_pair(e.pair)
  from (select distinct a.value ->> 'pair' as pair from jsonb_array_elements(batch) a) e;
  v_batch := crossfade_private.leave_out_own_failures(batch);

  with e as materialized (
    select r.*, max(r.place) filter (where r.outcome = 'ok' and r.in_streak)
      over (partition by r.pair) as last_ok
    from crossfade_private.request_events(v_batch) r
  ),
  counted as (
    insert into crossfade.request_minutes as m (
      pair, minute, step, backend_version, wire_version, flag_set, outcome, latency_bucket,
      requests, last_at)
    select e.pair, date_trunc('minute', clock_timestamp()), e.step, e.backend_version,
      e.wire_version, e.flag_set, e.outcome, e.latency_bucket, sum(e.requests), clock_timestamp()
    from e
    group by e.pair, e.step, e.backend_version, e.wire_version, e.flag_set, e.outcome,
      e.latency_bucket
    -- Order matters: two callers that lock the same rows in one order cannot deadlock.
    order by e.pair, e.step, e.backend_version, e.wire_version, e.flag_set, e.outcome,
      e.latency_bucket
    on conflict (
      pair, minute, step, backend_version, wire_version, flag_set, outcome, latency_bucket)
    do update set requests = m.requests + excluded.requests, last_at = excluded.last_at
  ),
  streaks as (
    select e.pair, e.step, bool_or(e.last_ok is not null) as has_ok,
      coalesce(sum(e.requests) filter (where e.place > coalesce(e.last_ok, 0)), 0) as errors
    from e where e.in_streak
    group by e.pair, e.step
  )
  select (select coalesce(sum(e.requests), 0) from e),
    (select coalesce(jsonb_agg(to_jsonb(s) order by s.pair), '[]') from streaks s)
  into v_recorded, v_streaks;

  perform crossfade_private.record_streak(s.pair, s.step, s.has_ok, s.errors)
  from jsonb_to_recordset(v_streaks) s(pair text, step bigint, has_ok boolean, errors bigint);
  perform crossfade_private.record_memory(batch);
  perform crossfade_private.record_bundles(batch);
  return jsonb_build_object('recorded', v_recorded, 'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.record_requests is
  'Count requests. batch: array of {"pair", "backend_version", "wire_version", "outcome", "latency_ms", "flag_set"?, "flags_version"?, "count"?, "memory_bytes"?: what the isolate uses now, "bundle_version"?: flags_version of the flags deployed with the function, 0 without, "caller"?: keyed hash of who called, 0 to 4095}, oldest first; all or nothing. Safe for any number of callers at once; holds row locks on the counters until commit. Returns {"recorded": requests, "flags_version"}. Of a caller''s failures no more count than of any one other caller in the last health_window_max_s; the rest are client errors. CF001 unknown pair, CF012 names the event, field and value.';
