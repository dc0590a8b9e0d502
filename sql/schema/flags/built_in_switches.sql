-- Kill switches that are always there: emergency_rollback, and disable_v2_<pair> of each pair. They
-- are the last resort, so that nobody may take them away or strip them of their effect.

create or replace function crossfade_private.own_switch(pair text)
returns text
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
  select 'disable_v2_' || own_switch.pair;
$$;

comment on function crossfade_private.own_switch is
  'Name of the kill switch that is made with a pair and stops V2 of this pair alone.';

create or replace function crossfade_private.add_own_switch(pair text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_handled constant text := coalesce(current_setting('crossfade.fence', true), '');
begin
  -- Only what is missing: a definition stops nobody, so that it need not wait for writers of V2.
  perform set_config('crossfade.fence', 'not needed', true);
  insert into crossfade.kill_switches (name, fences, pair, description)
  select o.name, true, add_own_switch.pair,
    format('Serve V1 for "%s" and refuse direct writes to its V2', add_own_switch.pair)
  from (select crossfade_private.own_switch(add_own_switch.pair) as name) o
  where not exists (select from crossfade.kill_switches k where k.name = o.name);
  -- One of an owner that had the name already. An engaged one stays as wide as it is.
  update crossfade.kill_switches k set fences = true, pair = add_own_switch.pair
  where k.name = crossfade_private.own_switch(add_own_switch.pair) and not k.engaged
    and (not k.fences or k.pair is distinct from add_own_switch.pair);
  perform set_config('crossfade.fence', v_handled, true);
end $$;

comment on function crossfade_private.add_own_switch is
  'Make the kill switch of a pair where it is missing. Locks the control row when it does.';

create or replace function crossfade_private.is_built_in(name text)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select is_built_in.name = 'emergency_rollback' or exists (
    select from crossfade.pairs p
    where crossfade_private.own_switch(p.name) = is_built_in.name);
$$;

comment on function crossfade_private.is_built_in is
  'Whether a kill switch is one of those that nobody may delete.';

create or replace function crossfade_private.protect_built_in()
returns trigger
language plpgsql volatile
security definer -- a hand edit through the Data API comes from a role without rights in here
set search_path = pg_catalog, pg_temp
as $$
declare
  v_name text;
begin
  if tg_op = 'TRUNCATE' then
    v_name := 'emergency_rollback';
  elsif not crossfade_private.is_built_in(old.name) then
    return coalesce(new, old);
  elsif tg_op = 'DELETE' then
    v_name := old.name;
  elsif new.name <> old.name or old.fences and not new.fences
    or old.overrides_all and not new.overrides_all
    -- Of its own pair, of all pairs, and nothing else.
    or new.pair is not null and crossfade_private.own_switch(new.pair) <> new.name then
    v_name := old.name;
  else
    return new;
  end if;
  perform crossfade_private.fail(409, 'CF027',
    format('Cannot %s kill switch "%s": it is built in and the last way to stop V2',
      case tg_op when 'UPDATE' then 'rename or weaken' else 'delete' end, v_name),
    jsonb_build_object('kill_switch', v_name),
    'It needs no upkeep: released, it does nothing. The switch of a pair goes with its pair.');
  return null;
end $$;

comment on function crossfade_private.protect_built_in is
  'Trigger: refuse (CF027) to delete, rename or weaken a built-in kill switch, whoever asks, also the owner.';

create or replace trigger crossfade_before_protect
before update or delete on crossfade.kill_switches
for each row execute function crossfade_private.protect_built_in();

create or replace trigger crossfade_before_truncate
before truncate on crossfade.kill_switches
for each statement execute function crossfade_private.protect_built_in();
