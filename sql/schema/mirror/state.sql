-- What the mirror of a pair does: a row that is the record, and constants for the triggers.
-- A constant function costs a trigger 0.2 microseconds where a query costs ten; replacing one is
-- transactional and locks no table. But a session that has a table locked already does not hear of
-- it before its transaction ends. So every change has a number, taken from a sequence whose last
-- value any session sees at once: where that is not the constant's, the row is read.

create or replace function crossfade_private.state_of(mirror text, side integer)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when mirror in ('off', 'waiting') then 'off'
    when mirror = 'both' then 'on'
    when mirror = 'log_only' then 'log'
    when side = 1 then 'archive' -- what gets through (foreign keys) is not mirrored
    when mirror = 'archived' then 'off'
    -- Whose row the archive has under a key is not known before that is copied.
    else 'whole' end;
$$;

comment on function crossfade_private.state_of is
  'What the triggers of one side do in a mirror mode: off, on, whole (rows, not edits of columns), log (note keys only) or archive (refuse).';

create or replace function crossfade_private.stored_state(pair text, side integer)
returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_mirror text;
begin
  if current_setting('transaction_isolation') = 'read committed' then
    select m.mirror into v_mirror from crossfade_private.mirror_state m
    where m.pair = stored_state.pair;
  else
    -- SAFETY: with an older snapshot a plain read could miss that mirroring was switched on; the
    -- row lock makes PostgreSQL answer with a serialization failure instead.
    select m.mirror into v_mirror from crossfade_private.mirror_state m
    where m.pair = stored_state.pair for share;
  end if;
  return crossfade_private.state_of(coalesce(v_mirror, 'off'), side);
end $$;

comment on function crossfade_private.stored_state is
  'What the triggers of one side do, by the row. Locks it FOR SHARE above READ COMMITTED.';

create or replace function crossfade_private.read_state(pair text, side integer)
returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_state constant text := crossfade_private.stored_state(pair, side);
begin
  if side = 1 and v_state = 'on' and exists (
    select from crossfade_private.mirror_state m
    where m.pair = read_state.pair and m.watched_since is not null) then
    return crossfade_private.note_v1_write(pair);
  end if;
  return v_state;
end $$;

comment on function crossfade_private.read_state is
  'stored_state, for sessions whose constants are older than the last change; as these do, it notes who writes V1 while that is watched.';

create or replace function crossfade_private.set_state_functions(
  pair text, side integer, state text, change bigint, is_watched boolean
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_function record;
begin
  for v_function in select * from (values
    ('state', 'text', 'immutable parallel safe', format('select %L::text', state)),
    ('change', 'bigint', 'immutable parallel safe', format('select %s::bigint', change))
    ) f(name, type, kind, body)
    where f.name = 'change' or not is_watched
    union all
    -- Asking is noting: V1's own writers pay for that, and only in this stage.
    select 'state', 'text', 'volatile', format('select crossfade_private.note_v1_write(%L)', pair)
    where is_watched
  loop
    execute format('create or replace function crossfade_private.mirror_%s_v%s_%s() returns %s
      language sql %s set search_path = pg_catalog, pg_temp as %L',
      pair, side, v_function.name, v_function.type, v_function.kind, v_function.body);
    execute format('revoke all on function crossfade_private.mirror_%s_v%s_%s from public',
      pair, side, v_function.name);
  end loop;
end $$;

comment on function crossfade_private.set_state_functions is
  'Make the constants of one side: what its triggers do (off, on, log: note keys only, archive: refuse), and the number of the change that said so. Where it is watched, what its triggers ask also notes the writer.';

create or replace function crossfade_private.set_state(
  pair text, mirror text, is_watched boolean
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_change bigint;
begin
  if to_regclass(format('crossfade_private.mirror_%s_changes', pair)) is null then
    execute format('create sequence crossfade_private.mirror_%s_changes', pair);
  end if;
  -- The time, not the next number: the data of one database may be restored into the schema of
  -- another one, where the same number said something else.
  v_change := setval(format('crossfade_private.mirror_%s_changes', pair)::regclass,
    (extract(epoch from clock_timestamp()) * 1000000)::bigint);
  perform crossfade_private.set_state_functions(
    pair, s.side, crossfade_private.state_of(mirror, s.side), v_change,
    is_watched and mirror = 'both' and s.side = 1)
  from (values (1), (2)) s(side);
end $$;

comment on function crossfade_private.set_state is
  'Say what the triggers of a pair do from now on. Transactional; locks no table.';

create or replace function crossfade_private.mend_state(pair text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '2s'
as $$
declare
  v_state crossfade_private.mirror_state;
  v_agrees boolean;
begin
  -- Only the numbers: to ask for a state may be to note a writer.
  execute format('select pg_sequence_last_value(%L) = all (array[
    crossfade_private.mirror_%2$s_v1_change(), crossfade_private.mirror_%2$s_v2_change()])',
    format('crossfade_private.mirror_%s_changes', pair), pair) into v_agrees;
  if v_agrees then
    return;
  end if;
  select m.* into v_state from crossfade_private.mirror_state m
  where m.pair = mend_state.pair for no key update;
  perform crossfade_private.set_state(pair, v_state.mirror, v_state.watched_since is not null);
end $$;

comment on function crossfade_private.mend_state is
  'Make the constants of a pair anew where they are not those of its row, as after a restore or a change that was undone: triggers then read the row, which is slower. Locks the row in that case; waits at most 2 s for it (55P03).';

create or replace function crossfade_private.open_or_close(pair text)
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  update crossfade_private.mirror_state m set opened = q.wanted
  from (
    select s.pair, s.mirror not in ('off', 'log_only') and p.last_backfill_at is not null
      and not s.unproven
      and (s.opened or not exists (
        select from crossfade.mirror_failures f
        where f.pair = s.pair and f.resolved_at is null and f.error_code = 'LOGGED')) as wanted
    from crossfade_private.mirror_state s join crossfade.pairs p on p.name = s.pair
    where s.pair = open_or_close.pair
  ) q
  where m.pair = q.pair and m.opened <> q.wanted;
$$;

comment on function crossfade_private.open_or_close is
  'Open V2 to API roles, or close it: open once a backfill has finished and, where V2 had rows before, a verify pass has been clean; closed in stage off, while the mirror only notes keys, and until those notes are drained. Locks the pair''s state row.';
