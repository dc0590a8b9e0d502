-- Verification: compare both tables through the converters, by value. Repair: make the follower
-- equal.

create table if not exists crossfade.mismatches (
  id bigint generated always as identity primary key,
  pair text not null references crossfade.pairs on delete cascade on update cascade,
  run bigint references crossfade.runs on delete set null,
  key jsonb not null,
  kind text not null,
  columns text[] not null default '{}',
  found_at timestamptz not null default clock_timestamp(),
  resolved_at timestamptz,
  resolution text,
  preserved jsonb,
  constraint mismatch_kind_is_known check (kind in ('missing_v1', 'missing_v2', 'different'))
);

create unique index if not exists mismatches_open_idx
  on crossfade.mismatches (pair, key) where resolved_at is null;
create index if not exists mismatches_pair_idx on crossfade.mismatches (pair);
create index if not exists mismatches_run_idx on crossfade.mismatches (run);

comment on table crossfade.mismatches is
  'Rows that differ between the tables of a pair, confirmed by a second look; open while resolved_at is null. columns names the V1 columns and, as v2.NAME, the V2 columns that differ. preserved is the row a repair replaced or deleted.';

-- Comparing ---------------------------------------------------------------------------------------

create or replace function crossfade_private.compare_sql()
returns text
language sql immutable
set search_path = ''
as $outer$
  -- cf_here and not `cf_row is null`: a composite with one null column is neither null nor not
  -- null.
  -- Both directions: to_v2(v1, v2) = v2 and to_v1(v2, v1) = v1. {range_a} and {range_b} choose
  -- the rows.
  select $sql$
    select case when cf_a.cf_here then {skey_json_a} else {tkey_json_b} end as key,
      case when cf_b.cf_here is null then 'missing_v2' when cf_a.cf_here is null then 'missing_v1'
        else 'different' end as kind,
      cf_a.cf_row as v1, cf_b.cf_row as v2, row(cf_c.*)::{target} as made_v2,
      row(cf_d.*)::{source} as made_v1
    from (select cf_t as cf_row, true as cf_here, {skey_t} from {source} cf_t where {range_a}) cf_a
    full join (select cf_t as cf_row, true as cf_here, {tkey_t} from {target} cf_t
      where {range_b}) cf_b
      on ({skey_a}) = ({tkey_b})
    left join lateral {convert} cf_a.cf_row {with} cf_b.cf_row {converted} cf_c
      on cf_a.cf_here and cf_b.cf_here
    left join lateral {convert_back} cf_b.cf_row {with_back} cf_a.cf_row {converted_back} cf_d
      on cf_a.cf_here and cf_b.cf_here
    where cf_a.cf_here is null or cf_b.cf_here is null
      or row({tcompare_c}) is distinct from row({tfields_b})
      or row({scompare_d}) is distinct from row({sfields_a})$sql$;
$outer$;

comment on function crossfade_private.compare_sql is
  'Template of the comparison; one row per differing key with both rows and what the converters make of them.';

create or replace function crossfade_private.diff_sql(
  tab regclass, found text, made text, prefix text
)
returns text
language sql stable
set search_path = ''
as $$
  select format('array_remove(array[%s]::text[], null)', string_agg(format(
    'case when %s is distinct from %s then %L end', format(u.compared, diff_sql.found),
    format(u.compared, made), prefix || u.name), ', ' order by u.name))
  from crossfade_private.column_pieces(tab) p
  cross join lateral unnest(p.columns, p.compared) u(name, compared);
$$;

comment on function crossfade_private.diff_sql is
  'SQL expression for the names of the columns in which two rows of a table differ, with a prefix. Columns that PostgreSQL computes are left out: converters need not fill them.';

create or replace function crossfade_private.find_mismatches(
  pieces jsonb, range_a text, range_b text, lower_key jsonb, upper_key jsonb
)
returns table (key jsonb, kind text, columns text[])
language plpgsql stable
set search_path = ''
as $$
begin
  return query execute format($sql$
    select m.key, m.kind, case m.kind when 'different' then %s || %s else '{}' end
    from (%s) m order by m.key$sql$,
    crossfade_private.diff_sql((pieces ->> 'source')::regclass, '(m.v1)', '(m.made_v1)', ''),
    crossfade_private.diff_sql((pieces ->> 'target')::regclass, '(m.v2)', '(m.made_v2)', 'v2.'),
    crossfade_private.render(
      replace(replace(crossfade_private.compare_sql(), '{range_a}', range_a), '{range_b}', range_b),
        pieces))
  using lower_key, upper_key;
