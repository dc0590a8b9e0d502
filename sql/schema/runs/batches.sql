-- What one batch of any run needs besides rows: its size, its end, what must not have changed.

create or replace function crossfade_private.next_batch_rows(
  old_rows bigint, ms_per_1000_rows numeric[], target_ms integer
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
  run_range crossfade.run_ranges, rows_read bigint, rows_written bigint, mismatches bigint,
  batch_ms numeric, fixed_ms numeric, target_ms integer
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_speed numeric[] := (run_range).ms_per_1000_rows;
begin
  if rows_read > 0 then
    -- What a batch costs whatever its rows would make few rows look slow, and the next batch have
    -- even fewer of them.
    v_speed := (v_speed || round(
      greatest(batch_ms - fixed_ms, batch_ms / 5) * 1000 / rows_read, 3))[
      greatest(cardinality(v_speed) - 8, 1):];
  end if;
  update crossfade.run_ranges a
  set cursor_key = (run_range).cursor_key, done = (run_range).done,
    rows_done = a.rows_done + finish_batch.rows_read,
    rows_written = a.rows_written + finish_batch.rows_written,
    mismatches = a.mismatches + finish_batch.mismatches, batches = a.batches + 1,
    ms_per_1000_rows = v_speed, timeouts = (run_range).timeouts,
    -- A batch that ran into a timeout has said already how many rows are next.
    batch_rows = case when rows_read = 0 or (run_range).timeouts > 0 then (run_range).batch_rows
      -- However short its target is, a batch works for twice as long as it takes to begin and end.
      else crossfade_private.next_batch_rows(finish_batch.rows_read, v_speed,
        greatest(target_ms - fixed_ms, 2 * fixed_ms)::integer) end,
    progress_at = case when rows_read > 0 or (run_range).done then clock_timestamp()
      else a.progress_at end,
    converters_seen = (run_range).converters_seen,
    converters_seen_at = (run_range).converters_seen_at,
    is_busy = (run_range).is_busy, load_seen = (run_range).load_seen,
    load_seen_at = (run_range).load_seen_at
  where a.run = (run_range).run and a.range = (run_range).range;
end $$;

comment on function crossfade_private.finish_batch is
  'Keep what a batch did, in its own transaction, with the cursor that run_range has now, and size the next batch. fixed_ms is the part of batch_ms that does not depend on the rows.';

create or replace function crossfade_private.check_unchanged(
  run crossfade.runs, pair crossfade.pairs, run_range crossfade.run_ranges
)
returns crossfade.run_ranges
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_range crossfade.run_ranges := run_range;
  v_seen text;
begin
  if to_regclass((pair).v1_table) is not null and to_regclass((pair).v2_table) is not null
    and (run).fingerprint = crossfade_private.table_fingerprint(
      ((pair).v1_table)::regclass, ((pair).v2_table)::regclass) then
    v_seen := crossfade_private.converters_version(pair);
    -- The hash takes longer than copying fifty rows: functions that the converters call are looked
    -- at once a second.
    if v_seen = (run_range).converters_seen
      and (run_range).converters_seen_at > clock_timestamp() - interval '1 s' then
      return v_range;
    end if;
    if (run).converter_hash = crossfade_private.converter_hash((pair).to_v2, (pair).to_v1) then
      v_range.converters_seen := v_seen;
      v_range.converters_seen_at := clock_timestamp();
      return v_range;
    end if;
  end if;
  perform crossfade_private.fail(409, 'CF011',
    format('Cannot continue run %s: a table or converter of "%s" has changed since it began',
      (run).id, (pair).name),
    jsonb_build_object('run', (run).id, 'pair', (pair).name),
    'Cancel the run, register the pair again, and start a new run.');
  return null;
end $$;

comment on function crossfade_private.check_unchanged is
  'CF011 when the tables or converters are not those the run began with. Returns the range with what was seen of the converters.';

create or replace function crossfade_private.batch_json(run bigint, state text, why jsonb)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'run', j.run, 'state', coalesce(batch_json.state, j.run ->> 'state'),
    'reason', why ->> 'reason', 'blocking', coalesce(why -> 'blocking', '[]'),
    'rows_read', 0, 'rows_written', 0, 'mismatches', 0, 'batch_ms', 0, 'wait_ms', 0,
    'flags_version', crossfade.flags_version())
  from (select crossfade_private.run_json(batch_json.run) run) j;
$$;

comment on function crossfade_private.batch_json is
  'The answer of a batch call before its own figures are added; why is {"reason", "blocking"} or null.';
