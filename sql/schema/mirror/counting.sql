-- Counting who writes which table: sequences, by side and source.

create or replace function crossfade_private.counter_name(pair text, side integer, source text)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select format('crossfade_private.writes_%s_v%s_%s', pair, side, source);
$$;

comment on function crossfade_private.counter_name is
  'Name of the sequence that counts the statements of one source that write one side of a pair.';

create or replace function crossfade_private.counters(pair text)
returns table (side integer, source text, name text)
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select s.side, o.source, crossfade_private.counter_name(pair, s.side, o.source)
  from generate_series(1, 2) s(side)
  cross join unnest(array['user', 'service', 'direct']) o(source);
$$;

comment on function crossfade_private.counters is 'The counters of a pair.';

create or replace function crossfade_private.make_counters(pair text, side integer)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_name text;
begin
  -- A sequence waits for nobody and counts what is rolled back, too. Unlogged: a crash makes it
  -- begin anew, which sample_writes notices, and a write costs no log.
  for v_name in
    select c.name from crossfade_private.counters(pair) c
    where c.side = make_counters.side and to_regclass(c.name) is null
  loop
    execute format('create unlogged sequence %s', v_name);
  end loop;
  -- Here and not when they are first read: whoever reads must wait for nobody.
  insert into crossfade_private.write_counters (pair, side, source)
  select make_counters.pair, c.side, c.source from crossfade_private.counters(pair) c
  where c.side = make_counters.side
  on conflict on constraint write_counters_pkey do nothing;
end $$;

comment on function crossfade_private.make_counters is
  'Create the counters of one side of a pair that are not there.';

create or replace function crossfade_private.drop_counters(pair text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_name text;
begin
  for v_name in select c.name from crossfade_private.counters(pair) c loop
    execute format('drop sequence if exists %s', v_name);
  end loop;
end $$;

comment on function crossfade_private.drop_counters is 'Remove the counters of a pair.';

create or replace function crossfade_private.counter_sql(pair text, side integer)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  -- The setting still names who came through the Data API; current_user is the definer here.
  select format('nextval(case current_setting(''role'', true) '
    'when ''authenticated'' then %1$L::regclass when ''anon'' then %1$L::regclass '
    'when ''service_role'' then %2$L::regclass else %3$L::regclass end)',
    crossfade_private.counter_name(pair, side, 'user'),
    crossfade_private.counter_name(pair, side, 'service'),
    crossfade_private.counter_name(pair, side, 'direct'));
$$;

comment on function crossfade_private.counter_sql is
  'The expression that counts a statement by where it comes from. On one line: own_frame counts those of the texts.';
