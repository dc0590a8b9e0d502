"""A stand-in for pg_cron where there is no package of it: it keeps jobs, tests run them."""

# What drive_run uses of pg_cron 1.5 and later, for the versions we have no package of.
CRON = """
create schema cron;
create table cron.job (jobid bigint generated always as identity, jobname text, schedule text,
  command text, username text default current_user,
  constraint once unique (jobname, username));
create function cron.schedule(text, text, text) returns bigint language sql as $$
  insert into cron.job as j (jobname, schedule, command) values ($1, $2, $3)
  on conflict on constraint once do update set schedule = $2, command = $3 returning j.jobid $$;
create function cron.unschedule(bigint) returns boolean language sql as $$
  delete from cron.job where jobid = $1 returning true $$;
"""
