-- What the generated mirror functions call.

create or replace function crossfade_private.is_transient(error_code text)
returns boolean
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  -- Of class 55 only these two: a table without a replica identity (55000), say, stays so.
  select left(error_code, 2) in ('40', '53', '57', '58') or error_code in ('55006', '55P03');
$$;

comment on function crossfade_private.is_transient is
  'Whether an error says nothing about the row: lost conflicts, locks, resources, the system. It always reaches the writer, who tries again: recorded, it would lose the other client''s edit.';

create or replace function crossfade_private.is_of_this_transaction(row_xmin xid)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- The age is no more than a sieve: rows of younger transactions pass it too. A visible row whose
  -- writer is in progress is ours, also when a subtransaction wrote it.
  select case when age(row_xmin) <= 0 then pg_xact_status(
    (pg_current_xact_id()::text::bigint - age(row_xmin))::text::xid8) = 'in progress'
    else false end;
$$;

comment on function crossfade_private.is_of_this_transaction is
  'Whether the current transaction wrote a row, given its xmin.';

create or replace function crossfade_private.is_written_beside(
  row_xmin xid, row_cmin cid, source_cmin cid
)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select pg_trigger_depth() > 1 and crossfade_private.is_of_this_transaction(row_xmin)
    and row_cmin::text::bigint <= source_cmin::text::bigint;
$$;

comment on function crossfade_private.is_written_beside is
  'Whether a row may be the one whose trigger has just inserted a row of the other table with its key, as dual writes made by hand do. A row that was edited by what the mirror itself carried over is younger than that one, and somebody else''s.';

