-- Rows of a pair may refer to rows of another: that one is copied first.

create or replace function crossfade_private.pair_parents(pair crossfade.pairs, side integer)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select k.parent from crossfade_private.foreign_keys_between_pairs() k
  join crossfade_private.pair_ancestors() a on a.pair = k.child and a.ancestor = k.parent
  where k.child = (pair_parents.pair).name and k.side = pair_parents.side
  order by k.parent;
$$;

comment on function crossfade_private.pair_parents is
  'Names of the pairs whose table of one side that of this pair refers to; without those that refer back.';

create or replace function crossfade_private.uncopied_parents(
  pair crossfade.pairs, direction text
)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select p.name
  from crossfade_private.pair_parents(
    pair, case direction when 'v1_to_v2' then 2 else 1 end) n(name)
  join crossfade.pairs p on p.name = n.name
  where case direction when 'v1_to_v2' then p.last_backfill_at is null
    else p.needs_reverse_backfill end
  order by p.name;
$$;

comment on function crossfade_private.uncopied_parents is
  'The pairs that have to be backfilled in this direction before this one: its rows refer to theirs.';

create or replace function crossfade_private.require_parents(pair crossfade.pairs, direction text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_parents constant text[] := array(
    select crossfade_private.uncopied_parents(pair, direction));
begin
  if v_parents <> '{}' then
    perform crossfade_private.fail(409, 'CF005',
      format('Cannot backfill "%s": its rows refer to rows of "%s", which are not copied yet',
        (pair).name, array_to_string(v_parents, '", "')),
      jsonb_build_object('pair', (pair).name, 'parents', to_jsonb(v_parents)),
      format('First: crossfade backfill run %s%s', v_parents[1],
        case direction when 'v2_to_v1' then ' --direction v2_to_v1' else '' end));
  end if;
end $$;

comment on function crossfade_private.require_parents is
  'CF005 with the pairs that have to be backfilled first, one command as the hint.';
