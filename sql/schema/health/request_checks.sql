-- What a report of requests must be, and its parts as rows.

create or replace function crossfade_private.latency_bucket(latency_ms numeric)
returns smallint
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
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
set search_path = pg_catalog, pg_temp
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
      when 'number' then (event ->> 'memory_bytes') ~ '^[1-9][0-9]{0,15}$' end),
    (11, 'bundle_version', case jsonb_typeof(coalesce(event -> 'bundle_version', 'null'))
      when 'null' then true when 'number' then (event ->> 'bundle_version') ~ '^[0-9]{1,18}$' end),
    (12, 'caller', case jsonb_typeof(coalesce(event -> 'caller', 'null'))
      when 'null' then true when 'number' then event ->> 'caller' ~ '^[0-9]{1,4}$'
        and (event ->> 'caller')::numeric < 4096 end)
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
set search_path = pg_catalog, pg_temp
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
