-- Runs: work in batches that survives a crash anywhere, because the cursor moves in the batch's
-- own transaction.

create table if not exists crossfade.runs (
  id bigint generated always as identity primary key,
  kind text not null,
  pair text not null references crossfade.pairs on delete cascade on update cascade,
  direction text not null,
  state text not null default 'running',
  reason text,
  rows_total bigint not null default 0,
  swept_rows bigint not null default 0,
  fingerprint text not null,
  converter_hash text not null,
  started_by text not null default crossfade_private.actor(),
  started_at timestamptz not null default clock_timestamp(),
  finished_at timestamptz,
  constraint kind_is_known check (kind in ('backfill', 'verify')),
  constraint direction_is_known check (direction in ('v1_to_v2', 'v2_to_v1')),
  constraint run_state_is_known check (state in ('running', 'paused', 'finished', 'cancelled'))
);

create index if not exists runs_pair_idx on crossfade.runs (pair, kind, id desc);

create unique index if not exists runs_active_idx
  on crossfade.runs (pair, kind) where state in ('running', 'paused');

comment on table crossfade.runs is
  'A backfill or a verify pass over a pair. rows_total is an estimate made at the start; at most one active run per pair and kind.';

create table if not exists crossfade.run_ranges (
  run bigint not null references crossfade.runs on delete cascade,
  range integer not null,
  after_key jsonb,
  upto_key jsonb,
  cursor_key jsonb,
  done boolean not null default false,
  rows_done bigint not null default 0,
  rows_written bigint not null default 0,
  mismatches bigint not null default 0,
  batches bigint not null default 0,
  batch_rows integer not null default 1000,
  ms_per_1000_rows numeric[] not null default '{}',
  progress_at timestamptz not null default clock_timestamp(),
  primary key (run, range)
);

comment on table crossfade.run_ranges is
  'Disjoint key ranges of a run, (after_key, upto_key]; null is open. A worker holds one range by its row lock for one batch.';

create or replace function crossfade_private.run_json(run bigint)
returns jsonb
language sql stable
set search_path = ''
as $$
  select jsonb_build_object(
    'id', r.id, 'kind', r.kind, 'pair', r.pair, 'direction', r.direction, 'state', r.state,
    'reason', r.reason, 'rows_total', r.rows_total, 'swept_rows', r.swept_rows,
    'rows_done', g.rows_done, 'rows_written', g.rows_written, 'mismatches', g.mismatches,
    'batches', g.batches, 'batch_rows', g.batch_rows, 'ranges', g.ranges,
    'ranges_done', g.ranges_done,
    'started_at', r.started_at, 'progress_at', g.progress_at, 'finished_at', r.finished_at)
  from crossfade.runs r
  cross join lateral (
    select sum(a.rows_done) rows_done, sum(a.rows_written) rows_written,
      sum(a.mismatches) mismatches,
      sum(a.batches) batches, max(a.batch_rows) batch_rows, count(*) ranges,
      count(*) filter (where a.done) ranges_done, max(a.progress_at) progress_at
    from crossfade.run_ranges a where a.run = r.id
  ) g
  where r.id = run_json.run;
$$;

comment on function crossfade_private.run_json is 'A run with the sums over its ranges.';

create or replace function crossfade_private.get_run(run bigint)
returns crossfade.runs
language plpgsql stable
set search_path = ''
as $$
declare
  v_run crossfade.runs;
begin
  select r.* into v_run from crossfade.runs r where r.id = get_run.run;
  if not found then
    perform crossfade_private.fail(404, 'CF009',
      format('Unknown run %s', coalesce(get_run.run::text, 'null')),
      jsonb_build_object('run', get_run.run), 'crossfade backfill status lists the runs.');
  end if;
  return v_run;
end $$;

comment on function crossfade_private.get_run is 'The run''s row; CF009 when there is none.';

create or replace function crossfade.run_status(run bigint)
returns jsonb
language plpgsql stable
security definer -- API roles hold no right on crossfade_private
set search_path = ''
as $$
begin
  perform crossfade_private.get_run(run);
  return jsonb_build_object('run', crossfade_private.run_json(run), 'flags_version',
    crossfade.flags_version());
end $$;

comment on function crossfade.run_status is 'Progress of a run. CF009 for an unknown id.';

