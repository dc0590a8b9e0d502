-- Runs: work in batches that survives a crash anywhere, because the cursor moves in the batch's transaction.
-- Backfill copies the rows that were there before mirroring began.

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

create table if not exists crossfade_private.tombstones (
  id bigint generated always as identity primary key,
  pair text not null references crossfade.pairs on delete cascade on update cascade,
  side smallint not null,
  key jsonb not null
);

create index if not exists tombstones_pair_idx on crossfade_private.tombstones (pair, side, id);

comment on table crossfade_private.tombstones is
  'Keys deleted while a backfill runs. A deleter above READ COMMITTED may not see the copy made meanwhile; the final sweep removes it.';

-- Reading runs --------------------------------------------------------------------------------------

create or replace function crossfade_private.run_json(run bigint)
returns jsonb
language sql stable
set search_path = ''
as $$
  select jsonb_build_object(
    'id', r.id, 'kind', r.kind, 'pair', r.pair, 'direction', r.direction, 'state', r.state,
    'reason', r.reason, 'rows_total', r.rows_total, 'swept_rows', r.swept_rows,
    'rows_done', g.rows_done, 'rows_written', g.rows_written, 'mismatches', g.mismatches,
    'batches', g.batches, 'batch_rows', g.batch_rows, 'ranges', g.ranges, 'ranges_done', g.ranges_done,
    'started_at', r.started_at, 'progress_at', g.progress_at, 'finished_at', r.finished_at)
  from crossfade.runs r
  cross join lateral (
    select sum(a.rows_done) rows_done, sum(a.rows_written) rows_written, sum(a.mismatches) mismatches,
      sum(a.batches) batches, max(a.batch_rows) batch_rows, count(*) ranges,
      count(*) filter (where a.done) ranges_done, max(a.progress_at) progress_at
    from crossfade.run_ranges a where a.run = r.id
  ) g
  where r.id = run_json.run;
$$;

comment on function crossfade_private.run_json is 'A run with the sums over its ranges.';

create or replace function crossfade_private.get_run(run bigint)
returns crossfade.runs
language plpgsql stable
set search_path = ''
as $$
declare
  v_run crossfade.runs;
begin
  select r.* into v_run from crossfade.runs r where r.id = get_run.run;
  if not found then
    perform crossfade_private.fail(404, 'CF009', format('Unknown run %s', coalesce(get_run.run::text, 'null')),
      jsonb_build_object('run', get_run.run), 'crossfade backfill status lists the runs.');
  end if;
  return v_run;
end $$;

comment on function crossfade_private.get_run is 'The run''s row; CF009 when there is none.';

