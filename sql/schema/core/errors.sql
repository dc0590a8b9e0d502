-- How every function refuses.

create or replace function crossfade_private.fail(
  status integer, code text, message text, details jsonb default '{}', hint text default '',
  constraint_name text default ''
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- PTxyz becomes HTTP status xyz in PostgREST; 40001 is never used because PostgREST retries it.
  raise exception using
    errcode = 'PT' || fail.status,
    message = fail.message,
    detail = (fail.details || jsonb_build_object('code', fail.code))::text,
    hint = fail.hint,
    constraint = fail.constraint_name;
end $$;

comment on function crossfade_private.fail is
  'Raise SQLSTATE PT<status> whose detail is a JSON object with our code and the values that matter. constraint_name lets our own code know it again. Never returns.';
