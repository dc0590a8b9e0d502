-- Registering a pair: refuse what cannot be mirrored, by name and with the reason; then install.

create or replace function crossfade_private.table_problems(
  tab regclass, label text, key_columns text[]
)
returns setof text
language sql stable
set search_path = ''
as $$
  with t as (select c.* from pg_catalog.pg_class c where c.oid = tab)
  select format('%s %s is %s; only ordinary tables can be mirrored', label, tab,
    case t.relkind when 'p' then 'partitioned' when 'v' then 'a view' when 'm'
      then 'a materialized view'
      when 'f' then 'a foreign table' else 'not a table' end)
  from t where t.relkind <> 'r'
  union all
  select format('%s %s is %s: a crash would empty it, and no trigger sees that', label, tab,
    case t.relpersistence when 'u' then 'unlogged' else 'temporary' end)
  from t where t.relpersistence <> 'p'
  union all
  select format('%s %s is a partition or inherits: its rows would be written without our triggers',
    label, tab)
  from t where t.relispartition or exists (
    select from pg_catalog.pg_inherits i where tab in (i.inhrelid, i.inhparent))
  union all
  select format('%s %s has no primary key and no key was given', label, tab)
  where coalesce(cardinality(key_columns), 0) = 0
  union all
  select format('%s %s has no key column "%s"', label, tab, k)
  from unnest(key_columns) k
  where not exists (
    select from pg_catalog.pg_attribute a
    where a.attrelid = tab and a.attname = k and a.attnum > 0 and not a.attisdropped)
  union all
  select format('%s %s: key column "%s" is generated from other columns', label, tab, a.attname)
  from pg_catalog.pg_attribute a
  where a.attrelid = tab and a.attname = any (key_columns) and a.attgenerated <> ''
  union all
  -- Keys are noted as JSON, by one session, and read by another one.
  select format('%s %s: key column "%s" is %s, whose text depends on the session''s settings',
    label, tab, a.attname, format_type(a.atttypid, a.atttypmod))
  from pg_catalog.pg_attribute a
  where a.attrelid = tab and a.attname = any (key_columns)
    and a.atttypid in ('float4'::regtype, 'float8'::regtype, 'interval'::regtype, 'money'::regtype)
  union all
  select format(
    '%s %s: key column "%s" has the nondeterministic collation "%s", by which different keys are equal',
    label, tab, a.attname, c.collname)
  from pg_catalog.pg_attribute a
  join pg_catalog.pg_collation c on c.oid = a.attcollation
  where a.attrelid = tab and a.attname = any (key_columns) and not c.collisdeterministic
  union all
  select format('%s %s is fed by logical replication, which fires no statement triggers',
    label, tab)
  where exists (select from pg_catalog.pg_subscription_rel r where r.srrelid = tab)
  union all
  select format('%s %s: no immediate unique constraint or index on exactly (%s), not null', label,
    tab,
    array_to_string(key_columns, ', '))
  where cardinality(key_columns) > 0 and not exists (
    select from pg_catalog.pg_index i
    where i.indrelid = tab and i.indisunique and i.indimmediate and i.indisvalid
      and i.indpred is null and i.indexprs is null
      and (select array_agg(a.attname::text order by a.attname)
           from pg_catalog.pg_attribute a
           where a.attrelid = tab and a.attnum = any (i.indkey[0:i.indnkeyatts - 1])
             and a.attnotnull)
        = (select array_agg(k order by k) from unnest(key_columns) k))
  union all
  select format('%s %s has the deferrable trigger "%s": it could write after our triggers have run',
    label, tab, g.tgname)
  from pg_catalog.pg_trigger g
  where g.tgrelid = tab and not g.tgisinternal and g.tgdeferrable
  union all
  select format(
    '%s %s: foreign key "%s" is initially deferred: a mirrored row could fail at COMMIT', label,
    tab, c.conname)
  from pg_catalog.pg_constraint c where c.conrelid = tab and c.contype = 'f' and c.condeferred
  union all
  select format('%s %s: %s may not write it past row-level security (owner %s%s)', label, tab,
    current_user,
    t.relowner::regrole, case when t.relforcerowsecurity then ', FORCE' else '' end)
  from t
  where t.relrowsecurity and (t.relforcerowsecurity or not pg_has_role(t.relowner, 'usage'))
    and not (select r.rolbypassrls or r.rolsuper from pg_catalog.pg_roles r
      where r.rolname = current_user)
  union all
  select format('%s %s belongs to %s, of which %s is not a member: its triggers cannot be created',
    label, tab,
    t.relowner::regrole, current_user)
  from t where not pg_has_role(t.relowner, 'usage');
