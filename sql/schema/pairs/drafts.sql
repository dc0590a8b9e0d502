-- The row that a registration would write.

create or replace function crossfade_private.pair_row(
  name text, v1 text, v2 text, to_v2 text, to_v1 text, key text[], options jsonb
)
returns crossfade.pairs
language plpgsql stable
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off -- %I and the printing of types write by it
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
