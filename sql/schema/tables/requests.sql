-- Request metrics: minute buckets with a latency histogram, the streak of errors, counts by hour,
-- so that a month can be looked at in a moment, and totals that only grow.

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

create table if not exists crossfade_private.failing_callers (
  pair text not null references crossfade.pairs on delete cascade on update cascade,
  backend_version smallint not null,
  caller smallint not null,
  step bigint not null,
  failures bigint not null,
  counted bigint not null,
  last_at timestamptz not null default clock_timestamp(),
  primary key (pair, backend_version, caller)
);

comment on table crossfade_private.failing_callers is
  'Failures by caller in a step, and how many of them were counted against the backend. A caller is a keyed hash of 12 bits of a user''s id, which names nobody; so a pair has at most 8192 rows.';

create table if not exists crossfade_private.bundles (
  pair text not null references crossfade.pairs on delete cascade on update cascade,
  flags_version bigint not null,
  last_at timestamptz not null default clock_timestamp(),
  primary key (pair, flags_version)
);

comment on table crossfade_private.bundles is
  'flags_version of the flags that were deployed with functions of a pair (0: none), and when such a function last said so, to the minute. Forgotten a day after a newer report.';

create table if not exists crossfade.request_hours (
  pair text not null,
  hour timestamptz not null,
  backend_version smallint not null,
  wire_version smallint not null,
  outcome text not null,
  latency_bucket smallint not null,
  requests bigint not null,
  primary key (pair, hour, backend_version, wire_version, outcome, latency_bucket)
);

comment on table crossfade.request_hours is
  'request_minutes summed by hour, without step and flag set. Filled by roll_up_requests; the hours since then are in request_minutes only. It keeps its hours when minutes are purged.';

create table if not exists crossfade.request_totals (
  pair text not null,
  backend_version smallint not null,
  wire_version smallint not null,
  outcome text not null,
  latency_bucket smallint not null,
  requests bigint not null,
  primary key (pair, backend_version, wire_version, outcome, latency_bucket)
);

comment on table crossfade.request_totals is
  'All requests that roll_up_requests has summed, ever. With the minutes since then it is a counter that never falls.';

create table if not exists crossfade_private.rollup (
  singleton boolean primary key default true,
  upto timestamptz not null default '-infinity',
  constraint rollup_has_one_row check (singleton)
);

insert into crossfade_private.rollup default values on conflict do nothing;

comment on table crossfade_private.rollup is
  'One row. Every minute before upto is in request_hours and request_totals; no later one is.';
