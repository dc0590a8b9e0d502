-- The kill switch that an EMERGENCY engages, and what else a rollback touches.

create or replace function crossfade_private.rollback_pairs(level text, scope text)
returns setof crossfade.pairs
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select p.* from crossfade.pairs p
  where case when rollback_pairs.level = 'FEATURE' then p.gate_flag = rollback_pairs.scope
    else rollback_pairs.scope = '*'
      or p.name in (select crossfade_private.group_of(rollback_pairs.scope)) end
  order by p.name;
$$;

comment on function crossfade_private.rollback_pairs is
  'Pairs a rollback is about: the named one and those of its group, all of them for *, those gated by the flag for FEATURE.';

create or replace function crossfade_private.rollback_switches(
  level text, scope text, automatic boolean
)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- To stop all pairs is a person's decision: what acts by itself stops those that it judged.
  select 'emergency_rollback'
  where rollback_switches.level = 'EMERGENCY' and not rollback_switches.automatic
  union all
  select crossfade_private.own_switch(p.name)
  from crossfade_private.rollback_pairs(rollback_switches.level, rollback_switches.scope) p
  where rollback_switches.level = 'EMERGENCY' and rollback_switches.automatic
    and p.stage not in ('complete', 'retired');
$$;

comment on function crossfade_private.rollback_switches is
  'Names of the kill switches that a rollback engages: none but for EMERGENCY; emergency_rollback when a person asks, the own ones of the pairs when it is automatic.';

create or replace function crossfade_private.check_switches(names text[])
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_name text;
begin
  select n into v_name from unnest(names) n
  where not exists (
    select from crossfade.kill_switches k
    where k.name = n and k.fences and (n <> 'emergency_rollback' or k.overrides_all))
  order by n limit 1;
  if found then
    perform crossfade_private.fail(404, 'CF003',
      format('Cannot stop: kill switch "%s" is missing or has lost its effect', v_name),
      jsonb_build_object('kill_switch', v_name),
      'Nothing was changed. In SQL, as the owner: ' || case v_name when 'emergency_rollback' then
        'insert into crossfade.kill_switches (name, fences, overrides_all) values (''emergency_rollback'', true, true) on conflict (name) do update set fences = true, overrides_all = true; then repeat.'
      else format(
        'select crossfade_private.add_own_switch(p.name) from crossfade.pairs p; then repeat. (%s)',
        v_name) end);
  end if;
end $$;

comment on function crossfade_private.check_switches is
  'Refuse (CF003, with the SQL that mends it) when a kill switch that has to be engaged is not there or would do nothing.';

create or replace function crossfade_private.rollback_touches(
  level text, scope text, automatic boolean
)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with s as (
    select crossfade_private.rollback_switches(
      rollback_touches.level, rollback_touches.scope, rollback_touches.automatic) as name
  ),
  own as (
    select p.* from crossfade_private.rollback_pairs(
      rollback_touches.level, rollback_touches.scope) p
  ),
  touched as (
    select 1 as place, p.name as object, 'goes back with it: they are one group' as effect
    from own p
    where rollback_touches.level <> 'FEATURE' and rollback_touches.scope not in (p.name, '*')
    union all
    select 1, p.name, format('serves V1 (now in stage %s): the flag is its gate', p.stage)
    from own p where rollback_touches.level = 'FEATURE' and p.stage in ('live', 'rampdown')
    union all
    select 2, p.name, case
        when p.stage in ('live', 'rampdown') then format(
          'serves V1 to everybody (now in stage %s%s)', p.stage,
          case p.stage when 'live' then format(', %s %% on V2', (
            select trim_scale(c.percentage) from crossfade.cohorts c where c.pair = p.name)) end)
        else format('cannot go forward (now in stage %s)', p.stage) end
      || ', and API roles cannot write its V2'
    from crossfade.pairs p
    where 'emergency_rollback' in (select s.name from s)
      and p.name not in (select o.name from own o) and p.stage not in ('complete', 'retired')
    union all
    select 3, f.name, format('is off for everybody while %s is engaged', min(s.name))
    from crossfade.flags f
    join s on s.name = 'emergency_rollback' or s.name = any (f.killed_by)
    where f.enabled
    group by f.name
    union all
    select 3, f.name, format('is off for everybody: it needs flag %s', rollback_touches.scope)
    from crossfade.flags f
    where rollback_touches.level = 'FEATURE' and f.enabled
      and rollback_touches.scope = any (f.prerequisites)
  )
  select coalesce(jsonb_agg(jsonb_build_object('object', t.object, 'effect', t.effect)
    order by t.place, t.object), '[]')
  from touched t;
$$;

comment on function crossfade_private.rollback_touches is
  'What a rollback changes besides what it was asked for: [{"object": pair or flag, "effect"}]; [] when nothing.';
