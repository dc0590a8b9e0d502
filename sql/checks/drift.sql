-- Has anything gone unmirrored since the last clean verify pass, even if it was repaired?
select
  'drift' as check_name, p.name as object,
  format('%s writes were not mirrored since the last clean verify pass', count(*)) as problem,
  format('crossfade verify run %s', p.name) as hint
from crossfade.pairs as p
inner join crossfade.mirror_failures as f on p.name = f.pair and p.last_clean_verify_at < f.at
group by p.name
order by p.name;
