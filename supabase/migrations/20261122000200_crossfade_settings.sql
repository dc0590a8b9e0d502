-- Every number an operator may change is a row here; no other file or language repeats one.

create table if not exists crossfade.settings (
  name text primary key,
  value jsonb not null,
  unit text not null default '',
  description text not null default '',
  minimum numeric,
  maximum numeric,
  updated_at timestamptz not null default clock_timestamp(),
  updated_by text not null default 'crossfade',
  constraint number_is_within_limits check (
    jsonb_typeof(value) <> 'number'
    or value::text::numeric
    between coalesce(minimum, '-infinity'::numeric) and coalesce(maximum, 'infinity'::numeric)
  )
);

comment on table crossfade.settings is
  'Numbers and choices an operator may change. value keeps the JSON type it was seeded with; minimum and maximum (both inclusive, null = none) bind numbers. rN_* belong to health rule RN.';

-- Triggers all control tables share ---------------------------------------------------------------

create or replace function crossfade_private.before_control_change()
returns trigger
language plpgsql volatile
-- Definer: a hand edit through the Data API comes from a role that may not lock crossfade.control.
security definer
set search_path = ''
as $$
begin
  -- Order matters, everywhere: fence, rows of crossfade.pairs by name, the control row, other rows.
  -- Without this lock a row would be locked before the control row, and a rollback could deadlock.
  perform 1 from crossfade.control c for update;
  return null;
end $$;

comment on function crossfade_private.before_control_change is
  'BEFORE STATEMENT trigger of the control tables: lock the control row first, so that control changes are serial and never deadlock.';

create or replace function crossfade_private.stamp_row()
returns trigger
language plpgsql volatile
-- Definer: API roles hold no right on crossfade_private.actor().
security definer
set search_path = ''
as $$
begin
  -- An update that changes nothing must stay one, or it would be audited and broadcast.
  if tg_op = 'UPDATE' and new is not distinct from old then
    return new;
  end if;
  new.updated_at := clock_timestamp();
  new.updated_by := crossfade_private.actor();
  return new;
end $$;

comment on function crossfade_private.stamp_row is
  'BEFORE ROW trigger: who changed the row last, and when. Leaves an unchanged row alone.';

