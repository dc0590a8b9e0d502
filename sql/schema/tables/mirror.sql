-- What the mirror reads, and the writes that it could not carry over.

create table if not exists crossfade_private.mirror_state (
  pair text primary key references crossfade.pairs on delete cascade on update cascade,
  mirror text not null default 'off',
  failure_policy text not null default 'record',
  tombstones boolean not null default false,
  opened boolean not null default false,
  constraint mirror_is_known check (mirror in ('off', 'both', 'log_only', 'archived', 'reverse')),
  constraint failure_policy_is_known check (failure_policy in ('record', 'raise'))
);

comment on table crossfade_private.mirror_state is
  'off: nothing is mirrored. both: either table to the other. log_only: only the keys of changed rows are noted, as open failures that repair drains. archived: stage complete, V1 refuses writes. reverse: complete on the way back, V2 is mirrored and V1 still refuses writes. Apart from crossfade.pairs, so that bookkeeping there never conflicts with writers.';
comment on column crossfade_private.mirror_state.opened is
  'Whether API roles may write V2: from the first finished backfill on, until the stage is off; not while the mirror is log_only or its notes are not drained.';

create table if not exists crossfade_private.engine_writes (
  transaction_id xid8 primary key,
  pair text not null
);

comment on table crossfade_private.engine_writes is
  'The pair whose tables a batch or repair is writing in this transaction, so that triggers know its rows for copies. A row is there for no longer than that; what a crash leaves names a transaction that is over.';

create table if not exists crossfade.mirror_failures (
  id bigint generated always as identity primary key,
  pair text not null references crossfade.pairs on delete cascade on update cascade,
  written_side smallint not null,
  key jsonb not null,
  operation text not null,
  error_code text not null,
  message text not null,
  at timestamptz not null default clock_timestamp(),
  attempts integer not null default 1,
  resolved_at timestamptz,
  resolution text
);

-- IF NOT EXISTS would lock the table all the same, and writers that wait for that would deadlock with
-- a release that waits for them.
do $$
begin
  if to_regclass('crossfade.mirror_failures_open_idx') is null then
    create unique index mirror_failures_open_idx
      on crossfade.mirror_failures (pair, key) where resolved_at is null;
  end if;
  if to_regclass('crossfade.mirror_failures_pair_idx') is null then
    create index mirror_failures_pair_idx on crossfade.mirror_failures (pair, at);
  end if;
end $$;

comment on table crossfade.mirror_failures is
  'Writes that reached one table only. key uses the V1 column names; written_side says which table is right; open while resolved_at is null.';

create table if not exists crossfade_private.tombstones (
  id bigint generated always as identity primary key,
  pair text not null references crossfade.pairs on delete cascade on update cascade,
  side smallint not null,
  key jsonb not null
);

do $$
begin
  if to_regclass('crossfade_private.tombstones_pair_idx') is null then
    create index tombstones_pair_idx on crossfade_private.tombstones (pair, side, id);
  end if;
  if to_regclass('crossfade_private.tombstones_key_idx') is null then
    -- A hash has no longest key: an index that refuses one would fail the delete that leaves it.
    create index tombstones_key_idx on crossfade_private.tombstones using hash (key);
  end if;
end $$;

comment on table crossfade_private.tombstones is
  'Keys deleted while a backfill runs. A deleter above READ COMMITTED may not see the copy made meanwhile; the final sweep removes it.';