$$;

comment on function crossfade_private.table_problems is
  'What keeps a table from being mirrored, one sentence a row.';

create or replace function crossfade_private.converter_problems(
  converter text, label text, source regclass, target regclass
)
returns setof text
language plpgsql stable
set search_path = ''
as $$
declare
  v_oid regproc := to_regproc(converter);
  v_proc pg_catalog.pg_proc;
  v_wanted text := format('%s(%s, %s) returns setof %s', converter, source, target, target);
begin
  if v_oid is null then
    return next format('function %s "%s" is missing or its name is not unique', label, converter);
    return;
  end if;
  select p.* into v_proc from pg_catalog.pg_proc p where p.oid = v_oid;
  -- oidvector counts from 0 and an array from 1, so they never compare equal: compare their text.
  if v_proc.proargtypes::text <> (
      select string_agg(c.reltype::text, ' ' order by c.oid = target)
      from pg_catalog.pg_class c where c.oid in (source, target))
    or not v_proc.proretset
    or v_proc.prorettype <> (select c.reltype from pg_catalog.pg_class c where c.oid = target) then
    return next format('function %s has the wrong type: wanted %s', label, v_wanted);
  end if;
  if v_proc.provolatile = 'v' then
    return next format('function %s %s is volatile: the same row must always give the same result',
      label, converter);
  end if;
  if v_proc.proisstrict then
    return next format(
      'function %s %s is strict: it would return nothing for a row without a counterpart', label,
      converter);
  end if;
end $$;

comment on function crossfade_private.converter_problems is
  'What is wrong with a converter, one sentence a row.';

create or replace function crossfade_private.primary_key(tab regclass)
returns text[]
language sql stable
set search_path = ''
as $$
  select array_agg(a.attname::text order by u.n)
  from pg_catalog.pg_index i
  cross join lateral unnest(i.indkey::smallint[]) with ordinality u(attnum, n)
  join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = u.attnum
  where i.indrelid = tab and i.indisprimary;
$$;

comment on function crossfade_private.primary_key is
  'Names of the primary key columns in key order; null without one.';

create or replace function crossfade_private.pair_problems(pair crossfade.pairs)
returns setof text
language plpgsql stable
set search_path = ''
as $$
declare
  v_1 regclass := (pair).v1_table;
  v_2 regclass := (pair).v2_table;
begin
  return query select crossfade_private.table_problems(v_1, 'V1', (pair).key_columns);
  return query select crossfade_private.table_problems(v_2, 'V2', (pair).v2_key_columns);
  return query select crossfade_private.converter_problems((pair).to_v2, 'to_v2', v_1, v_2);
  return query select crossfade_private.converter_problems((pair).to_v1, 'to_v1', v_2, v_1);
  return query
    select format('key column "%s" is %s in V1 but "%s" is %s in V2', k1,
      format_type(a1.atttypid, a1.atttypmod),
      k2, format_type(a2.atttypid, a2.atttypmod))
    from unnest((pair).key_columns, (pair).v2_key_columns) u(k1, k2)
    join pg_catalog.pg_attribute a1 on a1.attrelid = v_1 and a1.attname = k1
    join pg_catalog.pg_attribute a2 on a2.attrelid = v_2 and a2.attname = k2
    where a1.atttypid <> a2.atttypid;
  return query
    select format('key column "%s" has another collation in V1 than "%s" in V2', k1, k2)
    from unnest((pair).key_columns, (pair).v2_key_columns) u(k1, k2)
    join pg_catalog.pg_attribute a1 on a1.attrelid = v_1 and a1.attname = k1
    join pg_catalog.pg_attribute a2 on a2.attrelid = v_2 and a2.attname = k2
    where a1.attcollation <> a2.attcollation;
  return query
    select format(
      'foreign key "%s" ties the two tables of the pair together: one of them could never be written first',
      c.conname)
    from pg_catalog.pg_constraint c
    where c.contype = 'f' and (c.conrelid, c.confrelid) in ((v_1, v_2), (v_2, v_1));
  return query
    select format('table %s already belongs to pair "%s"', p.t, p.name)
    from (select q.name, unnest(array[q.v1_table, q.v2_table]) t from crossfade.pairs q) p
    where p.name <> (pair).name and p.t::regclass in (v_1, v_2);
  if v_1 = v_2 then
    return next format('V1 and V2 are the same table %s', v_1);
  end if;
