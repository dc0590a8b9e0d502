-- Stage retired: the exchange of V1 and the view of its name, there and back.

create or replace function crossfade_private.await_turn(statements text[])
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- Whoever comes after this queues behind it: a short wait, again and again, keeps them going.
set lock_timeout = '300ms'
as $$
declare
  v_attempt_time constant interval := current_setting('lock_timeout')::interval;
  v_end timestamptz;
begin
  for v_attempt in 1..6 loop
    v_end := clock_timestamp() + v_attempt_time;
    begin
      for v_place in 1..cardinality(statements) loop
        -- Whoever waits for the first lock waits for the others as well.
        perform set_config('lock_timeout', format('%sms', ceil(greatest(1, 1000 * extract(epoch
          from v_end - clock_timestamp())))), true);
        execute statements[v_place];
      end loop;
      return;
    exception when lock_not_available or deadlock_detected then
      if v_attempt = 6 then
        raise;
      end if;
      perform pg_sleep(0.1);
    end;
  end loop;
end $$;

comment on function crossfade_private.await_turn is
  'Execute statements that take strong locks, all of them or, after 2 s of attempts of 0.3 s, none (55P03).';

create or replace function crossfade_private.hold_shape(tab regclass)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- Nobody but an index build or a vacuum waits behind it; one that PostgreSQL has begun by itself
-- gives way after a second.
set lock_timeout = '5s'
as $$
begin
  execute format('lock table %s in share update exclusive mode', tab);
end $$;

comment on function crossfade_private.hold_shape is
  'Let nobody change a table, while its readers and writers go on; waits at most 5 s (55P03).';

create or replace function crossfade_private.prepare_views(pairs crossfade.pairs[])
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair crossfade.pairs;
begin
  foreach v_pair in array pairs loop
    perform crossfade_private.hold_shape(v_pair.v1_table);
    perform crossfade_private.make_view(v_pair);
  end loop;
  -- Order matters: V1 and not V2 first, which its writers would never leave free.
  perform crossfade_private.await_turn(array(
    select format('lock table %s in access exclusive mode', p.v1_table) from unnest(pairs) p));
end $$;

comment on function crossfade_private.prepare_views is
  'Make the views that take the place of V1 of some pairs, and then hold all V1: what follows takes milliseconds.';

create or replace function crossfade_private.rename_v1(
  pair crossfade.pairs, to_name text, view_name text
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_knows boolean;
begin
  v_knows := (pair).converter_hash = crossfade_private.converter_hash((pair).to_v2, (pair).to_v1);
  execute format('alter table %s rename to %I', (pair).v1_table, (parse_ident(to_name))[2]);
  perform set_config('crossfade.engine', 'on', true);
  -- Definitions of converters name their types: only those are called otherwise now.
  update crossfade.pairs p
  set v1_table = to_name, v1_view = view_name,
    converter_hash = case when v_knows
      then crossfade_private.converter_hash(p.to_v2, p.to_v1) else p.converter_hash end,
    verified_converter_hash = case when v_knows and p.verified_converter_hash = p.converter_hash
      then crossfade_private.converter_hash(p.to_v2, p.to_v1) else p.verified_converter_hash end
  where p.name = (rename_v1.pair).name;
  perform set_config('crossfade.engine', '', true);
end $$;

comment on function crossfade_private.rename_v1 is
  'Give the table of V1 another name, and the row of the pair with it. ACCESS EXCLUSIVE on it.';

create or replace function crossfade_private.swap_in_view(pair crossfade.pairs)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  perform crossfade_private.rename_v1(pair,
    crossfade_private.beside_name((pair).v1_table, '_archive'), (pair).v1_table);
  execute format('alter view %s rename to %I',
    crossfade_private.beside_name((pair).v1_table, '_to_be'),
    (parse_ident((pair).v1_table))[2]);
  perform pg_notify('pgrst', 'reload schema');
end $$;

comment on function crossfade_private.swap_in_view is
  'V1 becomes the archive, and the view that prepare_views made takes its name.';

create or replace function crossfade_private.compile_anew(pair crossfade.pairs)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_function regprocedure;
begin
  -- A session in which a foreign key wrote the archive has compiled V1's trigger while the view had
  -- V1's name: its variables would be of the view's row type, which is gone. An entry of pg_proc
  -- that was written again makes every session compile it anew.
  for v_function in
    select p.oid from pg_catalog.pg_proc p
    where p.pronamespace = 'crossfade_private'::regnamespace
      and p.prorettype = 'trigger'::regtype
      and starts_with(p.proname, format('mirror_%s_v1_', (pair).name))
  loop
    execute format('alter function %s cost 100', v_function);
  end loop;
end $$;

comment on function crossfade_private.compile_anew is
  'Make sessions compile the triggers of V1 again; what is altered is the default.';

create or replace function crossfade_private.swap_back_tables(pairs crossfade.pairs[])
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair crossfade.pairs;
begin
  foreach v_pair in array pairs loop
    perform crossfade_private.hold_shape(v_pair.v1_table);
  end loop;
  -- Order matters: the view first, which its writers hold before they hold V2. Under another name
  -- it is out of their way. The archive with it: who reads that must not keep them waiting.
  perform crossfade_private.await_turn(array(
    select format('alter view %s rename to %I', p.v1_view, (
      parse_ident(crossfade_private.beside_name(p.v1_view, '_to_be')))[2]) from unnest(pairs) p
    union all
    select format('lock table %s in access exclusive mode', p.v1_table) from unnest(pairs) p));
  foreach v_pair in array pairs loop
    execute format('drop view %s', crossfade_private.beside_name(v_pair.v1_view, '_to_be'));
    execute format('drop function crossfade_private.view_%s_write()', v_pair.name);
    execute format('drop function if exists crossfade_private.view_%s_order()', v_pair.name);
    perform crossfade_private.rename_v1(v_pair, v_pair.v1_view, null);
    -- A release that came meanwhile has left its mirror alone, which names V1.
    if v_pair.generator <> crossfade_private.generator() then
      perform crossfade_private.install_pair(crossfade_private.get_pair(v_pair.name));
    end if;
    perform crossfade_private.compile_anew(v_pair);
  end loop;
  perform pg_notify('pgrst', 'reload schema');
end $$;

comment on function crossfade_private.swap_back_tables is
  'The views go, and the archives of some pairs get their names again, with the rows they had.';
