-- Reasons to do no batch just now: the load of the server, and what clients notice of it.

create or replace function crossfade_private.v1_answers(pair text, since timestamptz)
returns table (requests bigint, p95_ms double precision, error_rate numeric)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with counted as (
    select r.outcome, r.latency_bucket, r.requests from crossfade.request_minutes r
    where r.pair = v1_answers.pair and r.minute >= date_trunc('minute', since)
      and r.backend_version = 1 and r.outcome in ('ok', 'error')
  )
  select coalesce(sum(c.requests), 0)::bigint,
    crossfade_private.quantile_ms((
      select array_agg(coalesce(h.requests, 0)::bigint order by b)
      from generate_series(0, 79) b
      left join (
        select k.latency_bucket, sum(k.requests) as requests from counted k
        group by k.latency_bucket) h on h.latency_bucket = b), 0.95),
    sum(c.requests) filter (where c.outcome = 'error') / nullif(sum(c.requests), 0)
  from counted c;
$$;

comment on function crossfade_private.v1_answers is
  'How backend 1 has answered since a minute: requests, their p95 in ms and share of errors (null without requests).';

create or replace function crossfade_private.load_reason()
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_active bigint;
  v_waiting bigint;
  v_lag_s numeric;
  v_limit numeric := crossfade_private.setting_number('throttle_active_sessions');
  v_blocking jsonb;
begin
  select count(*) filter (where s.state = 'active'),
    count(*) filter (where s.wait_event_type = 'Lock')
  into v_active, v_waiting
  from pg_catalog.pg_stat_activity s
  where s.backend_type = 'client backend' and s.pid <> pg_backend_pid();
  if v_active > v_limit then
    return jsonb_build_object(
      'reason', format('%s sessions are active (limit %s)', v_active, v_limit));
  end if;
  v_limit := crossfade_private.setting_number('throttle_lock_waits');
  if v_waiting > v_limit then
    v_blocking := crossfade_private.lock_blockers();
    return jsonb_build_object('blocking', v_blocking, 'reason', concat_ws(', for ',
      format('%s sessions wait for a lock (limit %s)', v_waiting, v_limit),
      crossfade_private.name_sessions(v_blocking)));
  end if;
  v_limit := crossfade_private.setting_number('throttle_replay_lag_s');
  select extract(epoch from max(r.replay_lag))::numeric into v_lag_s
  from pg_catalog.pg_stat_replication r;
  if v_lag_s > v_limit then
    return jsonb_build_object(
      'reason', format('a replica is %s s behind (limit %s)', round(v_lag_s, 1), v_limit));
  end if;
  return null;
end $$;

comment on function crossfade_private.load_reason is
  'Why batches should wait, by the settings throttle_* for sessions, lock waits and replication lag: {"reason", "blocking"?}, or null.';

create or replace function crossfade_private.throttle_reason()
returns text
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select crossfade_private.load_reason() ->> 'reason';
$$;

comment on function crossfade_private.throttle_reason is
  'Why a batch of any run should wait now, or null.';

create or replace function crossfade_private.renew_baseline(run crossfade.runs)
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_last timestamptz;
  v_began boolean;
  v_now record;
begin
  select max(a.progress_at), bool_or(a.batches > 0) into v_last, v_began
  from crossfade.run_ranges a where a.run = (renew_baseline.run).id;
  -- Only the minutes in which no batch ran: the first whole one after the last batch, and later. A
  -- run that has done no batch yet has slowed nobody down.
  select * into v_now from crossfade_private.v1_answers((run).pair, case when v_began
    then v_last + interval '1 minute' else clock_timestamp() - interval '1 minute' end) v;
  if v_began and clock_timestamp() < date_trunc('minute', v_last) + interval '2 minutes'
    or v_now.requests < crossfade_private.setting_number('throttle_min_requests') then
    return false;
  end if;
  update crossfade.runs r
  set v1_requests = v_now.requests, v1_p95_ms = v_now.p95_ms, v1_error_rate = v_now.error_rate
  where r.id = (renew_baseline.run).id;
  return true;
end $$;

comment on function crossfade_private.renew_baseline is
  'When V1 has answered for a whole minute without any batch beside it, that is how it answers: the run is held to that. False when there is no such time yet.';

create or replace function crossfade_private.throttle(run crossfade.runs)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_reason jsonb := crossfade_private.load_reason();
  v_enough numeric := crossfade_private.setting_number('throttle_min_requests');
  v_limit_ms double precision;
  v_now record;
  v_text text;
begin
  if v_reason is not null or (run).v1_requests < v_enough then
    return coalesce(v_reason, '{"ease": 1}'::jsonb);
  end if;
  -- This minute and the one before.
  select * into v_now from crossfade_private.v1_answers(
    (run).pair, greatest((run).started_at, clock_timestamp() - interval '1 minute')) v;
  if v_now.requests < v_enough then
    return '{"ease": 1}'::jsonb;
  end if;
  v_limit_ms := greatest(
    (run).v1_p95_ms * crossfade_private.setting_number('throttle_latency_factor')::float8,
    (run).v1_p95_ms + crossfade_private.setting_number('throttle_min_difference_ms')::float8);
  v_text := case
    when v_now.error_rate > coalesce((run).v1_error_rate, 0)
      + crossfade_private.setting_number('throttle_error_rate')
      then format('V1 answers %s %% of its requests with errors, before the run %s %%',
        round(100 * v_now.error_rate, 1), round(100 * coalesce((run).v1_error_rate, 0), 1))
    when v_now.p95_ms > v_limit_ms
      then format('V1 is slow: p95 %s ms, before the run %s ms (limit %s)',
        round(v_now.p95_ms::numeric, 1), round((run).v1_p95_ms::numeric, 1),
        round(v_limit_ms::numeric, 1)) end;
  if v_text is not null and not crossfade_private.renew_baseline(run) then
    return jsonb_build_object('reason', v_text);
  end if;
  -- The nearer the limit, the slower: without that, batches would stop and start by the minute. But
  -- no slower than a quarter: so few requests make a p95 that is near the limit by chance, too.
  return jsonb_build_object('ease', round(greatest(0.25, least(1,
    (v_limit_ms - v_now.p95_ms) / (v_limit_ms - (run).v1_p95_ms)))::numeric, 3));
end $$;

comment on function crossfade_private.throttle is
  'Whether a batch of the run should wait: {"reason", "blocking"?}, else {"ease"}: 1, or less the slower V1 is than before the run. Sessions, lock waits, replication lag, p95 and errors of V1, by the settings throttle_*.';
