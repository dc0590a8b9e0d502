-- The steps by which a table becomes a partition, and how far it is.

create or replace function crossfade_private.relabel_steps(tab regclass, state jsonb)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with step as (
    select v.*, v.done or (state ->> 'done')::boolean as is_done, bool_and(
      v.done or (state ->> 'done')::boolean) over (order by v.place rows between
      unbounded preceding and 1 preceding) as may
    from (values
      (1, 'index', state ->> 'index' is not null, 'make the unique index that holds the column',
        'SHARE UPDATE EXCLUSIVE', format(
          'while the table (%s) is read twice; waits for every transaction that is open',
          pg_size_pretty(pg_table_size(tab))), coalesce(
          'an interrupted build has left an index behind that every write keeps; run: drop index concurrently '
            || (state ->> 'broken'), state ->> 'building')),
      (2, 'check', state ->> 'check' is not null, 'refuse rows beyond the first partition',
        'ACCESS EXCLUSIVE', 'milliseconds; waits at most 2 s',
        'ends before ' || (state ->> 'bound')),
      (3, 'validate', coalesce(state ->> 'check' = 'valid', false),
        'check the rows that are there', 'SHARE UPDATE EXCLUSIVE', format(
          'while the table (%s) is read once', pg_size_pretty(pg_table_size(tab))), null),
      (4, 'swap', false, 'rename it, make the root, attach it; carry over what belongs to the name',
        'ACCESS EXCLUSIVE' || coalesce((
          select ', also on ' || string_agg(distinct d.name, ', ')
          from (select v.ev_class::regclass::text
            from pg_catalog.pg_depend d join pg_catalog.pg_rewrite v on v.oid = d.objid
            where d.classid = 'pg_rewrite'::regclass and d.refobjid = tab and v.ev_class <> tab
            union all
            select l.polrelid::regclass::text
            from pg_catalog.pg_depend d join pg_catalog.pg_policy l on l.oid = d.objid
            where d.classid = 'pg_policy'::regclass and d.refobjid = tab and l.polrelid <> tab
            union all
            select o.confrelid::regclass::text
            from pg_catalog.pg_constraint o where o.conrelid = tab and o.contype = 'f'
          ) d(name)), ''),
        'milliseconds; waits 0.3 s for all of them at a time, some 2 s in all', null)
    ) v(place, step, done, does, lock, held, detail)
  )
  select jsonb_agg(jsonb_build_object('step', s.step, 'state', case
      when s.is_done then 'done'
      when s.step = 'index' and state ->> 'broken' is not null then 'broken'
      when s.step = 'index' and state ->> 'building' is not null then 'running'
      when coalesce(s.may, true) then 'next' else 'waiting' end,
    'does', s.does, 'lock', s.lock, 'held', s.held, 'detail', s.detail) order by s.place)
  from step s;
$$;

comment on function crossfade_private.relabel_steps is
  'The steps of relabelling: [{"step", "state": done, next, running, broken or waiting, "does", "lock", "held", "detail"}].';

create or replace function crossfade.relabel_plan(
  name text, column_name text, to_value text default null
)
returns jsonb
language plpgsql stable
security definer -- reads the catalog as the owner; only service_role may call it
set search_path = pg_catalog, pg_temp
set jit = off
set quote_all_identifiers = off
set standard_conforming_strings = on
as $$
declare
  v_table regclass := crossfade_private.find_table(name);
  v_problems text[] := array(
    select p from crossfade_private.relabel_problems(v_table, column_name) p);
  v_state jsonb := crossfade_private.relabel_state(v_table, column_name);
  v_bound text;
begin
  if v_problems = '{}' and not (v_state ->> 'done')::boolean then
    v_bound := crossfade_private.relabel_bound_sql(v_table, column_name, to_value);
    if v_bound is null and v_state ->> 'bound' is null then
      v_problems := array['say where the first partition ends: --to VALUE, greater than every '
        || 'value that there is or comes before the swap'];
    elsif to_value is not null and v_state ->> 'bound' is not null
      and v_bound <> crossfade_private.relabel_bound_sql(v_table,
      column_name, crossfade_private.constant_text(v_state ->> 'bound')) then
      v_problems := array[format(
        'the first partition ends before %s already; for another bound run: alter table %s drop constraint %I',
        v_state ->> 'bound', v_table, crossfade_private.bound_name(v_table))];
    end if;
  end if;
  return jsonb_build_object(
    'table', v_table::text, 'column', column_name, 'bound', coalesce(v_state ->> 'bound', v_bound),
    'first', crossfade_private.first_part(v_table), 'rest', crossfade_private.rest_part(v_table),
    'problems', to_jsonb(v_problems),
    'notes', case when v_problems <> '{}' or (v_state ->> 'done')::boolean then '[]' else (
      select jsonb_agg(n) from crossfade_private.relabel_notes(v_table, column_name) n) end,
    'steps', case when v_problems <> '{}' then '[]'
      else crossfade_private.relabel_steps(v_table, v_state) end,
    'files', case when v_problems <> '{}' then '[]'
      else crossfade_private.relabel_files(v_table, column_name, v_state,
        coalesce(v_state ->> 'bound', v_bound)) end);
end $$;

comment on function crossfade.relabel_plan is
  'How a table becomes the first partition of a partitioned table of its name, and how far it is: {"table", "column", "bound": where it ends, "first", "rest": names of partitions, "problems": what keeps it from it, "notes", "steps": [{"step": index, check, validate or swap, "state": done, next, running, broken or waiting, "does", "lock", "held", "detail"}], "files": the migrations that may be applied now, [{"name", "sql"}]}. Changes nothing and reads no row. CF012 unknown table, or to_value is none of the column.';
