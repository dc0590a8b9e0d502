-- The trigger that refuses a direct write to V2 while a fencing kill switch stands.

create or replace function crossfade_private.refuse_fenced_write()
returns trigger
language plpgsql volatile
security definer -- API roles may not read the switches
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair text := tg_argv[0];
begin
  -- current_user is the owner in here; the role setting still names who came through the Data API,
  -- also when they went through a SECURITY DEFINER function of the project.
  if coalesce(current_setting('role', true), 'none') not in ('anon', 'authenticated',
    'service_role')
    and session_user <> 'authenticator' then
    return coalesce(new, old);
  end if;
  if current_setting('crossfade.mark_' || v_pair, true) = 'engine'
    and crossfade_private.is_engine_write(v_pair) then
    return coalesce(new, old);
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
      perform from crossfade_private.mirror_state m where m.pair = v_pair for share;
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
  if not (select m.opened from crossfade_private.mirror_state m where m.pair = v_pair) then
    perform crossfade_private.fail(
      409, 'CF_CLOSED', format('Cannot write %s: version 2 of "%s" is not open yet',
        format('%I.%I', tg_table_schema, tg_table_name), v_pair),
      jsonb_build_object('pair', v_pair),
      'Write version 1. Version 2 opens when the first backfill has finished (crossfade backfill run) and, where it had rows before, when a verify pass has found no difference (crossfade verify run).');
  end if;
  return coalesce(new, old);
end $$;

comment on function crossfade_private.refuse_fenced_write is
  'BEFORE trigger on V2, of statements and, in a partition that has no triggers of statements yet, of rows: refuse a direct write by an API role while a fencing kill switch is engaged (PT409 CF_FENCED), and as long as not every row of V1 has a counterpart (PT409 CF_CLOSED): with the key of such a row a user could take it over. Statements of triggers, referential actions and batches pass. Holds the fence lock shared until the transaction ends.';