end $$;

comment on function crossfade_private.pair_problems is
  'Everything that keeps the two tables from being a pair.';

create or replace function crossfade_private.mirror_problems(pair crossfade.pairs)
returns setof text
language plpgsql stable
set search_path = ''
as $$
begin
  if to_regclass((pair).v1_table) is null or to_regclass((pair).v2_table) is null then
    return query select format('table %s does not exist', t)
      from unnest(array[(pair).v1_table, (pair).v2_table]) t where to_regclass(t) is null;
    return;
  end if;
  return query select crossfade_private.pair_problems(pair);
  -- Also seen here: another table that has taken the name.
  return query
    select format('trigger crossfade_mirror_%s of %s is missing or not enabled always', o.name, t)
    from unnest(array[(pair).v1_table, (pair).v2_table]) with ordinality u(t, side)
    cross join unnest(array['insert', 'update', 'delete', 'truncate', 'move', 'merge']) o(name)
    where not exists (
      select from pg_catalog.pg_trigger g
      join pg_catalog.pg_proc f on f.oid = g.tgfoid
      where g.tgrelid = t::regclass and g.tgname = 'crossfade_mirror_' || o.name
        and g.tgenabled = 'A'
        and f.proname = format('mirror_%s_v%s_%s', (pair).name, u.side, o.name));
end $$;

comment on function crossfade_private.mirror_problems is
  'What has happened to the tables of a registered pair that keeps writes from being mirrored, one sentence a row.';

create or replace function crossfade_private.pair_row(
  name text, v1 text, v2 text, to_v2 text, to_v1 text, key text[], options jsonb
)
returns crossfade.pairs
language plpgsql stable
set search_path = ''
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

create or replace function crossfade.register_pair(
  name text, v1 text, v2 text, to_v2 text, to_v1 text, key text[] default null,
    options jsonb default '{}'
)
returns jsonb
language plpgsql volatile
security definer -- creates triggers on the owner's tables; only service_role may call it
set search_path = ''
as $$
declare
  v_row crossfade.pairs := crossfade_private.pair_row(name, v1, v2, to_v2, to_v1, key, options);
  v_known crossfade.pairs;
  v_problems text[];
begin
  select p.* into v_known from crossfade.pairs p where p.name = register_pair.name
  for no key update;
  if found and (v_known.v1_table, v_known.v2_table, v_known.key_columns, v_known.v2_key_columns)
    is distinct from (v_row.v1_table, v_row.v2_table, v_row.key_columns, v_row.v2_key_columns) then
    perform crossfade_private.fail(409, 'CF016',
      format('Pair "%s" exists with other tables or another key', name),
      jsonb_build_object('pair', name, 'v1', v_known.v1_table, 'v2', v_known.v2_table, 'key',
        v_known.key_columns),
      'Remove it first (crossfade pair remove), or choose another name.');
  end if;
  select array_agg(p) into v_problems from crossfade_private.pair_problems(v_row) p;
  if v_problems is not null then
    perform crossfade_private.fail(400, 'CF008',
      format('Cannot register pair "%s": %s', name, array_to_string(v_problems, '; ')),
      jsonb_build_object('pair', name, 'problems', to_jsonb(v_problems)),
        'Change what is named, then register again.');
  end if;
  perform crossfade_private.set_reason(coalesce(crossfade_private.reason(), 'register_pair'));
  perform set_config('crossfade.engine', 'on', true);
  insert into crossfade.pairs as p (
    name, v1_table, v2_table, to_v2, to_v1, key_columns, v2_key_columns, gate_flag, options,
    fingerprint, converter_hash, step_flags_version)
  values (
    v_row.name, v_row.v1_table, v_row.v2_table, v_row.to_v2, v_row.to_v1, v_row.key_columns,
      v_row.v2_key_columns,
    v_row.gate_flag, v_row.options,
    crossfade_private.table_fingerprint(v_row.v1_table::regclass, v_row.v2_table::regclass),
    crossfade_private.converter_hash(v_row.to_v2, v_row.to_v1), crossfade.flags_version())
  on conflict on constraint pairs_pkey do update
  set to_v2 = excluded.to_v2, to_v1 = excluded.to_v1, gate_flag = excluded.gate_flag,
    options = excluded.options, fingerprint = excluded.fingerprint,
      converter_hash = excluded.converter_hash
  returning * into v_row;
  insert into crossfade_private.mirror_state as m (pair, failure_policy)
  values (v_row.name, coalesce(options ->> 'failure_policy', 'record'))
  on conflict on constraint mirror_state_pkey do update
  set failure_policy = excluded.failure_policy where m.failure_policy <> excluded.failure_policy;
  insert into crossfade.cohorts (pair, cohort_key)
  values (v_row.name, coalesce(options ->> 'cohort_key', v_row.name))
  on conflict on constraint cohorts_pkey do nothing;
  perform set_config('crossfade.engine', '', true);
  perform crossfade_private.install_mirror(v_row, 1);
  perform crossfade_private.install_mirror(v_row, 2);
  return jsonb_build_object('pair', to_jsonb(v_row), 'warnings',
    crossfade_private.pair_warnings(v_row),
    'already', v_known.name is not null);