create or replace function crossfade_private.begin_engine_write(pair text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into crossfade_private.engine_writes (transaction_id, pair, depth)
  values (pg_current_xact_id(), begin_engine_write.pair, pg_trigger_depth())
  on conflict (transaction_id) do update set pair = excluded.pair, depth = excluded.depth;
  -- Only where to look: the row above is what counts, and nobody else can write it.
  perform set_config('crossfade.mark_' || pair, 'engine', true);
end $$;

comment on function crossfade_private.begin_engine_write is
  'From here on this transaction writes a pair''s tables as a batch or repair: its rows are no news for the other side.';

create or replace function crossfade_private.end_engine_write(pair text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  delete from crossfade_private.engine_writes w where w.transaction_id = pg_current_xact_id();
  perform set_config('crossfade.mark_' || pair, '', true);
end $$;

comment on function crossfade_private.end_engine_write is
  'The transaction''s writes are a client''s again.';

create or replace function crossfade_private.is_engine_write(pair text)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select from crossfade_private.engine_writes w
    where w.transaction_id = pg_current_xact_id_if_assigned() and w.pair = is_engine_write.pair);
$$;

comment on function crossfade_private.is_engine_write is
  'Whether this transaction is inside a batch or repair of the pair.';

create or replace function crossfade_private.is_named_update(
  pair text, writer_side integer, statement_text text
)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_named jsonb;
  v_rest text;
  v_text text;
begin
  select q.pieces -> 'named' into v_named from crossfade_private.pair_pieces q
  where q.pair = is_named_update.pair and q.side = writer_side;
  if not starts_with(statement_text, v_named ->> 'head')
    or right(statement_text, length(v_named ->> 'tail')) <> v_named ->> 'tail' then
    return false;
  end if;
  v_rest := left(substr(statement_text, length(v_named ->> 'head') + 1),
    -length(v_named ->> 'tail'));
  -- Nothing but columns as they were written, in their order.
  for v_text in select t from jsonb_array_elements_text(v_named -> 'texts') t loop
    if starts_with(v_rest, v_text) then
      v_rest := substr(v_rest, length(v_text) + 1);
      if starts_with(v_rest, ', ') then
        v_rest := substr(v_rest, 3);
      end if;
    end if;
  end loop;
  return v_rest = '';
end $$;

comment on function crossfade_private.is_named_update is
  'Whether a statement is one that a mirror function builds by column, to the letter.';

create or replace function crossfade_private.is_own_write(
  context text, depth integer, pair text, writer_side integer
)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_function text := format('crossfade_private.mirror_%s_v%s_', pair, writer_side);
  v_rest text;
  v_place integer;
  v_name text;
  v_words text;
  v_statement text;
begin
  if depth = 1 then
    return crossfade_private.is_engine_write(pair);
  end if;
  -- Settings can be set by anybody, and the text of a statement, which may hold anything, is part
  -- of the call stack. The outermost frame is no such text: at depth 2 it is the other trigger, and
  -- between it and us is no code but its own.
  if depth = 2 and strpos(split_part(context, e'\n', -1), ' ' || v_function) > 0
    and strpos(split_part(context, e'\n', -1), '"') = 0 then
    return true;
  end if;
  -- The first frame of the other trigger's functions, behind our own line.
  v_rest := substr(context, strpos(context, e'\n') + 1);
  v_place := strpos(v_rest, ' ' || v_function);
  if v_place = 0 then
    return false;
  end if;
  v_name := split_part(substr(v_rest, v_place + length('crossfade_private.') + 1), '(', 1);
  v_words := split_part(left(v_rest, v_place), e'\n', -1);
  -- SAFETY: what stands before that frame must be one statement that is in that function to the
  -- letter. None of them can be continued by a quote, so no other text can begin with one.
  v_statement := left(v_rest, v_place - length(v_words) - 1);
  v_statement := left(substr(v_statement, strpos(v_statement, '"') + 1), -1);
  return strpos(v_words, '"') = 0 and (exists (
      select from pg_catalog.pg_proc p
      where p.pronamespace = 'crossfade_private'::regnamespace and p.proname = v_name
        and (strpos(p.prosrc, v_statement || ';') > 0
          or strpos(p.prosrc, quote_literal(v_statement) || ';') > 0))
    or v_name like '%\_edit'
      and crossfade_private.is_named_update(pair, writer_side, v_statement));
end $$;

comment on function crossfade_private.is_own_write is
  'Whether the statement that fired a trigger is one of the other side''s mirror function (writer_side) or, at depth 1, of a batch or repair of the pair; context is PG_CONTEXT, depth pg_trigger_depth(). False is always safe: the rows are then found equal.';

create or replace function crossfade_private.note_nested(mark text, depth integer)
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_statement constant text := extract(epoch from statement_timestamp())::text;
begin
  if current_setting(mark, true) = 'engine' then
    return true;
  elsif depth > 1 then
    perform set_config(mark, v_statement, true);
    return true;
  end if;
  return current_setting(mark, true) = v_statement;
end $$;

comment on function crossfade_private.note_nested is
  'Remember that a trigger of somebody else''s wrote to the pair while this statement of the client is under way: rows in transition tables may be older than the rows. True when that is so.';

create or replace function crossfade_private.record_failure(
  pair text, written_side integer, key jsonb, operation text, error_code text, message text,
  moved_to jsonb default null
)
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  insert into crossfade.mirror_failures as f (pair, written_side, key, operation, error_code,
    message, moved_to)
  values (
    record_failure.pair, record_failure.written_side, record_failure.key,
    record_failure.operation, record_failure.error_code, left(record_failure.message, 500),
    record_failure.moved_to
  )
  on conflict (pair, key) where resolved_at is null do update
  set written_side = excluded.written_side, operation = excluded.operation,
    error_code = excluded.error_code, message = excluded.message,
    moved_to = coalesce(excluded.moved_to, f.moved_to), at = clock_timestamp(),
    attempts = f.attempts + 1;
$$;

comment on function crossfade_private.record_failure is
  'Note a write that reached one table only. One open row per key; the last written side wins. moved_to: the key that the counterpart of the row has still to follow to.';

create or replace function crossfade_private.is_unmirrored_tie(pair text, constraint_name text)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select from pg_catalog.pg_constraint k
    join crossfade.pairs p on p.name = is_unmirrored_tie.pair
    join crossfade.pairs o on o.name <> p.name
    join crossfade_private.mirror_state m on m.pair = o.name and m.mirror in ('off', 'waiting')
    where k.contype = 'f' and k.conname = is_unmirrored_tie.constraint_name
      and (k.conrelid, k.confrelid) in (
        (to_regclass(p.v1_table), to_regclass(o.v1_table)),
        (to_regclass(o.v1_table), to_regclass(p.v1_table)),
        (to_regclass(p.v2_table), to_regclass(o.v2_table)),
        (to_regclass(o.v2_table), to_regclass(p.v2_table))));
