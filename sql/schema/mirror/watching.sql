-- Who still writes V1, in stage rampdown: complete waits until nobody does. What the mirror,
-- batches and foreign keys write does not count; a write whose statement names neither V1 nor a
-- parent does.

create or replace function crossfade_private.parent_pattern(tab regclass)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with recursive parent(id) as (
    select o.confrelid from pg_catalog.pg_constraint o
    where o.conrelid = tab and o.contype = 'f' and o.confrelid <> tab
      and not (o.confdeltype in ('a', 'r') and o.confupdtype in ('a', 'r'))
    union
    select o.confrelid
    from parent p
    join pg_catalog.pg_constraint o on o.conrelid = p.id and o.contype = 'f'
      and not (o.confdeltype in ('a', 'r') and o.confupdtype in ('a', 'r'))
  )
  select string_agg(crossfade_private.name_pattern(p.id), '|') from parent p where p.id <> tab;
$$;

comment on function crossfade_private.parent_pattern is
  'A regular expression that finds the names of the tables whose rows take rows of this one with them; null without such.';

create or replace function crossfade_private.is_parents_statement(statement text, tab regclass)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- An AFTER trigger cannot see that a foreign key is at work, only what the client sent.
  select coalesce(not exists (
      select from crossfade_private.table_tree(tab) t
      where statement ~* crossfade_private.name_pattern(t.id))
    and statement ~* crossfade_private.parent_pattern(tab), false);
$$;

comment on function crossfade_private.is_parents_statement is
  'Whether a statement that changed rows of a table names a parent and not the table: then a foreign key did it.';

create or replace function crossfade_private.note_v1_write(pair text)
returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_table regclass;
  v_context text;
begin
  -- Outside of triggers somebody asks who does not write.
  if pg_trigger_depth() = 0 or crossfade_private.is_engine_write(pair) or exists (
    select from crossfade_private.v1_writes w
    where w.pair = note_v1_write.pair and w.session_pid = pg_backend_pid()
      and w.at > clock_timestamp() - interval '10 seconds') then
    return 'on';
  end if;
  get diagnostics v_context = pg_context;
  -- What stands above the trigger that asks.
  v_context := substring(v_context from 'crossfade_private\.mirror_' || pair
    || '_v1_(?:insert|update|delete|truncate|late)\(\)[^\n]*\n(.*)$');
  select to_regclass(p.v1_table) into v_table from crossfade.pairs p
  where p.name = note_v1_write.pair;
  if crossfade_private.is_parents_statement(coalesce(v_context, current_query()), v_table) then
    return 'on';
  end if;
  insert into crossfade_private.v1_writes as w (pair, session_pid, role, application, called_by)
  values (note_v1_write.pair, pg_backend_pid(),
    coalesce(nullif(current_setting('role', true), 'none'), session_user),
    left(current_setting('application_name'), 100),
    substring(v_context from '(?:^|"\n)[^\n"]* ([^\s"]+\([^\n()]*\))'))
  on conflict on constraint v1_writes_pkey do update
  set at = excluded.at, role = excluded.role, application = excluded.application,
    called_by = excluded.called_by;
  return 'on';
exception when others then
  if crossfade_private.is_transient(sqlstate) then
    raise;
  end if;
  -- Best effort: a writer of V1 must not fail because nobody could note it.
  raise warning 'crossfade: a write of version 1 of "%" could not be noted: %', pair, sqlerrm;
  return 'on';
end $$;

comment on function crossfade_private.note_v1_write is
  'State of V1''s triggers while its writes are watched: on, and notes who wrote, once in 10 s a session, in a row of that session''s own, so that nobody waits for anybody.';

create or replace function crossfade_private.v1_write_blocker(pair crossfade.pairs)
returns table (message text, hint text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with settings as (
    select crossfade_private.setting_number('stage_bake_s')::double precision as bake_s
  )
  select format(
      'version 1 was written directly until %s by %s; setting stage_bake_s wants %s s without',
      to_char(max(w.at) at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"'),
      string_agg(distinct concat('role ', w.role, ' (application "', w.application, '"',
        ', by ' || w.called_by, ')'), ', '), s.bake_s),
    format(
      'Let what is named write version 2, then wait. Look again with: crossfade stage blockers %s',
      min(w.pair))
  from crossfade_private.v1_writes w cross join settings s
  where w.pair = (v1_write_blocker.pair).name
    and w.at > clock_timestamp() - make_interval(secs => s.bake_s)
  group by s.bake_s
  union all
  select format(
      'writes of version 1 have been watched since %s only; setting stage_bake_s wants %s s',
      coalesce(to_char(m.watched_since at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"'), 'now'),
      s.bake_s), 'Wait.'
  from crossfade_private.mirror_state m cross join settings s
  where m.pair = (v1_write_blocker.pair).name and coalesce(
    m.watched_since > clock_timestamp() - make_interval(secs => s.bake_s), true);
$$;

comment on function crossfade_private.v1_write_blocker is
  'Why it is not sure yet that nobody writes V1 any more; no row when it is.';
