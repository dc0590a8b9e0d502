-- The mirrors of registered pairs, with the texts of this release. Last of all files: from here to
<<<<<<< HEAD
-- the commit their tables let no writer in.
=======
-- the commit nobody writes their tables.
>>>>>>> release

do $$
declare
  v_plans jsonb := crossfade_private.plan_pairs();
begin
  perform crossfade_private.hold_writers();
  -- A release that changes a table of crossfade that is there does so here, each change only where
<<<<<<< HEAD
  -- it is missing. Writers read some of these tables: before they are held, or while one does not
  -- end, such a change and a writer would wait for each other.
  perform set_config('lock_timeout', '2s', true);
  -- Text that is generated is read when it is made, so that a pair keeps what it has if it is
  -- wrong.
=======
  -- it is missing. Writers read some of these tables: a change before the writers are held, and a
  -- writer, would wait for each other.
  perform set_config('lock_timeout', '2s', true);
  -- Generated text is parsed when it is made, so that a pair keeps what it has if it is wrong.
>>>>>>> release
  perform set_config('check_function_bodies', 'on', true);
  perform crossfade_private.refresh_pairs(v_plans);
  perform crossfade_private.drop_left_behind();
  update crossfade.control c set release = crossfade_private.generator()
  where c.release <> crossfade_private.generator();
end $$;
