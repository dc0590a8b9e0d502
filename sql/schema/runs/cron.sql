-- Jobs of pg_cron. Nothing here needs it to be installed: it is found, and called, by name.

create or replace function crossfade_private.has_cron()
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Looking up a name in a schema that one may not use is an error, so ask for the right first.
  return exists (
    select from pg_catalog.pg_namespace n
    where n.nspname = 'cron' and has_schema_privilege(n.oid, 'usage')
  ) and coalesce(
    has_function_privilege(to_regprocedure('cron.schedule(text,text,text)'), 'execute')
    and has_function_privilege(to_regprocedure('cron.unschedule(bigint)'), 'execute'), false);
end $$;

comment on function crossfade_private.has_cron is
  'Whether this role can schedule jobs of pg_cron (1.4 or later) in this database.';

create or replace function crossfade_private.drive_job(run bigint)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select 'crossfade_run_' || run;
$$;

comment on function crossfade_private.drive_job is 'Name of the pg_cron job that drives a run.';

create or replace function crossfade_private.unschedule_run(run bigint)
returns boolean
language plpgsql volatile
security definer -- pg_cron shows a job only to the role that scheduled it, the owner of drive_run
set search_path = pg_catalog, pg_temp
as $$
declare
  v_jobs bigint := 0;
begin
  if crossfade_private.has_cron() then
    execute 'select count(cron.unschedule(j.jobid)) from cron.job j where j.jobname = $1
      and j.username = current_user'
    into v_jobs using crossfade_private.drive_job(run);
  end if;
  return v_jobs > 0;
end $$;

comment on function crossfade_private.unschedule_run is
  'Remove the job of a run; false when there is none.';

create or replace function crossfade_private.on_run_over()
returns trigger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'DELETE' or new.state in ('finished', 'cancelled') then
    perform crossfade_private.unschedule_run(old.id);
  end if;
  return null;
exception when others then
  -- Best effort: a run can be cancelled whatever pg_cron says; the job removes itself next time.
  raise warning 'crossfade: cannot unschedule run %: %', old.id, sqlerrm;
  return null;
end $$;

comment on function crossfade_private.on_run_over is
  'Trigger: a run that is over, or gone, leaves no job.';

create or replace trigger crossfade_after_over
after update of state or delete on crossfade.runs
for each row execute function crossfade_private.on_run_over();
