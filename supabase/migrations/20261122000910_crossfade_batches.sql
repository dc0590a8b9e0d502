-- What one batch of any run needs: a reason to wait, a range, its rows, its size.

create or replace function crossfade_private.throttle_reason()
returns text
language sql volatile
set search_path = ''
as $$
  select case
    when a.active > crossfade_private.setting_number('throttle_active_sessions')
      then format('%s sessions are active (limit %s)', a.active,
        crossfade_private.setting_number('throttle_active_sessions'))
    when a.waiting > crossfade_private.setting_number('throttle_lock_waits')
      then format('%s sessions wait for a lock (limit %s)', a.waiting,
        crossfade_private.setting_number('throttle_lock_waits'))
    when l.lag_s > crossfade_private.setting_number('throttle_replay_lag_s')
      then format('a replica is %s s behind (limit %s)', round(l.lag_s, 1),
        crossfade_private.setting_number('throttle_replay_lag_s'))
  end
  from (
    select count(*) filter (where s.state = 'active') active,
      count(*) filter (where s.wait_event_type = 'Lock') waiting
    from pg_catalog.pg_stat_activity s
    where s.backend_type = 'client backend' and s.pid <> pg_backend_pid()
  ) a
  cross join (
    select extract(epoch from max(r.replay_lag))::numeric lag_s
      from pg_catalog.pg_stat_replication r
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
  -- Transactions that wrote before mirroring was on may still commit rows that nobody mirrored. The
  -- last of them got its number before the switch was committed, which it is by now.
  update crossfade.pairs p set stage_xid = pg_snapshot_xmax(pg_current_snapshot())::text::bigint
  where p.name = (run).pair and p.stage_xid is null;
  select p.stage_xid into v_since from crossfade.pairs p where p.name = (run).pair;
  if pg_snapshot_xmin(pg_current_snapshot())::text::bigint < v_since then
    return 'transactions older than the switch to dualwrite are still open';
  end if;
  return null;
end $$;

comment on function crossfade_private.wait_reason is
  'Why the first batches of a run must wait, or null. Uses the oldest open writing transaction of the cluster.';

create or replace function crossfade_private.next_batch_rows(
  old_rows integer, ms_per_1000_rows numeric[], target_ms integer
)
returns integer
language sql stable
set search_path = ''
as $$
  -- The servo of Spirit (block/spirit, pkg/table): p90 of the last ten batches, growth at most
  -- 1.5x.
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
    v_speed := (v_speed || round(v_ms * 1000 / rows_read, 3))[greatest(cardinality(v_speed) - 8,
      1):];
  end if;
  update crossfade.run_ranges a
  set cursor_key = boundary, done = boundary is not distinct from a.upto_key,
    rows_done = a.rows_done + finish_batch.rows_read,
      rows_written = a.rows_written + finish_batch.rows_written,
    mismatches = a.mismatches + finish_batch.mismatches, batches = a.batches + 1,
    ms_per_1000_rows = v_speed,
    batch_rows = case when cardinality(v_speed) = 0 then a.batch_rows
      else crossfade_private.next_batch_rows(a.batch_rows, v_speed,
        coalesce(target_ms, crossfade_private.setting_number('batch_target_ms')::integer)) end,
    progress_at = clock_timestamp()
  where a.run = (run_range).run and a.range = (run_range).range;
  return round(v_ms, 1);
end $$;

comment on function crossfade_private.finish_batch is
  'Move the cursor in the batch''s own transaction and size the next batch. Returns the milliseconds it took.';

create or replace function crossfade_private.check_unchanged(
  run crossfade.runs, pair crossfade.pairs
)
returns void
language plpgsql volatile
set search_path = ''
as $$
begin
  if to_regclass((pair).v1_table) is null or to_regclass((pair).v2_table) is null
    or (run).fingerprint <> crossfade_private.table_fingerprint(((pair).v1_table)::regclass,
      ((pair).v2_table)::regclass)
    or (run).converter_hash <> crossfade_private.converter_hash((pair).to_v2, (pair).to_v1) then
    perform crossfade_private.fail(409, 'CF011',
      format('Cannot continue run %s: a table or converter of "%s" has changed since it began',
        (run).id, (pair).name),
      jsonb_build_object('run', (run).id, 'pair', (pair).name),
      'Cancel the run, register the pair again, and start a new run.');
  end if;
end $$;

comment on function crossfade_private.check_unchanged is
  'CF011 when the tables or converters are not those the run began with.';

create or replace function crossfade_private.run_pieces(pair crossfade.pairs, direction text)
returns jsonb
language sql stable
set search_path = ''
as $$
  select q.pieces from crossfade_private.pair_pieces q
  where q.pair = (run_pieces.pair).name
    and q.side = case run_pieces.direction when 'v1_to_v2' then 1 else 2 end;
$$;

comment on function crossfade_private.run_pieces is
  'SQL fragments of the pair with the source of the direction as the source.';

create or replace function crossfade_private.batch_json(run bigint, state text, reason text)
returns jsonb
language sql stable
set search_path = ''
as $$
  select jsonb_build_object(
    'run', j.run, 'state', coalesce(batch_json.state, j.run ->> 'state'),
    'reason', batch_json.reason,
    'rows_read', 0, 'rows_written', 0, 'mismatches', 0, 'batch_ms', 0,
    'flags_version', crossfade.flags_version())
  from (select crossfade_private.run_json(batch_json.run) run) j;
$$;

comment on function crossfade_private.batch_json is
  'The answer of a batch call before its own figures are added.';

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

comment on function crossfade_private.range_rows is
  'Rows of the source that a batch up to boundary covers.';
