-- Is every trigger there and on: those that mirror and fence, those that audit control rows?
with sides as (
  select p.name, p.stage, 1 as side, to_regclass(p.v1_table) as tab, p.v1_table as tab_name
  from crossfade.pairs as p
  union all
  select p.name, p.stage, 2, to_regclass(p.v2_table), p.v2_table
  from crossfade.pairs as p
),

wanted as (
  select
    s.tab, s.tab_name, t.name as trigger_name, t.enabled,
    format('Register pair "%s" again: it creates its triggers.', s.name) as hint
  from sides as s
  cross join lateral (
    values
    ('crossfade_mirror_insert', 'A', 1), ('crossfade_mirror_update', 'A', 1),
    ('crossfade_mirror_delete', 'A', 1), ('crossfade_mirror_truncate', 'A', 1),
    ('crossfade_mirror_move', 'A', 1), ('crossfade_mirror_merge', 'A', 1),
    ('crossfade_fence', 'O', 2)
  ) as t (name, enabled, from_side)
  where s.side >= t.from_side
  union all
  select
    to_regclass(v.tab), v.tab, v.name, 'O',
    'Apply the migrations again: they create their triggers.'
  from (
    values
    ('crossfade.settings', 'crossfade_before_lock'),
    ('crossfade.settings', 'crossfade_before_stamp'),
    ('crossfade.settings', 'crossfade_after_change'),
    ('crossfade.flags', 'crossfade_before_lock'),
    ('crossfade.flags', 'crossfade_before_stamp'),
    ('crossfade.flags', 'crossfade_after_change'),
    ('crossfade.kill_switches', 'crossfade_before_lock'),
    ('crossfade.kill_switches', 'crossfade_before_stamp'),
    ('crossfade.kill_switches', 'crossfade_after_change'),
    ('crossfade.kill_switches', 'crossfade_after_kill'),
    ('crossfade.cohorts', 'crossfade_on_cohort_change'),
    ('crossfade.pairs', 'crossfade_on_pair_change')
  ) as v (tab, name)
)

select
  'triggers' as check_name, w.tab_name as object,
  case
    when w.tab is null then 'the table does not exist'
    when t.oid is null then format('trigger %s is missing', w.trigger_name)
    when t.tgenabled = 'D' then format('trigger %s is disabled', w.trigger_name)
    else format('trigger %s is off in some replication roles', w.trigger_name)
  end as problem,
  case
    when w.tab is not null and t.oid is not null then format(
      'alter table %s enable%s trigger %I;', w.tab_name,
      case w.enabled when 'A' then ' always' else '' end, w.trigger_name
    )
    else w.hint
  end as hint
from wanted as w
left join pg_catalog.pg_trigger as t
  on w.tab = t.tgrelid and w.trigger_name = t.tgname and not t.tgisinternal
where
  t.oid is null
  or t.tgenabled not in ('A', w.enabled)
order by object, problem;
