-- A rollout yields to whoever goes back: a person, a rollback, a restored snapshot.

create or replace function crossfade_private.yield_to_rollback()
returns trigger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  perform crossfade_private.put_rollout(
    r, case when new.automatic then 'rolled_back' else 'held' end, new.reason)
  from crossfade.rollouts r
  where r.state not in ('aborted', 'finished')
    and r.pair in (
      select p.name from crossfade_private.rollback_pairs(new.level, new.scope) p);
  return null;
end $$;

comment on function crossfade_private.yield_to_rollback is
  'Trigger: a rollback ends the widening, until rearm after an automatic one, until resume after one by a person.';

create or replace function crossfade_private.yield_to_step_back()
returns trigger
language plpgsql volatile
security definer -- a hand edit of a cohort comes from a role that may not change rollouts
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair text := coalesce(to_jsonb(new) ->> 'pair', to_jsonb(new) ->> 'name');
begin
  perform crossfade_private.put_rollout(r, 'held',
    coalesce(crossfade_private.reason(), 'somebody went back by hand'))
  from crossfade.rollouts r where r.pair = v_pair and r.state = 'running';
  return null;
end $$;

comment on function crossfade_private.yield_to_step_back is
  'Trigger: stage or percentage went back, so the plan holds until a person resumes it.';

create or replace trigger crossfade_after_rollback
after insert on crossfade.rollbacks
for each row execute function crossfade_private.yield_to_rollback();

create or replace trigger crossfade_after_stage_back
after update of stage on crossfade.pairs
for each row
when (
  crossfade_private.stage_number(new.stage) < crossfade_private.stage_number(old.stage)
)
execute function crossfade_private.yield_to_step_back();

create or replace trigger crossfade_after_percentage_back
after update of percentage on crossfade.cohorts
for each row when (new.percentage < old.percentage)
execute function crossfade_private.yield_to_step_back();