-- Before the triggers, so that an installation is not audited as sixty changes. A row that exists
-- keeps what its operator chose.
insert into crossfade.settings (name, value, unit, minimum, maximum, description)
values
  ('kill_wait_ms', '500', 'ms', 0, 10000,
    'Longest wait of a kill for V2 writes that have begun; past it the switch engages anyway'),
  ('batch_target_ms', '500', 'ms', 10, 60000,
    'Time that a backfill or verify batch aims at; its number of rows follows'),
  ('batch_min_rows', '10', 'rows', 1, null, 'Smallest batch'),
  ('batch_max_rows', '100000', 'rows', 1, null, 'Largest batch'),
  ('throttle_active_sessions', '40', 'sessions', 1, null,
    'Batches wait while more sessions than this run a statement'),
  ('throttle_lock_waits', '5', 'sessions', 0, null,
    'Batches wait while more sessions than this wait for a lock'),
  ('throttle_replay_lag_s', '5', 's', 0, null,
    'Batches wait while a replica is further behind than this'),
  ('stage_bake_s', '86400', 's', 0, null,
    'Time that backend 2 must have served everybody before complete'),
  ('flags_soft_age_ms', '5000', 'ms', 100, null,
    'Age at which an edge isolate refreshes its copy behind the request'),
  ('flags_hard_age_ms', '60000', 'ms', 1000, null,
    'Age at which an edge copy counts as stale and what can be killed falls back to V1'),
  ('exposures_keep_days', '30', 'days', 0, 3650,
    'Age at which minutes of crossfade.flag_exposures are deleted'),
  ('shadow_sample_rate', '0.1', 'rate', 0, 1, 'Share of reads that stage shadow compares'),
  ('rollout_steps', '[5, 25, 75, 100]', 'percent', null, null,
    'Percentages of a rollout, ascending; PARTIAL goes back to the entry below the current one'),
  ('rollout_step_min_s', '[1800, 3600, 7200, 86400]', 's', null, null,
    'Shortest time on each entry of rollout_steps'),
  ('rollout_step_min_requests', '50', 'requests', 0, null,
    'Fewest V2 requests on a step before it may advance'),
  ('rollout_manual_steps', '[100]', 'percent', null, null, 'Steps that a person approves'),
  ('rollout_cooldown_s', '900', 's', 0, null,
    'Time after an automatic rollback during which rearm does not restart the rollout'),
  ('shadow_match_rate', '0.999', 'rate', 0, 1, 'Smallest share of equal shadow reads before live'),
  ('shadow_min_reads', '1000', 'requests', 0, null, 'Fewest compared shadow reads before live'),
  ('monitor_interval_s', '15', 's', 1, 3600, 'Time between two evaluations of the health rules'),
  ('health_window_s', '300', 's', 60, 3600,
    'Usual window of a health sample, and the whole of its recent part'),
  ('health_window_requests', '50', 'requests', 0, null,
    'The window grows until it holds so many V2 requests'),
  ('health_window_max_s', '3600', 's', 60, 86400, 'Longest window of a health sample'),
  ('rule_version', '1', '', 1, null,
    'Raise it when the meaning of a rule changes; stored with every verdict'),
  ('rule_modes', '{}', '', null, null,
    'Mode of a rule by its name: enforce, warn, dry_run or off; enforce when absent'),
  ('wilson_z', '1.645', '', 0, 10, 'z of the one-sided Wilson bounds (1.645 = 95 %)'),
  ('shared_cause', '"rollback"', '', null, null,
    'When V1 is as bad as V2: rollback (still go back) or suppress'),
  ('shared_cause_margin_rate', '0.02', 'rate', 0, 1,
    'V1 counts as equally bad when its error rate is at most this much lower'),
  ('r1_error_rate', '0.10', 'rate', 0, 1, 'Critical error rate'),
  ('r1_min_requests', '20', 'requests', 1, null, 'Fewest requests for R1'),
  ('r1_lower_bound_rate', '0.07', 'rate', 0, 1, 'Lower Wilson bound that R1 needs'),
  ('r1_hold_s', '60', 's', 0, null, 'Time a breach of R1 must last'),
  ('r1s_min_requests', '10', 'requests', 1, null, 'Fewest requests for R1s'),
  ('r1s_lower_bound_rate', '0.30', 'rate', 0, 1, 'Lower Wilson bound that fails R1s at once'),
  ('r1k_streak', '6', 'requests', 1, null, 'Consecutive V2 errors that fail R1k at once'),
  ('r2_error_rate', '0.05', 'rate', 0, 1, 'Warning error rate'),
  ('r2_min_requests', '20', 'requests', 1, null, 'Fewest requests for R2'),
  ('r2_clear_rate', '0.04', 'rate', 0, 1, 'R2 clears below this rate'),
  ('r2_clear_s', '300', 's', 0, null, 'Time below r2_clear_rate that clears R2'),
  ('r2_page_s', '1800', 's', 0, null, 'R2 held this long calls a person'),
  ('r3_success_rate', '0.95', 'rate', 0, 1, 'Success rate that a step needs to advance'),
  ('r3_min_requests', '50', 'requests', 1, null, 'Fewest requests for R3'),
  ('r3_strict', 'false', '', null, null, 'true: the lower Wilson bound must reach r3_success_rate'),
  ('r4_p95_ms', '10000', 'ms', 0, null, 'Critical p95 of the response time'),
  ('r4_warn_p95_ms', '5000', 'ms', 0, null, 'p95 that holds the rollout'),
  ('r4_min_requests', '20', 'requests', 1, null, 'Fewest requests for R4'),
  ('r4_hold_s', '60', 's', 0, null, 'Time a breach of R4 must last'),
  ('r5_p95_ratio', '2.0', 'ratio', 1, null, 'p95 of V2 over p95 of V1'),
  ('r5_p50_ratio', '1.5', 'ratio', 1, null, 'Median of V2 over median of V1'),
  ('r5_min_difference_ms', '50', 'ms', 0, null, 'Smallest difference of the p95 that counts'),
  ('r5_min_requests', '50', 'requests', 1, null, 'Fewest requests on both backends for R5'),
  ('r5_hold_s', '600', 's', 0, null, 'Time a breach of R5 must last before PARTIAL'),
  ('r6_memory_rate', '0.90', 'rate', 0, 1, 'Critical share of an isolate''s memory'),
  ('r6_limit_bytes', '268435456', 'bytes', 1, null,
    'Memory an isolate may use: 256 MB on the hosted platform'),
  ('r6_min_reports', '3', 'reports', 1, null, 'Fewest reports above r6_memory_rate for R6'),
  ('r6_window_s', '60', 's', 1, 3600, 'Reports older than this do not count for R6'),
  ('r6_hold_s', '180', 's', 0, null, 'Time a breach of R6 must last before PARTIAL'),
  ('r7_stall_s', '86400', 's', 1, null,
    'A running backfill or verify this long without progress has stalled'),
  ('r7_warn_s', '3600', 's', 1, null,
    'A running backfill or verify this long without progress is slow'),
  ('r8_mismatch_rate', '0.001', 'rate', 0, 1, 'Share of verified rows that differ before COMPLETE'),
  ('r9_p95_ratio', '1.2', 'ratio', 1, null,
    'p95 of V1 while mirrored over p95 of V1 before mirroring began'),
  ('r9_min_difference_ms', '10', 'ms', 0, null, 'Smallest difference of the p95 that counts'),
  ('r9_min_requests', '50', 'requests', 1, null, 'Fewest requests on both sides for R9'),
  ('r10_no_data_s', '600', 's', 1, null, 'V2 is expected but has no request for this long'),
  ('r11_failures', '4', 'readings', 1, null, 'Consecutive failures to read metrics before ERROR'),
  ('r11_max_age_s', '120', 's', 1, null,
    'Newest request older than this while traffic exists is ERROR'),
  ('r12_dead_s', '60', 's', 1, 3600, 'A monitor that was not heard for this long is dead'),
  ('monitor_lease_s', '45', 's', 1, 3600,
    'A monitor that was not heard for this long is replaced by another one that waits')
