-- The control state saved whole, and every rollback with what it kept.

create table if not exists crossfade.snapshots (
  id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  actor text not null,
  reason text not null default '',
  state jsonb not null
);

comment on table crossfade.snapshots is
  'Saved control state. state: {"flags_version", "wal_lsn", "flags": [row], "kill_switches": [row], "cohorts": [row], "pairs": [{name, stage, step, converter_hash, fingerprint, last_clean_verify_at, open_failures, v1_rows, v2_rows, ...}]}; rows are the planner''s estimates. Settings are not part of it.';

create table if not exists crossfade.rollbacks (
  id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  actor text not null,
  level text not null,
  scope text not null,
  reason text not null,
  automatic boolean not null default false,
  before jsonb not null,
  after jsonb not null,
  snapshot bigint references crossfade.snapshots on delete set null,
  flags_version bigint not null,
  preserved jsonb not null default '{}',
  touches jsonb not null default '[]',
  constraint level_is_known check (level in ('FEATURE', 'PARTIAL', 'COMPLETE', 'EMERGENCY'))
);

create index if not exists rollbacks_snapshot_idx on crossfade.rollbacks (snapshot);

comment on table crossfade.rollbacks is
  'Log of rollbacks that changed something. before and after: object -> values of each changed object; snapshot: the state before it, null when somebody deleted that; preserved: pair -> {"open_failures", "rows": [{failure, row}], "truncated"}, what one table held alone at that moment; touches: what else it changed, [{"object", "effect"}].';
