-- The row that a registration would write, and what its owner should know.

create or replace function crossfade_private.pair_row(
  name text, v1 text, v2 text, to_v2 text, to_v1 text, key text[], options jsonb
)
returns crossfade.pairs
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row crossfade.pairs;
  v_name text;
begin
  if coalesce(name, '') !~ '^[a-z][a-z0-9_]{0,39}$' then
    perform crossfade_private.fail(400, 'CF012', format('Invalid pair name "%s"', name),
      jsonb_build_object('name', name), 'Use 1 to 40 of a-z, 0-9 and _, starting with a letter.');
  end if;
  foreach v_name in array array[v1, v2] loop
    if to_regclass(v_name) is null then
      perform crossfade_private.fail(400, 'CF008',
        format('Cannot register pair "%s": table "%s" does not exist', name, v_name),
        jsonb_build_object('pair', name, 'problems',
          jsonb_build_array(format('table "%s" does not exist', v_name))),
        'Write the name with its schema, for example public.messages.');
    end if;
  end loop;
  v_row.name := name;
  select format('%I.%I', n.nspname, c.relname) into v_row.v1_table
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.oid = to_regclass(v1);
  select format('%I.%I', n.nspname, c.relname) into v_row.v2_table
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.oid = to_regclass(v2);
  select format('%I.%I', n.nspname, p.proname) into v_row.to_v2
  from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    where p.oid = to_regproc(pair_row.to_v2);
  select format('%I.%I', n.nspname, p.proname) into v_row.to_v1
  from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    where p.oid = to_regproc(pair_row.to_v1);
  v_row.to_v2 := coalesce(v_row.to_v2, pair_row.to_v2);
  v_row.to_v1 := coalesce(v_row.to_v1, pair_row.to_v1);
  v_row.key_columns := coalesce(key, crossfade_private.primary_key(v_row.v1_table::regclass), '{}');
  v_row.v2_key_columns := coalesce(
    (select array_agg(k) from jsonb_array_elements_text(options -> 'v2_key') k), v_row.key_columns);
  v_row.gate_flag := options ->> 'gate_flag';
  v_row.options := coalesce(options, '{}');
  return v_row;
end $$;

comment on function crossfade_private.pair_row is
  'Resolve the names given to register_pair; CF012 for a bad name, CF008 for a missing table.';

create or replace function crossfade_private.pair_warnings(pair crossfade.pairs)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(w), '[]') from (
    select format(
      'foreign key "%s" of %s points to %s: register that table''s own pair first, if it has one',
      c.conname, (pair).v2_table, c.confrelid::regclass) w
    from pg_catalog.pg_constraint c
    where c.contype = 'f' and c.conrelid = ((pair).v2_table)::regclass and c.confrelid <> c.conrelid
    union all
    select format('trigger "%s" on %s runs for mirrored rows as well', g.tgname,
      g.tgrelid::regclass)
    from pg_catalog.pg_trigger g join pg_catalog.pg_proc f on f.oid = g.tgfoid
    where g.tgrelid in (((pair).v1_table)::regclass, ((pair).v2_table)::regclass)
      and not g.tgisinternal and f.pronamespace <> 'crossfade_private'::regnamespace
    union all
    select format('converter %s is called for every row, which is slower: %s', c.converter,
      q.pieces ->> 'called')
    from (values (1, (pair).to_v2), (2, (pair).to_v1)) c(side, converter)
    join crossfade_private.pair_pieces q on q.pair = (pair_warnings.pair).name and q.side = c.side
    where q.pieces ->> 'called' is not null
  ) q;
$$;

comment on function crossfade_private.pair_warnings is
  'What an owner should know about a pair that is not a reason to refuse it.';
