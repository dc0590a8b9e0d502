-- Change sets that wait for their time.

create or replace function crossfade.schedule_changes(
  changes jsonb, due_at timestamptz, reason text
)
returns jsonb
language plpgsql volatile
-- Definer: as set_flag.
security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_row crossfade.scheduled_changes;
begin
  perform crossfade_private.require_reason(reason, 'schedule changes');
  perform crossfade_private.check_change_set(changes);
  if due_at is null or due_at = any ('{infinity,-infinity}'::timestamptz[])
    or due_at < clock_timestamp() - interval '1 minute' then
    perform crossfade_private.fail(
      400, 'CF012', format('Cannot schedule changes for %s: it is over', due_at),
      jsonb_build_object('due_at', due_at, 'now', clock_timestamp()));
  end if;
  insert into crossfade.scheduled_changes (due_at, changes, reason, created_by)
  values (schedule_changes.due_at, schedule_changes.changes, schedule_changes.reason,
    crossfade_private.actor())
  returning * into v_row;
  perform crossfade_private.audit(
    'schedule.create', v_row.id::text, reason, null, to_jsonb(v_row));
  return jsonb_build_object(
    'scheduled', to_jsonb(v_row), 'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.schedule_changes is
  'Apply a change set (see apply_changes) at a time: by the monitor, or by pg_cron after crossfade monitor drive. The values are checked then. Returns {"scheduled": row, "flags_version"}. CF007 no reason, CF012 no change set or a time that is over.';

create or replace function crossfade.cancel_changes(id bigint, reason text)
returns jsonb
language plpgsql volatile
-- Definer: as set_flag.
security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
#variable_conflict use_column
declare
  v_row crossfade.scheduled_changes;
begin
  perform crossfade_private.require_reason(reason, format('cancel scheduled changes %s', id));
  select s.* into v_row from crossfade.scheduled_changes s
  where s.id = cancel_changes.id for update;
  if not found then
    perform crossfade_private.fail(
      404, 'CF026', format('Unknown scheduled changes %s', cancel_changes.id),
      jsonb_build_object('id', cancel_changes.id), 'See: crossfade flags schedules');
  end if;
  if v_row.state in ('applied', 'refused') then
    perform crossfade_private.fail(
      404, 'CF026', format('Scheduled changes %s are %s already', v_row.id, v_row.state),
      jsonb_build_object('id', v_row.id, 'state', v_row.state));
  end if;
  if v_row.state = 'pending' then
    update crossfade.scheduled_changes s set state = 'cancelled', done_at = clock_timestamp()
    where s.id = v_row.id returning s.* into v_row;
    perform crossfade_private.audit(
      'schedule.cancel', v_row.id::text, reason, null, to_jsonb(v_row));
  end if;
  return jsonb_build_object(
    'scheduled', to_jsonb(v_row), 'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.cancel_changes is
  'Take back scheduled changes; no error when they were cancelled before. CF007, CF026 unknown or done already.';
