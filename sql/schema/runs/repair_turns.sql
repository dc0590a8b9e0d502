-- Whose turn it is to be repaired, and which side is right.

create or replace function crossfade_private.leader(stage text)
returns integer
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select case when stage in ('rampdown', 'complete', 'retired') then 2 else 1 end;
$$;

comment on function crossfade_private.leader is
  'The table that wins a repair when no record says which side was written: V1 up to live, V2 from rampdown on.';

create or replace function crossfade_private.repair_turns(
  pair crossfade.pairs, max_rows integer, with_undecided boolean
)
returns table (key jsonb, side integer, has_failure boolean, is_slow boolean, why text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with failed as (
    select f.key, f.written_side::integer as side, true as has_failure, f.is_slow,
      f.last_attempt_at, f.id,
      format('%s on V%s was not mirrored: %s %s', f.operation, f.written_side, f.error_code,
        f.message) as why
    from crossfade.mirror_failures f
    where f.pair = (repair_turns.pair).name and f.resolved_at is null
    order by f.last_attempt_at nulls first, f.id limit max_rows
  ),
  differing as (
    select m.key, crossfade_private.leader((repair_turns.pair).stage) as side, false,
      m.is_slow, m.last_attempt_at, m.id, format('V%s leads in stage %s',
        crossfade_private.leader((repair_turns.pair).stage), (repair_turns.pair).stage)
    from crossfade.mismatches m
    where m.pair = (repair_turns.pair).name and m.resolved_at is null
      and (with_undecided or m.kind <> format('missing_v%s',
        crossfade_private.leader((repair_turns.pair).stage)))
      and not exists (
        select from crossfade.mirror_failures f
        where f.pair = m.pair and f.key = m.key and f.resolved_at is null)
    order by m.last_attempt_at nulls first, m.id limit max_rows
  )
  select t.key, t.side, t.has_failure, t.is_slow, t.why
  from (select * from failed union all select * from differing) t
  order by t.last_attempt_at nulls first, t.has_failure desc, t.id limit max_rows;
$$;

comment on function crossfade_private.repair_turns is
  'The next keys to repair, those never tried first and then those whose last try is longest ago; side is the right one, by an open failure (has_failure) or else the leader. with_undecided: also those that only the follower has.';

create or replace function crossfade_private.repair_counts(pair crossfade.pairs)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object('remaining', f.number + m.number, 'undecided', m.undecided)
  from (
    select count(*) as number from crossfade.mirror_failures f
    where f.pair = (repair_counts.pair).name and f.resolved_at is null
  ) f
  cross join (
    select count(*) as number, count(*) filter (where m.kind = format('missing_v%s',
      crossfade_private.leader((repair_counts.pair).stage))) as undecided
    from crossfade.mismatches m
    where m.pair = (repair_counts.pair).name and m.resolved_at is null and not exists (
      select from crossfade.mirror_failures f
      where f.pair = m.pair and f.key = m.key and f.resolved_at is null)
  ) m;
$$;

comment on function crossfade_private.repair_counts is
  '{"remaining": keys with an open failure or mismatch, "undecided": those of them that only the follower has, and that no failure explains}.';

create or replace function crossfade_private.mark_tried(
  pair text, errors jsonb, is_slow boolean default false
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_keys constant jsonb[] := array(select e.key::jsonb from jsonb_each(errors) e);
begin
  -- SKIP LOCKED: a writer that records a failure anew holds it.
  update crossfade.mirror_failures f
  set attempts = f.attempts + 1, message = left(errors ->> f.key::text, 500),
    last_attempt_at = clock_timestamp(), is_slow = mark_tried.is_slow
  where f.id in (
    select l.id from crossfade.mirror_failures l
    where l.pair = mark_tried.pair and l.key = any (v_keys) and l.resolved_at is null
    for update skip locked);
  update crossfade.mismatches m
  set message = left(errors ->> m.key::text, 500),
    last_attempt_at = clock_timestamp(), is_slow = mark_tried.is_slow
  where m.id in (
    select l.id from crossfade.mismatches l
    where l.pair = mark_tried.pair and l.key = any (v_keys) and l.resolved_at is null
    for update skip locked);
end $$;

comment on function crossfade_private.mark_tried is
  'Note that a repair has failed: errors by the text of the key. Others come first now; after a timeout (is_slow) each is tried alone.';

create or replace function crossfade_private.same_error(keys jsonb[], message text)
returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_object_agg(k::text, message), '{}') from unnest(keys) k;
$$;

comment on function crossfade_private.same_error is
  'One message for several keys, as mark_tried wants it.';
