-- What the health rules said, and what they see besides requests: the memory of isolates, how V1
-- answered before it was mirrored, whether anybody watches at all, who may see what.

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

create table if not exists crossfade.write_minutes (
  pair text not null references crossfade.pairs on delete cascade on update cascade,
  minute timestamptz not null,
  step bigint not null,
  side smallint not null,
  source text not null,
  statements bigint not null,
  primary key (pair, minute, step, side, source),
  constraint side_is_1_or_2 check (side in (1, 2)),
  constraint source_is_known check (source in ('user', 'service', 'direct'))
);

comment on table crossfade.write_minutes is
  'Statements that wrote a mirrored table, by the side they named and where they came from: user (roles anon and authenticated of the Data API), service (service_role), direct (everybody else). What the mirror and batches write does not count; a statement counts also when it found no row or was rolled back. minute is when the counters were read: by the monitor, at each step, and by pair_writes.';

create table if not exists crossfade_private.write_counters (
  pair text not null references crossfade.pairs on delete cascade on update cascade,
  side smallint not null,
  source text not null,
  counted bigint not null default 0,
  primary key (pair, side, source)
);

comment on table crossfade_private.write_counters is
  'How far the sequences that mirror triggers count with have been read into write_minutes.';

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

create table if not exists crossfade.baselines (
  pair text primary key references crossfade.pairs on delete cascade on update cascade,
  at timestamptz not null default clock_timestamp(),
  requests bigint not null,
  p50_ms double precision not null,
  p95_ms double precision not null
);

comment on table crossfade.baselines is
  'How backend 1 answered in the last hour before the pair was mirrored, when it had enough requests (setting r9_min_requests). What R9 compares with.';

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

create table if not exists crossfade.rls_checks (
  pair text primary key references crossfade.pairs on delete cascade on update cascade,
  at timestamptz not null default clock_timestamp(),
  users integer not null,
  differences integer not null
);

comment on table crossfade.rls_checks is
  'The last comparison of what users may see in both tables; differences above 0 block stage live.';
