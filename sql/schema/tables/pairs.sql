-- Pairs: which tables belong together and how rows are converted; and who is served by V2.

create table if not exists crossfade.pairs (
  name text primary key,
  v1_table text not null,
  v1_view text,
  v2_table text not null,
  to_v2 text not null,
  to_v1 text not null,
  key_columns text[] not null,
  v2_key_columns text[] not null,
  gate_flag text,
  stage text not null default 'off',
  step bigint not null default 1,
  step_started_at timestamptz not null default clock_timestamp(),
  step_flags_version bigint not null default 0,
  generator text not null default '',
  stage_xid bigint default 0,
  stage_server_started_at timestamptz,
  latched_at timestamptz,
  latch_reason text,
  fingerprint text not null,
  converter_hash text not null,
  verified_converter_hash text,
  last_backfill_at timestamptz,
  last_clean_verify_at timestamptz,
  full_since timestamptz,
  needs_reverse_backfill boolean not null default false,
  moved_sequences jsonb not null default '[]',
  options jsonb not null default '{}',
  registered_at timestamptz not null default clock_timestamp(),
  constraint pair_name_is_a_short_identifier check (name ~ '^[a-z][a-z0-9_]{0,39}$'),
  constraint stage_is_known check (
    stage in ('off', 'dualwrite', 'shadow', 'live', 'rampdown', 'complete', 'retired')
  )
);

comment on table crossfade.pairs is
  'One row per pair. Changed only by functions; step counts stage and percentage changes and labels request metrics.';
comment on column crossfade.pairs.v1_table is
  'The table of version 1. In stage retired its name is that of the archive.';
comment on column crossfade.pairs.v1_view is
  'In stage retired the name that V1 had, and which the view over V2 has now; null in the others.';
comment on column crossfade.pairs.stage_xid is
  'Transactions below it may have written before mirroring was on, so a backfill waits until they have ended. Null after the switch until the first batch knows it: a writer that misses the switch may begin as late as its commit.';
comment on column crossfade.pairs.stage_server_started_at is
  'When the server that stage_xid is of was started: transaction numbers mean nothing in another cluster, and after a restart no older transaction is open.';
comment on column crossfade.pairs.generator is
  'Release whose texts made the mirror functions of the pair.';
comment on column crossfade.pairs.fingerprint is
  'Hash of the columns of both tables when the generated code was made; batches refuse to run when it differs (CF011).';
comment on column crossfade.pairs.full_since is
  'Since when backend 2 has served everybody; null while it does not.';

comment on column crossfade.pairs.moved_sequences is
  'What entering complete did so that V2''s defaults do not need V1: [{"column": of V2, "sequence", "owner": V1''s column that owned it, or "before": the default that V2 had}]; the way back undoes it.';

create table if not exists crossfade.cohorts (
  pair text primary key references crossfade.pairs on delete cascade on update cascade,
  percentage numeric(6, 3) not null default 0,
  cohort_key text not null,
  enabled_user_ids text[] not null default '{}',
  enabled_agent_ids text[] not null default '{}',
  denied_user_ids text[] not null default '{}',
  denied_agent_ids text[] not null default '{}',
  updated_at timestamptz not null default clock_timestamp(),
  updated_by text not null default crossfade_private.actor(),
  constraint percentage_is_0_to_100 check (percentage between 0 and 100)
);

comment on table crossfade.cohorts is
  'The units that backend 2 serves in stage live: percentage 0 to 100 (three decimals), allow and deny lists. Deny wins.';

create table if not exists crossfade_private.partitions (
  pair text not null references crossfade.pairs on delete cascade on update cascade,
  side smallint not null,
  name text not null,
  is_uncopied boolean not null default false,
  primary key (pair, side, name),
  constraint side_is_1_or_2 check (side in (1, 2))
);

comment on table crossfade_private.partitions is
  'Partitions of a pair''s tables that have its triggers. Others are new and mirrored by their late triggers.';
comment on column crossfade_private.partitions.is_uncopied is
  'It was attached with rows that the other table did not have; until a backfill from this side.';

create table if not exists crossfade_private.pair_pieces (
  pair text not null references crossfade.pairs on delete cascade on update cascade,
  side smallint not null,
  pieces jsonb not null,
  primary key (pair, side),
  constraint side_is_1_or_2 check (side in (1, 2))
);

comment on table crossfade_private.pair_pieces is
  'SQL fragments (column lists, key lists) per pair with this side as the source; filled into templates by render().';
