-- Finding a pair. A change of one is a change of control rows.

create or replace function crossfade_private.get_pair(pair text)
returns crossfade.pairs
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair crossfade.pairs;
begin
  select p.* into v_pair from crossfade.pairs p where p.name = get_pair.pair;
  if not found then
    perform crossfade_private.fail(
      404, 'CF001', format('Unknown pair "%s"', get_pair.pair),
      jsonb_build_object('pair', get_pair.pair,
        'known', (select coalesce(jsonb_agg(p.name order by p.name), '[]') from crossfade.pairs p)),
      'crossfade pair list shows the pairs; register one with the SQL in sql/pairs.');
  end if;
  return v_pair;
end $$;

comment on function crossfade_private.get_pair is
  'The pair''s row; CF001 with the known names when there is none.';

create or replace function crossfade_private.refuse_retired(pair crossfade.pairs, what text)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if (pair).stage = 'retired' then
    perform crossfade_private.fail(409, 'CF005',
      format('Cannot %s "%s": it is in stage retired, where %s is a view over version 2', what,
        (pair).name, (pair).v1_view),
      jsonb_build_object('pair', (pair).name, 'stage', (pair).stage),
      format('crossfade stage set %s complete --reason "..." brings the table back.',
        (pair).name));
  end if;
end $$;

comment on function crossfade_private.refuse_retired is
  'CF005 for what needs two tables under their own names.';

create or replace trigger crossfade_on_pair_change
after insert or delete or update of stage, gate_flag, to_v2, to_v1, latched_at, step
  on crossfade.pairs
for each row execute function crossfade_private.on_control_change();

create or replace trigger crossfade_on_cohort_change
after insert or update or delete on crossfade.cohorts
for each row execute function crossfade_private.on_control_change();
