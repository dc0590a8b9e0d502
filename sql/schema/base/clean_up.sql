-- What an older release had and this one has not. Before everything else: a function that is left
-- beside its successor of other parameters would make calls and comments ambiguous.

create or replace function crossfade_private.drop_left_behind()
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_names constant text := coalesce(current_setting('crossfade.release_functions', true), '');
  v_made constant text := '^mirror_.+_v[12]_[a-z]+$';
  v_kept oid[] := '{}'::oid[];
  v_name text;
  v_gone record;
begin
  -- Outside the one transaction of a migration the list is not there.
  if v_names = '' then
    return;
  end if;
  for v_name in
    select substr(f.line, 4) from string_to_table(v_names, e'\n') f (line) where f.line like '-- %'
  loop
    begin
      v_kept := v_kept || coalesce(to_regprocedure(v_name)::oid, 0::oid);
    exception when undefined_object or invalid_schema_name then
      -- PostgreSQL 15 says so when a type is not there yet, and then the function is not either.
      null;
    end;
  end loop;
  -- Triggers first, and callers before what they call: PostgreSQL keeps what is still needed.
  for v_gone in
    with recursive needed (id) as (
      -- SAFETY: while a pair has the mirror of an older release, its writers need what that calls,
      -- and what these call. A function that this release has gets its new text before the commit.
      select g.oid from pg_catalog.pg_proc g
      where g.pronamespace = 'crossfade_private'::regnamespace and g.proname ~ v_made
      union
      select t.tgfoid
      from pg_catalog.pg_trigger t
      join pg_catalog.pg_class c on c.oid = t.tgrelid
      where t.tgfoid <> all (v_kept)
        and c.relnamespace not in ('crossfade'::regnamespace, 'crossfade_private'::regnamespace)
      union
      select p.oid
      from needed n
      join pg_catalog.pg_proc g on g.oid = n.id
      join pg_catalog.pg_proc p on p.oid <> all (v_kept)
        and p.pronamespace in ('crossfade'::regnamespace, 'crossfade_private'::regnamespace)
        and strpos(g.prosrc, format('%s.%s(', p.pronamespace::regnamespace, p.proname)) > 0
    )
    select format('drop trigger %I on %s', t.tgname, t.tgrelid::regclass) as statement,
      0 as rank, t.oid as made
    from pg_catalog.pg_trigger t
    join pg_catalog.pg_class c on c.oid = t.tgrelid
    where not t.tgisinternal and t.tgfoid <> all (v_kept)
      and c.relnamespace in ('crossfade'::regnamespace, 'crossfade_private'::regnamespace)
    union all
    select format('drop routine %s', p.oid::regprocedure), 1, p.oid
    from pg_catalog.pg_proc p
    where p.oid <> all (v_kept) and p.oid not in (select n.id from needed n)
      and p.pronamespace in ('crossfade'::regnamespace, 'crossfade_private'::regnamespace)
    order by rank, made desc
  loop
    execute v_gone.statement;
  end loop;
end $$;

comment on function crossfade_private.drop_left_behind is
  'Drop functions of crossfade, and triggers of its own tables, that this release does not have and that no pair''s mirror needs.';

-- `make migration` writes every function of this release here.
do $$
begin
  perform set_config('crossfade.release_functions', $functions$
-- {functions}
$functions$, true);
  perform crossfade_private.drop_left_behind();
end $$;
