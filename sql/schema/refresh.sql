-- The mirrors of registered pairs, with the texts of this release. Last of all files: from here to
-- the commit nobody writes their tables.

do $$
declare
  v_plans jsonb := crossfade_private.plan_pairs();
begin
  perform crossfade_private.hold_writers();
  -- A release that changes a table of crossfade that is there does so here, each change only where
  -- it is missing. Writers read some of these tables: a change before the writers are held, and a
  -- writer, would wait for each other.
  perform set_config('lock_timeout', '2s', true);
  -- Generated text is parsed when it is made, so that a pair keeps what it has if it is wrong.
  perform set_config('check_function_bodies', 'on', true);
  perform crossfade_private.refresh_pairs(v_plans);
  perform crossfade_private.drop_left_behind();
  -- Order matters: pairs before the control row, as everywhere.
  perform crossfade_private.add_own_switch(p.name) from crossfade.pairs p;
  update crossfade.control c set release = crossfade_private.generator()
  where c.release <> crossfade_private.generator();
end $$;
