-- The snapshot that every isolate of the edge keeps.

create or replace function crossfade.read_flags(known_version bigint default null)
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_version bigint := crossfade.flags_version();
begin
  if known_version = v_version then
    return jsonb_build_object('flags_version', v_version, 'unchanged', true);
  end if;
  -- Stable: every query in here sees one moment, so version and rows always belong together.
  return (
    select jsonb_build_object(
      'flags_version', crossfade.flags_version(),
      'flags', (
        select coalesce(jsonb_agg(to_jsonb(f) order by f.name), '[]') from crossfade.flags f),
      'kill_switches', (
        select coalesce(jsonb_agg(to_jsonb(k) order by k.name), '[]')
        from crossfade.kill_switches k),
      'pairs', (
        select coalesce(jsonb_agg(jsonb_build_object(
          'name', p.name, 'stage', p.stage, 'gate_flag', p.gate_flag, 'step', p.step,
          'cohort', to_jsonb(c)) order by p.name), '[]')
        from crossfade.pairs p left join crossfade.cohorts c on c.pair = p.name),
      'settings', (
        select coalesce(jsonb_object_agg(s.name, s.value), '{}') from crossfade.settings s)));
end $$;

comment on function crossfade.read_flags is
  'Everything an evaluator needs, as of one moment: {"flags_version", "flags": [row], "kill_switches": [row], "pairs": [{name, stage, gate_flag, step, cohort}], "settings": {name: value}}; {"flags_version", "unchanged": true} when known_version is current.';
