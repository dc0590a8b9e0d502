-- The end of a backfill: what was deleted while it ran.

create or replace function crossfade_private.sweep(run crossfade.runs, pieces jsonb)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_swept bigint;
begin
  -- Order matters: the deleters that may leave a tombstone hold this row FOR SHARE until they end,
  -- so the update waits for them, and those who come later see every copy.
  update crossfade_private.mirror_state m set tombstones = false where m.pair = (run).pair;
  execute crossfade_private.render($sql$
    select count(*) from (
      select from {target} cf_t
      join crossfade_private.tombstones cf_z on ({tkey_t}) = ({skey_z})
      where cf_z.pair = $1 and cf_z.side = {side}
      order by {tkey_t} for update of cf_t) l
  $sql$, pieces) into v_swept using (run).pair;
  -- A second statement: it sees the row that somebody inserted anew while the first one waited.
  v_swept := crossfade_private.write_rows(pieces, $sql$
    delete from {target} cf_t
    using crossfade_private.tombstones cf_z
    where cf_z.pair = {pair_literal} and cf_z.side = {side} and ({tkey_t}) = ({skey_z})
      and not exists (select from {source} cf_b where ({skey_b}) = ({skey_z}))
      and not $sql$ || crossfade_private.owed_sql('cf_z.key'), null, null);
  delete from crossfade_private.tombstones z where z.pair = (run).pair;
  return v_swept;
end $$;

comment on function crossfade_private.sweep is
  'Remove copies whose source row was deleted while the backfill ran and whose deleter could not see the copy.';

create or replace function crossfade_private.finish_backfill(
  run crossfade.runs, pair crossfade.pairs, pieces jsonb
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '500ms'
as $$
declare
  v_swept bigint;
begin
  if exists (select from crossfade.run_ranges a where a.run = (finish_backfill.run).id
    and not a.done) then
    return;
  end if;
  -- The last workers may get here together; one of them finishes the run. The pair before the
  -- run, as everywhere: a worker in its first batch may hold the pair already.
  perform from crossfade.pairs p where p.name = (pair).name for no key update;
  perform from crossfade.runs r where r.id = (finish_backfill.run).id
    and r.state = 'running' for update;
  if not found then
    return;
  end if;
  v_swept := crossfade_private.sweep(run, pieces);
  update crossfade.runs r
  set state = 'finished', finished_at = clock_timestamp(), swept_rows = v_swept
  where r.id = (finish_backfill.run).id;
  -- SAFETY: only the rows of V1 that are in V2 open it to users. Copying the other way does not say
  -- that they are.
  update crossfade.pairs p
  set last_backfill_at = case
      when (finish_backfill.run).direction = 'v1_to_v2' or p.last_backfill_at is not null
        then clock_timestamp() end,
    needs_reverse_backfill = p.needs_reverse_backfill
      and (finish_backfill.run).direction <> 'v2_to_v1'
  where p.name = (pair).name;
  update crossfade_private.partitions p set is_uncopied = false
  where p.pair = (finish_backfill.pair).name
    and p.side = case (run).direction when 'v1_to_v2' then 1 else 2 end;
  perform crossfade_private.open_or_close((pair).name);
  perform crossfade_private.audit(
    'backfill.finish', (pair).name, null, null,
    crossfade_private.run_json((finish_backfill.run).id));
end $$;

comment on function crossfade_private.finish_backfill is
  'When no range is left: sweep, and mark the run and the pair. Waits at most 0.5 s for a lock (55P03).';
