-- Are the converters those that the mirror uses and the last clean verify pass has proved?
with pair as (
  select
    p.name, p.stage, p.converter_hash, p.verified_converter_hash, p.last_clean_verify_at,
    to_regproc(p.to_v2) is null or to_regproc(p.to_v1) is null as is_missing,
    crossfade_private.converter_hash(p.to_v2, p.to_v1) as current_hash
  from crossfade.pairs as p
)

select
  'converters' as check_name, pair.name as object,
  case
    when pair.is_missing then 'a converter is missing or its name is not unique'
    when pair.converter_hash <> pair.current_hash
      then 'a converter has changed since the pair was registered: the mirror may not know it'
    when pair.last_clean_verify_at is null
      then 'the conversion has never been verified on the rows'
    else 'a converter has changed since the last clean verify pass'
  end as problem,
  case
    when pair.converter_hash <> pair.current_hash
      then format(
        'apply the file of the pair again (register_pair), then crossfade verify run %s', pair.name
      )
    else format('crossfade verify run %s', pair.name)
  end as hint
from pair
where
  pair.is_missing
  or pair.converter_hash <> pair.current_hash
  or pair.stage not in ('off', 'dualwrite')
  and coalesce(pair.verified_converter_hash, '') <> pair.current_hash
order by pair.name;
