-- Generating the trigger functions of a pair, and removing them.

create or replace function crossfade_private.install_mirror(pair crossfade.pairs, side integer)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '2s'
as $$
declare
  -- Echo guard: false only for statements of our own inner write, at exactly that depth, so that a
  -- write made by the owner's own trigger is still mirrored. As a condition it costs no function
  -- call.
  v_pieces jsonb := crossfade_private.make_pieces(pair, side)
    || crossfade_private.inlined_pieces(pair, side)
    || jsonb_build_object('not_echo', format(
    'current_setting(%L, true) is distinct from (pg_catalog.pg_trigger_depth() + 1)::text',
    format('crossfade.echo_%s_v%s', (pair).name, side)));
  v_operation text;
begin
  insert into crossfade_private.pair_pieces (pair, side, pieces)
  values ((pair).name, install_mirror.side, v_pieces)
  on conflict on constraint pair_pieces_pkey do update set pieces = excluded.pieces;

  foreach v_operation in array array['insert', 'update', 'delete', 'truncate', 'move',
    'merge'] loop
    execute crossfade_private.render(crossfade_private.mirror_template(v_operation), v_pieces);
    execute format('revoke all on function crossfade_private.mirror_%s_v%s_%s() from public',
      (pair).name, side, v_operation);
    execute crossfade_private.render(
      format(
        'create or replace trigger crossfade_mirror_%s after %s on {source} %s execute function crossfade_private.mirror_{pair}_v{side}_%s()',
        v_operation,
        case when v_operation in ('move', 'merge') then 'update' else v_operation end,
        case v_operation
          when 'move' then 'for each row when (row({skey_old}) is distinct from row({skey_new})
            and {not_echo})'
          when 'merge' then
            'for each row when (pg_catalog.pg_trigger_depth() > 0
              and row({skey_old}) is not distinct from row({skey_new}) and {not_echo})'
          when 'truncate' then 'for each statement when ({not_echo})'
          when 'delete' then
            'referencing old table as crossfade_rows for each statement when ({not_echo})'
          else 'referencing new table as crossfade_rows for each statement when ({not_echo})'
        end, v_operation), v_pieces);
    -- ALWAYS: imports that run with session_replication_role = replica must be mirrored as well.
    execute crossfade_private.render(
      format('alter table {source} enable always trigger crossfade_mirror_%s', v_operation),
        v_pieces);
  end loop;
  if side = 2 then
    execute crossfade_private.render(
      'create or replace trigger crossfade_fence before insert or update or delete or truncate on {source} for each statement when ({not_echo}) execute function crossfade_private.refuse_fenced_write({pair_literal})',
      v_pieces);
  end if;
end $$;

comment on function crossfade_private.install_mirror is
  'Generate the mirror functions of one side and create their triggers. Takes SHARE ROW EXCLUSIVE on that table for milliseconds (waits at most 2 s for it, then fails with 55P03).';

create or replace function crossfade_private.remove_mirror(pair crossfade.pairs, side integer)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '2s'
as $$
declare
  v_trigger record;
  v_name text;
begin
  -- By function and argument: the table may have another name by now.
  for v_trigger in
    select g.tgname, g.tgrelid::regclass as tab
    from pg_catalog.pg_trigger g
    join pg_catalog.pg_proc f on f.oid = g.tgfoid
    where f.pronamespace = 'crossfade_private'::regnamespace and not g.tgisinternal
      and (f.proname = any (array(
          select format('mirror_%s_v%s_%s', (pair).name, side, o)
          from unnest(array['insert', 'update', 'delete', 'truncate', 'move', 'merge']) o))
        or side = 2 and f.proname = 'refuse_fenced_write'
          and g.tgargs = convert_to((pair).name, 'UTF8') || '\x00')
    order by g.tgname
  loop
    execute format('drop trigger %I on %s', v_trigger.tgname, v_trigger.tab);
  end loop;
  foreach v_name in array array['insert', 'update', 'delete', 'truncate', 'move', 'merge'] loop
    execute format('drop function if exists crossfade_private.mirror_%s_v%s_%s()', (pair).name,
      side, v_name);
  end loop;
end $$;

comment on function crossfade_private.remove_mirror is
  'Drop the triggers and functions of one side. Takes ACCESS EXCLUSIVE on that table (waits at most 2 s): never part of a rollback.';
