-- Hand edits of pairs and cohorts, in Studio or by SQL: either they do all that the functions do,
-- or they are refused with the name of the function.

create or replace function crossfade_private.is_engine()
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(current_setting('crossfade.engine', true), '') = 'on';
$$;

comment on function crossfade_private.is_engine is
  'Whether a function of crossfade is at work, which has asked everything already.';

create or replace function crossfade_private.refuse_pair_edit(
  pair text, what text, instead text
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  perform crossfade_private.fail(409, 'CF016',
    format('Cannot %s of pair "%s" by hand: its mirror would not follow', what, pair),
    jsonb_build_object('pair', pair), instead);
end $$;

comment on function crossfade_private.refuse_pair_edit is 'Raise CF016 with the function to call.';

create or replace function crossfade_private.guard_pair()
returns trigger
language plpgsql volatile
-- Definer: API roles hold no right on crossfade_private.
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_mirror text;
begin
  if crossfade_private.is_engine() then
    return coalesce(new, old);
  end if;
  if tg_op = 'DELETE' then
    -- The triggers would stay and find no state: writes would silently not be mirrored.
    perform crossfade_private.refuse_pair_edit(
      old.name, 'delete the row', 'crossfade.unregister_pair(pair, reason)');
  end if;
  if row(new.name, new.v1_table, new.v1_view, new.v2_table, new.to_v2, new.to_v1, new.key_columns,
      new.v2_key_columns)
    is distinct from row(old.name, old.v1_table, old.v1_view, old.v2_table, old.to_v2, old.to_v1,
      old.key_columns, old.v2_key_columns) then
    perform crossfade_private.refuse_pair_edit(old.name, 'change name, tables, key or converters',
      'crossfade.register_pair(...), after crossfade.unregister_pair when it is not the converters');
  end if;
  select m.mirror into v_mirror from crossfade_private.mirror_state m where m.pair = new.name;
  if new.stage <> old.stage and (
    (new.stage = 'off') is distinct from (v_mirror = 'off')
    or (new.stage = 'retired') is distinct from (new.v1_view is not null)
    or (new.stage in ('complete', 'retired'))
      is distinct from (v_mirror in ('archived', 'reverse'))) then
    perform crossfade_private.refuse_pair_edit(
      old.name, 'set the stage', 'crossfade.set_stage(pair, stage, reason)');
  end if;
  return new;
end $$;

comment on function crossfade_private.guard_pair is
  'Trigger: what the mirror depends on is changed by functions only (CF016).';

create or replace function crossfade_private.lock_pairs()
returns trigger
language plpgsql volatile
security definer -- the hand edit may come from a role that cannot lock them
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Order matters: pairs, the control row, cohorts, as in set_cohort and set_stage.
  -- A change of stage has locked its own, and would wait here for one that wants the control row.
  if coalesce(current_setting('crossfade.stepping', true), '') <> 'on' then
    perform from crossfade.pairs p order by p.name for no key update;
  end if;
  return null;
end $$;

comment on function crossfade_private.lock_pairs is
  'BEFORE STATEMENT trigger of cohorts: take the locks in the order of set_cohort.';

create or replace function crossfade_private.follow_percentage()
returns trigger
language plpgsql volatile
security definer -- the hand edit may come from a role that cannot write pairs
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair crossfade.pairs;
begin
  select p.* into v_pair from crossfade.pairs p where p.name = new.pair;
  if new.percentage > coalesce(old.percentage, 0) and not crossfade_private.is_engine() then
    perform crossfade_private.check_raise(v_pair, new.percentage, false);
  end if;
  perform crossfade_private.sample_writes(new.pair);
  update crossfade.pairs p
  set step = p.step + 1, step_started_at = clock_timestamp(),
    step_flags_version = crossfade_private.bump_version(),
    full_since = case when p.stage = 'rampdown' then p.full_since
      when new.percentage = 100 then clock_timestamp() end
  where p.name = new.pair
    -- enter_stage has made the step already.
    and coalesce(current_setting('crossfade.stepping', true), '') <> 'on';
  return null;
end $$;

comment on function crossfade_private.follow_percentage is
  'AFTER ROW trigger: another percentage is another step, whoever wrote it; more of version 2 is refused outside live (CF005) while latched (CF006), and against a kill switch or an aborted plan (CF028).';

create or replace trigger crossfade_before_hand
before update or delete on crossfade.pairs
for each row execute function crossfade_private.guard_pair();

create or replace trigger crossfade_before_hand
before update of percentage on crossfade.cohorts
for each statement execute function crossfade_private.lock_pairs();

create or replace trigger crossfade_after_first_percentage
after insert on crossfade.cohorts
for each row when (new.percentage > 0)
execute function crossfade_private.follow_percentage();

create or replace trigger crossfade_after_percentage
after update of percentage on crossfade.cohorts
for each row when (old.percentage is distinct from new.percentage)
execute function crossfade_private.follow_percentage();
