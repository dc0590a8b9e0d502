-- How fast batches may go: at full speed while nobody else uses the database, else for a share of
-- the time, so that clients notice little.

create or replace function crossfade_private.others_transactions(run bigint)
returns bigint
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select pg_stat_get_db_xact_commit(d.oid) + pg_stat_get_db_xact_rollback(d.oid) - (
    select coalesce(sum(a.batches), 0) from crossfade.run_ranges a
    where a.run = others_transactions.run)::bigint
  from pg_catalog.pg_database d where d.datname = current_database();
$$;

comment on function crossfade_private.others_transactions is
  'Transactions that ever ended in this database, without the batches of the run.';

create or replace function crossfade_private.look_at_load(run_range crossfade.run_ranges)
returns crossfade.run_ranges
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_range crossfade.run_ranges := run_range;
  v_seconds double precision := extract(
    epoch from clock_timestamp() - (run_range).load_seen_at);
begin
  -- The others count their transactions at most once a second; ours are counted at once, or they
  -- would be taken for somebody else's a second later.
  perform pg_stat_force_next_flush();
  if v_range.load_seen is not null and v_seconds < 2 then
    return v_range;
  end if;
  v_range.load_seen := crossfade_private.others_transactions(v_range.run);
  v_range.load_seen_at := clock_timestamp();
  -- After a pause, or when the counters were reset, nothing is known again.
  v_range.is_busy := v_seconds > 30 or (run_range).load_seen is null
    or v_range.load_seen < (run_range).load_seen
    or v_range.load_seen - (run_range).load_seen
      >= v_seconds * crossfade_private.setting_number('batch_idle_transactions_per_s');
  return v_range;
end $$;

comment on function crossfade_private.look_at_load is
  'The range with is_busy as it is now: measured every two seconds, true while nothing is known.';

create or replace function crossfade_private.target_ms(
  run_range crossfade.run_ranges, wanted_ms integer
)
returns integer
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(wanted_ms, crossfade_private.setting_number(case when (run_range).is_busy
    then 'batch_target_ms' else 'batch_idle_target_ms' end)::integer);
$$;

comment on function crossfade_private.target_ms is
  'Milliseconds that the next batch aims at: what its caller wants, else what the load allows.';

create or replace function crossfade_private.wait_ms(
  run_range crossfade.run_ranges, batch_ms numeric, ease numeric
)
returns integer
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  -- Workers share what is allowed: one that was seen within five seconds counts.
  select case when (run_range).is_busy then least(10000, batch_ms * (
    100 * greatest(1, (
      select count(*) from crossfade.run_ranges a
      where a.run = (run_range).run and not a.done and a.batches > 0
        and a.progress_at > clock_timestamp() - interval '5 s'))
    / (crossfade_private.setting_number('batch_duty_pct') * ease) - 1))::integer
    else 0 end;
$$;

comment on function crossfade_private.wait_ms is
  'Milliseconds until the next batch of the same worker, by setting batch_duty_pct; ease (above 0, up to 1) makes that share smaller.';
