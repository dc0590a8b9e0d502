-- What an operator sees of the groups.

create or replace function crossfade.group_status(name text default null)
returns jsonb
language plpgsql stable
security definer -- one door to what an operator may see of a group
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_pairs constant text[] := case when group_status.name is not null
    then crossfade_private.find_group(group_status.name) end;
begin
  return jsonb_build_object('groups', (
      select coalesce(jsonb_agg(jsonb_build_object('group', g.name, 'pairs', g.pairs,
        'stage', g.stage, 'next_stage', n.stage, 'blockers', (
          select coalesce(jsonb_agg(b || jsonb_build_object('pair', p.name)
            order by array_position(g.names, p.name)), '[]')
          from crossfade.pairs p cross join lateral crossfade_private.own_blockers(p, n.stage) b
          where n.stage is not null and p.name = any (g.names)
            and crossfade_private.stage_number(p.stage) < crossfade_private.stage_number(n.stage)))
        order by g.name), '[]')
      from (
        select m.name, array_agg(m.pair order by m.place, m.pair collate "C") as names,
          jsonb_agg(jsonb_build_object('pair', p.name, 'stage', p.stage, 'mirror', s.mirror,
            'percentage', trim_scale(c.percentage),
            'backend', crossfade_private.backend_share(p), 'last_backfill_at', p.last_backfill_at,
            'last_clean_verify_at', p.last_clean_verify_at,
            'needs_reverse_backfill', p.needs_reverse_backfill)
            order by m.place, m.pair collate "C") as pairs,
          (array_agg(p.stage order by crossfade_private.stage_number(p.stage)))[1] as stage
        from crossfade_private.pair_groups() m
        join crossfade.pairs p on p.name = m.pair
        join crossfade_private.mirror_state s on s.pair = m.pair
        join crossfade.cohorts c on c.pair = m.pair
        where v_pairs is null or m.pair = any (v_pairs)
        group by m.name
      ) g
      cross join lateral (
        select crossfade_private.next_stage(g.stage) as stage
      ) n),
    'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.group_status is
  'The groups, or the one of this name or with this pair: {"groups": [{"group", "pairs": [{"pair", "stage", "mirror", "percentage", "last_backfill_at", "last_clean_verify_at", "needs_reverse_backfill"}] parents first, "stage": the lowest of theirs, "next_stage", "blockers": [{"pair", "code", "message", "hint"}] before it}], "flags_version"}. CF001.';
