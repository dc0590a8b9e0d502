-- What one batch of any run needs besides rows: its size, its end, what must not have changed.

create or replace function crossfade_private.next_batch_rows(
  old_rows integer, ms_per_1000_rows numeric[], target_ms integer
)
returns integer
language sql stable
set search_path = pg_catalog, pg_temp
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

create or replace function crossfade_private.finish_batch(
  run_range crossfade.run_ranges, boundary jsonb, rows_read bigint, rows_written bigint,
  mismatches bigint, started_at timestamptz, target_ms integer
)
returns numeric
language plpgsql volatile
set search_path = pg_catalog, pg_temp
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
set search_path = pg_catalog, pg_temp
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
set search_path = pg_catalog, pg_temp
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
set search_path = pg_catalog, pg_temp
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
