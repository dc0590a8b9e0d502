-- The steps by which a table comes to carry a key, and the files of those that are its owner's.

create or replace function crossfade_private.carry_file(head text, body text)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  -- One statement: its lock_timeout ends with it, whoever sends it and in whatever transaction.
  select format(E'%s\ndo %s;\n', crossfade_private.commented(head),
    crossfade_private.dollar_quoted(
      format(E'begin\n  set local lock_timeout = ''2s'';\n%s\nend', body)));
$$;

comment on function crossfade_private.carry_file is
  'A migration of one statement that waits at most 2 s for its lock.';

create or replace function crossfade_private.carry_column_file(tab regclass, column_name text)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select crossfade_private.carry_file(format(
    '%1$s carries a uuid in column %2$I, so that a pair can be keyed by it.
Written by: crossfade key carry %1$s
Takes ACCESS EXCLUSIVE for milliseconds. Two statements: with the default in the first one
PostgreSQL would write every row anew. Rows that are there keep null; the same command fills them.',
    tab, column_name),
    concat(format('  alter table %s add column if not exists %I uuid;', tab, column_name),
      case when not exists (
        select from pg_catalog.pg_attribute a
        where a.attrelid = tab and a.attname = column_name and a.attnum > 0 and a.atthasdef)
        then format(
          E'\n  alter table %s alter column %I set default pg_catalog.gen_random_uuid();', tab,
          column_name) end))
    || coalesce(E'\n' || crossfade_private.commented(format(
      'These triggers would run for every row that is filled, and crossfade key carry asks before.
To keep them from it, uncomment; a condition does nothing to other updates:
%s', string_agg(coalesce(g.sql || ';', format(
        '-- %I runs for several events, for each statement or has a condition: change it by hand',
        g.name)), E'\n' order by g.name))) || E'\n', '')
  from crossfade_private.fill_triggers(tab, column_name) g;
$$;

comment on function crossfade_private.carry_column_file is
  'The migration that adds the column of a carried key.';

create or replace function crossfade_private.carry_index_name(tab regclass, column_name text)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- A longer name is cut by PostgreSQL, and could then be that of another index.
  select case when octet_length(n.name) <= 63 then n.name
    else 'carry_' || md5(n.name) || '_idx' end
  from pg_catalog.pg_class c
  cross join lateral (select format('%s_%s_idx', c.relname, column_name)) n(name)
  where c.oid = tab;
$$;

comment on function crossfade_private.carry_index_name is
  'Name of the unique index of a carried key.';

create or replace function crossfade_private.carry_files(
  tab regclass, column_name text, state jsonb
)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with n as (
    select concat('carry_', regexp_replace(lower(c.relname), '[^a-z0-9]+', '_', 'g'), '_',
      regexp_replace(lower(column_name), '[^a-z0-9]+', '_', 'g')) as name,
      format('%I', left(column_name, 50) || '_is_there') as rule,
      crossfade_private.carry_index_name(tab, column_name) as idx
    from pg_catalog.pg_class c where c.oid = tab
  )
  select coalesce(jsonb_agg(jsonb_build_object('name', n.name || '-' || f.name, 'sql', f.sql)
    order by f.place), '[]')
  from n
  cross join lateral (
    values
    (1, 'column', crossfade_private.carry_column_file(tab, column_name),
      not (state ->> 'default')::boolean),
    (2, 'index', format(
      E'-- Alone in its file: in a transaction, or after another statement, it would be refused.\n'
      'create unique index concurrently %I on %s (%I);\n', n.idx, tab, column_name),
      (state ->> 'filled')::boolean and not (state ->> 'index')::boolean
        and state ->> 'broken' is null and state ->> 'building' is null),
    (3, 'check', crossfade_private.carry_file(
      'From here on no row gets null there. ACCESS EXCLUSIVE for milliseconds; reads no row.',
      format('  alter table %s add constraint %s check (%I is not null) not valid;', tab, n.rule,
        column_name)),
      (state ->> 'filled')::boolean and state ->> 'check' is null
        and not (state ->> 'not_null')::boolean),
    (4, 'validate', crossfade_private.carry_file(
      'Reads the table once; readers and writers go on. A transaction of its own: before it commits
the lock of the file before this one would be held.',
      format('  alter table %s validate constraint %s;', tab, n.rule)),
      (state ->> 'filled')::boolean and state ->> 'check' is distinct from 'valid'
        and not (state ->> 'not_null')::boolean),
    (5, 'not_null', crossfade_private.carry_file(
      'ACCESS EXCLUSIVE for milliseconds: the constraint says already what this would look for.',
      format(
        E'  alter table %1$s alter column %2$I set not null;\n'
        '  alter table %1$s drop constraint %3$s;', tab, column_name, n.rule)),
      (state ->> 'filled')::boolean and not (state ->> 'not_null')::boolean)
  ) f(place, name, sql, is_due)
  where f.is_due;
$$;

comment on function crossfade_private.carry_files is
  'The migrations that may be applied now, in their order: [{"name", "sql"}]. Those after the fill wait for it.';