end $$;

comment on function crossfade.register_pair is
  'Register two tables as a pair and install the mirror triggers, switched off (stage off). Safe to repeat: a changed converter is taken up and must be verified again. options: failure_policy record|raise, gate_flag, cohort_key, v2_key. Locks both tables SHARE ROW EXCLUSIVE for milliseconds. Errors: CF008 with detail.problems, CF012, CF016.';

create or replace function crossfade_private.pair_warnings(pair crossfade.pairs)
returns jsonb
language sql stable
set search_path = ''
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
    from pg_catalog.pg_trigger g
    where g.tgrelid in (((pair).v1_table)::regclass, ((pair).v2_table)::regclass)
      and not g.tgisinternal and g.tgname not like 'crossfade\_%'
    union all
    select format(
      'converter %s is called for every row: in SQL, with an empty search_path as its only setting, its text would stand in our statements',
      c.converter)
    from (values (1, (pair).to_v2), (2, (pair).to_v1)) c(side, converter)
    join crossfade_private.pair_pieces q on q.pair = (pair_warnings.pair).name and q.side = c.side
    join pg_catalog.pg_proc f on f.oid = to_regproc(c.converter)
    join pg_catalog.pg_language l on l.oid = f.prolang
    where q.pieces ->> 'convert' = c.converter || '('
      -- This one PostgreSQL inlines by itself.
      and not (l.lanname = 'sql' and f.proconfig is null and not f.prosecdef)
  ) q;
$$;

comment on function crossfade_private.pair_warnings is
  'What an owner should know about a pair that is not a reason to refuse it.';

create or replace function crossfade.unregister_pair(pair text, reason text)
returns jsonb
language plpgsql volatile
security definer -- drops triggers on the owner's tables; only service_role may call it
set search_path = ''
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
begin
  perform crossfade_private.require_reason(reason, format('remove pair "%s"', pair));
  if v_pair.stage not in ('off', 'complete') then
    perform crossfade_private.fail(409, 'CF005',
      format('Cannot remove pair "%s": it is in stage %s', pair, v_pair.stage),
      jsonb_build_object('pair', pair, 'stage', v_pair.stage),
        'Set the stage to off (or complete) first.');
  end if;
  perform crossfade_private.remove_mirror(v_pair, 1);
  perform crossfade_private.remove_mirror(v_pair, 2);
  perform set_config('crossfade.engine', 'on', true);
  delete from crossfade.pairs p where p.name = unregister_pair.pair;
  perform set_config('crossfade.engine', '', true);
  return jsonb_build_object('pair', pair, 'removed', true, 'flags_version',
    crossfade.flags_version());
end $$;

comment on function crossfade.unregister_pair is
  'Remove triggers, generated functions and rows of a pair; both tables and their data stay. Only in stage off or complete (CF005). Takes ACCESS EXCLUSIVE on both tables, waits at most 2 s for it.';

create or replace trigger crossfade_on_pair_change
after insert or delete or update of stage, gate_flag, to_v2, to_v1, latched_at, step
  on crossfade.pairs
for each row execute function crossfade_private.on_control_change();

create or replace trigger crossfade_on_cohort_change
after insert or update or delete on crossfade.cohorts
for each row execute function crossfade_private.on_control_change();
