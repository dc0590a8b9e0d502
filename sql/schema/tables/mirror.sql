-- What the mirror reads, and the writes that it could not carry over.

create table if not exists crossfade_private.mirror_state (
  pair text primary key references crossfade.pairs on delete cascade on update cascade,
  mirror text not null default 'off',
  failure_policy text not null default 'record',
  tombstones boolean not null default false,
  opened boolean not null default false,
  unproven boolean not null default false,
  watched_since timestamptz,
  constraint mirror_is_known check (
    mirror in ('off', 'waiting', 'both', 'log_only', 'archived', 'reverse')),
  constraint failure_policy_is_known check (failure_policy in ('record', 'raise'))
);

comment on table crossfade_private.mirror_state is
  'off: nothing is mirrored. waiting: nothing yet, its rows refer to rows of pairs that are not copied; its backfill switches it on. both: either table to the other. log_only: only the keys of changed rows are noted, as open failures that repair drains. archived: stage complete, V1 refuses writes. reverse: complete on the way back, whole rows of V2 are mirrored and V1 still refuses writes. Apart from crossfade.pairs, so that bookkeeping there never conflicts with writers.';
comment on column crossfade_private.mirror_state.opened is
  'Whether API roles may write V2: from the first finished backfill on, until the stage is off; not while it is unproven, nor while the mirror is log_only or its notes are not drained.';

comment on column crossfade_private.mirror_state.unproven is
  'V2 had rows when mirroring began, of a time before that or by hand. They may say what V1 said then, or whose a row was: V2 stays closed until a verify pass after the backfill finds no difference.';
comment on column crossfade_private.mirror_state.watched_since is
  'Since when writes of V1 that are not the mirror''s are noted in v1_writes: stage rampdown. Null in the others.';

create table if not exists crossfade_private.v1_writes (
  pair text not null references crossfade.pairs on delete cascade on update cascade,
  session_pid integer not null,
  at timestamptz not null default clock_timestamp(),
  role text not null,
  application text not null,
  called_by text,
  primary key (pair, session_pid)
);

comment on table crossfade_private.v1_writes is
  'The last direct write of V1 by each session in stage rampdown, at most 10 s too old. called_by: the function of a trigger; null for a client''s own statement.';

create table if not exists crossfade_private.engine_writes (
  transaction_id xid8 primary key,
  pair text not null,
  depth integer not null
);

comment on table crossfade_private.engine_writes is
  'The pair whose tables a batch or repair is writing in this transaction, so that triggers know its rows for copies. A row is there for no longer than that; what a crash leaves names a transaction that is over.';
comment on column crossfade_private.engine_writes.depth is
  'Depth of triggers in which the batch or repair was called: what is written deeper, triggers of the tables write.';

create table if not exists crossfade_private.rights_checks (
  transaction_id xid8 primary key
);

comment on table crossfade_private.rights_checks is
  'Transactions in which check_rls compares the rights of users, whichever version serves them. A row is there for no longer than that, as in engine_writes.';

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
  last_attempt_at timestamptz,
  is_slow boolean not null default false,
  moved_to jsonb,
  resolved_at timestamptz,
  resolution text
);

comment on table crossfade.mirror_failures is
  'Writes that reached one table only. key uses the V1 column names; written_side says which table is right; open while resolved_at is null.';
comment on column crossfade.mirror_failures.last_attempt_at is
  'When a repair last tried the row without success; null: never. The longest waiting come first.';
comment on column crossfade.mirror_failures.moved_to is
  'The row has this key by now; its counterpart could not follow and still has key. It holds what only its table knows, so it is moved, never made anew.';
comment on column crossfade.mirror_failures.is_slow is
  'A repair of it, maybe among others, ran into a timeout: it is tried alone from then on.';

create table if not exists crossfade_private.tombstones (
  id bigint generated always as identity primary key,
  pair text not null references crossfade.pairs on delete cascade on update cascade,
  side smallint not null,
  key jsonb not null
);

comment on table crossfade_private.tombstones is
  'Keys deleted while a backfill runs. A deleter above READ COMMITTED may not see the copy made meanwhile; the final sweep removes it.';

create unlogged table if not exists crossfade_private.truncated_keys (
  pair text not null,
  side smallint not null,
  key jsonb not null
);

comment on table crossfade_private.truncated_keys is
  'Keys of the counterparts of rows that a TRUNCATE under way empties. A transaction sees its own ones only, and leaves none.';

create unlogged table if not exists crossfade_private.moved_rows (
  id bigint generated always as identity primary key,
  pair text not null,
  side smallint not null,
  depth integer not null,
  old_row text not null,
  new_row text not null
);

comment on table crossfade_private.moved_rows is
  'Rows of partitioned tables whose key a statement under way changes: MERGE tells no trigger of a statement that it has moved a row to another partition. A transaction sees its own ones only, and leaves none.';

-- CREATE INDEX IF NOT EXISTS would lock the table where there is nothing to do. Clients write
-- these, and a release that waits for a client who waits for its end would never refresh a pair.
do $$
declare
  v_index record;
begin
  for v_index in
    select * from (values
      ('crossfade.mirror_failures_open_idx', 'create unique index mirror_failures_open_idx
        on crossfade.mirror_failures (pair, key) where resolved_at is null'),
      ('crossfade.mirror_failures_pair_idx', 'create index mirror_failures_pair_idx
        on crossfade.mirror_failures (pair, at)'),
      ('crossfade.mirror_failures_turn_idx', 'create index mirror_failures_turn_idx
        on crossfade.mirror_failures (pair, last_attempt_at nulls first, id)
        where resolved_at is null'),
      ('crossfade.mirror_failures_side_idx', 'create index mirror_failures_side_idx
        on crossfade.mirror_failures (pair, written_side) where resolved_at is null'),
      -- Few rows or none: asked by every write that finds no counterpart.
      ('crossfade.mirror_failures_moved_idx', 'create index mirror_failures_moved_idx
        on crossfade.mirror_failures (pair) where resolved_at is null and moved_to is not null'),
      ('crossfade_private.tombstones_pair_idx', 'create index tombstones_pair_idx
        on crossfade_private.tombstones (pair, side, id)'),
      -- A hash has no longest key: an index that refuses one would fail the delete that leaves it.
      ('crossfade_private.tombstones_key_idx', 'create index tombstones_key_idx
        on crossfade_private.tombstones using hash (key)')
    ) i(name, statement)
    where to_regclass(i.name) is null
  loop
    execute v_index.statement;
  end loop;
end $$;
