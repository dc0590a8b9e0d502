-- What the data, the shadow reads and the row level security say against the next stage.

create or replace function crossfade_private.stages()
returns text[]
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select array['off', 'dualwrite', 'shadow', 'live', 'rampdown', 'complete', 'retired'];
$$;

comment on function crossfade_private.stages is
  'The stages, from the beginning of a migration to its end.';

create or replace function crossfade_private.stage_number(stage text)
returns integer
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select array_position(crossfade_private.stages(), stage);
$$;

comment on function crossfade_private.stage_number is
  'Place of a stage, 1 (off) to 7 (retired); null for an unknown one.';

create or replace function crossfade_private.next_stage(stage text)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select (crossfade_private.stages())[crossfade_private.stage_number(stage) + 1];
$$;

comment on function crossfade_private.next_stage is
  'The stage that comes after this one; null after the last.';

create or replace function crossfade_private.blocker(code text, message text, hint text)
returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object('code', code, 'message', message, 'hint', hint);
$$;

comment on function crossfade_private.blocker is 'One reason why a stage cannot be entered yet.';

create or replace function crossfade_private.data_blockers(pair crossfade.pairs)
returns setof jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select crossfade_private.blocker('verify_needed',
    case when (data_blockers.pair).last_clean_verify_at is null
      then 'no full verify pass has been clean yet'
      when (data_blockers.pair).last_clean_verify_at < (data_blockers.pair).last_backfill_at
        then 'the last clean verify pass is older than the backfill'
      else 'the converters have changed since the last clean verify pass' end,
    format('crossfade verify run %s', (data_blockers.pair).name))
  where (data_blockers.pair).last_clean_verify_at is null
    or (data_blockers.pair).last_clean_verify_at < (data_blockers.pair).last_backfill_at
    or (data_blockers.pair).verified_converter_hash is distinct
      from crossfade_private.converter_hash((data_blockers.pair).to_v2, (data_blockers.pair).to_v1)
  union all
  select crossfade_private.blocker('open_mismatches',
    format('%s rows differ between the tables', count(*)),
    format('crossfade repair %1$s --reason "...", then crossfade verify run %1$s',
      (data_blockers.pair).name))
  from crossfade.mismatches m where m.pair = (data_blockers.pair).name
    and m.resolved_at is null having count(*) > 0
  union all
  select crossfade_private.blocker('open_failures',
    format('%s writes reached one table only', count(*)),
    format('crossfade repair %1$s --reason "...", then crossfade verify run %1$s',
      (data_blockers.pair).name))
  from crossfade.mirror_failures f where f.pair = (data_blockers.pair).name
    and f.resolved_at is null having count(*) > 0
  union all
  select crossfade_private.blocker('drift_since_verify',
    format('%s writes were not mirrored since the last clean verify pass', count(*)),
    format('crossfade verify run %s', (data_blockers.pair).name))
  from crossfade.mirror_failures f
  where f.pair = (data_blockers.pair).name and f.resolved_at is not null
    and f.at > (data_blockers.pair).last_clean_verify_at
  having count(*) > 0;
$$;

comment on function crossfade_private.data_blockers is
  'Why the two tables cannot be trusted to be equal right now.';

create or replace function crossfade_private.shadow_blockers(pair crossfade.pairs)
returns setof jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with evidence as (
    -- Where no function reports, what is written must do: that each write was mirrored, others see.
    select e.kind, (
      select sum(n::bigint) from crossfade_private.write_counts((shadow_blockers.pair).name,
        (shadow_blockers.pair).last_clean_verify_at, null) c
      cross join lateral jsonb_each(c) s cross join lateral jsonb_each_text(s.value) t(source, n)
    ) as statements
    from crossfade_private.step_evidence(shadow_blockers.pair) e
  )
  select crossfade_private.blocker('shadow_reads', case e.kind
      when 'requests' then format('%s shadow reads compared, %s of them equal', s.compared, s.equal)
      else format('no function compares reads, and %s writes were mirrored', e.statements) end
    || format(' since the last clean verify pass (wanted: %s, share %s)',
      crossfade_private.setting_number('shadow_min_reads'),
      crossfade_private.setting_number('shadow_match_rate')),
    'Leave it in shadow under traffic; settings shadow_min_reads and shadow_match_rate decide.')
  from evidence e
  cross join (
    select coalesce(sum(r.requests), 0) compared,
      coalesce(sum(r.requests) filter (where r.outcome = 'shadow_match'), 0) equal
    from crossfade.request_minutes r
    where r.pair = (shadow_blockers.pair).name and r.outcome in ('shadow_match', 'shadow_mismatch')
      and r.minute >= date_trunc('minute', (shadow_blockers.pair).last_clean_verify_at)
  ) s
  where case e.kind when 'requests' then s.compared else coalesce(e.statements, 0) end
      < crossfade_private.setting_number('shadow_min_reads')
    or s.equal < s.compared * crossfade_private.setting_number('shadow_match_rate');
$$;

comment on function crossfade_private.shadow_blockers is
  'Why the comparison of live reads does not yet allow live.';

create or replace function crossfade_private.rls_blockers(pair crossfade.pairs)
returns setof jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select crossfade_private.blocker('rls_parity',
      format('users may see or write different rows in the two tables (%s found)', c.differences),
      format('Make the policies equal, then: crossfade pair check-rls %s --user ID', c.pair))
    from crossfade.rls_checks c
    where c.pair = (rls_blockers.pair).name and c.differences > 0;
end $$;

comment on function crossfade_private.rls_blockers is
  'Why the row-level security of the two tables does not allow live.';

create or replace function crossfade_private.bundle_blockers(pair crossfade.pairs)
returns setof jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select crossfade_private.blocker('bundle_old',
    format('a function answers with flags bundled at version %s, from before rampdown (version %s)',
      b.version, (bundle_blockers.pair).step_flags_version),
    'crossfade flags bundle supabase/functions/NAME, then deploy it and send it a request.')
  from crossfade_private.old_bundle(pair) b (version)
  where b.version is not null;
$$;

comment on function crossfade_private.bundle_blockers is
  'Why functions, as deployed, would not know where a pair stands without the database.';
