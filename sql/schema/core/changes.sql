-- Every change of a control row raises the version, is audited and broadcast.

create or replace function crossfade.flags_version()
returns bigint
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select c.flags_version from crossfade.control c;
$$;

comment on function crossfade.flags_version is
  'The counter that every change of control rows raises.';

create or replace function crossfade_private.bump_version()
returns bigint
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  update crossfade.control set flags_version = flags_version + 1 returning flags_version;
$$;

comment on function crossfade_private.bump_version is
  'Raise flags_version by one and return it. Locks the one control row until the transaction ends, so control changes are serial.';

create or replace function crossfade_private.audit(
  action text, object text, reason text, before jsonb, after jsonb
)
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  insert into crossfade.audit (
    actor, actor_id, action, object, reason, before, after, flags_version)
  values (
    crossfade_private.actor(), crossfade_private.actor_id(), audit.action, audit.object,
    coalesce(nullif(audit.reason, ''), crossfade_private.reason()),
    audit.before, audit.after, crossfade.flags_version()
  );
$$;

comment on function crossfade_private.audit is 'Write one audit row for the current actor.';

create or replace function crossfade_private.broadcast(event text, payload jsonb)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Realtime may be absent (plain Postgres). realtime.send itself turns its failures into warnings,
  -- so readers must also poll: a broadcast only makes a change visible sooner.
  if to_regprocedure('realtime.send(jsonb,text,text,boolean)') is null then
    return;
  end if;
  -- SAFETY: we run as the owner, and functions of Realtime have a search_path that we do not know:
  -- with an empty one, PostgreSQL takes the caller's temporary type for one of its own.
  if exists (
    select from pg_catalog.pg_type y
    join pg_catalog.pg_type k
      on k.typname = y.typname and k.typnamespace = 'pg_catalog'::regnamespace
    where y.typnamespace = pg_my_temp_schema()
  ) then
    raise warning
      'crossfade: broadcast % not sent: this session has temporary types with names of PostgreSQL''s own',
      broadcast.event;
    return;
  end if;
  execute 'select realtime.send($1, $2, $3, true)'
    using broadcast.payload, broadcast.event, 'crossfade:flags';
exception when others then
  raise warning 'crossfade: broadcast % failed: %', broadcast.event, sqlerrm;
end $$;

comment on function crossfade_private.broadcast is
  'Send a hint on the private topic crossfade:flags at COMMIT. Never raises; a failure is a WARNING.';

create or replace function crossfade_private.on_control_change()
returns trigger
language plpgsql volatile
security definer -- a hand edit through the Data API comes from a role that may not write the audit
set search_path = pg_catalog, pg_temp
as $$
declare
  v_before jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) end;
  v_after jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) end;
  v_row jsonb := coalesce(v_after, v_before);
begin
  if v_before is not distinct from v_after then
    return null;
  end if;
  perform crossfade_private.bump_version();
  perform crossfade_private.audit(
    case tg_table_name when 'kill_switches' then 'kill_switch' else rtrim(tg_table_name, 's') end
      || '.' || lower(tg_op),
    coalesce(v_row ->> 'name', v_row ->> 'pair'), null, v_before, v_after);
  perform crossfade_private.broadcast(
    'flags_changed', jsonb_build_object('flags_version', crossfade.flags_version()));
  return null;
end $$;

comment on function crossfade_private.on_control_change is
  'AFTER ROW trigger of the control tables: a real change raises flags_version, is audited (action flag.update, object = name) and broadcast, also when somebody edits the row by hand.';

create or replace function crossfade_private.before_control_change()
returns trigger
language plpgsql volatile
-- Definer: a hand edit through the Data API comes from a role that may not lock crossfade.control.
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Order matters, everywhere: fence, rows of crossfade.pairs by name, the control row, other rows.
  -- Without this lock a row would be locked before the control row, and a rollback could deadlock.
  perform 1 from crossfade.control c for update;
  return null;
end $$;

comment on function crossfade_private.before_control_change is
  'BEFORE STATEMENT trigger of the control tables: lock the control row first, so that control changes are serial and never deadlock.';

create or replace function crossfade_private.stamp_row()
returns trigger
language plpgsql volatile
-- Definer: API roles hold no right on crossfade_private.actor().
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  -- An update that changes nothing must stay one, or it would be audited and broadcast.
  if tg_op = 'UPDATE' and new is not distinct from old then
    return new;
  end if;
  new.updated_at := clock_timestamp();
  new.updated_by := crossfade_private.actor();
  return new;
end $$;

comment on function crossfade_private.stamp_row is
  'BEFORE ROW trigger: who changed the row last, and when. Leaves an unchanged row alone.';