on conflict (name) do nothing;

create or replace trigger crossfade_before_lock
before insert or update or delete on crossfade.settings
for each statement execute function crossfade_private.before_control_change();

create or replace trigger crossfade_before_stamp
before update on crossfade.settings
for each row execute function crossfade_private.stamp_row();

create or replace trigger crossfade_after_change
after insert or update or delete on crossfade.settings
for each row execute function crossfade_private.on_control_change();

-- Reading and changing ----------------------------------------------------------------------------

create or replace function crossfade_private.setting(name text)
returns jsonb
language plpgsql stable
set search_path = ''
as $$
declare
  v_value jsonb;
begin
  select s.value into v_value from crossfade.settings s where s.name = setting.name;
  if not found then
    perform crossfade_private.fail(
      404, 'CF015', format('Setting "%s" does not exist', setting.name),
      jsonb_build_object('setting', setting.name));
  end if;
  return v_value;
end $$;

comment on function crossfade_private.setting is
  'Value of a setting as JSON. CF015 when there is no such setting.';

create or replace function crossfade_private.setting_text(name text)
returns text
language sql stable
set search_path = ''
as $$
  select crossfade_private.setting(setting_text.name) #>> '{}';
$$;

comment on function crossfade_private.setting_text is
  'Value of a setting as text (a JSON string without its quotes). CF015.';

create or replace function crossfade_private.setting_number(name text)
returns numeric
language sql stable
set search_path = ''
as $$
  select crossfade_private.setting_text(setting_number.name)::numeric;
$$;

comment on function crossfade_private.setting_number is
  'Value of a numeric setting. CF015; 22P02 when it is not a number.';

create or replace function crossfade_private.parse_setting(name text, kind text, value text)
returns jsonb
language plpgsql immutable
set search_path = ''
as $$
declare
  v_value jsonb;
begin
  v_value := case kind when 'string' then to_jsonb(value) else value::jsonb end;
  if jsonb_typeof(v_value) is distinct from kind then
    raise invalid_text_representation;
  end if;
  return v_value;
exception when invalid_text_representation then
  perform crossfade_private.fail(
    400, 'CF012', format('Cannot set "%s": %L is not a JSON %s', name, value, kind),
    jsonb_build_object('setting', name, 'value', value, 'expected', kind));
end $$;

comment on function crossfade_private.parse_setting is
  'Text to JSON of the given jsonb_typeof, which a setting keeps for ever. CF012.';

create or replace function crossfade.set_setting(name text, value text, reason text)
returns jsonb
language plpgsql volatile
-- Definer: API roles hold no right on crossfade_private and on crossfade.audit.
security definer
set search_path = ''
as $$
declare
  v_row crossfade.settings;
begin
  perform crossfade_private.require_reason(reason, format('set "%s"', set_setting.name));
  perform crossfade_private.setting(set_setting.name);
  update crossfade.settings s
  set value = crossfade_private.parse_setting(s.name, jsonb_typeof(s.value), set_setting.value)
  where s.name = set_setting.name
  returning s.* into v_row;
  return jsonb_build_object('setting', to_jsonb(v_row), 'flags_version', crossfade.flags_version());
exception when check_violation then
  perform crossfade_private.fail(
    400, 'CF012',
    format('Cannot set "%s": %s is outside its limits', set_setting.name, set_setting.value),
    (
      select jsonb_build_object(
        'setting', s.name, 'value', set_setting.value, 'minimum', s.minimum, 'maximum', s.maximum)
      from crossfade.settings s where s.name = set_setting.name
    ));
end $$;

comment on function crossfade.set_setting is
  'Change one setting. value is text: a number, true or false, a JSON array or object, or a plain string, of the type the setting has. Returns {"setting": row, "flags_version"}. CF007 no reason, CF012 wrong type or outside the limits, CF015 unknown.';
