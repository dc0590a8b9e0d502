-- Who may do what, in one place: only service_role, only through crossfade. Last of all files, so
-- that it covers every object; run it again after adding one.

do $$
declare
  v_object record;
begin
  -- By name: PostgreSQL grants execute to public when a function is made, and the default
  -- privileges of a schema cannot take that back.
  for v_object in
    select n.nspname = 'crossfade' as is_rpc,
      format('%I.%I(%s)', n.nspname, p.proname,
        pg_catalog.pg_get_function_identity_arguments(p.oid)) as name
    from pg_catalog.pg_proc p
    join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    where n.nspname in ('crossfade', 'crossfade_private')
    order by p.oid
  loop
    execute format(
      'revoke all on routine %s from public, anon, authenticated, service_role', v_object.name);
    if v_object.is_rpc then
      execute format('grant execute on routine %s to service_role', v_object.name);
    end if;
  end loop;

  for v_object in
    select format('%I.%I', n.nspname, c.relname) as name, n.nspname = 'crossfade' as is_exposed,
      c.relrowsecurity
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname in ('crossfade', 'crossfade_private') and c.relkind in ('r', 'p')
    order by c.oid
  loop
    -- Only where it is off: the lock would stop every reader for a moment.
    if not v_object.relrowsecurity then
      execute format('alter table %s enable row level security', v_object.name);
    end if;
    execute format(
      'revoke all on table %s from public, anon, authenticated, service_role', v_object.name);
    if v_object.is_exposed then
      execute format('grant select on table %s to service_role', v_object.name);
    end if;
  end loop;
end $$;

revoke all on schema crossfade, crossfade_private from public, anon, authenticated, service_role;
grant usage on schema crossfade to service_role;

-- Control rows may be edited by hand; their triggers audit, version and broadcast the edit.
-- Everything else is written by functions only.
grant insert, update, delete
on table crossfade.settings, crossfade.flags, crossfade.cohorts, crossfade.kill_switches
to service_role;

-- A bare PostgREST reads its schema cache again; Supabase's does so by itself.
notify pgrst, 'reload schema';
