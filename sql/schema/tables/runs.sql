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
  batch_rows integer not null default 1000,
  ms_per_1000_rows numeric[] not null default '{}',
  progress_at timestamptz not null default clock_timestamp(),
  primary key (run, range)
);

comment on table crossfade.run_ranges is
  'Disjoint key ranges of a run, (after_key, upto_key]; null is open. A worker holds one range by its row lock for one batch.';

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
  preserved jsonb,
  constraint mismatch_kind_is_known check (kind in ('missing_v1', 'missing_v2', 'different'))
);

create unique index if not exists mismatches_open_idx
  on crossfade.mismatches (pair, key) where resolved_at is null;
create index if not exists mismatches_pair_idx on crossfade.mismatches (pair);
create index if not exists mismatches_run_idx on crossfade.mismatches (run);

comment on table crossfade.mismatches is
  'Rows that differ between the tables of a pair, confirmed by a second look; open while resolved_at is null. columns names the V1 columns and, as v2.NAME, the V2 columns that differ. preserved is the row a repair replaced or deleted.';

create table if not exists crossfade_private.verify_cursors (
  pair text primary key references crossfade.pairs on delete cascade on update cascade,
  cursor_key jsonb,
  rows_checked bigint not null default 0,
  passes bigint not null default 0,
  checked_at timestamptz not null default clock_timestamp()
);

comment on table crossfade_private.verify_cursors is
  'Where verify_some stands; passes counts how often it has come to the end.';
