-- Mirroring: every write to one table of a pair is written to the other one in the same
-- transaction.
-- The trigger functions are generated per pair from the templates below (no dynamic SQL at run
-- time).

-- What the generated functions call ---------------------------------------------------------------

create or replace function crossfade_private.mirror_mode(pair text)
returns crossfade_private.mirror_state
language plpgsql volatile
set search_path = ''
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
set search_path = ''
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

create or replace function crossfade_private.refuse_fenced_write()
returns trigger
language plpgsql volatile
security definer -- API roles may not read the switches
set search_path = ''
as $$
declare
  v_pair text := tg_argv[0];
begin
  -- Mirrored writes do not even get here: the trigger has a condition (install_mirror).
  if current_setting('crossfade.engine', true) = 'on' then
    return null;
  end if;
  -- A cascade of a mirrored write (from a parent table, or within this one) belongs to that write.
  if pg_trigger_depth() > 1 and exists (
    select from crossfade.pairs p
    where coalesce(current_setting(format('crossfade.echo_%s_v2', p.name), true), '') <> ''
  ) then
    return null;
  end if;
  -- current_user is the owner in here; the role setting still names who came through the Data API,
  -- also when they went through a SECURITY DEFINER function of the project.
  if coalesce(current_setting('role', true), 'none') not in ('anon', 'authenticated',
    'service_role')
    and session_user <> 'authenticator' then
    return null;
  end if;
  -- Order matters: lock first, then look. Engaging a switch waits for the holders of this lock.
  perform pg_advisory_xact_lock_shared(crossfade_private.fence_lock_key());
  if current_setting('transaction_isolation') <> 'read committed' then
    -- SAFETY: with an older snapshot a plain read could miss a switch; the row lock makes
    -- PostgreSQL answer with a serialization failure instead. It is given back at once (a
    -- subtransaction that is undone), or a kill would wait for this transaction without limit. The
    -- lock above is what holds a kill off.
    begin
      perform from crossfade.kill_switches k where k.fences for share;
      raise exception using errcode = 'CF000', message = 'nothing is wrong';
    exception when sqlstate 'CF000' then
      null;
    end;
  end if;
  if crossfade_private.fence_engaged(v_pair) then
    perform crossfade_private.fail(
      409, 'CF_FENCED', format('Cannot write %s: a kill switch stops writes to version 2 of "%s"',
        format('%I.%I', tg_table_schema, tg_table_name), v_pair),
      jsonb_build_object('pair', v_pair, 'flags_version', crossfade.flags_version()),
      'Write version 1: both stay the same. An operator releases the switch with crossfade kill release.');
  end if;
  return null;
end $$;

comment on function crossfade_private.refuse_fenced_write is
  'BEFORE STATEMENT trigger on V2: refuse a direct write by an API role while a fencing kill switch is engaged (PT409 CF_FENCED). Mirrored and engine writes pass. Holds the fence lock shared until the transaction ends.';

create or replace function crossfade_private.refuse_archived_write(pair text, side integer)
returns boolean
language plpgsql volatile
set search_path = ''
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

-- Installing --------------------------------------------------------------------------------------

create or replace function crossfade_private.install_mirror(pair crossfade.pairs, side integer)
returns void
language plpgsql volatile
set search_path = ''
set lock_timeout = '2s'
as $$
declare
  -- Echo guard: false only for statements of our own inner write, at exactly that depth, so that a
  -- write made by the owner's own trigger is still mirrored. As a condition it costs no function
  -- call.
  v_pieces jsonb := crossfade_private.make_pieces(pair, side)
    || crossfade_private.inlined_pieces(pair, side)
    || jsonb_build_object('not_echo', format(
    'current_setting(%L, true) is distinct from (pg_catalog.pg_trigger_depth() + 1)::text',
    format('crossfade.echo_%s_v%s', (pair).name, side)));
  v_operation text;
begin
  insert into crossfade_private.pair_pieces (pair, side, pieces)
  values ((pair).name, install_mirror.side, v_pieces)
  on conflict on constraint pair_pieces_pkey do update set pieces = excluded.pieces;

  foreach v_operation in array array['insert', 'update', 'delete', 'truncate', 'move',
    'merge'] loop
    execute crossfade_private.render(crossfade_private.mirror_template(v_operation), v_pieces);
    execute format('revoke all on function crossfade_private.mirror_%s_v%s_%s() from public',
      (pair).name, side, v_operation);
    execute crossfade_private.render(
      format(
        'create or replace trigger crossfade_mirror_%s after %s on {source} %s execute function crossfade_private.mirror_{pair}_v{side}_%s()',
        v_operation,
        case when v_operation in ('move', 'merge') then 'update' else v_operation end,
        case v_operation
          when 'move' then 'for each row when (row({skey_old}) is distinct from row({skey_new})
            and {not_echo})'
          when 'merge' then
            'for each row when (pg_catalog.pg_trigger_depth() > 0
              and row({skey_old}) is not distinct from row({skey_new}) and {not_echo})'
          when 'truncate' then 'for each statement when ({not_echo})'
          when 'delete' then
            'referencing old table as crossfade_rows for each statement when ({not_echo})'
          else 'referencing new table as crossfade_rows for each statement when ({not_echo})'
        end, v_operation), v_pieces);
    -- ALWAYS: imports that run with session_replication_role = replica must be mirrored as well.
    execute crossfade_private.render(
      format('alter table {source} enable always trigger crossfade_mirror_%s', v_operation),
        v_pieces);
  end loop;
  if side = 2 then
    execute crossfade_private.render(
      'create or replace trigger crossfade_fence before insert or update or delete or truncate on {source} for each statement when ({not_echo}) execute function crossfade_private.refuse_fenced_write({pair_literal})',
      v_pieces);
  end if;
end $$;

comment on function crossfade_private.install_mirror is
  'Generate the mirror functions of one side and create their triggers. Takes SHARE ROW EXCLUSIVE on that table for milliseconds (waits at most 2 s for it, then fails with 55P03).';

create or replace function crossfade_private.remove_mirror(pair crossfade.pairs, side integer)
returns void
language plpgsql volatile
set search_path = ''
set lock_timeout = '2s'
as $$
declare
  v_trigger record;
  v_name text;
begin
  -- By function and argument: the table may have another name by now.
  for v_trigger in
    select g.tgname, g.tgrelid::regclass as tab
    from pg_catalog.pg_trigger g
    join pg_catalog.pg_proc f on f.oid = g.tgfoid
    where f.pronamespace = 'crossfade_private'::regnamespace and not g.tgisinternal
      and (f.proname = any (array(
          select format('mirror_%s_v%s_%s', (pair).name, side, o)
          from unnest(array['insert', 'update', 'delete', 'truncate', 'move', 'merge']) o))
        or side = 2 and f.proname = 'refuse_fenced_write'
          and g.tgargs = convert_to((pair).name, 'UTF8') || '\x00')
    order by g.tgname
  loop
    execute format('drop trigger %I on %s', v_trigger.tgname, v_trigger.tab);
  end loop;
  foreach v_name in array array['insert', 'update', 'delete', 'truncate', 'move', 'merge'] loop
    execute format('drop function if exists crossfade_private.mirror_%s_v%s_%s()', (pair).name,
      side, v_name);
  end loop;
end $$;

comment on function crossfade_private.remove_mirror is
  'Drop the triggers and functions of one side. Takes ACCESS EXCLUSIVE on that table (waits at most 2 s): never part of a rollback.';
