-- Request metrics: minute buckets with a latency histogram, the streak of errors, and verdicts.

create table if not exists crossfade.request_minutes (
  pair text not null,
  minute timestamptz not null,
  step bigint not null,
  backend_version smallint not null,
  wire_version smallint not null,
  flag_set text not null default '',
  outcome text not null,
  latency_bucket smallint not null,
  requests bigint not null,
  last_at timestamptz not null,
  primary key (
    pair, minute, step, backend_version, wire_version, flag_set, outcome, latency_bucket
  ),
  constraint outcome_is_known check (
    outcome in ('ok', 'error', 'fallback', 'client_error', 'shadow_match', 'shadow_mismatch')
  ),
  constraint latency_bucket_is_0_to_79 check (latency_bucket between 0 and 79)
)
-- Counters are updated in place: free space in a page keeps them off the index.
with (fillfactor = 70);

comment on table crossfade.request_minutes is
  'Requests counted by minute, rollout step, backend and wire version, flag set, outcome and latency. No foreign key: counts outlive their pair. Nothing purges it; delete from crossfade.request_minutes where minute < ... at will.';
comment on column crossfade.request_minutes.latency_bucket is
  'floor(4 * log2(ms)) + 1, clamped to 0..79; 0 = below 1 ms; the upper bound of bucket i is 2^(i/4) ms.';
comment on column crossfade.request_minutes.last_at is
  'When the newest of these requests was recorded.';

create table if not exists crossfade_private.request_streaks (
  pair text primary key,
  step bigint not null,
  errors bigint not null
);

comment on table crossfade_private.request_streaks is
  'Consecutive V2 errors at the end of what has been recorded for a step. No row means none.';

create table if not exists crossfade.verdicts (
  id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  pair text not null,
  rule text not null,
  verdict text not null,
  mode text not null,
  value double precision,
  n bigint,
  bound double precision,
  threshold double precision,
  window_s double precision,
  rule_version integer not null default 1,
  details jsonb not null default '{}',
  breach_since timestamptz,
  constraint verdict_is_known check (verdict in ('PASS', 'HOLD', 'ERROR', 'FAIL')),
  constraint mode_is_known check (mode in ('enforce', 'warn', 'dry_run', 'off'))
);

create index if not exists verdicts_pair_rule_idx on crossfade.verdicts (pair, rule, id desc);

comment on table crossfade.verdicts is
  'What each health rule said at each evaluation, with what it was decided on. value, n, bound, threshold and window_s are null where a rule has none; breach_since is null unless the verdict is HOLD or FAIL.';

-- Recording ---------------------------------------------------------------------------------------

create or replace function crossfade_private.latency_bucket(latency_ms numeric)
returns smallint
language sql immutable parallel safe
set search_path = ''
as $$
  -- The tiny addition keeps exact powers of two from falling one bucket short.
  select case when latency_bucket.latency_ms < 1 then 0
    else least(floor(4 * ln(l.ms) / ln(2::double precision) + 1e-9) + 1, 79)
  end::smallint
  from (select least(latency_bucket.latency_ms, 1e9)::double precision as ms) l;
$$;

comment on function crossfade_private.latency_bucket is
  'Histogram bucket of a latency in ms, 0 to 79.';

create or replace function crossfade_private.check_requests(batch jsonb)
returns void
language plpgsql stable
set search_path = ''
as $$
declare
  v_bad record;
  v_value jsonb;
