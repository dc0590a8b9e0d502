-- Are the tables still those for which the mirror was generated?
select
  'changed_tables' as check_name, p.name as object,
  case
    when to_regclass(p.v1_table) is null then format('table %s does not exist', p.v1_table)
    when to_regclass(p.v2_table) is null then format('table %s does not exist', p.v2_table)
    else 'columns have changed since the pair was registered'
  end as problem,
  'Adapt the converters, then apply the file of the pair again (register_pair).' as hint
from crossfade.pairs as p
where
  p.fingerprint is distinct from crossfade_private.table_fingerprint(
    to_regclass(p.v1_table), to_regclass(p.v2_table)
  )
order by p.name;
