-- The flags that were deployed with functions: what an isolate knows that cannot read the database.

create or replace function crossfade_private.record_bundles(batch jsonb)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  with given as (
    select distinct e.value ->> 'pair' as pair, (e.value ->> 'bundle_version')::bigint as version
    from jsonb_array_elements(batch) e
    where jsonb_typeof(e.value -> 'bundle_version') = 'number'
  )
  insert into crossfade_private.bundles as b (pair, flags_version)
  select g.pair, g.version from given g
  -- Once a minute is enough to know, and keeps callers out of each other's way.
  where not exists (select from crossfade_private.bundles k where k.pair = g.pair
    and k.flags_version = g.version and k.last_at > clock_timestamp() - interval '1 minute')
  order by g.pair, g.version
  on conflict on constraint bundles_pkey do update set last_at = excluded.last_at;
  if found then
    delete from crossfade_private.bundles b
    where b.last_at < clock_timestamp() - interval '1 day'
      and b.pair in (select e.value ->> 'pair' from jsonb_array_elements(batch) e);
  end if;
end $$;

comment on function crossfade_private.record_bundles is
  'Keep which bundled flags the events of a checked batch report, at most once a minute for each, and forget what is older than a day.';

create or replace function crossfade_private.old_bundle(pair crossfade.pairs)
returns bigint
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- An older deployment answers a few minutes on: only what is reported beside the newest counts.
  select min(b.flags_version)
  from crossfade_private.bundles b
  where b.pair = (old_bundle.pair).name and b.flags_version > 0
    and b.flags_version < (old_bundle.pair).step_flags_version
    and b.last_at > (
      select max(n.last_at) from crossfade_private.bundles n
      where n.pair = (old_bundle.pair).name) - interval '10 minutes';
$$;

comment on function crossfade_private.old_bundle is
  'Oldest flags_version of flags bundled with functions that still answer, if it is from before the step of the pair; null where none is, none is bundled, or no function says.';