$$;

comment on function crossfade_private.is_unmirrored_tie is
  'Whether a foreign key ties the pair to one whose writes are not mirrored (off, waiting).';

create or replace function crossfade_private.refuse_or_record(
  pair text, written_side integer, key jsonb, operation text, error_code text, message text,
  constraint_name text
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- On the way back from complete nobody is served from V1 yet: its rules stop no writer of V2.
  if (select m.failure_policy from crossfade_private.mirror_state m
    where m.pair = refuse_or_record.pair and m.mirror <> 'reverse') = 'raise'
    -- Also when the stage has changed since V1 refused.
    and constraint_name is distinct from 'crossfade_archive'
    -- Rows that were left by a mirror that is off, or are missing for it, are no client's fault.
    and not (error_code in ('23001', '23503')
      and crossfade_private.is_unmirrored_tie(pair, constraint_name)) then
    -- Without the detail: that shows the other table's row, and the writer may not see all of it.
    raise exception using errcode = error_code, message = message,
      constraint = coalesce(constraint_name, '');
  end if;
  perform crossfade_private.record_failure(pair, written_side, key, operation, error_code, message);
end $$;

comment on function crossfade_private.refuse_or_record is
  'What becomes of a row that the other table refuses: by the pair''s failure_policy the error is raised again or recorded; it is always recorded on the way back from complete, save keys that are taken, which are refused before, and where a foreign key ties it to a pair that is not mirrored.';

create or replace function crossfade_private.note_keys(
  pair text, side integer, operation text, keys jsonb[]
)
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  insert into crossfade.mirror_failures as f (pair, written_side, key, operation, error_code,
    message)
  select distinct note_keys.pair, note_keys.side, k, note_keys.operation, 'LOGGED',
    'only noted: the mirror is log_only'
  from unnest(keys) k order by k
  on conflict (pair, key) where resolved_at is null do update
  set written_side = excluded.written_side, at = clock_timestamp(),
    -- That its row was deleted is all that tells a new row with the key from the old one.
    operation = case when f.operation = 'DELETE' and f.written_side = excluded.written_side
      then f.operation else excluded.operation end;
$$;

comment on function crossfade_private.note_keys is
  'Mirror mode log_only: note the keys of written rows as open failures, which repair drains.';

create or replace function crossfade_private.is_noted_delete(pair text, side integer, key jsonb)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select from crossfade.mirror_failures f
    where f.pair = is_noted_delete.pair and f.key = is_noted_delete.key and f.resolved_at is null
      and f.written_side = is_noted_delete.side and f.operation = 'DELETE'
      -- What is mirrored makes a new row a counterpart of its own.
      and f.error_code = 'LOGGED');
$$;

comment on function crossfade_private.is_noted_delete is
  'Whether the row of a key was deleted on a side while writes were only noted: if there is one again, it is another row, and the counterpart is the old one''s.';

create or replace function crossfade_private.forget_noted_delete(pair text, key jsonb)
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  update crossfade.mirror_failures f set operation = 'MOVE'
  where f.pair = forget_noted_delete.pair and f.key = forget_noted_delete.key
    and f.resolved_at is null and f.operation = 'DELETE';
$$;

comment on function crossfade_private.forget_noted_delete is
  'The counterpart of a deleted row is gone: what has its key now has one of its own.';

