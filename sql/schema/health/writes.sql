-- Writes of clients, counted by the mirror itself: evidence also where no edge function reports.

create or replace function crossfade_private.unread_writes(pair text)
returns table (side smallint, source text, value bigint, statements bigint)
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  -- Less than was read: the server crashed, and it began anew.
  select c.side::smallint, c.source, v.value,
    case when v.value < coalesce(w.counted, 0) then v.value else v.value - coalesce(w.counted, 0)
      end
  from crossfade_private.counters(pair) c
  cross join lateral (
    select coalesce(pg_sequence_last_value(to_regclass(c.name)), 0) as value
  ) v
  left join crossfade_private.write_counters w
    on w.pair = unread_writes.pair and w.side = c.side and w.source = c.source;
$$;

comment on function crossfade_private.unread_writes is
  'What the counters of a pair say by now, and how many statements of it are not in write_minutes yet.';

create or replace function crossfade_private.sample_writes(pair text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Whoever holds them reads them now: a rollback must not wait for that.
  perform from crossfade_private.write_counters w where w.pair = sample_writes.pair
  for update nowait;
  with read as (
    update crossfade_private.write_counters w set counted = u.value
    from crossfade_private.unread_writes(sample_writes.pair) u
    where w.pair = sample_writes.pair and w.side = u.side and w.source = u.source
      and u.value <> w.counted
    returning u.side, u.source, u.statements
  )
  insert into crossfade.write_minutes as m (pair, minute, step, side, source, statements)
  select sample_writes.pair, date_trunc('minute', clock_timestamp()), p.step, r.side, r.source,
    r.statements
  from read r join crossfade.pairs p on p.name = sample_writes.pair
  where r.statements > 0
  on conflict on constraint write_minutes_pkey
  do update set statements = m.statements + excluded.statements;
exception when lock_not_available then
  null;
end $$;

comment on function crossfade_private.sample_writes is
  'Add what was written since the last time to write_minutes, for the step the pair is in. Locks the pair''s rows of write_counters; does nothing while somebody else has them.';

create or replace function crossfade_private.write_counts(pair text, since timestamptz, step bigint)
returns jsonb
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_object_agg(q.side::text, q.sources) from (
    select u.side, jsonb_object_agg(u.source, coalesce(m.statements, 0)
      + case when (write_counts.step = p.step) is not false then u.statements else 0 end) as sources
    from crossfade_private.unread_writes(pair) u
    join crossfade.pairs p on p.name = write_counts.pair
    left join lateral (
      select sum(w.statements) as statements from crossfade.write_minutes w
      where w.pair = p.name and w.side = u.side and w.source = u.source
        and w.minute >= date_trunc('minute', write_counts.since)
        and (write_counts.step = w.step) is not false
    ) m on true
    group by u.side
  ) q;
$$;

comment on function crossfade_private.write_counts is
  'Statements since the minute of a moment, of one step or (null) of all: {"1": {"user", "service", "direct"}, "2"}.';

create or replace function crossfade_private.step_evidence(pair crossfade.pairs)
returns table (kind text, v2 bigint, failed bigint)
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select case when r.is_any then 'requests' else 'writes' end,
    case when r.is_any then (
      select coalesce(sum(m.requests), 0) from crossfade.request_minutes m
      where m.pair = p.name and m.step = p.step
        and m.minute >= date_trunc('minute', p.step_started_at)
        and m.backend_version = 2 and m.outcome in ('ok', 'error', 'fallback'))
      else (crossfade_private.write_counts(p.name, p.step_started_at, p.step)
        #>> '{2,user}')::numeric end::bigint,
    case when not r.is_any then (
      select count(*) from crossfade.mirror_failures f
      where f.pair = p.name and f.written_side = 2 and f.at >= p.step_started_at) end
  from (select (step_evidence.pair).*) p
  cross join lateral (
    -- Ever: a function that has fallen silent is no reason to judge by less.
    select exists (select from crossfade.request_minutes m where m.pair = p.name) as is_any
  ) r;
$$;

comment on function crossfade_private.step_evidence is
  'What is known of version 2 in the whole step: requests that functions recorded, or, where none has ever reported, the writes of its users (kind writes), and how many writes of version 2 did not reach version 1.';

create or replace function crossfade.pair_writes(pair text, minutes integer default 60)
returns jsonb
language plpgsql volatile
security definer -- API roles hold no right on crossfade_private
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_since timestamptz;
begin
  if coalesce(minutes, 0) not between 1 and 43200 then
    perform crossfade_private.fail(400, 'CF012', format('Invalid minutes %s', minutes),
      jsonb_build_object('minutes', minutes), 'minutes is 1 to 43200 (30 days).');
  end if;
  v_since := date_trunc('minute', clock_timestamp() - make_interval(mins => minutes));
  perform crossfade_private.sample_writes(pair);
  return jsonb_build_object('pair', v_pair.name, 'stage', v_pair.stage, 'since', v_since,
    'sides', crossfade_private.write_counts(pair, v_since, null),
    'minutes', (
      select coalesce(jsonb_agg(jsonb_build_object('minute', m.minute, 'side', m.side,
        'source', m.source, 'statements', m.statements)
        order by m.minute, m.side, m.source), '[]')
      from (
        select w.minute, w.side, w.source, sum(w.statements) as statements
        from crossfade.write_minutes w
        where w.pair = pair_writes.pair and w.minute >= v_since
        group by w.minute, w.side, w.source
      ) m),
    'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.pair_writes is
  'Statements that clients sent to either table in the last minutes (1 to 43200), counted by the mirror: {"pair", "stage", "since", "sides": {"1": {"user", "service", "direct"}, "2"}, "minutes": [{"minute", "side", "source", "statements"}] oldest first}. Nothing is counted in stage off, and V2 is not in complete. Reads the counters first: locks the pair''s rows of write_counters. CF001, CF012.';
