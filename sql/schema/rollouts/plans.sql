-- What is a rollout plan.

create or replace function crossfade_private.bad_plan(step integer, field text, problem text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  perform crossfade_private.fail(400, 'CF012',
    format('Invalid plan: %s%s %s',
      case when bad_plan.step is null then '' else 'step ' || bad_plan.step || ', ' end,
      bad_plan.field, bad_plan.problem),
    jsonb_build_object('step', bad_plan.step, 'field', bad_plan.field));
end $$;

comment on function crossfade_private.bad_plan is
  'Raise CF012 with the number of the step (from 1, null for the plan itself) and the field.';

create or replace function crossfade_private.check_plan_flags(place integer, flags jsonb)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_flag record;
begin
  if jsonb_typeof(flags) is distinct from 'object' then
    perform crossfade_private.bad_plan(place, 'flags', 'must be an object');
  end if;
  for v_flag in select f.key as name, f.value from jsonb_each(flags) f loop
    if not exists (select from crossfade.flags g where g.name = v_flag.name) then
      perform crossfade_private.fail(404, 'CF002',
        format('Invalid plan: step %s, unknown flag "%s"', place, v_flag.name),
        jsonb_build_object('step', place, 'flag', v_flag.name));
    elsif jsonb_typeof(v_flag.value) = 'number' then
      perform crossfade_private.check_percentage(v_flag.value);
    elsif jsonb_typeof(v_flag.value) <> 'boolean' then
      perform crossfade_private.bad_plan(place, 'flags', 'must be true, false or a percentage');
    end if;
  end loop;
end $$;

comment on function crossfade_private.check_plan_flags is
  'Refuse flags of a step that do not exist (CF002) or have another value than true, false or a percentage (CF004, CF012).';

create or replace function crossfade_private.check_plan_step(place integer, step jsonb)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_stage text := step ->> 'stage';
  v_wrong text;
begin
  if jsonb_typeof(step) is distinct from 'object' then
    perform crossfade_private.bad_plan(place, 'step', 'must be an object');
  end if;
  perform crossfade_private.check_percentage(step -> 'percentage');
  select f.field into v_wrong from (
    values
    (1, 'name', coalesce(btrim(step ->> 'name'), '') <> ''),
    (2, 'stage', v_stage in ('dualwrite', 'shadow', 'live', 'rampdown', 'complete')),
    (3, 'percentage', case when v_stage in ('dualwrite', 'shadow') then step -> 'percentage' = '0'
      when v_stage in ('rampdown', 'complete') then step -> 'percentage' = '100' else true end),
    (4, 'min_s', coalesce(step ->> 'min_s', '0') ~ '^[0-9]{1,9}(\.[0-9]+)?$'),
    (5, 'min_requests', coalesce(step ->> 'min_requests', '0') ~ '^[0-9]{1,9}$'),
    (6, 'max_extension_s', coalesce(step ->> 'max_extension_s', '0') ~ '^[0-9]{1,9}(\.[0-9]+)?$'),
    -- Version 1 becomes an archive: that is for a person to decide.
    (7, 'approval', coalesce(step ->> 'approval', 'auto') in ('auto', 'manual')
      and (v_stage <> 'complete' or step ->> 'approval' = 'manual')),
    (8, 'gates', jsonb_typeof(coalesce(step -> 'gates', '[]')) = 'array' and not exists (
      select from jsonb_array_elements_text(case jsonb_typeof(step -> 'gates')
        when 'array' then step -> 'gates' else '[]' end) g
      where g !~ '^R([1-9]|1[0-3])[sk]?$'))
  ) as f (place, field, valid)
  where f.valid is not true order by f.place limit 1;
  if found then
    perform crossfade_private.bad_plan(place, v_wrong,
      format('is invalid: %s', coalesce(step ->> v_wrong, 'null')));
  end if;
  perform crossfade_private.check_plan_flags(place, coalesce(step -> 'flags', '{}'));
end $$;

comment on function crossfade_private.check_plan_step is
  'Refuse a step that cannot be taken. dualwrite and shadow have percentage 0, rampdown and complete 100; complete needs approval manual. CF002, CF004, CF012.';

create or replace function crossfade_private.check_plan(plan jsonb)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_step record;
  v_before numeric := -1;
  v_order numeric;
begin
  if jsonb_typeof(plan) is distinct from 'object' or coalesce(btrim(plan ->> 'name'), '') = '' then
    perform crossfade_private.bad_plan(null, 'name', 'is missing');
  elsif jsonb_typeof(plan -> 'steps') is distinct from 'array'
    or jsonb_array_length(plan -> 'steps') not between 1 and 100 then
    perform crossfade_private.bad_plan(null, 'steps', 'must be a list of 1 to 100 steps');
  end if;
  for v_step in
    select s.value, s.n::integer as place
    from jsonb_array_elements(plan -> 'steps') with ordinality s(value, n) order by s.n
  loop
    perform crossfade_private.check_plan_step(v_step.place, v_step.value);
    v_order := crossfade_private.step_order(v_step.value ->> 'stage',
      (v_step.value ->> 'percentage')::numeric);
    if v_order <= v_before then
      perform crossfade_private.bad_plan(v_step.place, 'percentage',
        'must be above the step before, or its stage later');
    end if;
    v_before := v_order;
  end loop;
  if (select count(*) <> count(distinct s.value ->> 'name')
    from jsonb_array_elements(plan -> 'steps') s) then
    perform crossfade_private.bad_plan(null, 'steps', 'have the same name twice');
  end if;
end $$;

comment on function crossfade_private.check_plan is
  'Refuse a plan that cannot be followed; each step must be further than the one before. CF002, CF004, CF012 with detail.step and detail.field.';
