-- Registering a pair: refuse what cannot be mirrored; then install.

create or replace function crossfade.register_pair(
  name text, v1 text, v2 text, to_v2 text, to_v1 text, key text[] default null,
    options jsonb default '{}'
)
returns jsonb
language plpgsql volatile
security definer -- creates triggers on the owner's tables; only service_role may call it
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_row crossfade.pairs := crossfade_private.pair_row(
    name, v1, v2, coalesce(to_v2, ''), coalesce(to_v1, ''), key, options);
  v_known crossfade.pairs;
  v_problems text[];
begin
  select p.* into v_known from crossfade.pairs p where p.name = register_pair.name
  for no key update;
  perform crossfade_private.refuse_retired(v_known, 'register');
  if (v_known).name is not null and (v_known.v1_table, v_known.v2_table, v_known.key_columns,
      v_known.v2_key_columns) is distinct from (v_row.v1_table, v_row.v2_table,
      v_row.key_columns, v_row.v2_key_columns) then
    perform crossfade_private.fail(409, 'CF016',
      format('Pair "%s" exists with other tables or another key', name),
      jsonb_build_object('pair', name, 'v1', v_known.v1_table, 'v2', v_known.v2_table, 'key',
        v_known.key_columns),
      'Remove it first (crossfade pair remove), or choose another name.');
  end if;
  -- What an operator has said since the pair was written down stays.
  v_row.options := coalesce((
      select jsonb_object_agg(o.key, o.value) from jsonb_each(v_known.options) o
      where o.key in ('ignore_dependents', 'group')), '{}') || v_row.options;
  select array_agg(p) into v_problems from crossfade_private.registration_problems(v_row) p;
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
  where (p.to_v2, p.to_v1, p.gate_flag, p.options, p.fingerprint, p.converter_hash)
    is distinct from (excluded.to_v2, excluded.to_v1, excluded.gate_flag, excluded.options,
      excluded.fingerprint, excluded.converter_hash);
  select p.* into v_row from crossfade.pairs p where p.name = register_pair.name;
  insert into crossfade_private.mirror_state as m (pair, failure_policy)
  values (v_row.name, coalesce(options ->> 'failure_policy', 'record'))
  on conflict on constraint mirror_state_pkey do update
  set failure_policy = excluded.failure_policy where m.failure_policy <> excluded.failure_policy;
  insert into crossfade.cohorts (pair, cohort_key)
  values (v_row.name, coalesce(options ->> 'cohort_key', v_row.name))
  on conflict on constraint cohorts_pkey do nothing;
  perform set_config('crossfade.engine', '', true);
  perform crossfade_private.add_own_switch(v_row.name);
  v_row := crossfade_private.install_pair(v_row);
  return jsonb_build_object('pair', to_jsonb(v_row), 'warnings',
    crossfade_private.pair_warnings(v_row),
    'already', v_known.name is not null);
end $$;

comment on function crossfade.register_pair is
  'Register two tables as a pair, make its kill switch disable_v2_<pair> and install the mirror triggers, switched off (stage off). Safe to repeat: a changed converter is taken up and must be verified again. options: failure_policy record|raise, gate_flag, cohort_key, v2_key, group (kept when it is not given again; null takes it back). Locks both tables SHARE ROW EXCLUSIVE for milliseconds. Errors: CF008 with detail.problems, CF012, CF016.';

create or replace function crossfade.unregister_pair(pair text, reason text)
returns jsonb
language plpgsql volatile
security definer -- drops triggers on the owner's tables; only service_role may call it
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_policies constant text[] := array(select crossfade_private.client_policies(pair));
begin
  perform crossfade_private.require_reason(reason, format('remove pair "%s"', pair));
  if v_pair.stage not in ('off', 'complete') then
    perform crossfade_private.fail(409, 'CF005',
      format('Cannot remove pair "%s": it is in stage %s', pair, v_pair.stage),
      jsonb_build_object('pair', pair, 'stage', v_pair.stage),
        'Set the stage to off (or complete) first: crossfade stage set PAIR STAGE.');
  end if;
  if v_policies <> '{}' then
    perform crossfade_private.fail(409, 'CF005',
      format('Cannot remove pair "%s": policies ask which backend serves a user of it: %s', pair,
      array_to_string(v_policies, ', ')),
      jsonb_build_object('pair', pair, 'policies', to_jsonb(v_policies)),
      format('First: drop policy %s', v_policies[1]));
  end if;
  perform crossfade_private.remove_mirror(v_pair, 1);
  perform crossfade_private.remove_mirror(v_pair, 2);
  execute format('drop sequence if exists crossfade_private.mirror_%s_changes', pair);
  perform crossfade_private.drop_counters(pair);
  perform set_config('crossfade.engine', 'on', true);
  delete from crossfade.pairs p where p.name = unregister_pair.pair;
  -- Nobody is left whom it could stop.
  perform set_config('crossfade.fence', 'not needed', true);
  delete from crossfade.kill_switches k
  where k.name = crossfade_private.own_switch(unregister_pair.pair);
  perform set_config('crossfade.fence', '', true);
  perform set_config('crossfade.engine', '', true);
  return jsonb_build_object('pair', pair, 'removed', true, 'flags_version',
    crossfade.flags_version());
end $$;

comment on function crossfade.unregister_pair is
  'Remove triggers, generated functions, rows and the own kill switch of a pair; both tables and their data stay. Only in stage off or complete (CF005). Takes ACCESS EXCLUSIVE on both tables, waits at most 2 s for it.';
