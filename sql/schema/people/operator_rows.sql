-- What happens when a row of an operator changes. The last admin stays.

create or replace function crossfade_private.stamp_operator()
returns trigger
language plpgsql volatile
-- Definer: as stamp_row.
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'INSERT' then
    new.added_by := crossfade_private.actor();
  end if;
  if tg_op = 'INSERT' or new is distinct from old then
    new.updated_at := clock_timestamp();
    new.updated_by := crossfade_private.actor();
  end if;
  return new;
end $$;

comment on function crossfade_private.stamp_operator is
  'BEFORE ROW trigger: who added and who changed an operator, and when.';

create or replace function crossfade_private.on_operator_change()
returns trigger
language plpgsql volatile
-- Definer: as on_control_change.
security definer
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
  if v_before ->> 'role' = 'admin' and v_after ->> 'role' is distinct from 'admin'
    and not exists (select from crossfade.operators o where o.role = 'admin') then
    perform crossfade_private.fail(
      409, 'CF022',
      format('Cannot %s "%s": it is the last admin',
        case when v_after is null then 'remove' else 'change the role of' end,
        coalesce(v_row ->> 'email', v_row ->> 'user_id')),
      jsonb_build_object('operator', v_row ->> 'user_id'), 'Make somebody else admin first.');
  end if;
  perform crossfade_private.audit(
    'operator.' || lower(tg_op), coalesce(v_row ->> 'email', v_row ->> 'user_id'), null,
    v_before, v_after);
  return null;
end $$;

comment on function crossfade_private.on_operator_change is
  'AFTER ROW trigger: audit the change, and refuse (CF022) one that leaves no admin where there was one. Changes are serial (before_control_change), so that two admins cannot remove each other.';

create or replace trigger crossfade_before_lock
before insert or update or delete on crossfade.operators
for each statement execute function crossfade_private.before_control_change();

create or replace trigger crossfade_before_stamp
before insert or update on crossfade.operators
for each row execute function crossfade_private.stamp_operator();

create or replace trigger crossfade_after_change
after insert or update or delete on crossfade.operators
for each row execute function crossfade_private.on_operator_change();
