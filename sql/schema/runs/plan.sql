-- What going through the stages will do to a database, measured before anything is switched on.

create or replace function crossfade.sample_keys(
  pair text, side integer default 1, keys integer default 20
)
returns jsonb
language plpgsql volatile
security definer -- reads the owner's tables; only service_role may call it
set search_path = pg_catalog, pg_temp
set jit = off
-- As the mirror converts, whatever the session has set.
set timezone = 'UTC'
set datestyle = 'ISO, MDY'
set intervalstyle = 'postgres'
set extra_float_digits = 1
set bytea_output = 'hex'
as $$
declare
  v_pieces jsonb := crossfade_private.make_pieces(crossfade_private.get_pair(pair), side);
  v_rows double precision;
  v_keys jsonb;
begin
  if side not in (1, 2) or keys not between 1 and 1000 then
    perform crossfade_private.fail(400, 'CF012', format('Invalid side %s or keys %s', side, keys),
      jsonb_build_object('side', side, 'keys', keys), 'side is 1 or 2, keys 1 to 1000.');
  end if;
  v_rows := crossfade_private.planner_rows((v_pieces ->> 'source')::regclass);
  execute crossfade_private.render($sql$
    select coalesce(jsonb_agg(cf_q.key), '[]') from (
      select {skey_json_s} as key from {source} cf_s tablesample bernoulli ($1)
      order by random() limit $2) cf_q
  $sql$, v_pieces) into v_keys
  -- Four times as many as asked for, because the estimate of the rows may be old.
  using case when v_rows <= 4.0 * keys then 100 else 400.0 * keys / v_rows end, keys;
  return jsonb_build_object('keys', v_keys);
end $$;

comment on function crossfade.sample_keys is
  'Up to keys (1 to 1000) random keys of a side: {"keys": [...]}. Reads the whole table once. CF001, CF012.';

create or replace function crossfade_private.measure_copy(pieces jsonb, sample_rows integer)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_from timestamptz;
  v_rows bigint;
  v_ms double precision;
begin
  -- A temporary copy of the target: nothing is written to the owner's tables, and none of their
  -- triggers runs, whose effects (a request by HTTP) could not be taken back.
  execute format('create temporary table cf_plan (like %s including indexes including generated)
    on commit drop', pieces ->> 'target');
  v_from := clock_timestamp();
  execute crossfade_private.render($sql$
    insert into pg_temp.cf_plan ({target_columns}) overriding system value
    select {tcolumns_c}
    from (select cf_s.* from {source} cf_s order by {skey_s} limit $1) cf_n
    cross join lateral {convert} row(cf_n.*)::{source} {with} null::{target} {converted} cf_c
  $sql$, pieces) using sample_rows;
  get diagnostics v_rows = row_count;
  v_ms := extract(epoch from clock_timestamp() - v_from) * 1000;
  drop table pg_temp.cf_plan;
  return jsonb_build_object('rows', v_rows, 'elapsed_ms', round(v_ms::numeric, 1),
    'rows_per_s', case when v_rows > 0 then round((v_rows / greatest(v_ms, 0.001) * 1000)::numeric)
      end, 'error', null);
exception when others then
  return jsonb_build_object('rows', 0, 'elapsed_ms', null, 'rows_per_s', null,
    'error', format('%s: %s', sqlstate, sqlerrm));
end $$;

comment on function crossfade_private.measure_copy is
  'Convert some rows into a temporary copy of the target, with its indexes, and say how fast it was. Foreign keys, triggers and the log are not measured.';

create or replace function crossfade_private.plan_steps(pair crossfade.pairs)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_agg(jsonb_build_object('step', s.step, 'command', s.command, 'does', s.does,
    'lock', s.lock, 'held', s.held) order by s.n)
  from (values
    (1, 'dualwrite', format('crossfade stage set %s dualwrite', (pair).name),
      'updates rows of crossfade and crossfade_private; from then on each write is converted and written to the other table as well',
      'none on your tables', 'one short transaction'),
    (2, 'backfill', format('crossfade backfill run %s', (pair).name),
      format('in batches: insert into %s select ... from %s ... on conflict do nothing',
        (pair).v2_table, (pair).v1_table),
      format('ROW EXCLUSIVE on %s; FOR SHARE on each copied row of %s: writers of that row wait',
        (pair).v2_table, (pair).v1_table),
      'one batch, about 500 ms'),
    (3, 'shadow', format('crossfade stage set %s shadow', (pair).name),
      'updates rows of crossfade', 'none on your tables', 'one short transaction'),
    (4, 'verify', format('crossfade verify run %s', (pair).name),
      'in batches: joins both tables through the converters',
      'ACCESS SHARE; a row that differs is locked for a moment to look again',
      'one batch, about 500 ms'),
    (5, 'live', format('crossfade stage set %s live', (pair).name),
      'updates rows of crossfade', 'none on your tables', 'one short transaction'),
    (6, 'rampdown', format('crossfade stage set %s rampdown', (pair).name),
      'updates rows of crossfade; a sequence of V2''s own is set past every key; who writes V1 is noted from now on',
      'none on your tables', 'one short transaction'),
    (7, 'complete', format('crossfade stage set %s complete --confirm', (pair).name),
      format(
        '%s becomes a read-only archive: every write to it is refused (CF_ARCHIVED). Nothing is dropped. Sequences that V2''s defaults need are no longer V1''s. V2 is no longer mirrored, so the way back needs a reverse backfill and a clean verify',
        (pair).v1_table),
      format('SHARE ROW EXCLUSIVE on %s: waits for its writers, at most 2 s%s', (pair).v1_table,
        (select '; ACCESS EXCLUSIVE on ' || (pair).v2_table
        from crossfade_private.key_sequences(pair) k
        cross join lateral crossfade_private.sequence_owner(k.sequence_2) o
        where o.is_identity and o.tab = ((pair).v1_table)::regclass limit 1)),
      'one short transaction'),
    (8, 'retired', format('crossfade stage set %s retired', (pair).name),
      format(
        'where clients still use it: %s becomes a view over version 2, which they read and write as the table; the table is kept as %s',
        coalesce((pair).v1_view, (pair).v1_table),
        crossfade_private.beside_name(coalesce((pair).v1_view, (pair).v1_table), '_archive')),
      format('ACCESS EXCLUSIVE on %s: waits 0.3 s for it at a time, at most 2 s',
        coalesce((pair).v1_view, (pair).v1_table)),
      'milliseconds')
  ) s(n, step, command, does, lock, held);
$$;

comment on function crossfade_private.plan_steps is
  'The steps of a migration: what each runs, and what it locks for how long.';

create or replace function crossfade_private.plan_sql(pair crossfade.pairs)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'backfill', btrim(crossfade_private.render(crossfade_private.copy_sql(
      '($1 is null or ({skey_s}) > ({skey_1})) and ({skey_s}) <= ({skey_2})'),
      crossfade_private.make_pieces(pair, 1))),
    'triggers', (
      select coalesce(jsonb_agg(pg_get_triggerdef(g.oid) order by g.tgrelid, g.tgname), '[]')
      from pg_catalog.pg_trigger g join pg_catalog.pg_proc p on p.oid = g.tgfoid
      where g.tgrelid in (((pair).v1_table)::regclass, ((pair).v2_table)::regclass)
        and p.pronamespace = 'crossfade_private'::regnamespace),
    'trigger_functions', (
      select coalesce(jsonb_agg(pg_get_functiondef(f.tgfoid) order by f.tgfoid::text), '[]')
      from (
        select distinct g.tgfoid from pg_catalog.pg_trigger g
        join pg_catalog.pg_proc p on p.oid = g.tgfoid
        where g.tgrelid in (((pair).v1_table)::regclass, ((pair).v2_table)::regclass)
          and p.pronamespace = 'crossfade_private'::regnamespace) f));
