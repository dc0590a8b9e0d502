-- One truth about who is served by V2: the share as it is, and everything that holds it down.

create or replace function crossfade_private.flag_share(flag crossfade.flags, follow boolean)
returns numeric
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if not flag.enabled or exists (
      select from crossfade.kill_switches k
      where k.engaged and (k.overrides_all or k.name = any (flag.killed_by)))
    or follow and exists (
      select from unnest(flag.prerequisites) r (name)
      left join crossfade.flags o on o.name = r.name
      where o.name is null or crossfade_private.flag_share(o, false) = 0
        and o.allow_user_ids || o.allow_agent_ids = '{}') then
    return 0;
  end if;
  return coalesce(flag.percentage, case when flag.default_value then 100 else 0 end);
end $$;

comment on function crossfade_private.flag_share is
  'Share of the units that a flag is on for, 0 to 100, at most: ids in lists are not counted, and prerequisites (follow) only where they are off for everybody.';

create or replace function crossfade_private.stops(pair crossfade.pairs)
returns table (place integer, code text, message text, hint text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select 1, 'kill_switch', format('kill switch %s is engaged%s', k.name,
      coalesce(format(' (since %s by %s%s)', k.engaged_at::timestamptz(0), k.engaged_by,
        ': ' || k.reason), '')),
    format('crossfade kill release %s --reason "..."', k.name)
  from crossfade.kill_switches k
  -- From stage complete on V1 is an archive, so no switch can serve it.
  where k.engaged and (k.overrides_all or k.fences and coalesce(k.pair = (stops.pair).name, true))
    and (stops.pair).stage not in ('complete', 'retired')
  union all
  select 2, 'latched', format('it was rolled back automatically (%s)', (stops.pair).latch_reason),
    format('crossfade rollout rearm %s --reason "..."', (stops.pair).name)
  where (stops.pair).latched_at is not null
  union all
  select 3, 'aborted', format('the plan "%s" was aborted by %s (%s)', r.plan ->> 'name',
      r.changed_by, r.reason), format('crossfade rollout start %s PLAN', (stops.pair).name)
  from (
    select o.* from crossfade.rollouts o where o.pair = (stops.pair).name order by o.id desc limit 1
  ) r
  -- Until somebody has moved the pair since. Where the abort let users stay, people go on by hand.
  where r.state = 'aborted' and (stops.pair).step_started_at <= r.finished_at
    and (stops.pair).stage not in ('live', 'rampdown', 'complete', 'retired');
$$;

comment on function crossfade_private.stops is
  'What forbids a pair to go forward although it could: engaged kill switches, the latch, an aborted plan.';

create or replace function crossfade_private.backend_share(pair crossfade.pairs)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with s as materialized (
    select * from crossfade_private.stops(backend_share.pair)
  ),
  f as (
    select c.percentage as set_pct, c.cohort_key, g.cohort_key as flag_key,
      -- An unknown gate is no gate that lets anybody through.
      case when (backend_share.pair).gate_flag is null then 100
        when g.name is null then 0
        else crossfade_private.flag_share(g, true) end
        as flag_pct
    from crossfade.cohorts c
    left join crossfade.flags g on g.name = (backend_share.pair).gate_flag
    where c.pair = (backend_share.pair).name
  ),
  causes as (
    select s.place, s.code, s.message, s.hint from s
    union all
    select 4, 'gate_flag', case when f.flag_pct = 0
        then format('flag %s is off for everybody', (backend_share.pair).gate_flag)
        else format('flag %s is on for %s %%', (backend_share.pair).gate_flag,
          trim_scale(f.flag_pct)) end,
      format('crossfade flags explain %s', (backend_share.pair).gate_flag)
    from f where f.flag_pct < 100 and (backend_share.pair).stage in ('live', 'rampdown')
    union all
    select 5, 'mirror', case m.mirror when 'log_only' then 'the mirror is paused'
        when 'waiting' then 'the mirror waits for the backfill of the parents'
        else 'V2 is closed until the first backfill has finished' end,
      case m.mirror
        when 'log_only' then format('crossfade pair mirror %s both --reason "..."', m.pair)
        else format('crossfade backfill run %s', m.pair) end
    from crossfade_private.mirror_state m
    where m.pair = (backend_share.pair).name and (backend_share.pair).stage <> 'off'
      and (m.mirror in ('log_only', 'waiting') or m.mirror = 'both' and not m.opened)
    union all
    select 6, 'stage', format('stage %s serves V1 to everybody', (backend_share.pair).stage),
      format('crossfade stage blockers %s', (backend_share.pair).name)
    where (backend_share.pair).stage in ('off', 'dualwrite', 'shadow')
  )
  select jsonb_build_object(
    'set_pct', trim_scale(f.set_pct),
    'share_pct', trim_scale(round(case
      when (backend_share.pair).stage in ('complete', 'retired') then 100
      when exists (select from s where s.code = 'kill_switch')
        or (backend_share.pair).stage not in ('live', 'rampdown') then 0
      when (backend_share.pair).stage = 'rampdown' then f.flag_pct
      -- With one key the same units come first; else the two draws have nothing to do with each
      -- other.
      when f.cohort_key = f.flag_key then least(f.set_pct, f.flag_pct)
      else f.set_pct * f.flag_pct / 100 end, 3)),
    'causes', (
      select coalesce(jsonb_agg(jsonb_build_object(
        'code', c.code, 'message', c.message, 'hint', c.hint) order by c.place, c.message), '[]')
      from causes c))
  from f;
$$;

comment on function crossfade_private.backend_share is
  'The one truth about who is served by V2: {"share_pct": of the units now, 0 to 100, "set_pct": percentage of the cohort, "causes": [{"code": kill_switch, latched, aborted, gate_flag, mirror or stage, "message", "hint"}]: what holds the share down or forbids to raise it}. Ids in lists are not counted.';

create or replace function crossfade_private.check_forward(
  pair crossfade.pairs, action text, anyway boolean
)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_found jsonb;
begin
  if (pair).latched_at is not null then
    perform crossfade_private.fail(409, 'CF006',
      format('Cannot %s: it was rolled back automatically (%s)', action, (pair).latch_reason),
      jsonb_build_object('pair', (pair).name, 'latched_at', (pair).latched_at, 'latch_reason',
        (pair).latch_reason),
      'Find the cause, then crossfade rollout rearm PAIR --reason "...".');
  end if;
  select jsonb_agg(to_jsonb(s) - 'place' order by s.place, s.message) into v_found
  from crossfade_private.stops(pair) s;
  if v_found is not null and not coalesce(anyway, false) then
    perform crossfade_private.fail(409, 'CF028',
      format('Cannot %s: %s', action, (
        select string_agg(s ->> 'message', '; ') from jsonb_array_elements(v_found) s)),
      jsonb_build_object('pair', (pair).name, 'stops', v_found),
      format(
        '%s. Or the same command with --anyway, which releases no switch.',
        v_found -> 0 ->> 'hint'));
  end if;
end $$;

comment on function crossfade_private.check_forward is
  'Refuse to go forward while latched (CF006), and while a kill switch is engaged or after an aborted plan (CF028) unless anyway. action completes the sentence "Cannot ...".';