create or replace function crossfade_private.split_keys(
  pieces jsonb, ranges integer, bounded boolean, sample_pct real
)
returns table (range integer, after_key jsonb, upto_key jsonb)
language plpgsql volatile
set search_path = ''
as $$
begin
  -- The upper bound is fixed here: later rows are mirrored, and without it inserts could keep
  -- a run going.
  -- Cuts come from a sample, so that starting a run costs the same on ten rows and on ten million.
  return query execute crossfade_private.render($sql$
    with cf_sample as (
      select {skey_json_s} cf_key, ntile($1) over (order by {skey_s}) cf_part, {skey_s}
      from {source} cf_s tablesample system ($3)
      where $1 > 1
    ),
    cut as (
      select distinct on (cf_sample.cf_part) cf_sample.cf_part, cf_sample.cf_key
      from cf_sample order by cf_sample.cf_part, ({skey_sample}) desc
    ),
    bound (part, k) as (
      select c.cf_part::integer, c.cf_key from cut c where c.cf_part < $1
      union all
      select $1, (select {skey_json_s} from {source} cf_s order by {skey_desc} limit 1)
    )
    select row_number() over (order by b.part)::integer, lag(b.k) over (order by b.part),
      case when $2 or b.part < $1 then b.k end
    from bound b
  $sql$, pieces) using ranges, bounded, sample_pct;
end $$;

comment on function crossfade_private.split_keys is
  'Disjoint key ranges of about equal size, cut from a sample; the last one ends at the largest key, or is open above when not bounded.';

create or replace function crossfade_private.start_run(
  kind text, pair crossfade.pairs, direction text, ranges integer
)
returns bigint
language plpgsql volatile
set search_path = ''
as $$
declare
  v_side integer := case direction when 'v1_to_v2' then 1 else 2 end;
  v_problems text[] := array(select crossfade_private.mirror_problems(pair));
  v_pieces jsonb;
  v_rows bigint;
  v_run bigint;
begin
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
  v_pieces := crossfade_private.make_pieces(pair, v_side);
  -- Fresh statistics: without them the planner sorts the whole table for each batch.
  execute crossfade_private.render('analyze {source}', v_pieces);
  select greatest(c.reltuples, 0)::bigint into v_rows
  from pg_catalog.pg_class c where c.oid = (v_pieces ->> 'source')::regclass;
  insert into crossfade.runs (kind, pair, direction, rows_total, fingerprint, converter_hash)
  values (start_run.kind, (pair).name, start_run.direction, v_rows,
    crossfade_private.table_fingerprint(((pair).v1_table)::regclass, ((pair).v2_table)::regclass),
    crossfade_private.converter_hash((pair).to_v2, (pair).to_v1))
  returning id into v_run;
  insert into crossfade.run_ranges (run, range, after_key, upto_key, cursor_key)
  select v_run, s.range, s.after_key, s.upto_key, s.after_key
  from crossfade_private.split_keys(
    v_pieces, start_run.ranges, start_run.kind = 'backfill',
    least(100, 2000000 / greatest(v_rows, 1))::real) s;
  -- A backfill of an empty table has no upper bound and nothing to do.
  update crossfade.run_ranges a set done = true
  where a.run = v_run and a.upto_key is null and start_run.kind = 'backfill';
  return v_run;
end $$;

comment on function crossfade_private.start_run is
  'Create a run and its ranges. ANALYZEs the source (SHARE UPDATE EXCLUSIVE); rows_total is the estimate that gives.';

create or replace function crossfade.control_run(run bigint, action text, reason text default null)
returns jsonb
language plpgsql volatile
security definer -- runs are changed by functions only
set search_path = ''
as $$
declare
  v_run crossfade.runs := crossfade_private.get_run(run);
  v_state text := case action when 'pause' then 'paused' when 'resume' then 'running' when 'cancel'
    then 'cancelled' end;
begin
  if v_state is null then
    perform crossfade_private.fail(400, 'CF012', format('Unknown action "%s"', action),
      jsonb_build_object('action', action), 'Use pause, resume or cancel.');
  end if;
  -- Locks the run after the batches of all workers: a worker holds it only at the end of a batch.
  select r.* into v_run from crossfade.runs r where r.id = control_run.run for update;
  if v_run.state not in ('running', 'paused') and v_run.state <> v_state then
    perform crossfade_private.fail(409, 'CF010',
      format('Cannot %s run %s: it is %s', action, run, v_run.state),
      jsonb_build_object('run', run, 'state', v_run.state), 'Start a new run.');
  end if;
  if v_run.state <> v_state then
    update crossfade.runs r
    set state = v_state, reason = control_run.reason,
      finished_at = case when v_state = 'cancelled' then clock_timestamp() end
    where r.id = control_run.run;
    perform crossfade_private.audit(format('%s.%s', v_run.kind, action), v_run.pair, reason, null,
      crossfade_private.run_json(run));
  end if;
  return jsonb_build_object('run', crossfade_private.run_json(run));
end $$;

comment on function crossfade.control_run is
  'Pause, resume or cancel a run; a batch under way ends first. Safe to repeat. CF009, CF010 when it has ended, CF012.';
