-- A real pause of the mirror for an overloaded database.

create or replace function crossfade.set_mirror(pair text, mode text, reason text)
returns jsonb
language plpgsql volatile
security definer -- pairs are changed by functions only
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_before text;
begin
  if mode is null or mode not in ('both', 'log_only') then
    perform crossfade_private.fail(400, 'CF012', format('Unknown mirror mode "%s"', mode),
      jsonb_build_object('mode', mode), 'Use both or log_only.');
  end if;
  perform crossfade_private.require_reason(reason,
    format('set the mirror of "%s" to %s', pair, mode));
  select p.* into v_pair from crossfade.pairs p where p.name = set_mirror.pair for no key update;
  if v_pair.stage not in ('dualwrite', 'shadow') then
    perform crossfade_private.fail(409, 'CF005',
      format('Cannot set the mirror of "%s" to %s: in stage %s users depend on it', pair, mode,
        v_pair.stage),
      jsonb_build_object('pair', pair, 'stage', v_pair.stage, 'blockers', jsonb_build_array(
        crossfade_private.blocker('stage', format('the stage is %s', v_pair.stage),
          'crossfade stage set PAIR shadow'))),
      'Go back to shadow first; that takes milliseconds.');
  end if;
  select m.mirror into v_before from crossfade_private.mirror_state m
    where m.pair = set_mirror.pair;
  if v_before = 'waiting' then
    perform crossfade_private.fail(409, 'CF005',
      format('Cannot set the mirror of "%s" to %s: it waits for pairs that its rows refer to', pair,
        mode),
      jsonb_build_object('pair', pair, 'blockers', (
        select jsonb_agg(crossfade_private.blocker('parent_backfill_needed',
          format('"%s" is not copied yet', u), format('crossfade backfill run %s', u)))
        from crossfade_private.uncopied_parents(v_pair, 'v1_to_v2') u)),
      format('crossfade group backfill %s', pair));
  end if;
  if v_before <> mode then
    update crossfade_private.mirror_state m set mirror = set_mirror.mode
      where m.pair = set_mirror.pair;
    perform crossfade_private.open_or_close(pair);
    perform crossfade_private.bump_version();
    perform crossfade_private.audit('pair.mirror', pair, reason,
      jsonb_build_object('mirror', v_before), jsonb_build_object('mirror', mode));
  end if;
  return jsonb_build_object('pair', pair, 'before', v_before, 'after', mode,
    'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.set_mirror is
  'Pause the mirror of a pair (log_only: writers only note the keys of changed rows, as open failures) or resume it (both; then call repair until nothing remains). Only in dualwrite and shadow (CF005): later, users read what is mirrored. CF001, CF007, CF012.';
