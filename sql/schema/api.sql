-- Who may do what: service_role everything of crossfade; an operator reads tables by policies and
-- calls crossfade.operate, which asks rights(). Behind all files that make objects, so that it
-- covers them.

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
    select c.oid, format('%I.%I', n.nspname, c.relname) as name,
      n.nspname = 'crossfade' as is_exposed, c.relrowsecurity
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
      execute format('grant select on table %s to service_role, authenticated', v_object.name);
      -- Only where it is missing: as above.
      if not exists (
        select from pg_catalog.pg_policy p
        where p.polrelid = v_object.oid and p.polname = 'Operators read'
      ) then
        execute format(
          'create policy "Operators read" on %s for select to authenticated'
          ' using ((select crossfade_private.has_role(%L)))',
          v_object.name,
          -- These keep rows of the user's tables, or keys and values of them in messages.
          case when v_object.name in (
            'crossfade.mirror_failures', 'crossfade.mismatches', 'crossfade.rollbacks'
          ) then 'operator' else 'viewer' end);
      end if;
    end if;
  end loop;
end $$;

revoke all on schema crossfade, crossfade_private from public, anon, authenticated, service_role;

grant usage on schema crossfade to service_role, authenticated;

-- Everybody who has signed in may knock; require_role refuses those who are no operators. Neither
-- private function is callable through the Data API, which does not expose their schema.
grant execute on function crossfade.operate(text, jsonb) to authenticated;

-- A user may ask about itself, and policies of tables ask for it.
grant execute on function crossfade.my_backend(text) to authenticated;

grant execute on function crossfade_private.my_backend(text) to authenticated;

grant execute on function crossfade_private.operate(text, jsonb) to authenticated;

grant execute on function crossfade_private.has_role(text) to authenticated;

-- Control rows may be edited by hand; their triggers audit, version and broadcast the edit.
-- Everything else is written by functions only.
grant insert, update, delete
on table crossfade.settings, crossfade.flags, crossfade.cohorts, crossfade.kill_switches
to service_role;

-- What operators hear and send on the control topic. The database and the secret key need none.
do $$
begin
  if to_regclass('realtime.messages') is null or exists (
    select from pg_catalog.pg_policy p
    where p.polrelid = to_regclass('realtime.messages') and p.polname like 'crossfade operators %'
  ) then
    return;
  end if;
  create policy "crossfade operators listen" on realtime.messages
    for select to authenticated
    using (extension = 'broadcast' and (select realtime.topic()) = 'crossfade:flags'
      and (select crossfade_private.has_role('viewer')));
  create policy "crossfade operators hint" on realtime.messages
    for insert to authenticated
    with check (extension = 'broadcast' and (select realtime.topic()) = 'crossfade:flags'
      and (select crossfade_private.has_role('operator')));
exception when insufficient_privilege then
  raise warning 'crossfade: operators cannot listen to realtime: %', sqlerrm;
end $$;

-- A bare PostgREST reads its schema cache again; Supabase's does so by itself.
notify pgrst, 'reload schema';
