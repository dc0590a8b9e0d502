-- Runs: work in batches that survives a crash anywhere, because the cursor moves in the batch's
-- own transaction.

create table if not exists crossfade.runs (
  id bigint generated always as identity primary key,
  kind text not null,
  pair text not null references crossfade.pairs on delete cascade on update cascade,
  direction text not null,
  state text not null default 'running',
  reason text,
  rows_total bigint not null default 0,
  swept_rows bigint not null default 0,
  v1_requests bigint not null default 0,
  v1_p95_ms double precision,
  v1_error_rate numeric,
  fingerprint text not null,
  converter_hash text not null,
  started_by text not null default crossfade_private.actor(),
  started_at timestamptz not null default clock_timestamp(),
  finished_at timestamptz,
  constraint kind_is_known check (kind in ('backfill', 'verify')),
  constraint direction_is_known check (direction in ('v1_to_v2', 'v2_to_v1')),
  constraint run_state_is_known check (state in ('running', 'paused', 'finished', 'cancelled'))
);

create index if not exists runs_pair_idx on crossfade.runs (pair, kind, id desc);
create unique index if not exists runs_active_idx
  on crossfade.runs (pair, kind) where state in ('running', 'paused');

comment on table crossfade.runs is
  'A backfill or a verify pass over a pair. rows_total is an estimate made at the start; at most one active run per pair and kind.';
comment on column crossfade.runs.v1_requests is
  'Requests that V1 answered in the minutes before the run: with v1_p95_ms and v1_error_rate (null without requests) what batches are held to. Taken anew when V1 stays slow while no batch runs.';

create table if not exists crossfade.run_ranges (
  run bigint not null references crossfade.runs on delete cascade,
  range integer not null,
  after_key jsonb,
  upto_key jsonb,
  cursor_key jsonb,
  done boolean not null default false,
  rows_done bigint not null default 0,
  rows_written bigint not null default 0,
  mismatches bigint not null default 0,
  batches bigint not null default 0,
  batch_rows integer not null,
  ms_per_1000_rows numeric[] not null default '{}',
  timeouts integer not null default 0,
  progress_at timestamptz not null default clock_timestamp(),
  converters_seen text not null default '',
  converters_seen_at timestamptz not null default '-infinity',
  is_busy boolean not null default true,
  load_seen_at timestamptz not null default clock_timestamp(),
  load_seen bigint,
  primary key (run, range)
);

comment on table crossfade.run_ranges is
  'Disjoint key ranges of a run, (after_key, upto_key]; null is open. A worker holds one range by its row lock for one batch.';
comment on column crossfade.run_ranges.timeouts is
  'Batches in a row that ran into a timeout.';
comment on column crossfade.run_ranges.converters_seen is
  'Version of the two converters'' rows when their hash was last compared, at converters_seen_at.';
comment on column crossfade.run_ranges.is_busy is
  'Whether anybody else used the database between the last two looks. load_seen: transactions of others by then, at load_seen_at; null before the first look.';

create table if not exists crossfade.mismatches (
  id bigint generated always as identity primary key,
  pair text not null references crossfade.pairs on delete cascade on update cascade,
  run bigint references crossfade.runs on delete set null,
  key jsonb not null,
  kind text not null,
  columns text[] not null default '{}',
  found_at timestamptz not null default clock_timestamp(),
  resolved_at timestamptz,
  resolution text,
  last_attempt_at timestamptz,
  message text,
  is_slow boolean not null default false,
  preserved jsonb,
  constraint mismatch_kind_is_known check (kind in ('missing_v1', 'missing_v2', 'different'))
);

create unique index if not exists mismatches_open_idx
  on crossfade.mismatches (pair, key) where resolved_at is null;
create index if not exists mismatches_pair_idx on crossfade.mismatches (pair);
create index if not exists mismatches_run_idx on crossfade.mismatches (run);
create index if not exists mismatches_turn_idx
  on crossfade.mismatches (pair, last_attempt_at nulls first, id) where resolved_at is null;

comment on table crossfade.mismatches is
  'Rows that differ between the tables of a pair, confirmed by a second look; open while resolved_at is null. columns names the V1 columns and, as v2.NAME, the V2 columns that differ. preserved is the row a repair replaced or deleted.';
comment on column crossfade.mismatches.last_attempt_at is
  'When a repair last tried the row without success; null: never. The longest waiting come first.';
comment on column crossfade.mismatches.is_slow is
  'A repair of it, maybe among others, ran into a timeout: it is tried alone from then on.';
comment on column crossfade.mismatches.message is
  'Why the rows cannot be compared, or could not be repaired.';

create table if not exists crossfade_private.verify_cursors (
  pair text primary key references crossfade.pairs on delete cascade on update cascade,
  cursor_key jsonb,
  rows_checked bigint not null default 0,
  passes bigint not null default 0,
  checked_at timestamptz not null default clock_timestamp()
);

comment on table crossfade_private.verify_cursors is
  'Where verify_some stands; passes counts how often it has come to the end.';

create table if not exists crossfade_private.key_fills (
  table_name text,
  column_name text,
  cursor_key jsonb,
  done boolean not null default false,
  rows_done bigint not null default 0,
  rows_written bigint not null default 0,
  batches bigint not null default 0,
  batch_rows integer not null,
  ms_per_1000_rows numeric[] not null default '{}',
  started_at timestamptz not null default clock_timestamp(),
  progress_at timestamptz not null default clock_timestamp(),
  is_busy boolean not null default true,
  load_seen_at timestamptz not null default clock_timestamp(),
  load_seen bigint,
  primary key (table_name, column_name)
);

comment on table crossfade_private.key_fills is
  'How far the column of a carried key is filled, by the table''s primary key. The columns mean what they mean in crossfade.run_ranges.';
