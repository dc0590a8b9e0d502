-- Keys that are handed out, when the leader changes: the new leader's sequence must be past every
-- key of both tables, and V2's defaults must not need V1 when that is an archive.

create or replace function crossfade_private.greatest_key(tab regclass, column_name text)
returns bigint
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_found bigint;
begin
  -- Without an index that begins with the column this would read the whole table.
  if exists (
    select from pg_catalog.pg_index i
    join pg_catalog.pg_attribute a on a.attrelid = tab and a.attnum = i.indkey[0]
    where i.indrelid = tab and i.indisvalid and i.indpred is null and a.attname = column_name
      and crossfade_private.key_family(a.atttypid, a.atttypmod) = 'an integer'
  ) then
    execute format('select max(%I) from %s', column_name, tab) into v_found;
  end if;
  return v_found;
end $$;

comment on function crossfade_private.greatest_key is
  'The greatest key of a table; null without rows, and where finding it would take long.';

create or replace function crossfade_private.advance_sequence(sequence regclass, past bigint)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_sequence pg_catalog.pg_sequence;
  -- Others may take values meanwhile: setting exactly what was read could take the sequence back.
  v_margin constant integer := 100;
begin
  select s.* into v_sequence from pg_catalog.pg_sequence s where s.seqrelid = sequence;
  if v_sequence.seqincrement > 0 and past <= v_sequence.seqmax
    and past >= coalesce(pg_sequence_last_value(sequence), v_sequence.seqstart - 1) then
    perform setval(sequence, least(v_sequence.seqmax, past + v_margin * v_sequence.seqincrement));
  end if;
exception when insufficient_privilege then
  raise warning 'crossfade: sequence % could not be set past %: %', sequence, past, sqlerrm;
end $$;

comment on function crossfade_private.advance_sequence is
  'Set a sequence past a value that was taken without it; never back. Not undone by a rollback. A WARNING where the engine''s owner may not.';

create or replace function crossfade_private.lead_sequences(pair crossfade.pairs, side integer)
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select crossfade_private.advance_sequence(
    case side when 1 then s.sequence_1 else s.sequence_2 end, greatest(
      pg_sequence_last_value(case side when 1 then s.sequence_2 else s.sequence_1 end),
      crossfade_private.greatest_key(((pair).v1_table)::regclass, s.column_1),
      crossfade_private.greatest_key(((pair).v2_table)::regclass, s.column_2)))
  from crossfade_private.key_sequences(pair) s
  -- One that both tables share has handed out every key itself.
  where s.sequence_1 is distinct from s.sequence_2
    and case side when 1 then s.sequence_1 else s.sequence_2 end is not null;
$$;

comment on function crossfade_private.lead_sequences is
  'Set the key sequences of one side past every key of both tables: that side leads from now on.';

create or replace function crossfade_private.copy_sequence_rights(
  from_sequence regclass, to_sequence regclass
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_grant record;
begin
  execute format('alter sequence %s owner to %I', to_sequence, (
    select pg_get_userbyid(c.relowner) from pg_catalog.pg_class c where c.oid = from_sequence));
  for v_grant in
    select g.privilege_type as right, coalesce(quote_ident(r.rolname), 'public') as role
    from pg_catalog.pg_class c
    cross join lateral pg_catalog.aclexplode(c.relacl) g
    left join pg_catalog.pg_roles r on r.oid = g.grantee
    where c.oid = from_sequence
  loop
    execute format('grant %s on sequence %s to %s', v_grant.right, to_sequence, v_grant.role);
  end loop;
end $$;

comment on function crossfade_private.copy_sequence_rights is
  'Give a sequence the owner and the rights of another one.';

create or replace function crossfade_private.draws_on_identity(pair crossfade.pairs)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select from pg_catalog.pg_attribute a
    cross join lateral crossfade_private.default_sequence(
      ((pair).v2_table)::regclass, a.attname::text) s(sequence)
    cross join lateral crossfade_private.sequence_owner(s.sequence) o
    where a.attrelid = ((pair).v2_table)::regclass and a.atthasdef
      and o.tab = ((pair).v1_table)::regclass and o.is_identity);
$$;

