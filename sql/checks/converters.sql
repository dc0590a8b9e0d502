-- Are the converters those that the last clean verify pass has proved?
select
  'converters' as check_name, p.name as object,
  case
    when to_regproc(p.to_v2) is null or to_regproc(p.to_v1) is null
      then 'a converter is missing or its name is not unique'
    when p.last_clean_verify_at is null then 'the conversion has never been verified on the rows'
    else 'a converter has changed since the last clean verify pass'
  end as problem,
  'crossfade verify run' as hint
from crossfade.pairs as p
where
  p.stage not in ('off', 'dualwrite')
  and p.verified_converter_hash
  is distinct from crossfade_private.converter_hash(p.to_v2, p.to_v1)
  or to_regproc(p.to_v2) is null
  or to_regproc(p.to_v1) is null
order by p.name;
