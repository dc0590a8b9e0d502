-- Request counts by hour.

create or replace function crossfade_private.rolled_up_to()
returns timestamptz
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select r.upto from crossfade_private.rollup r;
$$;

comment on function crossfade_private.rolled_up_to is
  'Minutes before it are in request_hours; -infinity before the first roll-up.';

create or replace function crossfade_private.counted_pairs()
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- One index probe a pair: PostgreSQL has no skip scan for distinct.
  with recursive p (pair) as (
    select min(m.pair) from crossfade.request_minutes m
    union all
    select (select min(m.pair) from crossfade.request_minutes m where m.pair > p.pair)
    from p where p.pair is not null
  )
  select p.pair from p where p.pair is not null;
$$;

comment on function crossfade_private.counted_pairs is
  'Pairs that request_minutes knows, registered or not.';

create or replace function crossfade.roll_up_requests(max_hours integer default 24)
returns jsonb
language plpgsql volatile
-- Definer: API roles hold no right on the tables it writes.
security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_from timestamptz;
  v_to timestamptz;
  -- A caller of record_requests that began before the hour ended commits long before that.
  v_end timestamptz := date_trunc('hour', clock_timestamp() - interval '10 minutes');
begin
  if max_hours is null or max_hours not between 1 and 744 then
    perform crossfade_private.fail(400, 'CF012', format('Invalid max_hours %s', max_hours),
      jsonb_build_object('max_hours', max_hours), 'Use 1 to 744.');
  end if;
  select r.upto into v_from from crossfade_private.rollup r for update skip locked;
  if not found then
    return jsonb_build_object('state', 'busy', 'upto', crossfade_private.rolled_up_to());
  end if;
  if v_from = '-infinity' then
    select date_trunc('hour', min(f.minute)) into v_from
    from crossfade_private.counted_pairs() p
    cross join lateral (
      select min(m.minute) as minute from crossfade.request_minutes m where m.pair = p.p
    ) f;
    v_from := coalesce(v_from, v_end);
  end if;
  v_to := least(v_from + make_interval(hours => max_hours), v_end);
  if v_to > v_from then
    with hours as (
      insert into crossfade.request_hours (
        pair, hour, backend_version, wire_version, outcome, latency_bucket, requests)
      select m.pair, date_trunc('hour', m.minute), m.backend_version, m.wire_version, m.outcome,
        m.latency_bucket, sum(m.requests)
      from crossfade_private.counted_pairs() p
      join crossfade.request_minutes m on m.pair = p.p and m.minute >= v_from and m.minute < v_to
      group by 1, 2, 3, 4, 5, 6
      returning *
    )
    insert into crossfade.request_totals as t (
      pair, backend_version, wire_version, outcome, latency_bucket, requests)
    select h.pair, h.backend_version, h.wire_version, h.outcome, h.latency_bucket, sum(h.requests)
    from hours h
    group by 1, 2, 3, 4, 5
    on conflict on constraint request_totals_pkey do update
    set requests = t.requests + excluded.requests;
  end if;
  update crossfade_private.rollup r set upto = greatest(v_to, v_from) where r.upto < v_end;
  return jsonb_build_object('state', case when v_to < v_end then 'running' else 'finished' end,
    'upto', crossfade_private.rolled_up_to());
end $$;

comment on function crossfade.roll_up_requests is
  'Sum the next max_hours hours that are over into request_hours: {"state": running (call again), finished or busy (another call is at it), "upto"}. Dashboard and metrics call it; nothing depends on it but the speed of long windows. CF012.';
