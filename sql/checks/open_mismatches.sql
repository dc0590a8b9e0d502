-- Are the rows that a verify pass found different equal by now?
select
  'open_mismatches' as check_name, m.pair as object,
  format('%s rows differ between the tables', count(*)) as problem,
  format('crossfade repair %s, then crossfade verify run %1$s', m.pair) as hint
from crossfade.mismatches as m
where m.resolved_at is null
group by m.pair
order by m.pair;