begin
  if jsonb_typeof(batch) is distinct from 'array' or jsonb_array_length(batch) > 10000 then
    perform crossfade_private.fail(
      400, 'CF012', 'Cannot record requests: batch must be a JSON array of at most 10000 events',
      jsonb_build_object('field', 'batch'));
  end if;
  select e.n - 1 as place, e.event, f.field into v_bad
  from jsonb_array_elements(batch) with ordinality e(event, n)
  cross join lateral (
    values
    (1, 'event', jsonb_typeof(event) = 'object'),
    (2, 'pair', jsonb_typeof(event -> 'pair') = 'string'),
    (3, 'backend_version', jsonb_typeof(event -> 'backend_version') = 'number'
      and event ->> 'backend_version' in ('1', '2')),
    (4, 'wire_version', jsonb_typeof(event -> 'wire_version') = 'number'
      and event ->> 'wire_version' in ('1', '2')),
    (5, 'flag_set', jsonb_typeof(coalesce(event -> 'flag_set', 'null')) in ('string', 'null')
      and length(coalesce(event ->> 'flag_set', '')) <= 200),
    (6, 'outcome', event ->> 'outcome'
      in ('ok', 'error', 'fallback', 'client_error', 'shadow_match', 'shadow_mismatch')),
    (7, 'latency_ms', case when jsonb_typeof(event -> 'latency_ms') = 'number'
      then (event ->> 'latency_ms')::numeric >= 0 end),
    (8, 'flags_version', case jsonb_typeof(coalesce(event -> 'flags_version', 'null'))
      when 'null' then true when 'number' then (event ->> 'flags_version') ~ '^[0-9]{1,18}$' end),
    (9, 'count', case jsonb_typeof(coalesce(event -> 'count', 'null'))
      when 'null' then true when 'number' then (event ->> 'count') ~ '^[1-9][0-9]{0,8}$' end),
    (10, 'memory_bytes', case jsonb_typeof(coalesce(event -> 'memory_bytes', 'null'))
      when 'null' then true
      when 'number' then (event ->> 'memory_bytes') ~ '^[1-9][0-9]{0,15}$' end)
  ) as f (place, field, valid)
  where f.valid is not true
  order by e.n, f.place
  limit 1;
  if found then
    v_value := case v_bad.field when 'event' then v_bad.event else v_bad.event -> v_bad.field end;
    perform crossfade_private.fail(
      400, 'CF012',
      format('Cannot record requests: event %s has the invalid %s %s', v_bad.place, v_bad.field,
        left(coalesce(v_value, 'null')::text, 100)),
      jsonb_build_object('event', v_bad.place, 'field', v_bad.field, 'value', v_value));
  end if;
end $$;

comment on function crossfade_private.check_requests is
  'Refuse a batch with an event that cannot be counted, naming the first one (from 0), its field and value. CF012.';

create or replace function crossfade_private.request_events(batch jsonb)
returns table (
  place bigint, pair text, step bigint, in_streak boolean, backend_version smallint,
  wire_version smallint, flag_set text, outcome text, latency_bucket smallint, requests bigint
)
language plpgsql stable
set search_path = ''
as $$
begin
  return query
  select e.n, p.name, p.step - case when v.is_current then 0 else 1 end,
    v.is_current and v.backend_version = 2 and v.outcome in ('ok', 'error', 'fallback'),
    v.backend_version, (e.event ->> 'wire_version')::smallint,
    coalesce(e.event ->> 'flag_set', ''), v.outcome,
    crossfade_private.latency_bucket((e.event ->> 'latency_ms')::numeric),
    coalesce((e.event ->> 'count')::bigint, 1)
  from jsonb_array_elements(batch) with ordinality e(event, n)
  join crossfade.pairs p on p.name = e.event ->> 'pair'
  cross join lateral (
    select e.event ->> 'outcome' as outcome,
      -- A fallback is a failure of V2 that V1 answered, whichever version the caller names.
      case e.event ->> 'outcome' when 'fallback' then 2
        else (e.event ->> 'backend_version')::integer end::smallint as backend_version,
      -- Decided before the step began: it says nothing about the step.
      coalesce((e.event ->> 'flags_version')::bigint >= p.step_flags_version, true) as is_current
  ) v;
end $$;

comment on function crossfade_private.request_events is
  'The events of a checked batch as rows: place from 1; step is the pair''s, or the one before for an event whose flags_version is older than the step; in_streak: it continues or ends the streak of V2 errors.';

create or replace function crossfade_private.record_streak(
  pair text, step bigint, has_ok boolean, errors bigint
)
returns void
language plpgsql volatile
set search_path = ''
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

create or replace function crossfade.record_requests(batch jsonb)
returns jsonb
language plpgsql volatile
-- Definer: API roles hold no right on the tables it writes.
security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_recorded bigint;
  v_streaks jsonb;
begin
  perform crossfade_private.check_requests(batch);
  perform crossfade_private.get_pair(e.pair)
  from (select distinct a.value ->> 'pair' as pair from jsonb_array_elements(batch) a) e;

  with e as materialized (
    select r.*, max(r.place) filter (where r.outcome = 'ok' and r.in_streak)
      over (partition by r.pair) as last_ok
    from crossfade_private.request_events(batch) r
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
  return jsonb_build_object('recorded', v_recorded, 'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.record_requests is
  'Count requests. batch: array of {"pair", "backend_version", "wire_version", "outcome", "latency_ms", "flag_set"?, "flags_version"?, "count"?, "memory_bytes"?: what the isolate uses now}, oldest first; all or nothing. Safe for any number of callers at once; holds row locks on the counters until commit. Returns {"recorded": requests, "flags_version"}. CF001 unknown pair, CF012 names the event, field and value.';
