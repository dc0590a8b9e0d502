-- Stages and cohorts: one way forward, with every precondition here; the way back needs only a
-- reason.

create or replace function crossfade_private.stage_number(stage text)
returns integer
language sql immutable
set search_path = ''
as $$
  select array_position(array['off', 'dualwrite', 'shadow', 'live', 'rampdown', 'complete'], stage);
$$;

comment on function crossfade_private.stage_number is
  'Place of a stage, 1 (off) to 6 (complete); null for an unknown one.';

create or replace function crossfade_private.blocker(code text, message text, hint text)
returns jsonb
language sql immutable
set search_path = ''
as $$
  select jsonb_build_object('code', code, 'message', message, 'hint', hint);
$$;

comment on function crossfade_private.blocker is 'One reason why a stage cannot be entered yet.';

create or replace function crossfade_private.data_blockers(pair crossfade.pairs)
returns setof jsonb
language sql stable
set search_path = ''
as $$
  select crossfade_private.blocker('verify_needed',
    case when (data_blockers.pair).last_clean_verify_at is null
      then 'no full verify pass has been clean yet'
      when (data_blockers.pair).last_clean_verify_at < (data_blockers.pair).last_backfill_at
        then 'the last clean verify pass is older than the backfill'
      else 'the converters have changed since the last clean verify pass' end,
    'crossfade verify run')
  where (data_blockers.pair).last_clean_verify_at is null
    or (data_blockers.pair).last_clean_verify_at < (data_blockers.pair).last_backfill_at
    or (data_blockers.pair).verified_converter_hash is distinct
      from crossfade_private.converter_hash((data_blockers.pair).to_v2, (data_blockers.pair).to_v1)
  union all
  select crossfade_private.blocker('open_mismatches',
    format('%s rows differ between the tables', count(*)),
    'crossfade repair, then crossfade verify run')
  from crossfade.mismatches m where m.pair = (data_blockers.pair).name
    and m.resolved_at is null having count(*) > 0
  union all
  select crossfade_private.blocker('open_failures',
    format('%s writes reached one table only', count(*)),
    'crossfade repair, then crossfade verify run')
  from crossfade.mirror_failures f where f.pair = (data_blockers.pair).name
    and f.resolved_at is null having count(*) > 0
  union all
  select crossfade_private.blocker('drift_since_verify',
    format('%s writes were not mirrored since the last clean verify pass', count(*)),
    'crossfade verify run')
  from crossfade.mirror_failures f
  where f.pair = (data_blockers.pair).name and f.resolved_at is not null
    and f.at > (data_blockers.pair).last_clean_verify_at
  having count(*) > 0;
$$;

comment on function crossfade_private.data_blockers is
  'Why the two tables cannot be trusted to be equal right now.';

create or replace function crossfade_private.shadow_blockers(pair crossfade.pairs)
returns setof jsonb
language sql stable
set search_path = ''
as $$
  select crossfade_private.blocker('shadow_reads',
    format('%s shadow reads compared, %s of them equal (wanted: %s, share %s)', s.compared, s.equal,
      crossfade_private.setting_number('shadow_min_reads'),
        crossfade_private.setting_number('shadow_match_rate')),
    'Leave it in shadow under traffic; settings shadow_min_reads and shadow_match_rate decide.')
  from (
    select coalesce(sum(r.requests), 0) compared,
      coalesce(sum(r.requests) filter (where r.outcome = 'shadow_match'), 0) equal
    from crossfade.request_minutes r
    where r.pair = (shadow_blockers.pair).name and r.outcome in ('shadow_match', 'shadow_mismatch')
      and r.minute >= date_trunc('minute', (shadow_blockers.pair).last_clean_verify_at)
  ) s
  where s.compared < crossfade_private.setting_number('shadow_min_reads')
    or s.equal < s.compared * crossfade_private.setting_number('shadow_match_rate');
$$;

create or replace function crossfade_private.rls_blockers(pair crossfade.pairs)
returns setof jsonb
language plpgsql stable
set search_path = ''
as $$
begin
  return query
    select crossfade_private.blocker('rls_parity',
      format('users see different rows in the two tables (%s found)', c.differences),
      'Make the policies equal, then run crossfade pair check-rls again.')
    from crossfade.rls_checks c
    where c.pair = (rls_blockers.pair).name and c.differences > 0;
end $$;

comment on function crossfade_private.rls_blockers is
  'Why the row-level security of the two tables does not allow live.';

comment on function crossfade_private.shadow_blockers is
  'Why the comparison of live reads does not yet allow live.';