end $$;

comment on function crossfade_private.find_mismatches is
  'Differing keys of a range, in one snapshot: both writes of a transaction are seen or neither.';

create or replace function crossfade_private.find_in_range(
  pieces jsonb, after_key jsonb, boundary jsonb
)
returns table (key jsonb, kind text, columns text[])
language sql stable
set search_path = ''
as $$
  select f.key, f.kind, f.columns
  from crossfade_private.find_mismatches(
    pieces,
    '($1 is null or ({skey_t}) > ({skey_1})) and ($2 is null or ({skey_t}) <= ({skey_2}))',
    '($1 is null or ({tkey_t}) > ({skey_1})) and ($2 is null or ({tkey_t}) <= ({skey_2}))',
    after_key, boundary) f;
$$;

comment on function crossfade_private.find_in_range is
  'Differing keys in (after_key, boundary]; null is open.';

create or replace function crossfade_private.find_one(pieces jsonb, key jsonb)
returns table (kind text, columns text[])
language sql stable
set search_path = ''
as $$
  select f.kind, f.columns
  from crossfade_private.find_mismatches(
    pieces, '({skey_t}) = ({skey_1}) and $2 is null', '({tkey_t}) = ({skey_1}) and $2 is null', key,
      null) f;
$$;

comment on function crossfade_private.find_one is
  'How the two rows of one key differ; no row when they agree.';

create or replace function crossfade_private.lock_both(pieces jsonb, key jsonb)
returns void
language plpgsql volatile
set search_path = ''
set lock_timeout = '2s'
as $$
begin
  execute crossfade_private.render(
    'select from {source} cf_t where ({skey_t}) = ({skey_1}) for no key update', pieces) using key;
  execute crossfade_private.render(
    'select from {target} cf_t where ({tkey_t}) = ({skey_1}) for no key update', pieces) using key;
end $$;

comment on function crossfade_private.lock_both is
  'Lock both rows of a key, the source''s first. Waits at most 2 s a row (55P03).';

-- Verify runs -------------------------------------------------------------------------------------

create or replace function crossfade.start_verify(pair text, ranges integer default 1)
returns jsonb
language plpgsql volatile
security definer -- reads and analyzes the owner's tables; only service_role may call it
set search_path = ''
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_run bigint;
begin
  if ranges not between 1 and 64 then
    perform crossfade_private.fail(400, 'CF012', format('Invalid ranges %s', ranges),
      jsonb_build_object('ranges', ranges), 'Use 1 to 64.');
  end if;
  perform from crossfade.pairs p where p.name = start_verify.pair for no key update;
  select r.id into v_run from crossfade.runs r
  where r.pair = start_verify.pair and r.kind = 'verify' and r.state in ('running', 'paused');
  if found then
    return jsonb_build_object('run', crossfade_private.run_json(v_run), 'already', true);
  end if;
  v_run := crossfade_private.start_run('verify', v_pair, 'v1_to_v2', ranges);
  return jsonb_build_object('run', crossfade_private.run_json(v_run), 'already', false);
end $$;

comment on function crossfade.start_verify is
  'Start a full comparison of both tables, or return the active one (already: true). CF001, CF011, CF012.';

create or replace function crossfade_private.record_mismatches(
  for_pair text, for_run bigint, pieces jsonb, after_key jsonb, boundary jsonb
)
returns bigint
language plpgsql volatile
set search_path = ''
as $$
declare
  v_found record;
  v_again record;
  v_count bigint := 0;
begin
  for v_found in select f.key from crossfade_private.find_in_range(pieces, after_key,
    boundary) f loop
    -- A second look under lock, so that nothing in flight is ever counted.
    begin
      perform crossfade_private.lock_both(pieces, v_found.key);
    exception when lock_not_available or deadlock_detected then
      null; -- Somebody is writing it right now: what a plain read finds is good enough.
    end;
    select f.kind, f.columns into v_again from crossfade_private.find_one(pieces, v_found.key) f;
    -- A copy whose source was deleted while a backfill runs is the sweep's to remove, not news.
    if found and not exists (
      select from crossfade_private.tombstones z
      where z.pair = for_pair and z.key = v_found.key
        and v_again.kind = format('missing_v%s', z.side)
    ) then
      v_count := v_count + 1;
      insert into crossfade.mismatches as m (pair, run, key, kind, columns)
      values (for_pair, for_run, v_found.key, v_again.kind,
        v_again.columns)
      on conflict (pair, key) where resolved_at is null do update
      set run = excluded.run, kind = excluded.kind, columns = excluded.columns,
        found_at = clock_timestamp();
    end if;
  end loop;
  return v_count;
