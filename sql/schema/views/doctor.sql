-- What crossfade doctor asks the database.

create or replace function crossfade_private.known_checks()
returns table (name text, sha256 text)
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  -- Digests of sql/checks/*.sql, whose texts doctor sends: each check has one home, in a file that
  -- people run with psql, and nothing but these very texts is ever executed.
  values
    ('changed_tables',
      '13097ae72614b183198a4894699d7d0a2548702220a6a5406621f018b2f50a07'),
    ('comments',
      '676902764a609779be509572bf4b92811113b03e986a7a5af3a5728acef4c49c'),
    ('converters',
      '52bd2547ed497a372a390e5e9eab860955b35ca3c919d2963561386daa6c17de'),
    ('definer_functions',
      '660ccec59838a75c5429937cbec2cc7f1eeae579bd0a8646df2e4b48a1bd8987'),
    ('drift',
      'fa886a7f571c755b8ce64713cccb137197f035e99ee90caa0a652219f3dd3079'),
    ('foreign_keys',
      '683d07aca9aea8a24b08d134878fa38d5de1e539a827b83f87d37e4443fb3a52'),
    ('old_bundles',
      '91877a3d51f52675b430c05befa258adac16a3ddd85009b1b962011a116f511c'),
    ('open_failures',
      '8fcc9112a898d3375f5af08d91fe11f1202c3d3f08962219454a7831a8bc005f'),
    ('open_mismatches',
      'd5ee0ec68158cea2f324b8f7f44c84763bcf73cc5809a6c49bd4bf2b37f34fdd'),
    ('outdated_mirrors',
      'b8eb673897f9c0ebb949b97d6ec7dc9021a98043fba42703b883d5ebdc372b6c'),
    ('rights_missing',
      'f96209a9bf65d18b26c3a55cdea77be8396359e9238f0ff1bb8a6b969eca752a'),
    ('rights_too_wide',
      'ac55cc6e4b1348b6d601b16bed546f046381d0024885f0f0b0517e996ec75a62'),
    ('row_level_security',
      '041da40b397993ae4c4a344096c5d15d3adca478a5936e86c57b9d22d605eba6'),
    ('search_path',
      'bed5ae1ebb6d38cc8a90265dfafffa45df5a987c89d895bd48434b73e88f10c9'),
    ('stalled_runs',
      '35d0b55d1a6634a1c09c952d312fda26cb95559243766e4a579d96ff1728783c'),
    ('triggers',
      'f6180f44ac03497970ee5c172662cabcf9773d0093bbdd0c0a5919886be10e75'),
    ('v1_dependents',
      '9c93b301f0829a69ffa7571eec9dc71c9254bdec2f249f2ccd5c084036c12f26');
$$;

comment on function crossfade_private.known_checks is
  'The checks that run_check executes: name and SHA-256 of the file sql/checks/NAME.sql.';

create or replace function crossfade.run_check(name text, query text)
returns jsonb
language plpgsql volatile
-- Definer: checks read catalogs and private tables that no API role may read.
security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_rows jsonb;
begin
  if not exists (
    select from crossfade_private.known_checks() k
    where k.name = run_check.name
      and k.sha256 = encode(sha256(convert_to(run_check.query, 'UTF8')), 'hex')
  ) then
    perform crossfade_private.fail(
      400, 'CF012', format('Check "%s" is not the one of this schema', run_check.name),
      jsonb_build_object('check', run_check.name),
      'Command and schema are of different versions: apply the migrations of this command.');
  end if;
  execute format('select coalesce(jsonb_agg(to_jsonb(cf_row)), ''[]'') from (%s) cf_row',
    regexp_replace(run_check.query, ';\s*$', E'\n'))
  into v_rows;
  return jsonb_build_object('rows', v_rows, 'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.run_check is
  'Run one of the checks of sql/checks, recognised by its digest: {"rows": [{check_name, object, problem, hint}], "flags_version"}; no row = healthy. Reads only. CF012 for any other text.';

create or replace function crossfade.diagnose()
returns jsonb
language plpgsql stable
-- Not definer: the timeouts and the role are those of the caller.
set search_path = pg_catalog, pg_temp
set jit = off
as $$
begin
  return jsonb_build_object(
    'at', clock_timestamp(),
    'postgres_version', current_setting('server_version_num')::integer,
    'statement_timeout', current_setting('statement_timeout'),
    'lock_timeout', current_setting('lock_timeout'),
    'role', current_setting('role', true),
    'has_cron', exists (select from pg_catalog.pg_extension e where e.extname = 'pg_cron'),
    'has_realtime', to_regprocedure('realtime.send(jsonb,text,text,boolean)') is not null,
    'has_auth', to_regclass('auth.users') is not null,
    'admins', (select count(*) from crossfade.operators o where o.role = 'admin'),
    'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.diagnose is
  'Facts about the database for crossfade doctor: {"at", "postgres_version", "statement_timeout", "lock_timeout", "role", "has_cron", "has_realtime", "has_auth", "admins", "flags_version"}.';