create or replace function crossfade_private.stage_blockers(pair crossfade.pairs, stage text)
returns setof jsonb
language plpgsql stable
set search_path = ''
as $$
declare
  v_next text := (array['dualwrite', 'shadow', 'live', 'rampdown',
    'complete'])[crossfade_private.stage_number((pair).stage)];
  v_cohort crossfade.cohorts;
  v_problem text;
begin
  if stage <> v_next then
    return next crossfade_private.blocker('stage_order',
      format('%s comes after %s', v_next, (pair).stage),
      format('crossfade stage set %s %s', (pair).name, v_next));
    return;
  end if;
  select c.* into v_cohort from crossfade.cohorts c where c.pair = (stage_blockers.pair).name;
  for v_problem in select crossfade_private.mirror_problems(pair) loop
    return next crossfade_private.blocker('mirror_broken', v_problem,
      'Change what is named, then register the pair again.');
  end loop;
  if (pair).fingerprint is distinct from crossfade_private.table_fingerprint(
    to_regclass((pair).v1_table), to_regclass((pair).v2_table)) then
    return next crossfade_private.blocker('tables_changed',
      'columns have changed since the pair was registered',
      'Adapt the converters and register the pair again.');
  end if;
  if exists (select from crossfade.runs r where r.pair = (stage_blockers.pair).name
    and r.kind = 'backfill' and r.state in ('running', 'paused')) then
    return next crossfade_private.blocker('backfill_running', 'a backfill is not finished',
      'crossfade backfill run');
  end if;
  if stage <> 'dualwrite' and (pair).last_backfill_at is null then
    return next crossfade_private.blocker('backfill_needed',
      'no backfill has finished since mirroring began', 'crossfade backfill run');
  end if;
  if stage in ('live', 'rampdown', 'complete') then
    return query select crossfade_private.data_blockers(pair);
  end if;
  if stage in ('live', 'rampdown')
    and (select m.mirror from crossfade_private.mirror_state m
      where m.pair = (stage_blockers.pair).name) <> 'both' then
    return next crossfade_private.blocker('mirror_paused',
      'the mirror only notes changed rows (log_only)',
      'crossfade pair mirror PAIR both, then crossfade repair');
  end if;
  if stage = 'live' then
    return query select crossfade_private.shadow_blockers(pair);
    return query select crossfade_private.rls_blockers(pair);
  end if;
  if stage = 'rampdown' and v_cohort.percentage < 100 then
    return next crossfade_private.blocker('percentage',
      format('backend 2 serves %s %%, not 100 %%', v_cohort.percentage),
      'crossfade cohort set --percentage 100');
  end if;
  if stage = 'complete'
    and coalesce((pair).full_since > clock_timestamp() - make_interval(
    secs => crossfade_private.setting_number('stage_bake_s')::double precision), true) then
    return next crossfade_private.blocker('bake_time',
      format('backend 2 has served everybody since %s; setting stage_bake_s wants %s s',
      coalesce((pair).full_since::text, 'never'), crossfade_private.setting_text('stage_bake_s')),
      'Wait.');
  end if;
end $$;

comment on function crossfade_private.stage_blockers is
  'What stands between a pair and its next stage; no row when nothing does.';

create or replace function crossfade_private.check_way_back(pair crossfade.pairs, stage text)
returns void
language plpgsql volatile
set search_path = ''
as $$
declare
  v_blockers jsonb;
begin
  if (pair).stage <> 'complete' then
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
  'Only complete has preconditions on the way back (CF005).';

create or replace function crossfade_private.refuse_stage(
  pair crossfade.pairs, stage text, blockers jsonb
)
returns void
language plpgsql volatile
set search_path = ''
as $$
begin
  perform crossfade_private.fail(409, 'CF005',
    format('Cannot set "%s" to %s: %s', (pair).name, stage,
      (select string_agg(b ->> 'message', '; ') from jsonb_array_elements(blockers) b)),
    jsonb_build_object('pair', (pair).name, 'stage', (pair).stage, 'wanted', stage, 'blockers',
      blockers),
    coalesce(nullif(blockers -> 0 ->> 'hint', ''), 'crossfade stage blockers PAIR'));
end $$;

comment on function crossfade_private.refuse_stage is
  'Raise CF005 with every blocker in the detail.';

create or replace function crossfade_private.enter_stage(pair crossfade.pairs, stage text)
returns crossfade.pairs
language plpgsql volatile
set search_path = ''
as $$
declare
  v_version bigint := crossfade_private.bump_version();
  v_forward boolean := crossfade_private.stage_number(stage) > crossfade_private.stage_number(
    (pair).stage);
  v_mirror text := case stage when 'off' then 'off' when 'complete' then 'archived' else 'both' end;
  v_row crossfade.pairs;
  v_stepping text := coalesce(current_setting('crossfade.stepping', true), '');
