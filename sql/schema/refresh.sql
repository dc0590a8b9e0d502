-- The mirrors of registered pairs, with the texts of this release. Last of all files: from here to
-- the commit their tables let no writer in.

do $$
begin
  perform crossfade_private.refresh_pairs();
  perform crossfade_private.drop_left_behind();
end $$;
