-- A release makes the mirrors of all pairs anew, with its own texts.

create or replace function crossfade.refresh_pair(pair text)
returns jsonb
language plpgsql volatile
security definer -- creates triggers on the owner's tables; only service_role may call it
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_before text := v_pair.generator;
  v_plans jsonb;
begin
  perform crossfade_private.refuse_retired(v_pair, 'refresh');
  v_plans := crossfade_private.plan_mirrors(v_pair);
  -- Order matters: the pair before its tables, as everywhere, and all of these before any is
  -- changed: a writer who waits for one may hold another.
  perform from crossfade.pairs p where p.name = refresh_pair.pair for no key update;
  if not crossfade_private.hold_tables(array[v_pair.v1_table, v_pair.v2_table]) then
    raise exception using errcode = '55P03', hint = 'Try again when long transactions have ended.',
      message = format('Cannot refresh pair "%s": its tables are in use', pair);
  end if;
  v_pair := crossfade_private.install_pair(v_pair, v_plans);
  return jsonb_build_object('pair', pair, 'before', v_before, 'after', v_pair.generator,
    'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.refresh_pair is
  'Make the mirror of a pair anew, with the texts of the installed release and for the triggers that its tables have now: {"pair", "before", "after": releases, "flags_version"}. Changes nothing else. Takes in partitions that have come or gone: reads those that are new. Locks both tables, with their partitions, SHARE ROW EXCLUSIVE; tries 3 times 0.8 s (55P03). CF001.';

create or replace function crossfade_private.plan_pairs()
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair crossfade.pairs;
  v_plans jsonb := '{}'::jsonb;
begin
  for v_pair in
    select p.* from crossfade.pairs p where p.stage <> 'retired' order by p.name
  loop
    begin
      v_plans := v_plans || jsonb_build_object(
        v_pair.name, crossfade_private.plan_mirrors(v_pair));
    exception when others then
      null; -- refresh_pairs meets the same and says so
    end;
  end loop;
  return v_plans;
end $$;

comment on function crossfade_private.plan_pairs is
  'By pair, what refresh_pairs takes long to find out. Locks nothing.';

create or replace function crossfade_private.hold_tables(tables text[])
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- Shorter than deadlock_timeout: it is the migration that gives way, and no writer sees a deadlock.
set lock_timeout = '800ms'
as $$
begin
  for v_attempt in 1..3 loop
    begin
      execute format('lock table %s in share row exclusive mode', array_to_string(tables, ', '));
      return true;
    exception when lock_not_available or deadlock_detected then
      -- A short wait, again and again: a long one would queue every writer behind it.
      perform pg_sleep(0.2);
    end;
  end loop;
  return false;
end $$;

comment on function crossfade_private.hold_tables is
  'Lock tables SHARE ROW EXCLUSIVE until the transaction ends, all or none of them; false when that was not possible in 3 times 0.8 s.';

create or replace function crossfade_private.hold_writers()
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_tables text[][] := array(
    select array[p.v1_table, p.v2_table] from crossfade.pairs p
    where to_regclass(p.v1_table) is not null and to_regclass(p.v2_table) is not null
      and p.stage <> 'retired'
    order by p.name);
  v_pair text[];
begin
  if v_tables = '{}' or crossfade_private.hold_tables(array(select unnest(v_tables))) then
    return;
  end if;
  foreach v_pair slice 1 in array v_tables loop
    perform crossfade_private.hold_tables(v_pair);
  end loop;
end $$;

comment on function crossfade_private.hold_writers is
  'Let nobody write the tables of pairs until the transaction ends; a pair with a writer that does not end is left alone.';

create or replace function crossfade_private.refresh_pairs(plans jsonb)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair crossfade.pairs;
begin
  -- A mirror that rests in stage retired is made anew on the way back.
  for v_pair in
    select p.* from crossfade.pairs p where p.stage <> 'retired' order by p.name
  loop
    begin
      perform crossfade_private.install_pair(v_pair, plans -> v_pair.name);
    exception when others then
      raise warning 'crossfade: the mirror of pair "%" is still that of release %: %', v_pair.name,
        v_pair.generator, sqlerrm using hint = format('crossfade pair refresh %s', v_pair.name);
    end;
  end loop;
end $$;

comment on function crossfade_private.refresh_pairs is
  'Make the mirrors of all pairs anew, with what plan_pairs found. A pair whose tables stay locked, or that cannot be mirrored any more, keeps what it has, with a WARNING; from then on that is a blocker and a finding of doctor.';
