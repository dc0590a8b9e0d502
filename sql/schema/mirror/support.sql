-- What the generated functions call.

create or replace function crossfade_private.mirror_mode(pair text)
returns crossfade_private.mirror_state
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_state crossfade_private.mirror_state;
begin
  if current_setting('transaction_isolation') = 'read committed' then
    select m.* into v_state from crossfade_private.mirror_state m where m.pair = mirror_mode.pair;
  else
    -- SAFETY: with an older snapshot a plain read could miss that mirroring was switched on;
    -- the row
    -- lock makes PostgreSQL answer with a serialization failure instead.
    select m.* into v_state from crossfade_private.mirror_state m
    where m.pair = mirror_mode.pair for share;
  end if;
  return v_state;
end $$;

comment on function crossfade_private.mirror_mode is
  'The mirror row of a pair, read once per statement. Locks the row FOR SHARE only above READ COMMITTED.';

create or replace function crossfade_private.record_failure(
  pair text, written_side integer, key jsonb, operation text, error_code text, message text
)
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  insert into crossfade.mirror_failures as f (pair, written_side, key, operation, error_code,
    message)
  values (
    record_failure.pair, record_failure.written_side, record_failure.key,
    record_failure.operation, record_failure.error_code, left(record_failure.message, 500)
  )
  on conflict (pair, key) where resolved_at is null do update
  set written_side = excluded.written_side, operation = excluded.operation,
    error_code = excluded.error_code, message = excluded.message,
    at = clock_timestamp(), attempts = f.attempts + 1;
$$;

comment on function crossfade_private.record_failure is
  'Note a write that reached one table only. One open row per key; the last written side wins.';

create or replace function crossfade_private.refuse_archived_write(pair text, side integer)
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- A cascade from a parent table must still be able to delete, hence depth 1 only.
  if side = 1 and pg_trigger_depth() = 1 and coalesce(current_setting('crossfade.engine', true),
    '') <> 'on' then
    perform crossfade_private.fail(
      409, 'CF_ARCHIVED', format('Cannot write version 1 of "%s": it is a read-only archive', pair),
      jsonb_build_object('pair', pair),
      'Write version 2, or go back with crossfade stage set PAIR rampdown.');
  end if;
  return true;
end $$;

comment on function crossfade_private.refuse_archived_write is
  'In stage complete a direct write to V1 is refused (PT409 CF_ARCHIVED).';