begin
  update crossfade_private.mirror_state m set mirror = v_mirror
  where m.pair = (enter_stage.pair).name and m.mirror <> v_mirror
    -- A paused mirror stays paused between the two stages that allow it.
    and not (m.mirror = 'log_only' and enter_stage.stage in ('dualwrite', 'shadow'));
  update crossfade.pairs p
  set stage = enter_stage.stage, step = p.step + 1, step_started_at = clock_timestamp(),
    step_flags_version = v_version,
    stage_xid = case when p.stage <> 'off' then p.stage_xid end,
    last_backfill_at = case when enter_stage.stage <> 'off' then p.last_backfill_at end,
    last_clean_verify_at = case when enter_stage.stage <> 'off' then p.last_clean_verify_at end,
    full_since = case when enter_stage.stage in ('rampdown', 'complete')
      then coalesce(p.full_since, clock_timestamp()) end,
    needs_reverse_backfill = p.needs_reverse_backfill or enter_stage.stage = 'complete'
  where p.name = (enter_stage.pair).name
  returning * into v_row;
  if not v_forward and stage in ('off', 'dualwrite', 'shadow') then
    -- Going forward again must not put the old share of users on version 2 at once.
    perform set_config('crossfade.stepping', 'on', true);
    update crossfade.cohorts c set percentage = 0 where c.pair = v_row.name and c.percentage <> 0;
    perform set_config('crossfade.stepping', v_stepping, true);
  end if;
  if stage = 'off' then
    update crossfade.runs r set state = 'cancelled', reason = 'stage off',
      finished_at = clock_timestamp()
    where r.pair = v_row.name and r.state in ('running', 'paused');
    delete from crossfade_private.tombstones z where z.pair = v_row.name;
    update crossfade_private.mirror_state m set tombstones = false where m.pair = v_row.name
      and m.tombstones;
  end if;
  return v_row;
end $$;

comment on function crossfade_private.enter_stage is
  'Set the stage without asking: mirror, step, cohort and runs follow. Locks rows of the pair only, no table.';

create or replace function crossfade_private.await_v1_writers(pair crossfade.pairs)
returns void
language plpgsql volatile
set search_path = ''
set lock_timeout = '2s'
as $$
begin
  -- A writer of V1 under way could still record a failure that names V1 as the right side. In
  -- complete V2 goes on alone, and on the way back that record would undo newer writes of V2.
  execute format('lock table %s in share mode', (pair).v1_table);
end $$;

comment on function crossfade_private.await_v1_writers is
  'Wait for the writers of V1 and keep new ones off until the transaction ends, so that what they recorded can be seen. SHARE lock; waits at most 2 s (55P03).';

create or replace function crossfade.set_stage(
  pair text, stage text, reason text, confirm boolean default false
)
returns jsonb
language plpgsql volatile
security definer -- stages are changed by functions only
set search_path = ''
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_before text;
  v_blockers jsonb;