create or replace function crossfade.run_status(run bigint)
returns jsonb
language plpgsql stable
set search_path = ''
as $$
begin
  perform crossfade_private.get_run(run);
  return jsonb_build_object('run', crossfade_private.run_json(run), 'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.run_status is 'Progress of a run. CF009 for an unknown id.';

-- Starting ------------------------------------------------------------------------------------------

create or replace function crossfade_private.split_keys(
  pieces jsonb, ranges integer, bounded boolean, sample_pct real
)
returns table (range integer, after_key jsonb, upto_key jsonb)
language plpgsql volatile
set search_path = ''
as $$
begin
  -- The upper bound is fixed here: later rows are mirrored, and without it inserts could keep a run going.
  -- Cuts come from a sample, so that starting a run costs the same on ten rows and on ten million.
  return query execute crossfade_private.render($sql$
    with cf_sample as (
      select {skey_json_s} cf_key, ntile($1) over (order by {skey_s}) cf_part, {skey_s}
      from {source} cf_s tablesample system ($3)
      where $1 > 1
    ),
    cut as (
      select distinct on (cf_sample.cf_part) cf_sample.cf_part, cf_sample.cf_key
      from cf_sample order by cf_sample.cf_part, ({skey_sample}) desc
    ),
    bound (part, k) as (
      select c.cf_part::integer, c.cf_key from cut c where c.cf_part < $1
      union all
      select $1, (select {skey_json_s} from {source} cf_s order by {skey_desc} limit 1)
    )
    select row_number() over (order by b.part)::integer, lag(b.k) over (order by b.part),
      case when $2 or b.part < $1 then b.k end
    from bound b
  $sql$, pieces) using ranges, bounded, sample_pct;
end $$;

comment on function crossfade_private.split_keys is
  'Disjoint key ranges of about equal size, cut from a sample; the last one ends at the largest key, or is open above when not bounded.';

create or replace function crossfade_private.start_run(
  kind text, pair crossfade.pairs, direction text, ranges integer
)
returns bigint
language plpgsql volatile
set search_path = ''
as $$
declare
  v_side integer := case direction when 'v1_to_v2' then 1 else 2 end;
  v_pieces jsonb := crossfade_private.make_pieces(pair, v_side);
  v_rows bigint;
  v_run bigint;
begin
  if (pair).fingerprint <> crossfade_private.table_fingerprint(((pair).v1_table)::regclass, ((pair).v2_table)::regclass) then
    perform crossfade_private.fail(409, 'CF011', format('Cannot start: the columns of "%s" have changed since it was registered', (pair).name),
      jsonb_build_object('pair', (pair).name), 'Adapt the converters and register the pair again.');
  end if;
  -- Fresh statistics: without them the planner sorts the whole table for each batch.
  execute crossfade_private.render('analyze {source}', v_pieces);
  select greatest(c.reltuples, 0)::bigint into v_rows
  from pg_catalog.pg_class c where c.oid = (v_pieces ->> 'source')::regclass;
  insert into crossfade.runs (kind, pair, direction, rows_total, fingerprint, converter_hash)
  values (start_run.kind, (pair).name, start_run.direction, v_rows,
    crossfade_private.table_fingerprint(((pair).v1_table)::regclass, ((pair).v2_table)::regclass),
    crossfade_private.converter_hash((pair).to_v2, (pair).to_v1))
  returning id into v_run;
  insert into crossfade.run_ranges (run, range, after_key, upto_key, cursor_key)
  select v_run, s.range, s.after_key, s.upto_key, s.after_key
  from crossfade_private.split_keys(
    v_pieces, start_run.ranges, start_run.kind = 'backfill',
    least(100, 2000000 / greatest(v_rows, 1))::real) s;
  -- A backfill of an empty table has no upper bound and nothing to do.
  update crossfade.run_ranges a set done = true
  where a.run = v_run and a.upto_key is null and start_run.kind = 'backfill';
  return v_run;
end $$;

comment on function crossfade_private.start_run is
  'Create a run and its ranges. ANALYZEs the source (SHARE UPDATE EXCLUSIVE); rows_total is the estimate that gives.';

create or replace function crossfade.start_backfill(
  pair text, direction text default 'v1_to_v2', ranges integer default 1
)
returns jsonb
language plpgsql volatile
security definer -- reads and analyzes the owner's tables; only service_role may call it
set search_path = ''
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_run bigint;
begin
  if direction not in ('v1_to_v2', 'v2_to_v1') or ranges not between 1 and 64 then
    perform crossfade_private.fail(400, 'CF012', format('Invalid direction "%s" or ranges %s', direction, ranges),
      jsonb_build_object('direction', direction, 'ranges', ranges), 'direction is v1_to_v2 or v2_to_v1, ranges 1 to 64.');
  end if;
  perform from crossfade.pairs p where p.name = start_backfill.pair for update;
  select r.id into v_run from crossfade.runs r
  where r.pair = start_backfill.pair and r.kind = 'backfill' and r.state in ('running', 'paused');
  if found then
    return jsonb_build_object('run', crossfade_private.run_json(v_run), 'already', true);
  end if;
  if (select m.mirror from crossfade_private.mirror_state m where m.pair = start_backfill.pair) not in ('both', 'reverse') and not (
      v_pair.stage = 'complete' and direction = 'v2_to_v1') then
    perform crossfade_private.fail(409, 'CF005', format('Cannot backfill "%s": its writes are not mirrored (stage %s)', pair, v_pair.stage),
      jsonb_build_object('pair', pair, 'stage', v_pair.stage), 'crossfade stage set PAIR dualwrite, then backfill.');
  end if;
  update crossfade_private.mirror_state m
  set tombstones = true, mirror = case m.mirror when 'archived' then 'reverse' else m.mirror end
  where m.pair = start_backfill.pair;
  if v_pair.stage = 'complete' then
    -- The way back from complete begins here: V2 is mirrored again while V1 still refuses writes.
    update crossfade.pairs p set stage_xid = pg_current_xact_id()::text::bigint where p.name = start_backfill.pair;
  end if;
  v_run := crossfade_private.start_run('backfill', v_pair, direction, ranges);
  perform crossfade_private.audit('backfill.start', pair, null, null, crossfade_private.run_json(v_run));
  return jsonb_build_object('run', crossfade_private.run_json(v_run), 'already', false);
end $$;

comment on function crossfade.start_backfill is
  'Start copying the rows of one table to the other, or return the active run (already: true). ranges: key ranges that workers can take side by side. CF001, CF005 when not mirrored, CF012.';

create or replace function crossfade.control_run(run bigint, action text, reason text default null)
returns jsonb
language plpgsql volatile
security definer -- runs are changed by functions only
set search_path = ''
as $$
declare
  v_run crossfade.runs := crossfade_private.get_run(run);
  v_state text := case action when 'pause' then 'paused' when 'resume' then 'running' when 'cancel' then 'cancelled' end;
begin
  if v_state is null then
    perform crossfade_private.fail(400, 'CF012', format('Unknown action "%s"', action),
      jsonb_build_object('action', action), 'Use pause, resume or cancel.');
  end if;
  -- Locks the run after the batches of all workers: a worker holds it only at the end of a batch.
  select r.* into v_run from crossfade.runs r where r.id = control_run.run for update;
  if v_run.state not in ('running', 'paused') and v_run.state <> v_state then
    perform crossfade_private.fail(409, 'CF010', format('Cannot %s run %s: it is %s', action, run, v_run.state),
      jsonb_build_object('run', run, 'state', v_run.state), 'Start a new run.');
  end if;
  if v_run.state <> v_state then
    update crossfade.runs r
    set state = v_state, reason = control_run.reason,
      finished_at = case when v_state = 'cancelled' then clock_timestamp() end
    where r.id = control_run.run;
    perform crossfade_private.audit(format('%s.%s', v_run.kind, action), v_run.pair, reason, null, crossfade_private.run_json(run));
  end if;
  return jsonb_build_object('run', crossfade_private.run_json(run));
end $$;

comment on function crossfade.control_run is
  'Pause, resume or cancel a run; a batch under way ends first. Safe to repeat. CF009, CF010 when it has ended, CF012.';

-- Throttling ----------------------------------------------------------------------------------------

create or replace function crossfade_private.throttle_reason()
returns text
language sql volatile
set search_path = ''
as $$
  select case
    when a.active > crossfade_private.setting_number('throttle_active_sessions')
      then format('%s sessions are active (limit %s)', a.active, crossfade_private.setting_number('throttle_active_sessions'))
    when a.waiting > crossfade_private.setting_number('throttle_lock_waits')
      then format('%s sessions wait for a lock (limit %s)', a.waiting, crossfade_private.setting_number('throttle_lock_waits'))
    when l.lag_s > crossfade_private.setting_number('throttle_replay_lag_s')
      then format('a replica is %s s behind (limit %s)', round(l.lag_s, 1), crossfade_private.setting_number('throttle_replay_lag_s'))
  end
  from (
    select count(*) filter (where s.state = 'active') active,
      count(*) filter (where s.wait_event_type = 'Lock') waiting
    from pg_catalog.pg_stat_activity s
    where s.backend_type = 'client backend' and s.pid <> pg_backend_pid()
  ) a
  cross join (
    select extract(epoch from max(r.replay_lag))::numeric lag_s from pg_catalog.pg_stat_replication r
  ) l;
$$;

comment on function crossfade_private.throttle_reason is
  'Why a batch should wait (sessions, lock waits, replication lag against the settings throttle_*), or null.';

create or replace function crossfade_private.wait_reason(run crossfade.runs)
returns text
language plpgsql volatile
set search_path = ''
as $$
declare
  v_since bigint;
begin
  select p.stage_xid into v_since from crossfade.pairs p where p.name = (run).pair;
  -- Transactions that began to write before mirroring was on may still commit rows that nobody mirrored.
  if pg_snapshot_xmin(pg_current_snapshot())::text::bigint <= v_since then
    return 'transactions older than the switch to dualwrite are still open';
  end if;
  return null;
end $$;

comment on function crossfade_private.wait_reason is
  'Why the first batches of a run must wait, or null. Uses the oldest open writing transaction of the cluster.';

-- Batches -------------------------------------------------------------------------------------------

create or replace function crossfade_private.next_batch_rows(
  old_rows integer, ms_per_1000_rows numeric[], target_ms integer
)
returns integer
language sql stable
set search_path = ''
as $$
  -- The servo of Spirit (block/spirit, pkg/table): p90 of the last ten batches, growth at most 1.5x.
  select greatest(
    crossfade_private.setting_number('batch_min_rows'),
    least(
      crossfade_private.setting_number('batch_max_rows'),
      old_rows * 1.5 + 1,
      target_ms * 1000 / greatest(percentile_disc(0.9) within group (order by m), 0.001)
    )
  )::integer
  from unnest(ms_per_1000_rows) m;
$$;

comment on function crossfade_private.next_batch_rows is
  'Rows of the next batch so that it takes about target_ms.';

create or replace function crossfade_private.batch_boundary(
  pieces jsonb, run_range crossfade.run_ranges
)
returns jsonb
language plpgsql stable
set search_path = ''
as $$
declare
  v_boundary jsonb;
begin
  execute crossfade_private.render($sql$
    select {skey_json_s} from {source} cf_s
    where ($1 is null or ({skey_s}) > ({skey_1})) and ($2 is null or ({skey_s}) <= ({skey_2}))
    order by {skey_s} offset $3 - 1 limit 1
  $sql$, pieces) into v_boundary
  using (run_range).cursor_key, (run_range).upto_key, (run_range).batch_rows;
  return coalesce(v_boundary, (run_range).upto_key);
end $$;

comment on function crossfade_private.batch_boundary is
  'Key of the last row of the next batch; the end of the range when fewer rows are left (null when it is open).';

create or replace function crossfade_private.claim_range(run crossfade.runs)
returns crossfade.run_ranges
language sql volatile
set search_path = ''
as $$
  select a.* from crossfade.run_ranges a
  where a.run = (claim_range.run).id and not a.done
  order by a.range
  limit 1
  for update skip locked;
$$;

comment on function crossfade_private.claim_range is
  'Take a range that no other worker holds, until the transaction ends. A null row when there is none.';

create or replace function crossfade_private.finish_batch(
  run_range crossfade.run_ranges, boundary jsonb, rows_read bigint, rows_written bigint,
  mismatches bigint, started_at timestamptz, target_ms integer
)
returns numeric
language plpgsql volatile
set search_path = ''
as $$
declare
  v_ms numeric := extract(epoch from clock_timestamp() - started_at) * 1000;
  v_speed numeric[] := (run_range).ms_per_1000_rows;
begin
  if rows_read > 0 then
    v_speed := (v_speed || round(v_ms * 1000 / rows_read, 3))[greatest(cardinality(v_speed) - 8, 1):];
  end if;
  update crossfade.run_ranges a
  set cursor_key = boundary, done = boundary is not distinct from a.upto_key,
    rows_done = a.rows_done + finish_batch.rows_read, rows_written = a.rows_written + finish_batch.rows_written,
    mismatches = a.mismatches + finish_batch.mismatches, batches = a.batches + 1,
    ms_per_1000_rows = v_speed,
    batch_rows = case when cardinality(v_speed) = 0 then a.batch_rows
      else crossfade_private.next_batch_rows(a.batch_rows, v_speed, target_ms) end,
    progress_at = clock_timestamp()
  where a.run = (run_range).run and a.range = (run_range).range;
  return round(v_ms, 1);
end $$;

comment on function crossfade_private.finish_batch is
  'Move the cursor in the batch''s own transaction and size the next batch. Returns the milliseconds it took.';

create or replace function crossfade_private.check_unchanged(run crossfade.runs, pair crossfade.pairs)
returns void
language plpgsql volatile
set search_path = ''
as $$
begin
  if to_regclass((pair).v1_table) is null or to_regclass((pair).v2_table) is null
    or (run).fingerprint <> crossfade_private.table_fingerprint(((pair).v1_table)::regclass, ((pair).v2_table)::regclass)
    or (run).converter_hash <> crossfade_private.converter_hash((pair).to_v2, (pair).to_v1) then
    perform crossfade_private.fail(409, 'CF011',
      format('Cannot continue run %s: a table or converter of "%s" has changed since it began', (run).id, (pair).name),
      jsonb_build_object('run', (run).id, 'pair', (pair).name),
      'Cancel the run, register the pair again, and start a new run.');
  end if;
end $$;

comment on function crossfade_private.check_unchanged is 'CF011 when the tables or converters are not those the run began with.';

create or replace function crossfade_private.copy_range(
  pieces jsonb, after_key jsonb, boundary jsonb
)
returns bigint
language plpgsql volatile
set search_path = ''
set lock_timeout = '5s'
as $$
declare
  v_written bigint;
begin
  -- SAFETY: FOR SHARE holds off deletes and updates of these rows until the copy is committed;
  -- DO NOTHING leaves a newer counterpart alone. Without either, stale or deleted rows would appear.
  execute crossfade_private.render($sql$
    insert into {target} ({target_columns}) overriding system value
    select {tcolumns_c}
    from (
      select cf_s.* from {source} cf_s
      where ($1 is null or ({skey_s}) > ({skey_1})) and ({skey_s}) <= ({skey_2})
      order by {skey_s} for share of cf_s
    ) cf_n
    cross join lateral {convert}(row(cf_n.*)::{source}, null::{target}) cf_c
    on conflict ({target_key}) do nothing
  $sql$, pieces) using after_key, boundary;
  get diagnostics v_written = row_count;
  return v_written;
end $$;

comment on function crossfade_private.copy_range is
  'Copy the rows with keys in (after_key, boundary] that the target lacks. Locks those source rows FOR SHARE; waits at most 5 s for a row.';

create or replace function crossfade_private.sweep(run crossfade.runs, pieces jsonb)
returns bigint
language plpgsql volatile
set search_path = ''
as $$
declare
  v_swept bigint;
begin
  execute crossfade_private.render($sql$
    delete from {target} cf_t
    using crossfade_private.tombstones cf_z
    where cf_z.pair = $1 and cf_z.side = {side} and ({tkey_t}) = ({skey_z})
      and not exists (select from {source} cf_b where ({skey_b}) = ({skey_z}))
  $sql$, pieces) using (run).pair;
  get diagnostics v_swept = row_count;
  delete from crossfade_private.tombstones z where z.pair = (run).pair;
  update crossfade_private.mirror_state m set tombstones = false where m.pair = (run).pair;
  return v_swept;
end $$;

comment on function crossfade_private.sweep is
  'Remove copies whose source row was deleted while the backfill ran and whose deleter could not see the copy.';

create or replace function crossfade_private.run_pieces(pair crossfade.pairs, direction text)
returns jsonb
language sql stable
set search_path = ''
as $$
  select q.pieces from crossfade_private.pair_pieces q
  where q.pair = (run_pieces.pair).name
    and q.side = case run_pieces.direction when 'v1_to_v2' then 1 else 2 end;
$$;

comment on function crossfade_private.run_pieces is 'SQL fragments of the pair with the source of the direction as the source.';

create or replace function crossfade_private.batch_json(run bigint, state text, reason text)
returns jsonb
language sql stable
set search_path = ''
as $$
  select jsonb_build_object(
    'run', j.run, 'state', coalesce(batch_json.state, j.run ->> 'state'), 'reason', batch_json.reason,
    'rows_read', 0, 'rows_written', 0, 'mismatches', 0, 'batch_ms', 0, 'flags_version', crossfade.flags_version())
  from (select crossfade_private.run_json(batch_json.run) run) j;
$$;

comment on function crossfade_private.batch_json is 'The answer of a batch call before its own figures are added.';

create or replace function crossfade_private.range_rows(
  pieces jsonb, run_range crossfade.run_ranges, boundary jsonb
)
returns bigint
language plpgsql stable
set search_path = ''
as $$
declare
  v_rows bigint := (run_range).batch_rows;
begin
  -- Only the last batch of a range can hold another number of rows than was asked for.
  if boundary is not distinct from (run_range).upto_key then
    execute crossfade_private.render($sql$
      select count(*) from {source} cf_s
      where ($1 is null or ({skey_s}) > ({skey_1})) and ($2 is null or ({skey_s}) <= ({skey_2}))
    $sql$, pieces) into v_rows using (run_range).cursor_key, boundary;
  end if;
  return v_rows;
end $$;

comment on function crossfade_private.range_rows is 'Rows of the source that a batch up to boundary covers.';

create or replace function crossfade_private.finish_backfill(run crossfade.runs, pair crossfade.pairs, pieces jsonb)
returns void
language plpgsql volatile
set search_path = ''
as $$
declare
  v_swept bigint;
begin
  if exists (select from crossfade.run_ranges a where a.run = (finish_backfill.run).id and not a.done) then
    return;
  end if;
  -- The last workers may get here together; one of them finishes the run.
  perform from crossfade.runs r where r.id = (finish_backfill.run).id and r.state = 'running' for update;
  if not found then
    return;
  end if;
  v_swept := crossfade_private.sweep(run, pieces);
  update crossfade.runs r
  set state = 'finished', finished_at = clock_timestamp(), swept_rows = v_swept
  where r.id = (finish_backfill.run).id;
  update crossfade.pairs p
  set last_backfill_at = clock_timestamp(),
    needs_reverse_backfill = p.needs_reverse_backfill and (finish_backfill.run).direction <> 'v2_to_v1'
  where p.name = (pair).name;
  perform crossfade_private.audit(
    'backfill.finish', (pair).name, null, null, crossfade_private.run_json((finish_backfill.run).id));
end $$;

comment on function crossfade_private.finish_backfill is 'When no range is left: sweep, and mark the run and the pair.';

create or replace function crossfade.backfill_batch(run bigint, target_ms integer default 500)
returns jsonb
language plpgsql volatile
security definer -- copies rows of the owner's tables; only service_role may call it
set search_path = ''
as $$
declare
  v_run crossfade.runs := crossfade_private.get_run(run);
  v_pair crossfade.pairs := crossfade_private.get_pair(v_run.pair);
  v_range crossfade.run_ranges;
  v_pieces jsonb := crossfade_private.run_pieces(v_pair, v_run.direction);
  v_reason text;
  v_started timestamptz := clock_timestamp();
  v_boundary jsonb;
  v_read bigint := 0;
  v_written bigint := 0;
  v_ms numeric := 0;
begin
  if v_run.kind <> 'backfill' then
    perform crossfade_private.fail(409, 'CF010', format('Run %s is a %s, not a backfill', run, v_run.kind),
      jsonb_build_object('run', run, 'kind', v_run.kind), 'Use crossfade verify run.');
  end if;
  if v_run.state <> 'running' then
    return crossfade_private.batch_json(run, v_run.state, v_run.reason);
  end if;
  perform crossfade_private.check_unchanged(v_run, v_pair);
  v_reason := crossfade_private.wait_reason(v_run);
  if v_reason is not null then
    return crossfade_private.batch_json(run, 'waiting', v_reason);
  end if;
  v_reason := crossfade_private.throttle_reason();
  if v_reason is not null then
    return crossfade_private.batch_json(run, 'throttled', v_reason);
  end if;
  perform set_config('crossfade.engine', 'on', true);
  -- The copies are not news for the other side.
  perform set_config(format('crossfade.echo_%s_v%s', v_pair.name, v_pieces ->> 'other'), (pg_trigger_depth() + 1)::text, true);
  v_range := crossfade_private.claim_range(v_run);
  if v_range.run is not null then
    v_boundary := crossfade_private.batch_boundary(v_pieces, v_range);
    v_written := crossfade_private.copy_range(v_pieces, v_range.cursor_key, v_boundary);
    v_read := crossfade_private.range_rows(v_pieces, v_range, v_boundary);
    v_ms := crossfade_private.finish_batch(v_range, v_boundary, v_read, v_written, 0, v_started, target_ms);
  end if;
  perform crossfade_private.finish_backfill(v_run, v_pair, v_pieces);
  perform set_config(format('crossfade.echo_%s_v%s', v_pair.name, v_pieces ->> 'other'), '', true);
  perform set_config('crossfade.engine', '', true);
  return crossfade_private.batch_json(run, null, null) || jsonb_build_object(
    'rows_read', v_read, 'rows_written', v_written, 'batch_ms', v_ms);
end $$;

comment on function crossfade.backfill_batch is
  'Copy the next batch of a run in this transaction: {"run", "rows_read", "rows_written", "batch_ms", "state", "reason"}. state is running, waiting (older transactions), throttled, paused, finished or cancelled. Call it until it is finished; several workers may. Locks the batch''s source rows FOR SHARE. CF009, CF011; 55P03 when a row stays locked for 5 s.';
