-- Everything that keeps a pair from the next stage.

create or replace function crossfade_private.own_blockers(pair crossfade.pairs, stage text)
returns setof jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_next text := crossfade_private.next_stage((pair).stage);
  v_cohort crossfade.cohorts;
  v_problem text;
begin
  if stage <> v_next then
    return next crossfade_private.blocker('stage_order',
      format('%s comes after %s', v_next, (pair).stage),
      format('crossfade stage set %s %s --reason "..."', (pair).name, v_next));
    return;
  end if;
  select c.* into v_cohort from crossfade.cohorts c where c.pair = (own_blockers.pair).name;
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
  if exists (select from crossfade.runs r where r.pair = (own_blockers.pair).name
    and r.kind = 'backfill' and r.state in ('running', 'paused')) then
    return next crossfade_private.blocker('backfill_running', 'a backfill is not finished',
      format('crossfade backfill run %s', (pair).name));
  end if;
  if stage <> 'dualwrite' and (pair).last_backfill_at is null then
    return next crossfade_private.blocker('backfill_needed',
      'no backfill has finished since mirroring began',
      format('crossfade backfill run %s', (pair).name));
    return query
      select crossfade_private.blocker('parent_backfill_needed',
        format('its rows refer to rows of "%s", which are not copied yet', u),
        format('crossfade backfill run %s', u))
      from crossfade_private.uncopied_parents(pair, 'v1_to_v2') u;
  end if;
  return query
    select crossfade_private.blocker('backfill_needed',
      format('partition %s was attached with rows that are not copied', p.name),
      format('crossfade backfill run %s%s', p.pair, case p.side when 2
        then ' --direction v2_to_v1' else '' end))
    from crossfade_private.partitions p
    where p.pair = (own_blockers.pair).name and p.is_uncopied order by p.side, p.name;
  if stage in ('live', 'rampdown', 'complete') then
    return query select crossfade_private.data_blockers(pair);
  end if;
  if stage in ('live', 'rampdown')
    and (select m.mirror from crossfade_private.mirror_state m
      where m.pair = (own_blockers.pair).name) <> 'both' then
    return next crossfade_private.blocker('mirror_paused',
      'the mirror only notes changed rows (log_only)',
      format(
        'crossfade pair mirror %1$s both --reason "...", then crossfade repair %1$s --reason "..."',
        (pair).name));
  end if;
  if stage = 'live' then
    return query select crossfade_private.shadow_blockers(pair);
    return query select crossfade_private.rls_blockers(pair);
  end if;
  if stage = 'rampdown' and v_cohort.percentage < 100 then
    return next crossfade_private.blocker('percentage',
      format('backend 2 serves %s %%, not 100 %%', v_cohort.percentage),
      format('crossfade cohort set %s --percentage 100 --reason "..."', (pair).name));
  end if;
  if stage = 'retired' then
    return query select crossfade_private.retirement_blockers(pair);
  end if;
  if stage = 'complete' then
    return query select crossfade_private.blocker('v1_written', b.message, b.hint)
      from crossfade_private.v1_write_blocker(pair) b;
    return query select crossfade_private.blocker('v1_dependents', b.message, b.hint)
      from crossfade_private.dependent_blockers(pair) b;
    return query select crossfade_private.silenced_triggers(pair);
    return query select crossfade_private.bundle_blockers(pair);
    return query select crossfade_private.blocker('archive_keys', format(
        'rows of %s could not be deleted any more that only the archive refers to: foreign key %s',
        k.target, k.name),
      format('%s Or go on with it: crossfade pair ignore %s ''%s'' --reason "..."', k.command,
        (pair).name, replace(k.name, '''', '''\''''')))
      from crossfade_private.archive_keys(pair) k;
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

comment on function crossfade_private.own_blockers is
  'What stands between a pair and its next stage, but for its group; no row when nothing does.';

create or replace function crossfade_private.group_blockers(pair crossfade.pairs, stage text)
returns setof jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select crossfade_private.blocker('group',
    format('the pairs of group "%s" change stage together: %s', min(g.name),
      string_agg(format('"%s" is in %s', o.name, o.stage), ', ' order by o.name)),
    format('crossfade group stage %s %s --reason "..."', min(g.name), group_blockers.stage))
  from crossfade_private.pair_groups() g
  join crossfade_private.pair_groups() m on m.name = g.name and m.pair <> g.pair
  join crossfade.pairs o on o.name = m.pair
    and crossfade_private.stage_number(o.stage)
      < crossfade_private.stage_number(group_blockers.stage)
  where g.pair = (group_blockers.pair).name
    -- Parents may open first: nothing of theirs refers to a child.
    and (group_blockers.stage <> 'dualwrite' or m.pair in (
      select a.ancestor from crossfade_private.pair_ancestors() a where a.pair = g.pair))
  having count(*) > 0;
$$;

comment on function crossfade_private.group_blockers is
  'Why a pair cannot enter a stage alone: others of its group have not entered it; for dualwrite, pairs to which its rows refer.';

create or replace function crossfade_private.stage_blockers(pair crossfade.pairs, stage text)
returns setof jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select crossfade_private.own_blockers(pair, stage)
  union all
  select crossfade_private.group_blockers(pair, stage);
$$;

comment on function crossfade_private.stage_blockers is
  'What stands between a pair and its next stage; no row when nothing does.';
