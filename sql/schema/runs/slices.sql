-- The work of one batch: parts of a range, each twice as large as the last, until its time is used.
-- A part that runs into a timeout is undone, what came before it stays, the next batch is smaller.

create or replace function crossfade_private.do_slice(
  run crossfade.runs, pieces jsonb, after_key jsonb, boundary jsonb
)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  return case (run).kind
    when 'backfill' then crossfade_private.copy_batch(pieces, after_key, boundary)
    else crossfade_private.record_mismatches((run).pair, (run).id, pieces, after_key, boundary) end;
end $$;

comment on function crossfade_private.do_slice is
  'Copy or compare the rows in (after_key, boundary]; returns rows written, or rows that differ.';

create or replace function crossfade_private.pass_row(
  run crossfade.runs, pieces jsonb, row_key jsonb, error_code text
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_message constant text := 'the row alone runs into a timeout, twice';
begin
  if (run).kind = 'backfill' then
    insert into crossfade.mirror_failures (pair, written_side, key, operation, error_code, message)
    values ((run).pair, (pieces ->> 'side')::smallint, row_key, 'BACKFILL', error_code,
      v_message)
    on conflict (pair, key) where resolved_at is null do nothing;
  else
    perform crossfade_private.record_incomparable((run).pair, (run).id, row_key,
      format('%s: %s', error_code, v_message));
  end if;
end $$;

comment on function crossfade_private.pass_row is
  'Record a row that no batch can do, so that the run can go on behind it.';

create or replace function crossfade_private.shrink(
  run crossfade.runs, pieces jsonb, run_range crossfade.run_ranges, error_code text
)
returns crossfade.run_ranges
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_range crossfade.run_ranges := run_range;
begin
  -- A lock that somebody holds says nothing about the row: that is waited for.
  if v_range.batch_rows = 1 and v_range.timeouts > 0 and error_code <> '55P03' then
    v_range.cursor_key := crossfade_private.batch_boundary(
      pieces, v_range, (run).kind = 'verify');
    if v_range.cursor_key is not null then
      perform crossfade_private.pass_row(run, pieces, v_range.cursor_key, error_code);
    end if;
    v_range.done := v_range.cursor_key is not distinct from v_range.upto_key;
    v_range.timeouts := 0;
    return v_range;
  end if;
  v_range.batch_rows := greatest(1, v_range.batch_rows / 2);
  v_range.timeouts := v_range.timeouts + 1;
  return v_range;
end $$;

comment on function crossfade_private.shrink is
  'The range after a batch that ran into a timeout: half the rows next time; a single row that did so twice is recorded and passed.';

create or replace function crossfade_private.do_slices(
  run crossfade.runs, pieces jsonb, run_range crossfade.run_ranges, target_ms integer,
  started_at timestamptz
)
returns table (
  new_range crossfade.run_ranges, rows_read bigint, rows_found bigint, fixed_ms numeric,
  error_code text
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_most bigint := crossfade_private.setting_number('batch_max_rows');
  v_both constant boolean := (run).kind = 'verify';
  v_boundary jsonb;
  v_slice_at timestamptz;
  v_found bigint;
  v_rows bigint;
  v_left_ms double precision;
begin
  new_range := run_range;
  new_range.batch_rows := least(new_range.batch_rows, v_most);
  rows_read := 0;
  rows_found := 0;
  loop
    v_slice_at := clock_timestamp();
    begin
      v_boundary := crossfade_private.batch_boundary(pieces, new_range, v_both);
      -- The end of a batch takes about as long as its beginning, and planning to compare as both.
      fixed_ms := coalesce(fixed_ms, case when v_both then 4000 else 2000 end
        * extract(epoch from clock_timestamp() - started_at));
      v_found := crossfade_private.do_slice(run, pieces, new_range.cursor_key, v_boundary);
      v_rows := crossfade_private.range_rows(pieces, new_range, v_boundary, v_both);
    exception
      when query_canceled or lock_not_available or out_of_memory then
        -- A person who cancels gets what was done before, too: nothing tells that from the timeout
        -- of a client or a proxy.
        error_code := sqlstate;
      when serialization_failure then
        -- A row that was waited for has moved to another partition.
        error_code := '55P03';
    end;
    if error_code is not null then
      v_boundary := new_range.cursor_key;
      new_range := crossfade_private.shrink(run, pieces, new_range, error_code);
      if new_range.cursor_key is distinct from v_boundary then
        rows_read := rows_read + 1;
        rows_found := rows_found + v_both::integer; -- not compared is not equal
      end if;
      exit;
    end if;
    new_range.cursor_key := v_boundary;
    new_range.done := v_boundary is not distinct from new_range.upto_key;
    new_range.timeouts := 0;
    rows_read := rows_read + v_rows;
    rows_found := rows_found + v_found;
    v_left_ms := target_ms - extract(epoch from clock_timestamp() - started_at) * 1000;
    -- Not for a small rest: a part has costs of its own. And no more than one part at the beginning
    -- and after a timeout.
    exit when new_range.done or v_left_ms < target_ms / 4.0 or rows_read >= v_most or v_rows = 0
      or (run_range).batches = 0 or (run_range).timeouts > 0;
    new_range.batch_rows := greatest(1, least(v_most - rows_read, v_rows * 2, v_left_ms * v_rows
      / greatest(0.001, extract(epoch from clock_timestamp() - v_slice_at) * 1000)));
  end loop;
  return next;
end $$;

comment on function crossfade_private.do_slices is
  'Do parts of a range until target_ms after started_at, at most batch_max_rows rows. error_code: the part that ended in statement_timeout (57014), a lock (55P03) or memory (53200) is undone. new_range is the range to be kept.';

create or replace function crossfade_private.shrunk_reason(
  pieces jsonb, before crossfade.run_ranges, after crossfade.run_ranges, error_code text
)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_why constant jsonb := case error_code
    when '55P03' then crossfade_private.locked_reason('a row stays locked',
      array[pieces ->> 'source', pieces ->> 'target']::regclass[])
    when '57014'
      then '{"reason": "the batch was cancelled or ran into statement_timeout"}'::jsonb
    else '{"reason": "the batch ran out of memory"}' end;
begin
  return v_why || jsonb_build_object('reason', concat_ws('; ', v_why ->> 'reason', case
    when (after).timeouts = 0 then 'its only row is recorded and passed'
    when (after).batch_rows < (before).batch_rows
      then format('the next has %s rows', (after).batch_rows) end));
end $$;

comment on function crossfade_private.shrunk_reason is
  'Why a batch did not get through, and what comes next: {"reason", "blocking"}.';

create or replace function crossfade_private.run_batch(
  run crossfade.runs, pair crossfade.pairs, pieces jsonb, wanted_ms integer
)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_started constant timestamptz := clock_timestamp();
  v_throttle constant jsonb := crossfade_private.throttle(run);
  v_range crossfade.run_ranges;
  v_done record;
  v_target_ms integer;
  v_ms numeric;
begin
  if v_throttle ? 'reason' then
    return v_throttle || '{"state": "throttled"}'::jsonb;
  end if;
  v_range := crossfade_private.check_unchanged(run, pair, crossfade_private.claim_range(run));
  if v_range.run is null then
    return '{}'::jsonb;
  end if;
  v_range := crossfade_private.look_at_load(v_range);
  v_target_ms := crossfade_private.target_ms(v_range, wanted_ms);
  select * into v_done
  from crossfade_private.do_slices(run, pieces, v_range, v_target_ms, v_started) s;
  v_ms := round((extract(epoch from clock_timestamp() - v_started) * 1000)::numeric, 1);
  perform crossfade_private.finish_batch(v_done.new_range, v_done.rows_read,
    case (run).kind when 'backfill' then v_done.rows_found else 0 end,
    case (run).kind when 'verify' then v_done.rows_found else 0 end, v_ms, v_done.fixed_ms,
    v_target_ms);
  return jsonb_build_object(
    'rows_read', v_done.rows_read, 'batch_ms', v_ms,
    case (run).kind when 'backfill' then 'rows_written' else 'mismatches' end, v_done.rows_found,
    'wait_ms', crossfade_private.wait_ms(v_range, v_ms, (v_throttle ->> 'ease')::numeric))
    || case when v_done.error_code is null then '{}'
      else crossfade_private.shrunk_reason(
        pieces, v_range, v_done.new_range, v_done.error_code)
        || jsonb_build_object('state', case when v_done.error_code = '55P03'
          and (v_done.new_range).batch_rows = (v_range).batch_rows then 'waiting' else 'shrunk' end)
      end;
end $$;

comment on function crossfade_private.run_batch is
  'One batch of a run of any kind: what its answer has beside the run. "state" and "reason" only when it did not get through: throttled, shrunk (the next is smaller), waiting (for a lock).';