create or replace function crossfade_private.note_unseen(
  pair text, side integer, operation text, keys jsonb[]
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- FOR SHARE: the sweep of the backfill waits for this transaction, so it finds what is noted.
  perform from crossfade_private.mirror_state m where m.pair = note_unseen.pair and m.tombstones
  for share;
  if found then
    insert into crossfade_private.tombstones (pair, side, key)
    select note_unseen.pair, note_unseen.side, k from unnest(keys) k;
  else
    perform crossfade_private.record_failure(pair, side, k, operation, 'CF017',
      'the row is not visible to the transaction, or not there')
    from unnest(keys) k;
  end if;
end $$;

comment on function crossfade_private.note_unseen is
  'Note keys of rows that a transaction above READ COMMITTED deleted, or moved away, and whose counterparts its snapshot does not show: a copy may have been made since. While a backfill runs the final sweep removes it, else repair. Locks the pair''s state row FOR SHARE.';

create or replace function crossfade_private.refuse_blind_truncate(pair text, table_name text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (
      select from crossfade.pairs p
      where p.name = refuse_blind_truncate.pair
        and p.last_backfill_at is not null and not p.needs_reverse_backfill)
    and not exists (select from crossfade.mirror_failures f
      where f.pair = refuse_blind_truncate.pair and f.resolved_at is null)
    and not exists (select from crossfade.mismatches m
      where m.pair = refuse_blind_truncate.pair and m.resolved_at is null)
  then
    return;
  end if;
  raise exception using errcode = '55000',
    message = format('Cannot truncate %s above READ COMMITTED: rows of the other table may have no '
      'counterpart here, and the snapshot does not show which', table_name),
    hint = 'Truncate in a READ COMMITTED transaction, or when the backfill has finished and '
      'nothing is left to repair.';
end $$;

comment on function crossfade_private.refuse_blind_truncate is
  'Raises 55000 unless every row of the pair is known to be in both tables: a snapshot tells no counterpart from a row that was never copied.';

create or replace function crossfade_private.move_failure(pair text, from_key jsonb, to_key jsonb)
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  update crossfade.mirror_failures f set moved_to = to_key
  where f.pair = move_failure.pair and f.moved_to = from_key and f.resolved_at is null;
  update crossfade.mirror_failures f set key = to_key
  where f.pair = move_failure.pair and f.key = from_key and f.resolved_at is null
    and not exists (
      select from crossfade.mirror_failures o
      where o.pair = f.pair and o.key = to_key and o.resolved_at is null);
$$;

comment on function crossfade_private.move_failure is
  'An open failure goes with the row whose key changed.';

create or replace function crossfade_private.is_any_behind(pair text)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select from crossfade.mirror_failures f
    where f.pair = is_any_behind.pair and f.resolved_at is null and f.moved_to is not null);
$$;

comment on function crossfade_private.is_any_behind is
  'Whether some row of a pair could not follow a changed key of its counterpart: asked before keys are written as JSON for note_behind.';

create or replace function crossfade_private.note_behind(
  pair text, side integer, operation text, keys jsonb[]
)
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select crossfade_private.record_failure(f.pair, note_behind.side, k, note_behind.operation,
    f.error_code, f.message)
  from crossfade.mirror_failures f
  join unnest(note_behind.keys) k on k in (f.key, f.moved_to)
  where f.pair = note_behind.pair and f.resolved_at is null and f.moved_to is not null;
$$;

comment on function crossfade_private.note_behind is
  'Note writes of rows whose counterpart has another key, since one of the two could not follow: when repair brings them together, the side that was written last wins.';

create or replace function crossfade_private.noted_moves(setting text)
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_moves jsonb;
begin
  v_moves := nullif(current_setting(setting, true), '')::jsonb;
  return case when jsonb_typeof(v_moves) = 'object' then v_moves else '{}'::jsonb end;
exception when others then
  return '{}'::jsonb; -- Anybody can set a setting to anything.
end $$;

comment on function crossfade_private.noted_moves is
  'What note_move has noted, from key to key; empty when the setting holds something else.';

create or replace function crossfade_private.note_move(setting text, from_key jsonb, to_key jsonb)
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select set_config(setting, (crossfade_private.noted_moves(setting)
    || jsonb_build_object(from_key::text, to_key))::text, true);
$$;

comment on function crossfade_private.note_move is
  'Note, until the transaction ends, that a row moved on before its counterpart had moved to its first new key.';

create or replace function crossfade_private.noted_move(setting text, from_key jsonb)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with recursive noted(moves) as (
    select crossfade_private.noted_moves(setting)
  ),
  step(key, number) as (
    select n.moves -> from_key::text, 1 from noted n
    union all
    select n.moves -> s.key::text, s.number + 1
    from step s cross join noted n where s.key is not null and s.number < 100
  )
  select s.key from step s where s.key is not null order by s.number desc limit 1;
$$;

comment on function crossfade_private.noted_move is
  'Where a row went on to from a key, by note_move; null when nothing was noted.';