begin
  if crossfade_private.stage_number(stage) is null then
    perform crossfade_private.fail(400, 'CF012', format('Unknown stage "%s"', stage),
      jsonb_build_object('stage', stage),
      'Stages: off, dualwrite, shadow, live, rampdown, complete.');
  end if;
  perform crossfade_private.require_reason(reason, format('set "%s" to %s', pair, stage));
  select p.* into v_pair from crossfade.pairs p where p.name = set_stage.pair for no key update;
  v_before := v_pair.stage;
  if stage <> v_before
    and crossfade_private.stage_number(stage) > crossfade_private.stage_number(v_before) then
    if v_pair.latched_at is not null then
      perform crossfade_private.fail(409, 'CF006',
        format('Cannot set "%s" to %s: it was rolled back automatically (%s)', pair, stage,
        v_pair.latch_reason),
        jsonb_build_object('pair', pair, 'latched_at', v_pair.latched_at, 'latch_reason',
          v_pair.latch_reason),
        'Find the cause, then crossfade rollout rearm PAIR --reason "...".');
    end if;
    if stage = 'complete' then
      perform crossfade_private.await_v1_writers(v_pair);
    end if;
    select jsonb_agg(b) into v_blockers from crossfade_private.stage_blockers(v_pair, stage) b;
    if v_blockers is not null then
      perform crossfade_private.refuse_stage(v_pair, stage, v_blockers);
    end if;
    if stage = 'complete' and not coalesce(confirm, false) then
      perform crossfade_private.fail(409, 'CF013',
        format(
        'Setting "%s" to complete needs a confirmation: version 1 becomes a read-only archive',
        pair),
        jsonb_build_object('pair', pair), 'crossfade stage set PAIR complete --confirm');
    end if;
    v_pair := crossfade_private.enter_stage(v_pair, stage);
  elsif stage <> v_before then
    perform crossfade_private.check_way_back(v_pair, stage);
    v_pair := crossfade_private.enter_stage(v_pair, stage);
  end if;
  return jsonb_build_object('pair', pair, 'before', v_before, 'after', stage, 'step', v_pair.step,
    'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.set_stage is
  'Move a pair to a stage: {"pair", "before", "after", "step", "flags_version"}. Forward one stage at a time with all preconditions (CF005 with detail.blockers, CF006 latched, CF013 unconfirmed complete); back at any time with a reason (CF007), except from complete, which needs a reverse backfill and a clean verify. Takes no table lock, except that complete waits up to 2 s (55P03) for the writers of V1.';

create or replace function crossfade.set_cohort(pair text, changes jsonb, reason text)
returns jsonb
language plpgsql volatile
security definer -- cohorts are changed by functions only
set search_path = ''
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_cohort crossfade.cohorts;
  v_new crossfade.cohorts;
  v_unknown text;
begin
  perform crossfade_private.require_reason(reason, format('change the cohort of "%s"', pair));
  select k into v_unknown from jsonb_object_keys(changes) k
  where k not in ('percentage', 'cohort_key', 'enabled_user_ids', 'enabled_agent_ids',
    'denied_user_ids', 'denied_agent_ids') limit 1;
  if v_unknown is not null then
    perform crossfade_private.fail(400, 'CF012', format('Unknown cohort field "%s"', v_unknown),
      jsonb_build_object('field', v_unknown),
      'Fields: percentage, cohort_key, enabled_user_ids, enabled_agent_ids, denied_user_ids, denied_agent_ids.');
  end if;
  if changes ? 'percentage' then
    perform crossfade_private.check_percentage(changes -> 'percentage');
  end if;
  select p.* into v_pair from crossfade.pairs p where p.name = set_cohort.pair for no key update;
  select c.* into v_cohort from crossfade.cohorts c where c.pair = set_cohort.pair for update;
  v_new := jsonb_populate_record(v_cohort, changes);
  if v_new.percentage > v_cohort.percentage then
    perform crossfade_private.check_raise(v_pair, v_new.percentage);
  end if;
  if v_new is distinct from v_cohort then
    update crossfade.cohorts c
    set percentage = v_new.percentage, cohort_key = v_new.cohort_key,
      enabled_user_ids = v_new.enabled_user_ids, enabled_agent_ids = v_new.enabled_agent_ids,
      denied_user_ids = v_new.denied_user_ids, denied_agent_ids = v_new.denied_agent_ids
    where c.pair = set_cohort.pair returning * into v_new;
    v_pair := crossfade_private.get_pair(pair);
  end if;
  return jsonb_build_object('cohort', to_jsonb(v_new), 'step', v_pair.step, 'flags_version',
    crossfade.flags_version());
end $$;

comment on function crossfade.set_cohort is
  'Change percentage or lists of a pair''s cohort: {"cohort", "step", "flags_version"}. Raising the percentage needs stage live and no latch (CF005, CF006); lowering is always allowed. Percentage 0 to 100 with at most three decimals (CF004). CF001, CF007, CF012.';

create or replace function crossfade_private.check_raise(pair crossfade.pairs, percentage numeric)
returns void
language plpgsql volatile
set search_path = ''
as $$
begin
  if (pair).latched_at is not null then
    perform crossfade_private.fail(409, 'CF006',
      format('Cannot raise "%s" to %s %%: it was rolled back automatically (%s)', (pair).name,
      percentage, (pair).latch_reason),
      jsonb_build_object('pair', (pair).name, 'latched_at', (pair).latched_at, 'latch_reason',
        (pair).latch_reason),
      'Find the cause, then crossfade rollout rearm PAIR --reason "...".');
  end if;
  if (pair).stage <> 'live' then
    perform crossfade_private.fail(409, 'CF005',
      format('Cannot raise "%s" to %s %%: it is in stage %s, not live', (pair).name, percentage,
      (pair).stage),
      jsonb_build_object('pair', (pair).name, 'stage', (pair).stage, 'blockers', jsonb_build_array(
        crossfade_private.blocker('stage', format('the stage is %s', (pair).stage),
          'crossfade stage set PAIR live'))),
      'crossfade stage set PAIR live');
  end if;
end $$;

comment on function crossfade_private.check_raise is
  'Refuse more version 2 while latched (CF006) or outside stage live (CF005).';

create or replace trigger crossfade_before_lock
before insert or update or delete on crossfade.cohorts
for each statement execute function crossfade_private.before_control_change();

create or replace trigger crossfade_before_stamp
before update on crossfade.cohorts
for each row execute function crossfade_private.stamp_row();
