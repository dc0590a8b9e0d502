-- The parts of a change of stage.

create or replace function crossfade_private.refuse_stage(
  pair crossfade.pairs, stage text, blockers jsonb
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  perform crossfade_private.fail(409, 'CF005',
    format('Cannot set "%s" to %s: %s', (pair).name, stage, (
      select string_agg(case when b ->> 'pair' <> (pair).name
          then format('"%s": %s', b ->> 'pair', b ->> 'message') else b ->> 'message' end, '; ')
      from jsonb_array_elements(blockers) b)),
    jsonb_build_object('pair', (pair).name, 'stage', (pair).stage, 'wanted', stage, 'blockers',
      blockers),
    coalesce(nullif(blockers -> 0 ->> 'hint', ''), 'crossfade stage blockers PAIR'));
end $$;

comment on function crossfade_private.refuse_stage is
  'Raise CF005 with every blocker in the detail.';

create or replace function crossfade_private.check_way_back(pair crossfade.pairs, stage text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_blockers jsonb;
begin
  if (pair).stage = 'retired' and stage <> 'complete' then
    perform crossfade_private.refuse_stage(pair, stage, jsonb_build_array(
      crossfade_private.blocker('stage_order', 'from retired the way back leads to complete',
        format('crossfade stage set %s complete --reason "..."', (pair).name))));
  elsif (pair).stage = 'retired' then
    select jsonb_agg(crossfade_private.blocker('view_dependents',
      format('%s %s depends on the view %s, which goes', d.kind, d.object, (pair).v1_view),
      d.command)) into v_blockers
    from crossfade_private.catalog_dependents(to_regclass((pair).v1_view)) d;
  end if;
  if v_blockers is not null then
    perform crossfade_private.refuse_stage(pair, stage, v_blockers);
  elsif (pair).stage <> 'complete' then
    return;
  end if;
  -- V1 is an archive by now: it must be current again before anything may be served from it.
  select jsonb_agg(b) into v_blockers from (
    select crossfade_private.blocker('stage_order', 'from complete the way back leads to rampdown',
      'crossfade stage set PAIR rampdown') b
    where stage <> 'rampdown'
    union all
    select crossfade_private.blocker('reverse_backfill',
      'version 1 has not been brought up to date', 'crossfade backfill run --direction v2_to_v1')
    where (pair).needs_reverse_backfill
    union all
    select crossfade_private.data_blockers(pair)
  ) q;
  if v_blockers is not null then
    perform crossfade_private.refuse_stage(pair, stage, v_blockers);
  end if;
end $$;

comment on function crossfade_private.check_way_back is
  'Only complete and retired have preconditions on the way back (CF005).';

create or replace function crossfade_private.check_group_way_back(
  pair crossfade.pairs, stage text
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_group constant text := (select g.name from crossfade_private.pair_groups() g
    where g.pair = (check_group_way_back.pair).name);
  v_others constant text[] := array(
    select o.name from crossfade.pairs o
    where o.name <> (check_group_way_back.pair).name and case
      -- An archive that refuses writes would refuse what foreign keys do to it.
      when (check_group_way_back.pair).stage = 'complete' then o.stage in ('complete', 'retired')
        and o.name in (
        select crossfade_private.group_of((check_group_way_back.pair).name))
      -- Rows would refer to rows that are mirrored no more.
      when check_group_way_back.stage = 'off' then o.stage <> 'off' and exists (
        select from crossfade_private.pair_ancestors() a
        where a.pair = o.name and a.ancestor = (check_group_way_back.pair).name)
      else false end
    order by o.name);
begin
  if v_others <> '{}' then
    perform crossfade_private.refuse_stage(pair, stage, jsonb_build_array(
      crossfade_private.blocker('group',
        format('"%s" %s of its group and would be left behind', array_to_string(v_others, '", "'),
          case cardinality(v_others) when 1 then 'is' else 'are' end),
        format('crossfade group stage %s %s --reason "..."', v_group, stage))));
  end if;
end $$;

comment on function crossfade_private.check_group_way_back is
  'CF005 where a pair cannot go back without others of its group: out of complete, and off while pairs refer to it.';

create or replace function crossfade_private.change_leader(pair crossfade.pairs, stage text)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_moved jsonb := '[]'::jsonb;
begin
  -- Order matters: who takes from which sequence first, then past what it must be.
  if 'retired' in (stage, (pair).stage) then
    return (pair).moved_sequences; -- between complete and retired version 2 leads
  elsif stage = 'complete' then
    v_moved := crossfade_private.own_sequences(pair);
    perform crossfade_private.lead_sequences(pair, 2);
  elsif (pair).stage = 'complete' then
    perform crossfade_private.return_sequences(pair);
    perform crossfade_private.lead_sequences(pair, 1);
  elsif stage = 'rampdown' then
    perform crossfade_private.lead_sequences(pair, 2);
  elsif (pair).stage = 'rampdown' then
    perform crossfade_private.lead_sequences(pair, 1);
  end if;
  return v_moved;
end $$;

comment on function crossfade_private.change_leader is
  'What a change of stage means for the keys that both tables hand out; gives what crossfade.pairs.moved_sequences keeps. Into complete it takes the locks of own_sequences, back from it those of return_sequences.';

create or replace function crossfade_private.enter_stage(pair crossfade.pairs, stage text)
returns crossfade.pairs
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_version bigint := crossfade_private.bump_version();
  v_forward boolean := crossfade_private.stage_number(stage) > crossfade_private.stage_number(
    (pair).stage);
  v_mirror text := case
    when stage = 'off' then 'off'
    when stage in ('complete', 'retired') then 'archived'
    -- Its rows refer to rows that are not copied yet: every write would fail. Nothing is lost: its
    -- backfill comes after theirs, and begins by switching its mirror on.
    when (pair).stage = 'off' and exists (
      select from crossfade_private.uncopied_parents(pair, 'v1_to_v2')) then 'waiting'
    else 'both' end;
  v_row crossfade.pairs;
  v_stepping text := coalesce(current_setting('crossfade.stepping', true), '');
  v_watched boolean := stage = 'rampdown';
  v_moved jsonb := crossfade_private.change_leader(pair, stage);
  v_unproven boolean := false;
begin
  -- For the step that ends here.
  perform crossfade_private.sample_writes((pair).name);
  if (pair).stage = 'off' then
    -- Left by mirroring that was switched off, say, while V1 went on: whose rows these are by now
    -- is not known.
    execute format('select exists (select from %s)', (pair).v2_table) into v_unproven;
  end if;
  if stage = 'retired' then
    perform crossfade_private.swap_in_view(pair);
  end if;
  update crossfade_private.mirror_state m
  set mirror = v_mirror,
    unproven = case (enter_stage.pair).stage when 'off' then v_unproven else m.unproven end,
    watched_since = case when v_watched then coalesce(m.watched_since, clock_timestamp()) end
  where m.pair = (enter_stage.pair).name
    and (m.mirror <> v_mirror or (m.watched_since is not null) <> v_watched)
    -- A paused mirror stays paused between the two stages that allow it.
    and not (m.mirror = 'log_only' and enter_stage.stage in ('dualwrite', 'shadow'));
  update crossfade.pairs p
  set stage = enter_stage.stage, step = p.step + 1, step_started_at = clock_timestamp(),
    step_flags_version = v_version,
    stage_xid = case when p.stage <> 'off' then p.stage_xid end,
    last_backfill_at = case when enter_stage.stage <> 'off' then p.last_backfill_at end,
    last_clean_verify_at = case when enter_stage.stage <> 'off' then p.last_clean_verify_at end,
    full_since = case when enter_stage.stage in ('rampdown', 'complete', 'retired')
      then coalesce(p.full_since, clock_timestamp()) end,
    needs_reverse_backfill = p.needs_reverse_backfill
      or enter_stage.stage in ('complete', 'retired'),
    moved_sequences = v_moved
  where p.name = (enter_stage.pair).name
  returning * into v_row;
  perform crossfade_private.open_or_close(v_row.name);
  if not v_forward and stage in ('off', 'dualwrite', 'shadow') then
    -- Going forward again must not put the old share of users on version 2 at once.
    perform set_config('crossfade.stepping', 'on', true);
    update crossfade.cohorts c set percentage = 0 where c.pair = v_row.name and c.percentage <> 0;
    perform set_config('crossfade.stepping', v_stepping, true);
  end if;
  if stage in ('off', 'retired') then
    update crossfade.runs r set state = 'cancelled', reason = format('stage %s', v_row.stage),
      finished_at = clock_timestamp()
    where r.pair = v_row.name and r.state in ('running', 'paused');
  end if;
  if stage = 'off' then
    delete from crossfade_private.tombstones z where z.pair = v_row.name;
    update crossfade_private.mirror_state m set tombstones = false where m.pair = v_row.name
      and m.tombstones;
  end if;
  return v_row;
end $$;

comment on function crossfade_private.enter_stage is
  'Set the stage without asking: mirror, step, cohort, runs and sequences follow. Locks rows of the pair only; entering and leaving complete also tables, as change_leader says.';

create or replace function crossfade_private.await_last_writes(pairs crossfade.pairs[])
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair crossfade.pairs;
  v_blockers jsonb;
begin
  -- A writer of V1 under way could still record a failure that names V1 as the right side. In
  -- complete V2 goes on alone, and on the way back that record would undo newer writes of V2.
  -- Order matters: V2 first, as its writers come to V1. And all at once: with V1 alone they would
  -- wait for this, and this, at the triggers of the archive, for them.
  perform crossfade_private.await_turn(array(
    select format('lock table %s in %s mode', l.tab, l.mode)
    from generate_subscripts(pairs, 1) place
    cross join lateral (values
      (1, (pairs[place]).v2_table, case when crossfade_private.draws_on_identity(pairs[place])
        then 'access exclusive' else 'share row exclusive' end),
      (2, (pairs[place]).v1_table, 'share row exclusive')) l(side, tab, mode)
    order by l.side, place));
  -- Everybody waits from here on: what writers do not change was judged before.
  foreach v_pair in array pairs loop
    select jsonb_agg(b || jsonb_build_object('pair', v_pair.name)) into v_blockers from (
      select crossfade_private.data_blockers(v_pair)
      union all
      select crossfade_private.blocker('v1_written', w.message, w.hint)
      from crossfade_private.v1_write_blocker(v_pair) w
    ) f(b);
    if v_blockers is not null then
      perform crossfade_private.refuse_stage(v_pair, 'complete', v_blockers);
    end if;
  end loop;
end $$;

comment on function crossfade_private.await_last_writes is
  'Hold writers of some pairs off and look once more at what the last of them left (CF005). SHARE ROW EXCLUSIVE on both tables, ACCESS EXCLUSIVE on a V2 that draws its keys from V1''s identity, all of them or, after 2 s of attempts of 0.3 s, none (55P03).';
