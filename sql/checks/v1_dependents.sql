-- Does anything still depend on a V1 that is about to become an archive, or is one?
select
  'v1_dependents' as check_name, d.object,
  format('%s (owner %s): depends on %s of pair %s, and %s',
    d.kind, d.owner, p.v1_table, p.name, d.breaks) as problem,
  d.command as hint
from crossfade.pairs as p
cross join lateral crossfade_private.v1_dependents(p) as d
where p.stage in ('rampdown', 'complete', 'retired') and not d.is_ignored
order by d.object, problem;
