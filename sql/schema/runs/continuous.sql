-- Continuous verification: a few rows all the time.

create or replace function crossfade.verify_some(pair text, max_rows integer default 200)
returns jsonb
language plpgsql volatile
security definer -- reads the owner's tables; only service_role may call it
set search_path = pg_catalog, pg_temp
set jit = off
-- As the mirror converts, whatever the session has set.
set timezone = 'UTC'
set datestyle = 'ISO, MDY'
set intervalstyle = 'postgres'
set extra_float_digits = 1
set bytea_output = 'hex'
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_pieces jsonb := crossfade_private.run_pieces(v_pair, 'v1_to_v2');
  v_cursor crossfade_private.verify_cursors;
  v_boundary jsonb;
  v_mismatches bigint := 0;
begin
  if max_rows is null or max_rows not between 1 and 10000 then
    perform crossfade_private.fail(400, 'CF012', format('Invalid max_rows %s', max_rows),
      jsonb_build_object('max_rows', max_rows), 'Use 1 to 10000.');
  end if;
  -- Before the backfill has finished most rows are missing, and that is no news.
  if v_pair.stage not in ('dualwrite', 'shadow', 'live', 'rampdown')
    or v_pair.last_backfill_at is null or crossfade_private.release_reason(v_pair) is not null then
    return jsonb_build_object('pair', pair, 'state', 'waiting', 'mismatches', 0);
  end if;
  insert into crossfade_private.verify_cursors (pair) values (verify_some.pair)
  on conflict on constraint verify_cursors_pkey do nothing;
  select c.* into v_cursor from crossfade_private.verify_cursors c
  where c.pair = verify_some.pair for update skip locked;
  if not found then
    return jsonb_build_object('pair', pair, 'state', 'busy', 'mismatches', 0);
  end if;
  -- Null when there are fewer: the pass ends with them.
  v_boundary := (crossfade_private.next_keys(
    v_pieces, v_cursor.cursor_key, max_rows))[max_rows];
  v_mismatches := crossfade_private.record_mismatches(
    v_pair.name, null, v_pieces, v_cursor.cursor_key, v_boundary);
  update crossfade_private.verify_cursors c
  set cursor_key = v_boundary, rows_checked = c.rows_checked + max_rows,
    passes = c.passes + case when v_boundary is null then 1 else 0 end,
      checked_at = clock_timestamp()
  where c.pair = verify_some.pair
  returning * into v_cursor;
  return jsonb_build_object('pair', pair, 'state', 'running', 'mismatches', v_mismatches,
    'passes', v_cursor.passes, 'rows_checked', v_cursor.rows_checked);
end $$;

comment on function crossfade.verify_some is
  'Compare the next max_rows rows and go on there next time, round and round: {"pair", "state": running|waiting|busy, "mismatches", "passes", "rows_checked" (about)}. What differs after a second look under lock becomes an open mismatch, which blocks the next stage and feeds the monitor. Meant for a call every few seconds. CF001, CF012.';