end $$;

comment on function crossfade_private.record_mismatches is
  'Compare a range, look again at what differs with both rows locked, and record what still does, but for copies that wait for the sweep of a backfill. Returns how many.';

create or replace function crossfade_private.finish_verify(run crossfade.runs, pair crossfade.pairs)
returns void
language plpgsql volatile
set search_path = ''
as $$
declare
  v_mismatches bigint;
begin
  if exists (select from crossfade.run_ranges a where a.run = (finish_verify.run).id
    and not a.done) then
    return;
  end if;
  -- The pair before the run, as everywhere.
  perform from crossfade.pairs p where p.name = (pair).name for no key update;
  perform from crossfade.runs r where r.id = (finish_verify.run).id
    and r.state = 'running' for update;
  if not found then
    return;
  end if;
  update crossfade.runs r set state = 'finished', finished_at = clock_timestamp()
  where r.id = (finish_verify.run).id;
  select sum(a.mismatches) into v_mismatches from crossfade.run_ranges a
    where a.run = (finish_verify.run).id;
  if v_mismatches = 0 then
    -- A clean full pass also settles what earlier passes found and something else has mended.
    update crossfade.mismatches m set resolved_at = clock_timestamp(), resolution = 'equal'
    where m.pair = (finish_verify.pair).name and m.resolved_at is null
      and m.found_at < (finish_verify.run).started_at;
    update crossfade.pairs p
    set last_clean_verify_at = (finish_verify.run).started_at,
      verified_converter_hash = (finish_verify.run).converter_hash
    where p.name = (finish_verify.pair).name;
  end if;
  perform crossfade_private.audit('verify.finish', (pair).name, null, null,
    crossfade_private.run_json((finish_verify.run).id));
end $$;

comment on function crossfade_private.finish_verify is
  'When no range is left: end the run; without a mismatch the pair counts as clean since the run began.';

create or replace function crossfade.verify_batch(run bigint, target_ms integer default null)
returns jsonb
language plpgsql volatile
security definer -- reads the owner's tables; only service_role may call it
set search_path = ''
as $$
declare
  v_run crossfade.runs := crossfade_private.get_run(run);
  v_pair crossfade.pairs := crossfade_private.get_pair(v_run.pair);
  v_range crossfade.run_ranges;
  v_pieces jsonb := crossfade_private.run_pieces(v_pair, 'v1_to_v2');
  v_reason text;
  v_started timestamptz := clock_timestamp();
  v_boundary jsonb;
  v_read bigint := 0;
  v_mismatches bigint := 0;
  v_ms numeric := 0;
begin
  if v_run.kind <> 'verify' then
    perform crossfade_private.fail(409, 'CF010',
      format('Run %s is a %s, not a verify pass', run, v_run.kind),
      jsonb_build_object('run', run, 'kind', v_run.kind), 'Use crossfade backfill run.');
  end if;
  if v_run.state <> 'running' then
    return crossfade_private.batch_json(run, v_run.state, v_run.reason);
  end if;
  perform crossfade_private.check_unchanged(v_run, v_pair);
  v_reason := crossfade_private.throttle_reason();
  if v_reason is not null then
    return crossfade_private.batch_json(run, 'throttled', v_reason);
  end if;
  v_range := crossfade_private.claim_range(v_run);
  if v_range.run is not null then
    v_boundary := crossfade_private.batch_boundary(v_pieces, v_range);
    v_mismatches := crossfade_private.record_mismatches(v_run.pair, v_run.id, v_pieces,
      v_range.cursor_key,
      v_boundary);
    v_read := crossfade_private.range_rows(v_pieces, v_range, v_boundary);
    v_ms := crossfade_private.finish_batch(v_range, v_boundary, v_read, 0, v_mismatches, v_started,
      target_ms);
  end if;
  perform crossfade_private.finish_verify(v_run, v_pair);
  return crossfade_private.batch_json(run, null, null) || jsonb_build_object(
    'rows_read', v_read, 'mismatches', v_mismatches, 'batch_ms', v_ms);
end $$;

comment on function crossfade.verify_batch is
  'Compare the next batch of a verify run, of about target_ms (null: setting batch_target_ms): {"run", "rows_read", "mismatches", "batch_ms", "state", "reason"}. Locks only rows that differ, for the second look. CF009, CF010, CF011.';
