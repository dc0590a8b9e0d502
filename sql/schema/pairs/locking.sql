-- The locks of whoever changes more than one control row, in the one order.

create or replace function crossfade_private.lock_control(fence boolean, pair_names text[])
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Order matters: fence, pairs by name, control row. See before_control_change.
  if fence then
    perform crossfade_private.close_fence();
  end if;
  perform 1 from crossfade.pairs p where p.name = any (pair_names) order by p.name
  for no key update;
  perform 1 from crossfade.control c for update;
end $$;

comment on function crossfade_private.lock_control is
  'Take the locks of a change of several control objects in the order that never deadlocks, until the transaction ends.';
