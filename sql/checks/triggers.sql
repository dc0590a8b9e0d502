-- Is every trigger there and on: those that mirror and fence, those that guard and audit our rows?
with roots as (
  select
    p.name, 1 as side, to_regclass(p.v1_table) as tab, p.v1_table as tab_name,
    p.key_columns as key
  from crossfade.pairs as p
  union all
  select p.name, 2, to_regclass(p.v2_table), p.v2_table, p.v2_key_columns
  from crossfade.pairs as p
),

sides as (
  select r.name, r.side, r.tab, r.tab_name, r.key
  from roots as r
  union all
  select r.name, r.side, m.id, p.name, r.key
  from roots as r
  inner join crossfade_private.partitions as p on r.name = p.pair and r.side = p.side
  cross join lateral crossfade_private.table_tree(r.tab) as m
  where p.name = m.id::text
),

wanted as (
  select
    s.tab, s.tab_name, t.name as trigger_name, s.name as pair,
    format('mirror_%s_v%s_%s', s.name, s.side, t.called) as function_name
  from sides as s
  cross join lateral (
    values
    ('crossfade_mirror_insert', 'insert', true), ('crossfade_mirror_update', 'update', true),
    ('crossfade_mirror_delete', 'delete', true), ('crossfade_mirror_truncate', 'truncate', true),
    ('~crossfade_truncate', 'truncate', true),
    -- What a trigger of the owner's may change before the row is stored is put back after it.
    ('!crossfade_first', 'first', crossfade_private.has_triggers(s.tab, 'before row')),
    ('~crossfade_last', 'last', crossfade_private.has_triggers(s.tab, 'before row')),
    ('~crossfade_key', 'key', crossfade_private.always_identity(s.tab) && s.key)
  ) as t (name, called, is_needed)
  where t.is_needed
  union all
  select s.tab, s.tab_name, 'crossfade_fence', s.name, 'refuse_fenced_write'
  from sides as s
  where s.side = 2
  union all
  select s.tab, s.tab_name, a.name, s.name, a.called
  from sides as s
  inner join crossfade_private.mirror_state as m on s.name = m.pair
  cross join (
    values
    ('crossfade_archive', 'refuse_archived_write'),
    ('crossfade_archive_row', 'drop_archived_row')
  ) as a (name, called)
  where s.side = 1 and m.mirror in ('archived', 'reverse')
  union all
  select to_regclass(v.tab), v.tab, v.name, null, v.called
  from (
    values
    ('crossfade.cohorts', 'crossfade_after_first_percentage', 'follow_percentage'),
    ('crossfade.cohorts', 'crossfade_after_percentage', 'follow_percentage'),
    ('crossfade.cohorts', 'crossfade_after_percentage_back', 'yield_to_step_back'),
    ('crossfade.cohorts', 'crossfade_before_hand', 'lock_pairs'),
    ('crossfade.cohorts', 'crossfade_before_lock', 'before_control_change'),
    ('crossfade.cohorts', 'crossfade_before_stamp', 'stamp_row'),
    ('crossfade.cohorts', 'crossfade_on_cohort_change', 'on_control_change'),
    ('crossfade.flags', 'crossfade_after_change', 'on_control_change'),
    ('crossfade.flags', 'crossfade_before_lock', 'before_control_change'),
    ('crossfade.flags', 'crossfade_before_stamp', 'stamp_row'),
    ('crossfade.flags', 'crossfade_refuse_bad', 'refuse_bad_flag'),
    ('crossfade.kill_switches', 'crossfade_after_change', 'on_control_change'),
    ('crossfade.kill_switches', 'crossfade_after_kill', 'after_kill_switch_change'),
    ('crossfade.kill_switches', 'crossfade_before_lock', 'before_kill_switch_change'),
    ('crossfade.kill_switches', 'crossfade_before_protect', 'protect_built_in'),
    ('crossfade.kill_switches', 'crossfade_before_stamp', 'stamp_kill_switch'),
    ('crossfade.kill_switches', 'crossfade_before_truncate', 'protect_built_in'),
    ('crossfade.operators', 'crossfade_after_change', 'on_operator_change'),
    ('crossfade.operators', 'crossfade_before_lock', 'before_control_change'),
    ('crossfade.operators', 'crossfade_before_stamp', 'stamp_operator'),
    ('crossfade.pairs', 'crossfade_after_mirrored', 'keep_baseline'),
    ('crossfade.pairs', 'crossfade_after_stage_back', 'yield_to_step_back'),
    ('crossfade.pairs', 'crossfade_before_hand', 'guard_pair'),
    ('crossfade.pairs', 'crossfade_on_pair_change', 'on_control_change'),
    ('crossfade.rollbacks', 'crossfade_after_rollback', 'yield_to_rollback'),
    ('crossfade.runs', 'crossfade_after_over', 'on_run_over'),
    ('crossfade.settings', 'crossfade_after_change', 'on_control_change'),
    ('crossfade.settings', 'crossfade_before_lock', 'before_control_change'),
    ('crossfade.settings', 'crossfade_before_stamp', 'stamp_row'),
    ('crossfade_private.mirror_state', 'crossfade_after_state', 'follow_mirror_state')
  ) as v (tab, name, called)
)

select distinct
  'triggers' as check_name, w.tab_name as object,
  case
    when w.tab is null then 'the table does not exist'
    when t.oid is null then format('trigger %s is missing', w.trigger_name)
    when f.oid is null then format('trigger %s calls another function', w.trigger_name)
    when t.tgenabled = 'D' then format('trigger %s is disabled', w.trigger_name)
    when t.tgenabled = 'R' then format('trigger %s fires in replica mode only', w.trigger_name)
    else format('trigger %s also fires while a dump is restored', w.trigger_name)
  end as problem,
  case
    when w.pair is not null and w.tab is null
      then format('crossfade pair remove %s --reason "its table is gone"', w.pair)
    when w.pair is not null then format('crossfade pair refresh %s', w.pair)
    when f.oid is null then 'Apply the newest migration of crossfade again.'
    else format('alter table %s enable trigger %I;', w.tab_name, w.trigger_name)
  end as hint
from wanted as w
left join pg_catalog.pg_trigger as t
  on w.tab = t.tgrelid and w.trigger_name = t.tgname and not t.tgisinternal
left join pg_catalog.pg_proc as f
  on
    t.tgfoid = f.oid and w.function_name = f.proname
    and f.pronamespace = to_regnamespace('crossfade_private')
where
  f.oid is null
  -- Those of pairs sleep while a dump is restored in replica mode: it brings both tables itself.
  or t.tgenabled <> 'O' and (w.pair is not null or t.tgenabled <> 'A')
order by object, problem;
