-- Stages: one way forward, with every precondition; the way back needs only a reason.

create or replace function crossfade_private.move_forward(
  pairs crossfade.pairs[], stage text, confirm boolean, alone boolean, anyway boolean
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair crossfade.pairs;
  v_blocked crossfade.pairs;
  v_found jsonb;
  v_blockers jsonb := '[]'::jsonb;
begin
  foreach v_pair in array pairs loop
    perform crossfade_private.check_forward(
      v_pair, format('set "%s" to %s', v_pair.name, stage), anyway);
  end loop;
  foreach v_pair in array pairs loop
    select jsonb_agg(b || jsonb_build_object('pair', v_pair.name)) into v_found
    from (
      select crossfade_private.own_blockers(v_pair, stage)
      union all
      select crossfade_private.group_blockers(v_pair, stage) where alone
    ) f(b);
    if v_found is not null then
      if v_blockers = '[]' then
        v_blocked := v_pair;
      end if;
      v_blockers := v_blockers || v_found;
    end if;
  end loop;
  if v_blockers <> '[]' then
    perform crossfade_private.refuse_stage(v_blocked, stage, v_blockers);
  end if;
  if stage = 'complete' and not coalesce(confirm, false) then
    perform crossfade_private.fail(409, 'CF013',
      format(
      'Setting "%s" to complete needs a confirmation: version 1 becomes a read-only archive',
      (select string_agg(p.name, '", "') from unnest(pairs) p)),
      jsonb_build_object('pair', (pairs[1]).name), 'The same command with --confirm.');
  end if;
  if stage = 'retired' then
    perform crossfade_private.prepare_views(pairs);
  elsif stage = 'complete' then
    perform crossfade_private.await_last_writes(pairs);
  end if;
  foreach v_pair in array pairs loop
    perform crossfade_private.enter_stage(v_pair, stage);
  end loop;
end $$;

comment on function crossfade_private.move_forward is
  'Move pairs to their next stage, in this order, with all preconditions of all of them (CF005, CF006, CF013, CF028). alone: the rest of their groups must have been there before.';

create or replace function crossfade_private.move_pairs(
  pair_names text[], stage text, reason text, confirm boolean, alone boolean, anyway boolean
)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  -- As they are when all are locked, in the order of the names given.
  v_before crossfade.pairs[];
  v_forward crossfade.pairs[];
  v_back crossfade.pairs[];
  v_pair crossfade.pairs;
begin
  if crossfade_private.stage_number(stage) is null then
    perform crossfade_private.fail(400, 'CF012', format('Unknown stage "%s"', stage),
      jsonb_build_object('stage', stage),
      format('Stages: %s.', array_to_string(crossfade_private.stages(), ', ')));
  end if;
  perform crossfade_private.require_reason(reason, format('set "%s" to %s',
    array_to_string(pair_names, '", "'), stage));
  -- By name, as whoever locks several pairs: see lock_control.
  perform from crossfade.pairs p where p.name = any (pair_names) order by p.name
  for no key update;
  select array_agg(p order by u.n),
    array_agg(p order by u.n) filter (where crossfade_private.stage_number(p.stage)
      < crossfade_private.stage_number(move_pairs.stage)),
    -- Children first: nothing may go on referring to what is switched off.
    array_agg(p order by u.n desc) filter (where crossfade_private.stage_number(p.stage)
      > crossfade_private.stage_number(move_pairs.stage))
  into v_before, v_forward, v_back
  from unnest(pair_names) with ordinality u(name, n) join crossfade.pairs p on p.name = u.name;
  if exists (select from unnest(v_back) b where b.stage = 'complete') then
    -- Those that came late to the group, by a new foreign key, must not bar the way out.
    v_forward := null;
  end if;
  if v_forward is not null and v_back is not null then
    perform crossfade_private.fail(409, 'CF005',
      format('Cannot set "%s" to %s: "%s" would go forward and "%s" back',
        array_to_string(pair_names, '", "'), stage,
        (select string_agg(p.name, '", "') from unnest(v_forward) p),
        (select string_agg(p.name, '", "') from unnest(v_back) p)),
      jsonb_build_object('pair', (v_forward[1]).name, 'stage', (v_forward[1]).stage, 'wanted',
        stage, 'blockers', jsonb_build_array()),
      'Bring them to one stage first: crossfade stage set PAIR STAGE.');
  end if;
  if v_forward is not null then
    perform crossfade_private.move_forward(v_forward, stage, confirm, alone, anyway);
  end if;
  foreach v_pair in array coalesce(v_back, '{}') loop
    if alone then
      perform crossfade_private.check_group_way_back(v_pair, stage);
    end if;
    perform crossfade_private.check_way_back(v_pair, stage);
  end loop;
  perform crossfade_private.swap_back_tables(array(
    select p from unnest(v_back) p where p.stage = 'retired'));
  foreach v_pair in array coalesce(v_back, '{}') loop
    perform crossfade_private.enter_stage(v_pair, stage);
  end loop;
  return (
    select jsonb_agg(jsonb_build_object('pair', b.name, 'before', b.stage, 'after', p.stage,
      'step', p.step, 'backend', crossfade_private.backend_share(p)) order by b.ordinality)
    from unnest(v_before) with ordinality b join crossfade.pairs p on p.name = b.name);
end $$;

comment on function crossfade_private.move_pairs is
  'Move pairs to one stage in one transaction, forward in the order given and back in the other one: [{"pair", "before", "after", "step", "backend"}]. Nothing happens when one of them may not. alone: without the rest of their groups, which then must have gone before. Locks the pairs by name.';

create or replace function crossfade.set_stage(
  pair text, stage text, reason text, confirm boolean default false,
  anyway boolean default false
)
returns jsonb
language plpgsql volatile
security definer -- stages are changed by functions only
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_pair constant crossfade.pairs := crossfade_private.get_pair(pair);
begin
  return (crossfade_private.move_pairs(array[v_pair.name], stage, reason, confirm, true, anyway)
      -> 0)
    || jsonb_build_object('flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.set_stage is
  'Move a pair to a stage: {"pair", "before", "after", "step", "backend": who is served by V2 now (see pair_status), "flags_version"}. Forward one stage at a time with all preconditions (CF005 with detail.blockers, CF006 latched, CF013 unconfirmed complete, CF028 without anyway while a kill switch is engaged or after an aborted plan), and never past the rest of its group, but for dualwrite, which parents may enter first; back at any time with a reason (CF007), except from retired, which leads to complete, and from complete, which needs a reverse backfill and a clean verify, and where others of its group would be left behind (out of complete; off while pairs refer to it). Takes no table lock, except for milliseconds, after up to 2 s of short attempts (55P03): into complete both tables are held against writers, into retired V1 and out of it the view of its name ACCESS EXCLUSIVE.';

create or replace function crossfade.set_group_stage(
  name text, stage text, reason text, confirm boolean default false,
  anyway boolean default false
)
returns jsonb
language plpgsql volatile
security definer -- stages are changed by functions only
set search_path = pg_catalog, pg_temp
set jit = off
as $$
begin
  return jsonb_build_object('pairs', crossfade_private.move_pairs(
      crossfade_private.find_group(name), stage, reason, confirm, false, anyway),
    'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.set_group_stage is
  'Move all pairs of a group, named by it or by one of them, to a stage in one transaction, or none: {"pairs": [{"pair", "before", "after", "step", "backend"}], "flags_version"}. Those that are there already stay, and on the way out of complete those that have not come as far as the stage. Refusals and locks as set_stage, of all of them; CF005 also when some would else go forward and some back.';
