-- Does every backfill and verify run that is on move on?
select
  'stalled_runs' as check_name, format('%s: %s %s', r.pair, r.kind, r.id) as object,
  format(
    '%s: no progress since %s',
    case
      when
        max(g.progress_at)
        < now() - crossfade_private.setting_number('r7_stall_s') * interval '1 second'
        then 'stalled'
      else 'slow'
    end,
    to_char(max(g.progress_at) at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
  ) as problem,
  format('crossfade %s run %s', r.kind, r.pair) as hint
from crossfade.runs as r
inner join crossfade.run_ranges as g on r.id = g.run
where r.state = 'running'
group by r.id
having
  max(g.progress_at) < now() - crossfade_private.setting_number('r7_warn_s') * interval '1 second'
order by r.id;
