-- Pairs that change stage together: tied by foreign keys of either side, or by a name.

create or replace function crossfade_private.foreign_keys_between_pairs()
returns table (child text, parent text, side integer)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with tab as (
    select p.name, s.side, to_regclass(case s.side when 1 then p.v1_table else p.v2_table end) as id
    from crossfade.pairs p cross join (values (1), (2)) s(side)
  )
  select distinct c.name, p.name, c.side
  from pg_catalog.pg_constraint k
  join tab c on c.id = k.conrelid
  join tab p on p.id = k.confrelid and p.side = c.side and p.name <> c.name
  where k.contype = 'f';
$$;

comment on function crossfade_private.foreign_keys_between_pairs is
  'Which pair''s table of which side (1, 2) refers to that of which other pair.';

create or replace function crossfade_private.pair_ancestors()
returns table (pair text, ancestor text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- Pairs that refer to each other in a circle have no first one.
  with recursive edge as (
    select distinct k.child, k.parent from crossfade_private.foreign_keys_between_pairs() k
  ),
  above(pair, ancestor) as (
    select e.child, e.parent from edge e
    union
    select a.pair, e.parent from above a join edge e on e.child = a.ancestor
  )
  select a.pair, a.ancestor from above a
  where not exists (
    select from above b where b.pair = a.ancestor and b.ancestor = a.pair);
$$;

comment on function crossfade_private.pair_ancestors is
  'For each pair, all pairs to which its rows refer by foreign keys of either side, also through others; without those that refer back.';

create or replace function crossfade_private.pair_groups()
returns table (pair text, name text, place integer)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with recursive tie as (
    select k.child as one, k.parent as other from crossfade_private.foreign_keys_between_pairs() k
    union
    select a.name, b.name
    from crossfade.pairs a join crossfade.pairs b on b.options ->> 'group' = a.options ->> 'group'
  ),
  reached(pair, other) as (
    select p.name, p.name from crossfade.pairs p
    union
    select r.pair, case r.other when t.one then t.other else t.one end
    from reached r join tie t on r.other in (t.one, t.other)
  ),
  placed as (
    -- Whoever has an ancestor has all of the ancestor's too, so the number of them is an order.
    select p.name, p.options ->> 'group' as given, (
      select count(*)::integer from crossfade_private.pair_ancestors() a where a.pair = p.name)
      as place
    from crossfade.pairs p
  )
  select r.pair, coalesce(min(o.given),
      (array_agg(o.name order by o.place, o.name collate "C"))[1]),
    (select s.place from placed s where s.name = r.pair)
  from reached r join placed o on o.name = r.other
  group by r.pair;
$$;

comment on function crossfade_private.pair_groups is
  'The group of every pair: option group, or the name of the first pair of those that foreign keys of either side tie together, also through others; a pair that nothing ties is a group of its own. place: parents have a smaller one than their children.';

create or replace function crossfade_private.group_of(pair text)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select o.pair
  from crossfade_private.pair_groups() g
  join crossfade_private.pair_groups() o on o.name = g.name
  where g.pair = group_of.pair
  order by o.place, o.pair collate "C";
$$;

comment on function crossfade_private.group_of is
  'The pairs of the group of a pair, itself included, parents first.';

create or replace function crossfade_private.find_group(name text)
returns text[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pairs constant text[] := array(
    select g.pair from crossfade_private.pair_groups() g
    where g.name = (
      select o.name from crossfade_private.pair_groups() o
      where find_group.name in (o.name, o.pair)
      order by o.name = find_group.name desc limit 1)
    order by g.place, g.pair collate "C");
begin
  if v_pairs = '{}' then
    perform crossfade_private.fail(404, 'CF001', format('Unknown group "%s"', name),
      jsonb_build_object('group', name),
      'A group has the name of option group or of its first pair; crossfade group list shows them.');
  end if;
  return v_pairs;
end $$;

comment on function crossfade_private.find_group is
  'Names of the pairs of a group, parents first, by its name or that of a pair in it (CF001).';

create or replace function crossfade_private.group_problems(pair crossfade.pairs)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with tied as (
    select distinct g.name, o.options ->> 'group' as given
    from crossfade.pairs q
    join crossfade_private.pair_groups() g on g.pair = q.name
    join crossfade_private.pair_groups() m on m.name = g.name
    join crossfade.pairs o on o.name = m.pair
    where q.name <> (group_problems.pair).name and o.name <> (group_problems.pair).name and exists (
        select from (values
          (to_regclass((group_problems.pair).v1_table), to_regclass(q.v1_table)),
          (to_regclass((group_problems.pair).v2_table), to_regclass(q.v2_table))) t(own, other)
        join pg_catalog.pg_constraint k on k.contype = 'f'
          and (k.conrelid, k.confrelid) in ((t.own, t.other), (t.other, t.own)))
  ),
  named as (
    select t.given from tied t where t.given is not null
    union
    select (group_problems.pair).options ->> 'group'
    where (group_problems.pair).options ->> 'group' is not null
  )
  select format('group "%s" is no name: use 1 to 40 of a-z, 0-9 and _, starting with a letter',
    (group_problems.pair).options ->> 'group')
  where (group_problems.pair).options ->> 'group' !~ '^[a-z][a-z0-9_]{0,39}$'
  union all
  select format(
    'foreign keys tie it to pairs of several groups ("%s"), and pairs that are tied change stage together: register them all with one group, or with none',
    string_agg(n.given, '", "' order by n.given))
  from named n having count(*) > 1
  union all
  -- One word at a command must not mean two things.
  select format('group "%s" has the name of a pair that is not in it', g.given)
  from (
    select (group_problems.pair).options ->> 'group' as given, (group_problems.pair).name as taken
    union all
    select q.options ->> 'group', q.name from crossfade.pairs q
  ) g
  join (
    select q.name, q.options ->> 'group' as given from crossfade.pairs q
    where q.name <> (group_problems.pair).name
    union all
    select (group_problems.pair).name, (group_problems.pair).options ->> 'group'
  ) p on p.name = g.given and p.given is distinct from g.given
  group by g.given;
$$;

comment on function crossfade_private.group_problems is
  'What keeps a pair out of the group that its options or foreign keys put it in, one sentence each.';
