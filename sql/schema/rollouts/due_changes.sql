-- Applying a change set when its time has come.

create or replace function crossfade_private.raises_flag(flag crossfade.flags, changes jsonb)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select n.enabled and (
    not flag.enabled
    or coalesce(n.percentage, 0) > coalesce(flag.percentage, 0)
    or n.default_value and not flag.default_value
    or not n.allow_user_ids <@ flag.allow_user_ids
    or not n.allow_agent_ids <@ flag.allow_agent_ids
    or not flag.deny_user_ids <@ n.deny_user_ids
    or not flag.deny_agent_ids <@ n.deny_agent_ids
    or not flag.killed_by <@ n.killed_by
    or not flag.prerequisites <@ n.prerequisites)
  from jsonb_populate_record(flag, changes - 'create') n;
$$;

comment on function crossfade_private.raises_flag is
  'Whether the changes may turn a flag on for somebody who does not have it.';

create or replace function crossfade_private.apply_scheduled(scheduled crossfade.scheduled_changes)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_latched text;
  v_code text;
  v_detail text;
  v_message text;
begin
  -- A block of its own: whatever refuses it takes back all of its changes and nothing else.
  begin
    perform crossfade_private.lock_control(false, array(select p.name from crossfade.pairs p));
    select p.name into v_latched from crossfade.pairs p
    where p.latched_at is not null order by p.name limit 1;
    if v_latched is not null and exists (
      select from jsonb_array_elements((scheduled).changes) c
      left join crossfade.flags f on f.name = c ->> 'name'
      where c ->> 'kind' = 'flag' and c ->> 'action' <> 'delete'
        and (f.name is null or crossfade_private.raises_flag(f, c -> 'changes'))) then
      -- Nobody is watching when it acts, and what went wrong may be this very flag.
      perform crossfade_private.fail(
        409, 'CF006',
        format('Cannot raise a flag by schedule: "%s" was rolled back automatically', v_latched),
        jsonb_build_object('pair', v_latched));
    end if;
    perform crossfade_private.apply_change_set(
      (scheduled).changes, crossfade_private.plain_reason(format('%s (scheduled by %s)',
        (scheduled).reason, (scheduled).created_by)));
  exception when others then
    get stacked diagnostics v_detail = pg_exception_detail, v_message = message_text;
    v_code := coalesce(substring(v_detail from '"code": "(\w+)"'), sqlstate);
    return jsonb_build_object('state', 'refused',
      'outcome', jsonb_build_object('code', v_code, 'message', v_message));
  end;
  return jsonb_build_object('state', 'applied',
    'outcome', jsonb_build_object('flags_version', crossfade.flags_version()));
end $$;

comment on function crossfade_private.apply_scheduled is
  'Apply one scheduled change set: {"state": applied or refused, "outcome"}. Refused (CF006) when it raises a flag while a pair is latched.';

create or replace function crossfade.apply_due_changes()
returns jsonb
language plpgsql volatile
-- Definer: as set_flag.
security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_row crossfade.scheduled_changes;
  v_done jsonb;
  v_all jsonb := '[]'::jsonb;
begin
  for v_row in
    -- Exactly once: the row stays locked until its new state is committed with what it did.
    select s.* from crossfade.scheduled_changes s
    where s.state = 'pending' and s.due_at <= clock_timestamp()
    order by s.due_at, s.id
    for update skip locked
  loop
    v_done := crossfade_private.apply_scheduled(v_row);
    update crossfade.scheduled_changes s
    set state = v_done ->> 'state', outcome = v_done -> 'outcome', done_at = clock_timestamp()
    where s.id = v_row.id
    returning s.* into v_row;
    perform crossfade_private.audit(
      'schedule.' || v_row.state, v_row.id::text, v_row.reason, null, to_jsonb(v_row));
    v_all := v_all || to_jsonb(v_row);
  end loop;
  return jsonb_build_object('done', v_all, 'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.apply_due_changes is
  'Apply the change sets whose time has come, each all or nothing and exactly once however many callers there are; one that is refused is marked so and not tried again. Returns {"done": [row], "flags_version"}. What the monitor and the pg_cron job call.';
