-- What the health rules see besides requests: the memory of isolates, how V1 answered before it was
-- mirrored, whether a kill switch stands, and whether anybody watches at all.

-- Memory of isolates (R6) -------------------------------------------------------------------------

create table if not exists crossfade.memory_reports (
  id bigint generated always as identity primary key,
  pair text not null,
  at timestamptz not null default clock_timestamp(),
  used_bytes bigint not null,
  constraint used_bytes_is_positive check (used_bytes > 0)
);

create index if not exists memory_reports_pair_at_idx on crossfade.memory_reports (pair, at);

comment on table crossfade.memory_reports is
  'Memory that isolates of the edge function used, from events of record_requests with memory_bytes. Kept for an hour.';

create or replace function crossfade_private.record_memory(batch jsonb)
returns void
language plpgsql volatile
set search_path = ''
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

-- The baseline of dual write (R9) -----------------------------------------------------------------

create table if not exists crossfade.baselines (
  pair text primary key references crossfade.pairs on delete cascade on update cascade,
  at timestamptz not null default clock_timestamp(),
  requests bigint not null,
  p50_ms double precision not null,
  p95_ms double precision not null
);

comment on table crossfade.baselines is
  'How backend 1 answered in the last hour before the pair was mirrored, when it had enough requests (setting r9_min_requests). What R9 compares with.';

create or replace function crossfade_private.keep_baseline()
returns trigger
language plpgsql volatile
set search_path = ''
as $$
declare
  v_window jsonb := crossfade_private.backend_window(old.name, old.step, 1,
    date_trunc('minute', greatest(old.step_started_at, now()
      - crossfade_private.setting_number('health_window_max_s') * interval '1 s')));
begin
  if (v_window ->> 'requests')::bigint < crossfade_private.setting_number('r9_min_requests') then
    return null;
  end if;
  insert into crossfade.baselines as b (pair, requests, p50_ms, p95_ms)
  values (new.name, (v_window ->> 'requests')::bigint, (v_window ->> 'p50_ms')::double precision,
    (v_window ->> 'p95_ms')::double precision)
  on conflict on constraint baselines_pkey do update
  set at = clock_timestamp(), requests = excluded.requests, p50_ms = excluded.p50_ms,
    p95_ms = excluded.p95_ms;
  return null;
end $$;

comment on function crossfade_private.keep_baseline is
  'Trigger: when mirroring begins, keep how backend 1 answered until then.';

create or replace trigger crossfade_after_mirrored
after update of stage on crossfade.pairs
for each row when (old.stage = 'off' and new.stage = 'dualwrite')
execute function crossfade_private.keep_baseline();

-- Who watches (R12) -------------------------------------------------------------------------------

create table if not exists crossfade.monitors (
  singleton boolean primary key default true,
  holder text,
  generation bigint not null default 0,
  heartbeat_at timestamptz,
  lease_until timestamptz,
  constraint monitors_has_one_row check (singleton)
);

insert into crossfade.monitors default values on conflict do nothing;

comment on table crossfade.monitors is
  'One row: the monitor that decides now. All columns but generation are null when none runs. generation grows whenever another one takes over.';

create or replace function crossfade.monitor_beat(
  holder text, lease_s numeric default null, release boolean default false
)
returns jsonb
language plpgsql volatile
security definer -- written by this function only
set search_path = ''
as $$
declare
  v_row crossfade.monitors;
  v_now timestamptz := clock_timestamp();
  v_lease_s numeric := coalesce(lease_s, crossfade_private.setting_number('monitor_lease_s'));
begin
  if coalesce(btrim(holder), '') = '' or v_lease_s not between 1 and 3600 then
    perform crossfade_private.fail(400, 'CF012', 'Cannot beat: holder or lease_s is invalid',
      jsonb_build_object('holder', holder, 'lease_s', lease_s), 'lease_s is 1 to 3600 seconds.');
  end if;
  -- The row lock makes one of several monitors the first.
  select m.* into v_row from crossfade.monitors m for update;
  if release then
    update crossfade.monitors m set holder = null, heartbeat_at = null, lease_until = null
    where m.holder = monitor_beat.holder returning m.* into v_row;
  elsif v_row.holder is null or v_row.holder = monitor_beat.holder or v_row.lease_until < v_now then
    update crossfade.monitors m
    set holder = monitor_beat.holder, heartbeat_at = v_now,
      lease_until = v_now + make_interval(secs => v_lease_s::double precision),
      generation = m.generation
        + case when m.holder is distinct from monitor_beat.holder then 1 else 0 end
    returning m.* into v_row;
  end if;
  return jsonb_build_object('held', not release and v_row.holder is not distinct from
    monitor_beat.holder, 'holder', v_row.holder, 'generation', v_row.generation,
    'heartbeat_at', v_row.heartbeat_at, 'lease_until', v_row.lease_until,
    'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.monitor_beat is
  'Say that a monitor lives. However many beat, one holds the lease (setting monitor_lease_s) and decides: {"held", "holder", "generation", "heartbeat_at", "lease_until", "flags_version"}. Another takes over when the lease has run out. release: stop holding it. CF012.';

-- What the rules read -----------------------------------------------------------------------------

create or replace function crossfade_private.engaged_fences(pair text)
returns jsonb
language sql stable
set search_path = ''
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
set search_path = ''
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
