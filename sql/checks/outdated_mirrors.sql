-- Was every mirror made by the installed release, and for the triggers that the tables have now?
select
  'outdated_mirrors' as check_name, p.name as object,
  o.problem,
  format('crossfade pair refresh %s', p.name) as hint
from crossfade.pairs as p
cross join lateral crossfade_private.outdated_mirror(p) as o (problem)
order by p.name, o.problem;