comment on function crossfade_private.draws_on_identity is
  'Whether a default of V2 takes from the sequence of an identity column of V1, which own_sequences then gives a sequence of its own.';

create or replace function crossfade_private.own_sequences(pair crossfade.pairs)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '2s'
as $$
declare
  v_1 constant regclass := (pair).v1_table;
  v_2 constant regclass := (pair).v2_table;
  v_column record;
  v_own text;
  v_moved jsonb := '[]'::jsonb;
begin
  for v_column in
    select a.attname as name, s.sequence, o.column_name as owner, o.is_identity,
      pg_get_expr(e.adbin, e.adrelid) as before,
      c.relnamespace = q.relnamespace and c.relowner = q.relowner as can_move
    from pg_catalog.pg_attribute a
    join pg_catalog.pg_class c on c.oid = a.attrelid
    join pg_catalog.pg_attrdef e on e.adrelid = a.attrelid and e.adnum = a.attnum
    cross join lateral crossfade_private.default_sequence(v_2, a.attname::text) s(sequence)
    join pg_catalog.pg_class q on q.oid = s.sequence
    cross join lateral crossfade_private.sequence_owner(s.sequence) o
    where a.attrelid = v_2 and o.tab = v_1
    order by a.attnum
  loop
    if v_column.is_identity then
      -- PostgreSQL lets nobody else own the sequence of an identity column.
      v_own := format('%I.%I', (select c.relnamespace::regnamespace from pg_catalog.pg_class c
        where c.oid = v_2), left((pair).name, 30) || '_' || left(v_column.name, 20) || '_own_seq');
      execute format('create sequence %s as bigint owned by %s.%I', v_own, v_2, v_column.name);
      execute format('alter table %s alter column %I set default nextval(%L)', v_2, v_column.name,
        v_own);
      perform crossfade_private.copy_sequence_rights(v_column.sequence, v_own::regclass);
      -- Also of a column that is no key of the pair, as V1's own key that a V2 with uuids keeps.
      perform crossfade_private.advance_sequence(v_own::regclass, greatest(
        pg_sequence_last_value(v_column.sequence),
        crossfade_private.greatest_key(v_1, v_column.owner),
        crossfade_private.greatest_key(v_2, v_column.name)));
      v_moved := v_moved || jsonb_build_array(jsonb_build_object('column', v_column.name,
        'sequence', v_own, 'before', v_column.before));
    else
      -- In another schema or of another owner it can belong to no column of V2, but it stays.
      execute format('alter sequence %s owned by %s', v_column.sequence, case
        when v_column.can_move then format('%s.%I', v_2, v_column.name) else 'none' end);
      v_moved := v_moved || jsonb_build_array(jsonb_build_object('column', v_column.name,
        'sequence', v_column.sequence::text, 'owner', v_column.owner));
    end if;
  end loop;
  return v_moved;
end $$;

comment on function crossfade_private.own_sequences is
  'Free V2''s defaults of V1: sequences that V1 owns become V2''s, or nobody''s; for one of an identity column V2 gets its own, with ACCESS EXCLUSIVE on V2 for milliseconds (waits at most 2 s, 55P03). Gives what crossfade.pairs.moved_sequences keeps.';

create or replace function crossfade_private.return_sequences(pair crossfade.pairs)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '2s'
as $$
declare
  v_moved record;
begin
  for v_moved in
    select m."column" as name, m.sequence, m.owner, m.before
    from jsonb_to_recordset((pair).moved_sequences)
      m("column" text, sequence text, owner text, before text)
    where to_regclass(m.sequence) is not null
  loop
    if v_moved.before is not null then
      execute format('alter table %s alter column %I set default %s', (pair).v2_table, v_moved.name,
        v_moved.before);
      perform crossfade_private.advance_sequence(
        crossfade_private.default_sequence(((pair).v2_table)::regclass, v_moved.name),
        pg_sequence_last_value(v_moved.sequence::regclass));
      execute format('drop sequence %s', v_moved.sequence);
    else
      execute format('alter sequence %s owned by %s.%I', v_moved.sequence, (pair).v1_table,
        v_moved.owner);
    end if;
  end loop;
end $$;

comment on function crossfade_private.return_sequences is
  'Undo own_sequences, on the way back from complete. The same locks.';
