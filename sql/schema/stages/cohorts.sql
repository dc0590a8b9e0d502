-- Cohorts: who is served by V2.

create or replace function crossfade_private.check_raise(
  pair crossfade.pairs, percentage numeric, anyway boolean
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  perform crossfade_private.check_forward(
    pair, format('raise "%s" to %s %%', (pair).name, trim_scale(percentage)), anyway);
  if (pair).stage <> 'live' then
    perform crossfade_private.fail(409, 'CF005',
      format('Cannot raise "%s" to %s %%: it is in stage %s, not live', (pair).name, percentage,
      (pair).stage),
      jsonb_build_object('pair', (pair).name, 'stage', (pair).stage, 'blockers', jsonb_build_array(
        crossfade_private.blocker('stage', format('the stage is %s', (pair).stage),
          'crossfade stage set PAIR live'))),
      'crossfade stage set PAIR live');
  end if;
end $$;

comment on function crossfade_private.check_raise is
  'Refuse more version 2 as check_forward does (CF006, CF028), or outside stage live (CF005).';

create or replace function crossfade.set_cohort(
  pair text, changes jsonb, reason text, anyway boolean default false
)
returns jsonb
language plpgsql volatile
security definer -- cohorts are changed by functions only
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_cohort crossfade.cohorts;
  v_new crossfade.cohorts;
  v_unknown text;
  v_engine constant text := coalesce(current_setting('crossfade.engine', true), '');
begin
  perform crossfade_private.require_reason(reason, format('change the cohort of "%s"', pair));
  select k into v_unknown from jsonb_object_keys(changes) k
  where k not in ('percentage', 'cohort_key', 'enabled_user_ids', 'enabled_agent_ids',
    'denied_user_ids', 'denied_agent_ids') limit 1;
  if v_unknown is not null then
    perform crossfade_private.fail(400, 'CF012', format('Unknown cohort field "%s"', v_unknown),
      jsonb_build_object('field', v_unknown),
      'Fields: percentage, cohort_key, enabled_user_ids, enabled_agent_ids, denied_user_ids, denied_agent_ids.');
  end if;
  if changes ? 'percentage' then
    perform crossfade_private.check_percentage(changes -> 'percentage');
  end if;
  -- Order matters: all of them by name, as the trigger of cohorts will. With its own one first, two
  -- callers for two pairs would wait for each other.
  perform from crossfade.pairs p order by p.name for no key update;
  select p.* into v_pair from crossfade.pairs p where p.name = set_cohort.pair;
  select c.* into v_cohort from crossfade.cohorts c where c.pair = set_cohort.pair for update;
  v_new := jsonb_populate_record(v_cohort, changes);
  if v_new.percentage > v_cohort.percentage then
    perform crossfade_private.check_raise(v_pair, v_new.percentage, anyway);
  end if;
  if v_new is distinct from v_cohort then
    -- Asked above; the trigger for hand edits knows nothing of anyway.
    perform set_config('crossfade.engine', 'on', true);
    update crossfade.cohorts c
    set percentage = v_new.percentage, cohort_key = v_new.cohort_key,
      enabled_user_ids = v_new.enabled_user_ids, enabled_agent_ids = v_new.enabled_agent_ids,
      denied_user_ids = v_new.denied_user_ids, denied_agent_ids = v_new.denied_agent_ids
    where c.pair = set_cohort.pair returning * into v_new;
    perform set_config('crossfade.engine', v_engine, true);
    v_pair := crossfade_private.get_pair(pair);
  end if;
  return jsonb_build_object('cohort', to_jsonb(v_new), 'step', v_pair.step,
    'backend', crossfade_private.backend_share(v_pair),
    'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.set_cohort is
  'Change percentage or lists of a pair''s cohort: {"cohort", "step", "backend": who is served by V2 now (see pair_status), "flags_version"}. Raising the percentage needs stage live, no latch and, without anyway, no engaged kill switch and no aborted plan (CF005, CF006, CF028); lowering is always allowed. Percentage 0 to 100 with at most three decimals (CF004). CF001, CF007, CF012.';

create or replace trigger crossfade_before_lock
before insert or update or delete on crossfade.cohorts
for each statement execute function crossfade_private.before_control_change();

create or replace trigger crossfade_before_stamp
before update on crossfade.cohorts
for each row execute function crossfade_private.stamp_row();
