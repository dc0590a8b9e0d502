-- A release makes the mirrors of all pairs anew, with its own texts.

create or replace function crossfade.refresh_pair(pair text)
returns jsonb
language plpgsql volatile
security definer -- creates triggers on the owner's tables; only service_role may call it
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_before text := v_pair.generator;
begin
  v_pair := crossfade_private.install_pair(v_pair);
  return jsonb_build_object('pair', pair, 'before', v_before, 'after', v_pair.generator,
    'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.refresh_pair is
  'Make the mirror of a pair anew, with the texts of the installed release and for the triggers that its tables have now: {"pair", "before", "after": releases, "flags_version"}. Changes nothing else. Locks each table SHARE ROW EXCLUSIVE for milliseconds; waits at most 2 s for it (55P03). CF001.';

create or replace function crossfade_private.refresh_pairs()
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair crossfade.pairs;
  v_error text;
begin
  for v_pair in select p.* from crossfade.pairs p order by p.name loop
    for v_attempt in 1..3 loop
      v_error := null;
      begin
        perform crossfade_private.install_pair(v_pair);
      exception
        when lock_not_available or deadlock_detected then
          -- A short wait, again and again: a long one would queue every writer behind it.
          v_error := sqlerrm;
          perform pg_sleep(0.3);
        when others then
          v_error := sqlerrm;
          exit;
      end;
      exit when v_error is null;
    end loop;
    if v_error is not null then
      raise warning 'crossfade: the mirror of pair "%" is still that of release %: %', v_pair.name,
        v_pair.generator, v_error using hint = format('crossfade pair refresh %s', v_pair.name);
    end if;
  end loop;
end $$;

comment on function crossfade_private.refresh_pairs is
  'Make the mirrors of all pairs anew. A pair whose tables stay locked, or that cannot be mirrored any more, keeps what it has, with a WARNING; from then on that is a blocker and a finding of doctor.';
