-- Filling the column of a carried key.

create or replace function crossfade_private.fill_json(fill crossfade_private.key_fills)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- As a run of a pair: one driver and one bar serve both.
  select jsonb_build_object('run', jsonb_build_object('id', 0, 'kind', 'fill',
      'pair', (fill).table_name, 'state', v.state, 'rows_total', (
        select greatest(c.reltuples, 0)::bigint from pg_catalog.pg_class c
        where c.oid = to_regclass((fill).table_name)),
      'rows_done', (fill).rows_done, 'rows_written', (fill).rows_written,
      'batches', (fill).batches, 'batch_rows', (fill).batch_rows, 'started_at', (fill).started_at,
      'progress_at', (fill).progress_at),
    'state', v.state, 'reason', null, 'blocking', '[]'::jsonb, 'rows_read', 0, 'rows_written', 0,
    'mismatches', 0, 'batch_ms', 0, 'wait_ms', 0, 'flags_version', crossfade.flags_version())
  from (select case when (fill).done then 'finished' else 'running' end) v(state);
$$;

comment on function crossfade_private.fill_json is
  'The answer of a batch of a fill before its own figures are added.';

create or replace function crossfade_private.check_fill(
  tab regclass, column_name text, fires_triggers boolean
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_problems text[] := array(select p from crossfade_private.carry_problems(tab, column_name) p);
  v_triggers text;
begin
  if v_problems = '{}' and not coalesce((
      crossfade_private.carry_state(tab, column_name) ->> 'default')::boolean, false) then
    v_problems := array[format('column "%s" is not there yet, or has no default', column_name)];
  end if;
  if v_problems <> '{}' then
    perform crossfade_private.fail(409, 'CF012',
      format('Cannot fill "%s" of %s: %s', column_name, tab, array_to_string(v_problems, '; ')),
      jsonb_build_object('table', tab::text, 'problems', to_jsonb(v_problems)),
      format('See: crossfade key carry %s', tab));
  end if;
  select string_agg(g.name, ', ') into v_triggers
  from crossfade_private.fill_triggers(tab, column_name) g;
  if v_triggers is not null and not coalesce(fires_triggers, false) then
    perform crossfade_private.fail(409, 'CF013',
      format('Cannot fill "%s" of %s: triggers of its owner would run for every row (%s)',
        column_name, tab, v_triggers),
      jsonb_build_object('table', tab::text, 'triggers', v_triggers),
      format(
        'Give them a condition: the first migration shows it. Or let them run: crossfade key carry %s --fire-triggers --yes',
        tab));
  end if;
end $$;

comment on function crossfade_private.check_fill is
  'Refuse a fill (CF012), or one that would fire triggers that nobody has asked for (CF013).';

create or replace function crossfade_private.fill_rows(
  tab regclass, column_name text, after jsonb, max_rows integer
)
returns table (cursor_key jsonb, rows_read bigint, rows_written bigint)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '500ms'
-- A batch is found by its keys, whatever the statistics of the table say or do not say.
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
  v_key constant text[] := crossfade_private.primary_key(tab);
  v_names text;
  v_same text;
begin
  select string_agg(format('s.%I', k), ', ' order by n),
    string_agg(format('t.%1$I = l.%1$I', k), ' and ' order by n)
  into v_names, v_same from unnest(v_key) with ordinality u(k, n);
  -- Locked in the order of the key, as everybody who locks several rows should. What a client has
  -- filled meanwhile stays.
  return query execute format($sql$
    with part as materialized (
      select %1$s from %2$s s %3$s order by %1$s limit $2
    ),
    locked as materialized (
      select %1$s from %2$s s
      where (%1$s) in (select %5$s from part) and s.%4$I is null
      order by %1$s for no key update of s
    ),
    filled as (
      update %2$s t set %4$I = default from locked l
      where %6$s and t.%4$I is null returning 1
    )
    select (select %7$s from part s order by %8$s limit 1), (select count(*) from part),
      (select count(*) from filled)
  $sql$, v_names, tab,
    case when after is not null then format('where (%s) > (%s)', v_names,
      crossfade_private.key_from_json(v_key, tab, v_key, '$1')) end,
    column_name, replace(v_names, 's.', 'part.'), v_same,
    crossfade_private.key_to_json(v_key, tab, v_key, 's'),
    (select string_agg(format('s.%I desc', k), ', ' order by n)
    from unnest(v_key) with ordinality u(k, n)))
  using after, max_rows;
end $$;

comment on function crossfade_private.fill_rows is
  'Give the rows after a key (null: all) that have none a value, up to max_rows of them looked at; cursor_key is the last one. Locks those rows, waits at most 0.5 s for one (55P03).';

create or replace function crossfade_private.fill_batch(
  fill crossfade_private.key_fills, tab regclass, wanted_ms integer
)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_fill crossfade_private.key_fills := fill;
  v_range crossfade.run_ranges := jsonb_populate_record(
    null::crossfade.run_ranges, to_jsonb(fill));
  v_from timestamptz;
  v_ms numeric;
  v_key jsonb;
  v_read bigint := 0;
  v_written bigint := 0;
  v_wait jsonb := '{}'::jsonb;
begin
  -- Batches of this fill are nobody else's transactions.
  v_range.load_seen := v_range.load_seen + (fill).batches;
  v_range := crossfade_private.look_at_load(v_range);
  v_fill.load_seen := v_range.load_seen - (fill).batches;
  v_fill.load_seen_at := v_range.load_seen_at;
  v_fill.is_busy := v_range.is_busy;
  v_fill.batches := (fill).batches + 1;
  v_from := clock_timestamp();
  begin
    select r.cursor_key, r.rows_read, r.rows_written into v_key, v_read, v_written
    from crossfade_private.fill_rows(
      tab, (fill).column_name, (fill).cursor_key, (fill).batch_rows) r;
  exception
    when lock_not_available or deadlock_detected then
      v_wait := '{"state": "waiting"}'
        || crossfade_private.locked_reason('a row is locked', array[tab]);
    when query_canceled then
      v_wait := jsonb_build_object('state', 'shrunk', 'reason', sqlerrm);
  end;
  v_ms := extract(epoch from clock_timestamp() - v_from) * 1000;
  if v_wait <> '{}' then
    v_fill.batch_rows := greatest((fill).batch_rows / 2, 1);
  else
    v_fill.done := v_read < (fill).batch_rows;
    v_fill.cursor_key := coalesce(v_key, (fill).cursor_key);
    v_fill.rows_done := (fill).rows_done + v_read;
    v_fill.rows_written := (fill).rows_written + v_written;
    v_fill.progress_at := clock_timestamp();
    if v_read > 0 then
      v_fill.ms_per_1000_rows := ((fill).ms_per_1000_rows || round(v_ms * 1000 / v_read, 3))[
        greatest(cardinality((fill).ms_per_1000_rows) - 8, 1):];
      v_fill.batch_rows := crossfade_private.next_batch_rows(v_read, v_fill.ms_per_1000_rows,
        crossfade_private.target_ms(v_range, wanted_ms));
    end if;
  end if;
  update crossfade_private.key_fills f
  set cursor_key = v_fill.cursor_key, done = v_fill.done, rows_done = v_fill.rows_done,
    rows_written = v_fill.rows_written, batches = v_fill.batches, batch_rows = v_fill.batch_rows,
    ms_per_1000_rows = v_fill.ms_per_1000_rows, progress_at = v_fill.progress_at,
    is_busy = v_fill.is_busy, load_seen_at = v_fill.load_seen_at, load_seen = v_fill.load_seen
  where f.table_name = v_fill.table_name and f.column_name = v_fill.column_name;
  return crossfade_private.fill_json(v_fill) || jsonb_build_object('rows_read', v_read,
    'rows_written', v_written, 'batch_ms', round(v_ms, 1),
    'wait_ms', crossfade_private.wait_ms(v_range, v_ms, 1)) || v_wait;
end $$;

comment on function crossfade_private.fill_batch is
  'Fill the next rows and keep how far it came, in this transaction; the answer of crossfade.carry_batch.';

create or replace function crossfade_private.lock_fill(tab regclass, column_name text)
returns crossfade_private.key_fills
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_fill crossfade_private.key_fills;
begin
  insert into crossfade_private.key_fills (table_name, column_name, batch_rows)
  values (tab::text, lock_fill.column_name,
    crossfade_private.setting_number('batch_first_rows')::integer)
  on conflict on constraint key_fills_pkey do nothing;
  if found then
    perform crossfade_private.audit('key.fill', tab::text, null, null,
      jsonb_build_object('column', lock_fill.column_name));
  end if;
  select f.* into v_fill from crossfade_private.key_fills f
  where f.table_name = tab::text and f.column_name = lock_fill.column_name
  for update skip locked;
  if v_fill.table_name is null then
    return null;
  end if;
  if crossfade_private.is_filled(tab, column_name) then
    v_fill.done := true;
  elsif v_fill.done then
    v_fill.done := false; -- somebody has written null behind it
    v_fill.cursor_key := null;
  end if;
  return v_fill;
end $$;

comment on function crossfade_private.lock_fill is
  'The fill of a column, locked until the transaction ends, made if there is none; null while another session has it.';

create or replace function crossfade.carry_batch(
  name text, column_name text default 'uid', fires_triggers boolean default false,
  target_ms integer default null
)
returns jsonb
language plpgsql volatile
security definer -- fills rows of the owner's table; only service_role may call it
set search_path = pg_catalog, pg_temp
set jit = off
-- A key is read back from JSON as it was noted, whatever the session has set.
set timezone = 'UTC'
set datestyle = 'ISO, MDY'
set intervalstyle = 'postgres'
set extra_float_digits = 1
set bytea_output = 'hex'
set quote_all_identifiers = off
as $$
declare
  v_table constant regclass := crossfade_private.find_table(name);
  v_fill crossfade_private.key_fills;
  v_wait jsonb;
begin
  perform crossfade_private.check_fill(v_table, column_name, fires_triggers);
  v_fill := crossfade_private.lock_fill(v_table, column_name);
  if v_fill.table_name is null then
    select f.* into v_fill from crossfade_private.key_fills f
    where f.table_name = v_table::text and f.column_name = carry_batch.column_name;
    return crossfade_private.fill_json(v_fill)
      || '{"state": "waiting", "reason": "another session fills it"}';
  end if;
  if v_fill.done then
    update crossfade_private.key_fills f set done = true
    where f.table_name = v_fill.table_name and f.column_name = v_fill.column_name;
    return crossfade_private.fill_json(v_fill);
  end if;
  v_wait := case
    when not pg_try_advisory_xact_lock_shared(crossfade_private.release_lock_key())
      then '{"state": "waiting", "reason": "a release of crossfade is being installed"}'
    else '{"state": "throttled"}' || crossfade_private.load_reason() end;
  if v_wait is not null then
    return crossfade_private.fill_json(v_fill) || v_wait;
  end if;
  return crossfade_private.fill_batch(v_fill, v_table, target_ms);
end $$;

comment on function crossfade.carry_batch is
  'Fill the next rows of the column of a carried key, in this transaction, of about target_ms (null: settings batch_target_ms, or batch_idle_target_ms while nobody else uses the database). The answer is that of backfill_batch, of a run of kind fill whose pair is the table. Call it until it is finished. Rows are locked FOR NO KEY UPDATE, one is waited for at most 0.5 s. fires_triggers: let the owner''s triggers run for every row. CF012 the table or column cannot be filled, CF013 triggers that nobody has allowed.';