$$;

comment on function crossfade_private.plan_sql is
  'The statements that will run: the backfill''s, and the triggers with their functions.';

create or replace function crossfade.plan_pair(pair text, sample_rows integer default 2000)
returns jsonb
language plpgsql volatile
security definer -- reads the owner's tables; only service_role may call it
set search_path = pg_catalog, pg_temp
set jit = off
-- As the mirror converts, whatever the session has set.
set timezone = 'UTC'
set datestyle = 'ISO, MDY'
set intervalstyle = 'postgres'
set extra_float_digits = 1
set bytea_output = 'hex'
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_measured jsonb;
begin
  if sample_rows not between 1 and 100000 then
    perform crossfade_private.fail(400, 'CF012', format('Invalid sample_rows %s', sample_rows),
      jsonb_build_object('sample_rows', sample_rows), 'It is 1 to 100000.');
  end if;
  v_measured := crossfade_private.measure_copy(
    crossfade_private.make_pieces(v_pair, 1), sample_rows);
  return jsonb_build_object(
    'pair', v_pair.name, 'stage', v_pair.stage,
    'problems', (select coalesce(jsonb_agg(p), '[]')
      from crossfade_private.registration_problems(v_pair) p),
    'warnings', crossfade_private.pair_warnings(v_pair),
    'dependents', (
      select coalesce(jsonb_agg(to_jsonb(d) - 'id'), '[]')
      from crossfade_private.v1_dependents(v_pair) d),
    'tables', (
      select jsonb_agg(jsonb_build_object('side', t.side, 'table', t.name)
        || crossfade_private.table_hindrances(t.name::regclass)
        || crossfade_private.table_size(t.name::regclass) order by t.side)
      from (values (1, v_pair.v1_table), (2, v_pair.v2_table)) t(side, name)),
    -- A backfill waits for whoever was writing when mirroring began.
    'oldest_transaction_s', (
      select round(max(extract(epoch from clock_timestamp() - a.xact_start)))
      from pg_catalog.pg_stat_activity a
      where a.backend_xid is not null and a.pid <> pg_backend_pid()),
    'measured', v_measured,
    'steps', crossfade_private.plan_steps(v_pair), 'sql', crossfade_private.plan_sql(v_pair));
end $$;

comment on function crossfade.plan_pair is
  'What taking a pair through the stages will do: steps with their locks, the SQL, triggers and policies in the way, what depends on V1, sizes, and the speed of converting sample_rows rows (1 to 100000) into a temporary table. Changes nothing. CF001, CF012.';
