-- Starting a run of any kind, with its ranges of keys.

create or replace function crossfade_private.split_keys(
  pieces jsonb, ranges integer, sample_pct real
)
returns table (range integer, after_key jsonb, upto_key jsonb)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
  -- Cuts come from a sample, so that starting a run costs the same on ten rows and on ten million.
  return query execute crossfade_private.render($sql$
    with cf_sample as (
      select {skey_json_s} cf_key, ntile($1) over (order by {skey_s}) cf_part, {skey_s}
      from {source} cf_s tablesample system ($2)
      where $1 > 1
    ),
    cut as (
      select distinct on (cf_sample.cf_part) cf_sample.cf_part, cf_sample.cf_key
      from cf_sample order by cf_sample.cf_part, ({skey_sample}) desc
    ),
    bound (part, k) as (
      select c.cf_part::integer, c.cf_key from cut c where c.cf_part < $1
      union all
      select $1, null
    )
    select row_number() over (order by b.part)::integer, lag(b.k) over (order by b.part), b.k
    from bound b
  $sql$, pieces) using ranges, sample_pct;
end $$;

comment on function crossfade_private.split_keys is
  'Disjoint key ranges of about equal size, cut from a sample; the last one is open above.';

create or replace function crossfade_private.bound_run(run crossfade.runs, pieces jsonb)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_range integer;
  v_last jsonb;
begin
  -- A worker that has the range has bounded it, too.
  select a.range into v_range from crossfade.run_ranges a
  where a.run = (bound_run.run).id and a.upto_key is null and not a.done
  for update skip locked;
  if not found then
    return;
  end if;
  execute crossfade_private.render(
    'select {skey_json_s} from {source} cf_s order by {skey_desc} limit 1', pieces) into v_last;
  update crossfade.run_ranges a set upto_key = v_last, done = v_last is null
  where a.run = (bound_run.run).id and a.range = v_range;
end $$;

comment on function crossfade_private.bound_run is
  'Let a backfill end at the largest key there is, without which inserts could keep it going; an empty table has nothing to copy. Not before those who wrote unmirrored have ended: their rows may have larger keys than any that can be seen.';

create or replace function crossfade_private.estimate_rows(tab regclass)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_plan jsonb;
  v_rows bigint;
begin
  if crossfade_private.tree_bytes(tab) < 1000000 then
    execute format('select count(*) from %s', tab) into v_rows;
    return v_rows;
  end if;
  -- What the planner thinks: by the size of the file as it is now, also without statistics.
  execute format('explain (format json) select from %s', tab) into v_plan;
  return (v_plan #>> '{0,Plan,Plan Rows}')::numeric::bigint;
end $$;

comment on function crossfade_private.estimate_rows is
  'How many rows a table has: counted while it is below 1 MB, else about. Reads no more than that.';

create or replace function crossfade_private.start_run(
  kind text, pair crossfade.pairs, direction text, ranges integer
)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_problems text[] := array(select crossfade_private.mirror_problems(pair));
  v_pieces jsonb;
  v_rows bigint;
  v_v1 record;
  v_run bigint;
begin
  perform crossfade_private.refuse_retired(pair, 'compare or copy rows of');
  if v_problems <> '{}' then
    perform crossfade_private.fail(409, 'CF011',
      format('Cannot start: the tables of "%s" cannot be mirrored any more: %s', (pair).name,
        array_to_string(v_problems, '; ')),
      jsonb_build_object('pair', (pair).name, 'problems', to_jsonb(v_problems)),
      'Change what is named, then register the pair again.');
  end if;
  if (pair).fingerprint <> crossfade_private.table_fingerprint(((pair).v1_table)::regclass,
    ((pair).v2_table)::regclass) then
    perform crossfade_private.fail(409, 'CF011',
      format('Cannot start: the columns of "%s" have changed since it was registered', (pair).name),
      jsonb_build_object('pair', (pair).name), 'Adapt the converters and register the pair again.');
  end if;
  if (pair).converter_hash <> crossfade_private.converter_hash((pair).to_v2, (pair).to_v1) then
    perform crossfade_private.fail(409, 'CF011',
      format('Cannot start: the converters of "%s" have changed since it was registered',
        (pair).name),
      jsonb_build_object('pair', (pair).name),
      'Register the pair again: the mirror may still convert as it did then.');
  end if;
  v_pieces := crossfade_private.run_pieces(pair, direction);
  v_rows := crossfade_private.estimate_rows((v_pieces ->> 'source')::regclass);
  select * into v_v1 from crossfade_private.v1_answers((pair).name, clock_timestamp()
    - crossfade_private.setting_number('health_window_s') * interval '1 s');
  insert into crossfade.runs (kind, pair, direction, rows_total, fingerprint, converter_hash,
    v1_requests, v1_p95_ms, v1_error_rate)
  values (start_run.kind, (pair).name, start_run.direction, v_rows,
    (pair).fingerprint, (pair).converter_hash, v_v1.requests, v_v1.p95_ms, v_v1.error_rate)
  returning id into v_run;
  insert into crossfade.run_ranges (run, range, after_key, upto_key, cursor_key, batch_rows,
    load_seen, converters_seen, converters_seen_at)
  select v_run, s.range, s.after_key, s.upto_key, s.after_key,
    crossfade_private.setting_number('batch_first_rows'),
    crossfade_private.others_transactions(v_run),
    crossfade_private.converters_version(pair), clock_timestamp()
  from crossfade_private.split_keys(v_pieces, start_run.ranges,
    least(100, 2000000 / greatest(v_rows, 1))::real) s;
  return v_run;
end $$;

comment on function crossfade_private.start_run is
  'Create a run and its ranges; rows_total is an estimate. Keeps how V1 answered until now, which its batches are held to.';
