-- Bringing a snapshot back.

create or replace function crossfade.restore_snapshot(id bigint, reason text)
returns jsonb
language plpgsql volatile
-- Definer: API roles hold no right on the tables it writes.
security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_snapshot crossfade.snapshots;
  v_previous jsonb;
  v_kept jsonb;
  v_pair record;
  v_before crossfade.pairs[];
begin
  perform crossfade_private.require_reason(
    restore_snapshot.reason, format('restore snapshot %s', restore_snapshot.id));
  select s.* into v_snapshot from crossfade.snapshots s where s.id = restore_snapshot.id;
  if not found then
    perform crossfade_private.fail(
      404, 'CF014', format('Unknown snapshot %s', restore_snapshot.id),
      jsonb_build_object('snapshot', restore_snapshot.id));
  end if;
  perform crossfade_private.lock_control(
    exists (
      select from crossfade.kill_switches k
      join jsonb_populate_recordset(
        null::crossfade.kill_switches, v_snapshot.state -> 'kill_switches') s on s.name = k.name
      where k.fences and s.engaged and not k.engaged),
    array(select p.name from crossfade.pairs p));
  v_previous := crossfade_private.save_snapshot(
    format('before restoring snapshot %s: %s', restore_snapshot.id, restore_snapshot.reason));
  v_kept := crossfade_private.restore_switches(v_snapshot, restore_snapshot.reason);
  perform crossfade_private.restore_flags(v_snapshot);
  v_before := array(select p from crossfade.pairs p);
  for v_pair in
    select s.name, s.stage, c as cohort
    from jsonb_populate_recordset(null::crossfade.pairs, v_snapshot.state -> 'pairs') s
    join crossfade.pairs p on p.name = s.name
    join jsonb_populate_recordset(null::crossfade.cohorts, v_snapshot.state -> 'cohorts') c
      on c.pair = s.name
    order by s.name
  loop
    perform crossfade_private.restore_pair(
      v_pair.name, v_pair.stage, v_pair.cohort, restore_snapshot.reason);
  end loop;
  -- Not before all are where they were: pairs that joined the group later are not in the snapshot.
  perform crossfade_private.check_group_way_back(b, p.stage)
  from unnest(v_before) b join crossfade.pairs p on p.name = b.name
  where crossfade_private.stage_number(p.stage) < crossfade_private.stage_number(b.stage);
  perform crossfade_private.audit('snapshot.restore', v_snapshot.id::text, null, v_previous, null);
  return jsonb_build_object(
    'snapshot', to_jsonb(v_snapshot) - 'state', 'previous', v_previous,
    'kept_kill_switches', v_kept, 'skipped_pairs', (
      select coalesce(jsonb_agg(s.value ->> 'name' order by s.value ->> 'name'), '[]')
      from jsonb_array_elements(v_snapshot.state -> 'pairs') s
      where not exists (select from crossfade.pairs p where p.name = s.value ->> 'name')),
    'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.restore_snapshot is
  'Make flags, cohorts, kill switches and stages what they were, in one transaction, all or nothing. Takes a snapshot first ("previous"), so it can be undone. A switch engaged after the snapshot stays engaged (kept_kill_switches) unless the rollback that took this snapshot engaged it. Stages and percentages go through set_stage and set_cohort and are refused like there: CF005 preconditions, CF006 latched (rearm first). Flags added and pairs registered later stay, pairs removed since are skipped (skipped_pairs); settings are not restored. CF007 no reason, CF014 unknown snapshot.';
