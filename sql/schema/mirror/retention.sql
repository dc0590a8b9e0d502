-- Retention: a partition goes, and what the other table has of its rows goes with it.

create or replace function crossfade_private.remove_counterparts(
  pair crossfade.pairs, side integer, partition regclass
)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '800ms'
as $$
declare
  v_target constant regclass := case side when 1 then (pair).v2_table else (pair).v1_table end;
  v_key constant text[] := case side when 1 then (pair).key_columns else (pair).v2_key_columns end;
  v_state constant text := crossfade_private.stored_state((pair).name, side);
  v_keys jsonb[];
  v_kept boolean;
  v_rows bigint := 0;
begin
  if v_state = 'archive' then
    perform crossfade_private.fail(409, 'CF005',
      format('Cannot remove partition %s: version 1 of "%s" is a read-only archive', partition,
        (pair).name),
      jsonb_build_object('pair', (pair).name, 'partition', partition::text),
      'Go back with crossfade stage set PAIR rampdown, or remove the pair first.');
  elsif v_state = 'log' then
    execute format('select array(select %s from %s cf_s)',
      crossfade_private.key_to_json((pair).key_columns, partition, v_key, 'cf_s'), partition)
    into v_keys;
    perform crossfade_private.note_keys((pair).name, side, 'DELETE', v_keys);
  elsif v_state in ('on', 'whole') then
    perform crossfade_private.begin_engine_write((pair).name);
    execute format('delete from %s cf_t using %s cf_s where %s', v_target, partition,
      crossfade_private.counterpart_sql(pair, side));
    get diagnostics v_rows = row_count;
    execute format('select exists (select from %s cf_t join %s cf_s on %s)', v_target, partition,
      crossfade_private.counterpart_sql(pair, side)) into v_kept;
    if v_kept then
      perform crossfade_private.fail(409, 'CF017',
        format('Cannot remove partition %s: a trigger or rule of %s keeps rows of it', partition,
          v_target),
        jsonb_build_object('pair', (pair).name, 'partition', partition::text, 'table', v_target));
    end if;
  end if;
  return v_rows;
end $$;

comment on function crossfade_private.remove_counterparts is
  'Delete what the other table has of a partition''s rows, as the mirror would: in log_only their keys are noted, where the side is not mirrored nothing is done. Begins an engine write that the caller ends. Gives the rows deleted.';

create or replace function crossfade_private.find_partition(pair crossfade.pairs, name text)
returns table (id regclass, side integer)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_found constant regclass := crossfade_private.find_table(name);
begin
  return query
    select v_found, s.side
    from (values (1, ((pair).v1_table)::regclass), (2, ((pair).v2_table)::regclass)) s(side, root)
    where pg_partition_root(v_found) = s.root and v_found <> s.root;
  if not found then
    perform crossfade_private.fail(400, 'CF012',
      format('Table %s is no partition of a table of "%s"', v_found, (pair).name),
      jsonb_build_object('pair', (pair).name, 'partition', v_found::text), format('There are: %s', (
        select coalesce(string_agg(t.id::text, ', '), 'none')
        from unnest(array[(pair).v1_table, (pair).v2_table]) r
        cross join lateral crossfade_private.table_tree(r::regclass) t
        where t.id <> r::regclass)));
  end if;
end $$;

comment on function crossfade_private.find_partition is
  'The partition of a name, and the side whose root it belongs to; CF012 where it is none of the pair''s.';

create or replace function crossfade.remove_partition(
  pair text, partition text, how text, reason text
)
returns jsonb
language plpgsql volatile
security definer -- alters the owner's tables; only service_role may call it
set search_path = pg_catalog, pg_temp
set jit = off
-- Less than deadlock_timeout: it gives way before a client is chosen as the victim.
set lock_timeout = '800ms'
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_partition record;
  v_gone text[];
  v_rows bigint;
begin
  perform crossfade_private.require_reason(reason, format('%s a partition of "%s"', how, pair));
  if coalesce(how, '') not in ('detach', 'drop', 'truncate') then
    perform crossfade_private.fail(400, 'CF012', format('Invalid way "%s" to remove a partition',
      how), jsonb_build_object('how', how), 'It is detach, drop or truncate.');
  end if;
  select * into v_partition from crossfade_private.find_partition(v_pair, partition);
  -- Order matters: whoever changes the mirror's state holds this row; the partition before rows.
  perform from crossfade.pairs p where p.name = remove_partition.pair for no key update;
  -- Batches that lock rows of it for their copies are kept out as well.
  execute format('lock table %s in exclusive mode', v_partition.id);
  v_gone := array(select t.id::text from crossfade_private.table_tree(v_partition.id) t);
  v_rows := crossfade_private.remove_counterparts(v_pair, v_partition.side, v_partition.id);
  if how <> 'truncate' then
    delete from crossfade_private.partitions p
    where p.pair = remove_partition.pair and p.name = any (v_gone);
  end if;
  execute case how
    when 'detach' then format('alter table %s detach partition %s', (
      select i.inhparent::regclass from pg_catalog.pg_inherits i
      where i.inhrelid = v_partition.id), v_partition.id)
    when 'drop' then format('drop table %s', v_partition.id)
    else format('truncate %s', v_partition.id) end;
  perform crossfade_private.end_engine_write(pair);
  perform crossfade_private.drop_stray_triggers(v_pair);
  perform crossfade_private.audit('partition.' || how, pair, reason,
    jsonb_build_object('partition', v_gone[1]), jsonb_build_object('rows', v_rows));
  return jsonb_build_object('pair', pair, 'partition', v_gone[1], 'how', how, 'rows', v_rows,
    'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.remove_partition is
  'Detach, drop or truncate a partition of a pair''s table and, in the same transaction, delete what the other table has of its rows: {"pair", "partition", "how", "rows": deleted there, "flags_version"}. how: detach, drop or truncate. Holds EXCLUSIVE on the partition while it deletes, then ACCESS EXCLUSIVE on the partitioned table (not for truncate); waits at most 0.8 s for each lock (55P03). Errors: CF001, CF005 (V1 is an archive), CF007, CF012 (no partition of the pair), CF017, and what PostgreSQL says of rows that others refer to; then nothing has changed.';