create or replace function crossfade_private.carry_steps(
  tab regclass, column_name text, state jsonb
)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with facts as (
    select f.rows_done, f.rows_written, c.reltuples,
      round(f.rows_done / nullif(extract(epoch from f.progress_at - f.started_at), 0)) as speed
    from pg_catalog.pg_class c
    left join crossfade_private.key_fills f
      on f.table_name = tab::text and f.column_name = carry_steps.column_name
    where c.oid = tab
  ),
  step as (
    select v.*, bool_and(v.done) over (order by v.place rows between unbounded preceding
      and 1 preceding) as may
    from facts f
    cross join lateral (
      values
      (1, 'column', (state ->> 'default')::boolean, 'add the column, then its default for new rows',
        'ACCESS EXCLUSIVE', 'milliseconds; waits at most 2 s', null),
      (2, 'fill', (state ->> 'filled')::boolean, 'give the rows that are there a value, in batches',
        'ROW EXCLUSIVE, rows FOR NO KEY UPDATE',
        'one batch: 40 ms beside others, up to 500 ms alone', case
          when f.rows_done > 0 then format('%s rows looked at, %s filled, %s rows/s%s', f.rows_done,
            f.rows_written, f.speed, case when f.reltuples > f.rows_done and f.speed > 0
              then format(', about %s s left',
                round((f.reltuples - f.rows_done)::numeric / f.speed)) end)
          when f.reltuples >= 0 then format('about %s rows', f.reltuples::bigint) end),
      (3, 'index', (state ->> 'index')::boolean, 'make the unique index, concurrently',
        'SHARE UPDATE EXCLUSIVE', format(
          'while the table (%s) is read twice; waits for every transaction that is open',
          pg_size_pretty(pg_table_size(tab))), coalesce(
          'an interrupted build has left an index behind that every write keeps; run: drop index concurrently '
            || (state ->> 'broken'), state ->> 'building')),
      (4, 'not_null', (state ->> 'not_null')::boolean,
        'let PostgreSQL know that no row is without a value: CHECK, validated, then NOT NULL',
        'ACCESS EXCLUSIVE twice, SHARE UPDATE EXCLUSIVE', format(
          'milliseconds; and while the table (%s) is read once',
          pg_size_pretty(pg_table_size(tab))), null)
    ) v(place, step, done, does, lock, held, detail)
  )
  select jsonb_agg(jsonb_build_object('step', s.step, 'state', case
      when s.done then 'done' when s.step = 'index' and state ->> 'broken' is not null then 'broken'
      when s.step = 'index' and state ->> 'building' is not null then 'running'
      when coalesce(s.may, true) then 'next' else 'waiting' end,
    'does', s.does, 'lock', s.lock, 'held', s.held, 'detail', s.detail) order by s.place)
  from step s;
$$;

comment on function crossfade_private.carry_steps is
  'The steps of carrying a key: [{"step", "state": done, next, running, broken or waiting, "does", "lock", "held", "detail"}].';

create or replace function crossfade.carry_plan(name text, column_name text default 'uid')
returns jsonb
language plpgsql stable
security definer -- reads the catalog as the owner; only service_role may call it
set search_path = pg_catalog, pg_temp
set jit = off
set quote_all_identifiers = off
set standard_conforming_strings = on
as $$
declare
  v_table regclass := crossfade_private.find_table(name);
  v_problems text[] := array(
    select p from crossfade_private.carry_problems(v_table, column_name) p);
  v_state jsonb;
begin
  if v_problems = '{}' then
    v_state := crossfade_private.carry_state(v_table, column_name);
  end if;
  return jsonb_build_object(
    'table', v_table::text, 'column', column_name, 'problems', to_jsonb(v_problems),
    'key', coalesce(to_jsonb(crossfade_private.primary_key(v_table)), '[]'),
    'notes', case when v_state is null or (v_state ->> 'not_null')::boolean then '[]' else (
      select jsonb_agg(n) from crossfade_private.carry_notes(v_table, column_name) n) end,
    'triggers', case when v_state is null or (v_state ->> 'filled')::boolean then '[]' else (
      select coalesce(jsonb_agg(g.name), '[]')
      from crossfade_private.fill_triggers(v_table, column_name) g) end,
    'pair', (select p.name from crossfade.pairs p
      where v_table in (to_regclass(p.v1_table), to_regclass(p.v2_table)) limit 1),
    'steps', case when v_state is null then '[]'
      else crossfade_private.carry_steps(v_table, column_name, v_state) end,
    'files', case when v_state is null then '[]'
      else crossfade_private.carry_files(v_table, column_name, v_state) end);
end $$;

comment on function crossfade.carry_plan is
  'How a table comes to carry a uuid column as a key, and how far it is: {"table", "column", "key": its own, "problems": what keeps it from it, "notes", "triggers": the owner''s, which filling would fire, "pair", "steps": [{"step": column, fill, index or not_null, "state": done, next, running, broken or waiting, "does", "lock", "held", "detail"}], "files": the migrations that may be applied now, [{"name", "sql"}]}. Changes nothing; without the index or the constraint it reads no row. CF012 unknown table.';
