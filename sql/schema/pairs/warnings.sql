-- What the owner of a pair should know, and what a registration would say.

create or replace function crossfade_private.parent_warnings(pair crossfade.pairs)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format('foreign key "%s" of %s points to %s%s', c.conname, c.conrelid::regclass,
    c.confrelid::regclass, coalesce(
      (select format(', which belongs to pair "%s": that pair comes first at every stage', q.name)
        from crossfade.pairs q
        where c.confrelid in (to_regclass(q.v1_table), to_regclass(q.v2_table))),
      ': register that table''s own pair first, if it has one'))
  from pg_catalog.pg_constraint c
  where c.contype = 'f' and c.confrelid <> c.conrelid
    and (c.conrelid = ((pair).v2_table)::regclass
      or c.conrelid = ((pair).v1_table)::regclass and exists (
        select from crossfade.pairs q
        where c.confrelid in (to_regclass(q.v1_table), to_regclass(q.v2_table))))
  union all
  -- What happens to one table when a parent goes, the mirror does to the other one as well.
  select format(
    'deleting from %s does %s to %s and %s to %s: whichever comes first is mirrored to the other one',
    a.confrelid::regclass, d.words[1], a.conrelid::regclass, d.words[2], b.conrelid::regclass)
  from pg_catalog.pg_constraint a
  join pg_catalog.pg_constraint b on b.confrelid = a.confrelid and b.contype = 'f'
    and b.conrelid = ((pair).v2_table)::regclass
  cross join lateral (
    select array(select case k when 'a' then 'nothing' when 'r' then 'nothing'
      when 'c' then 'delete' when 'n' then 'set null' else 'set default' end
    from unnest(array[a.confdeltype, b.confdeltype]) with ordinality u(k, n) order by n) as words
  ) d
  where a.contype = 'f' and a.conrelid = ((pair).v1_table)::regclass
    and a.confkey = b.confkey and d.words[1] <> d.words[2]
  union all
  select format(
    'changing the key of %s is carried on to %s and not to %s, whose rows keep it from changing: give both foreign keys ON UPDATE CASCADE',
    a.confrelid::regclass, v.follows::regclass, v.stays::regclass)
  from pg_catalog.pg_constraint a
  join pg_catalog.pg_constraint b on b.contype = 'f' and b.conrelid = ((pair).v2_table)::regclass
    and (a.confrelid = b.confrelid or exists (
      select from crossfade.pairs q where a.confrelid = to_regclass(q.v1_table)
        and b.confrelid = to_regclass(q.v2_table)))
  cross join lateral (values (a.conrelid, a.confupdtype, b.conrelid, b.confupdtype),
    (b.conrelid, b.confupdtype, a.conrelid, a.confupdtype)) v(follows, does, stays, other_does)
  where a.contype = 'f' and a.conrelid = ((pair).v1_table)::regclass and a.confkey = b.confkey
    and v.does in ('c', 'n', 'd') and v.other_does in ('a', 'r');
$$;

comment on function crossfade_private.parent_warnings is
  'Parents of the two tables that have pairs of their own, and what deleting a parent does to one table only.';

create or replace function crossfade_private.pair_warnings(pair crossfade.pairs)
returns jsonb
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(w), '[]') from (
    select crossfade_private.parent_warnings(pair) w
    union all
    select crossfade_private.sequence_warnings(pair)
    union all
    select crossfade_private.publication_warnings(pair)
    union all
    select crossfade_private.publication_problems(pair)
    union all
    select crossfade_private.write_policy_warnings(pair)
    union all
    select crossfade_private.partition_warnings(pair)
    union all
    select format('trigger "%s" on %s runs for mirrored rows as well', g.tgname,
      g.tgrelid::regclass)
    from pg_catalog.pg_trigger g join pg_catalog.pg_proc f on f.oid = g.tgfoid
    where g.tgrelid in (((pair).v1_table)::regclass, ((pair).v2_table)::regclass)
      and not g.tgisinternal and f.pronamespace <> 'crossfade_private'::regnamespace
    union all
    select format(
      'trigger "%s" on %s runs before its row is there and names %s: if it writes the row there by hand, each insert fails from dualwrite on. Drop it (the mirror writes that row) or make it an AFTER trigger',
      g.tgname, g.tgrelid::regclass, t.other)
    from (values (((pair).v1_table)::regclass, ((pair).v2_table)::regclass),
      (((pair).v2_table)::regclass, ((pair).v1_table)::regclass)) t(tab, other)
    join pg_catalog.pg_trigger g on g.tgrelid = t.tab and not g.tgisinternal
      and g.tgtype::integer & 7 = 7 -- BEFORE INSERT ROW
    join pg_catalog.pg_proc f on f.oid = g.tgfoid
      and f.pronamespace <> 'crossfade_private'::regnamespace
      and f.prosrc ~* crossfade_private.name_pattern(t.other)
    union all
    select format('converter %s is called for every row, which is slower: %s', c.converter,
      q.pieces ->> 'called')
    from (values (1, (pair).to_v2), (2, (pair).to_v1)) c(side, converter)
    join crossfade_private.pair_pieces q on q.pair = (pair_warnings.pair).name and q.side = c.side
    where q.pieces ->> 'called' is not null
  ) q;
$$;

comment on function crossfade_private.pair_warnings is
  'What an owner should know about a pair that is not a reason to refuse it. Locks both tables ACCESS SHARE.';

create or replace function crossfade.judge_pair(
  name text, v1 text default null, v2 text default null, to_v2 text default null,
  to_v1 text default null, key text[] default null, options jsonb default '{}'
)
returns jsonb
language plpgsql volatile
security definer -- reads the catalog as the mirror's owner would; only service_role may call it
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_row crossfade.pairs;
  v_problems jsonb;
begin
  if v1 is null then
    v_row := crossfade_private.get_pair(name);
  else
    v_row := crossfade_private.pair_row(name, v1, coalesce(v2, v1), to_v2, to_v1, key, options);
  end if;
  if v1 is not null and v2 is null then
    -- A V2 that is yet to be made is made like V1.
    select jsonb_agg(p) into v_problems
    from crossfade_private.table_problems(v_row.v1_table::regclass, 'V1', v_row.key_columns) p;
  else
    select jsonb_agg(p) into v_problems from crossfade_private.registration_problems(v_row) p;
  end if;
  return jsonb_build_object('pair', name, 'problems', coalesce(v_problems, '[]'), 'warnings',
    case when v_problems is null and v_row.v1_table <> v_row.v2_table and v_row.to_v2 is not null
      then crossfade_private.pair_warnings(v_row) else '[]' end,
    'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.judge_pair is
  'What register_pair would say, without registering: {"pair", "problems": what it would refuse, "warnings", "flags_version"}. With a name alone, of the registered pair as its tables are now. Without v2 only V1 is judged, without converters only the tables. Changes nothing. CF001, CF008 a table that does not exist, CF012.';
