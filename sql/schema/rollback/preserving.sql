-- What a rollback keeps: the rows that only V2 has.

create or replace function crossfade_private.unmirrored_rows(pair crossfade.pairs, side integer)
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_table regclass;
  v_condition text;
  v_rows jsonb;
begin
  -- In here and not in declare: the table may be gone, and only the block's errors are caught.
  v_table := case side when 1 then (pair).v1_table else (pair).v2_table end::regclass;
  -- Cast to the column's type, so that each row is found by its index.
  select string_agg(
    format('t.%I = (f.key ->> %L)::%s',
      k.side_name, k.key_name, format_type(a.atttypid, a.atttypmod)), ' and ')
  into v_condition
  from unnest(
    (pair).key_columns, case side when 1 then (pair).key_columns else (pair).v2_key_columns end
  ) k(key_name, side_name)
  join pg_catalog.pg_attribute a on a.attrelid = v_table and a.attname = k.side_name;
  execute format($sql$
    select coalesce(jsonb_agg(
      jsonb_build_object('failure', to_jsonb(f), 'row', to_jsonb(t)) order by f.id), '[]')
    from (
      select m.* from crossfade.mirror_failures m
      where m.pair = $1 and m.written_side = $2 and m.resolved_at is null
      order by m.id limit 1000
    ) f
    left join %s t on %s$sql$, v_table, v_condition)
  into v_rows using (pair).name, side;
  return v_rows;
exception when others then
  -- Keeping a copy is a precaution: nothing is deleted, and a rollback must not fail for it.
  return jsonb_build_array(jsonb_build_object('error', sqlerrm));
end $$;

comment on function crossfade_private.unmirrored_rows is
  'Open mirror failures of one side with the row that only this side holds (null: it was deleted), at most 1000. Never raises: an error becomes [{"error"}].';

create or replace function crossfade_private.preserve(pairs crossfade.pairs[])
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_object_agg(f.name, jsonb_build_object(
    'open_failures', f.open_failures, 'rows', f.kept,
    'truncated', f.open_failures > jsonb_array_length(f.kept))), '{}')
  from (
    select p.name, n.open_failures,
      crossfade_private.unmirrored_rows(p, 1) || crossfade_private.unmirrored_rows(p, 2) as kept
    from unnest(preserve.pairs) p
    cross join lateral (
      select count(*) as open_failures from crossfade.mirror_failures m
      where m.pair = p.name and m.resolved_at is null
    ) n
    where n.open_failures > 0
  ) f;
$$;

comment on function crossfade_private.preserve is
  'What one table of a pair holds alone: pair -> {"open_failures", "rows", "truncated"}; {} when nothing is open.';
