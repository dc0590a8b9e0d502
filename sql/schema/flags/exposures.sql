-- Feature adoption: how often each flag was answered with what, counted by minute.

create or replace function crossfade_private.check_exposures(batch jsonb)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_bad record;
  v_value jsonb;
begin
  if jsonb_typeof(batch) is distinct from 'array' or jsonb_array_length(batch) > 10000 then
    perform crossfade_private.fail(
      400, 'CF012', 'Cannot record exposures: batch must be a JSON array of at most 10000 entries',
      jsonb_build_object('field', 'batch'));
  end if;
  select e.n - 1 as place, e.entry, f.field into v_bad
  from jsonb_array_elements(batch) with ordinality e(entry, n)
  cross join lateral (
    values
    (1, 'entry', jsonb_typeof(entry) = 'object'),
    (2, 'flag', jsonb_typeof(entry -> 'flag') = 'string'),
    (3, 'variant', jsonb_typeof(entry -> 'variant') = 'string'
      and entry ->> 'variant' in ('on', 'off')),
    (4, 'reason', jsonb_typeof(entry -> 'reason') = 'string' and entry ->> 'reason'
      in ('STATIC', 'DEFAULT', 'TARGETING_MATCH', 'SPLIT', 'DISABLED', 'STALE', 'ERROR')),
    (5, 'count', case jsonb_typeof(coalesce(entry -> 'count', 'null'))
      when 'null' then true when 'number' then (entry ->> 'count') ~ '^[1-9][0-9]{0,8}$' end)
  ) as f (place, field, valid)
  where f.valid is not true
  order by e.n, f.place
  limit 1;
  if found then
    v_value := case v_bad.field when 'entry' then v_bad.entry else v_bad.entry -> v_bad.field end;
    perform crossfade_private.fail(
      400, 'CF012',
      format('Cannot record exposures: entry %s has the invalid %s %s', v_bad.place, v_bad.field,
        left(coalesce(v_value, 'null')::text, 100)),
      jsonb_build_object('entry', v_bad.place, 'field', v_bad.field, 'value', v_value));
  end if;
end $$;

comment on function crossfade_private.check_exposures is
  'Refuse a batch with an entry that cannot be counted, naming the first one (from 0), its field and value. CF012.';

create or replace function crossfade_private.purge_exposures()
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_keep_days numeric := crossfade_private.setting_number('exposures_keep_days');
begin
  -- A bounded part with every batch: nothing needs a timer, and nobody waits for a large delete.
  delete from crossfade.flag_exposures x
  where x.ctid = any (array(
    select o.ctid from crossfade.flag_exposures o
    where o.minute
      < clock_timestamp() - make_interval(secs => v_keep_days::double precision * 86400)
    order by o.minute
    limit 1000
    for update skip locked));
end $$;

comment on function crossfade_private.purge_exposures is
  'Delete at most 1000 of the rows that are older than setting exposures_keep_days; skips rows that another caller is deleting.';

create or replace function crossfade.record_exposures(batch jsonb)
returns jsonb
language plpgsql volatile
-- Definer: API roles hold no right on the tables it writes.
security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_recorded bigint;
  v_total bigint;
begin
  perform crossfade_private.check_exposures(batch);
  with e as materialized (
    select a.entry ->> 'flag' as flag, a.entry ->> 'variant' as variant,
      a.entry ->> 'reason' as reason, coalesce((a.entry ->> 'count')::bigint, 1) as exposures,
      f.name is not null as is_known
    from jsonb_array_elements(batch) a(entry)
    -- An isolate may still count a flag that has been deleted, and names must stay bounded.
    left join crossfade.flags f on f.name = a.entry ->> 'flag'
  ),
  counted as (
    insert into crossfade.flag_exposures as x (flag, minute, variant, reason, exposures)
    select e.flag, date_trunc('minute', clock_timestamp()), e.variant, e.reason, sum(e.exposures)
    from e
    where e.is_known
    group by e.flag, e.variant, e.reason
    -- Order matters: two callers that lock the same rows in one order cannot deadlock.
    order by e.flag, e.variant, e.reason
    on conflict (minute, flag, variant, reason)
    do update set exposures = x.exposures + excluded.exposures
  )
  select coalesce(sum(e.exposures) filter (where e.is_known), 0), coalesce(sum(e.exposures), 0)
  into v_recorded, v_total
  from e;
  perform crossfade_private.purge_exposures();
  return jsonb_build_object(
    'recorded', v_recorded, 'ignored', v_total - v_recorded,
    'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.record_exposures is
  'Count answers of flags in the current minute of crossfade.flag_exposures. batch: array of {"flag", "variant": on|off, "reason", "count"?}; all or nothing, except that unknown flags are ignored. Safe for any number of callers at once. Returns {"recorded", "ignored", "flags_version"}. CF012 names the entry, field and value.';
