-- Were the flags that functions carry bundled since V1 became an archive?
select
  'old_bundles' as check_name, p.name as object,
  format(
    'a function carries flags of version %s, from before stage %s (version %s): '
    || 'while the database is away a new isolate of it answers 503',
    o.version, p.stage, p.step_flags_version
  ) as problem,
  'crossfade flags bundle supabase/functions/NAME, then deploy it and send it a request.' as hint
from crossfade.pairs as p
cross join lateral crossfade_private.old_bundle(p) as o (version)
where p.stage in ('complete', 'retired') and o.version is not null
order by p.name;
