-- What a flag must not be, whoever makes or changes it.

create or replace function crossfade_private.prerequisite_problem(names text[])
returns table (kind text, flag text, prerequisite text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select k.kind, f.name, p.name
  from crossfade.flags f
  cross join lateral unnest(f.prerequisites) p (name)
  left join crossfade.flags b on b.name = p.name
  cross join lateral (
    select case
      when p.name = f.name then 'itself'
      when b.name is null then 'unknown'
      when f.name = any (b.prerequisites) then 'circular'
      when b.prerequisites <> '{}' then 'nested'
    end as kind
  ) k
  where k.kind is not null
    and (f.name = any (prerequisite_problem.names) or p.name = any (prerequisite_problem.names))
  order by f.name collate "C", p.name collate "C"
  limit 1;
$$;

comment on function crossfade_private.prerequisite_problem is
  'The first prerequisite, of or to one of the named flags, that is the flag itself, unknown, circular or nested; no row when there is none.';

create or replace function crossfade_private.refuse_bad_flag()
returns trigger
language plpgsql volatile
-- Definer: API roles that may edit a flag hold no right on crossfade_private.
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_bad record;
begin
  if tg_op = 'UPDATE' then
    -- Not what was there before: a kill or a rollback must get through whatever stands in a row.
    if new.name = old.name and new.prerequisites = old.prerequisites then
      return null;
    end if;
  end if;
  if tg_op <> 'DELETE' and (new.name in ('.', '..') or new.name like '%/%') then
    perform crossfade_private.fail(
      400, 'CF012',
      format('A flag cannot be called "%s": OFREP could not ask for it by name', new.name),
      jsonb_build_object('field', 'name', 'value', new.name),
      'Names are parts of addresses: leave "/" out, and take another one than "." and "..".');
  end if;
  select p.* into v_bad from crossfade_private.prerequisite_problem(array[new.name, old.name]) p;
  if found then
    perform crossfade_private.fail(
      400, 'CF012',
      format('Flag "%s" cannot have the prerequisite "%s": %s', v_bad.flag, v_bad.prerequisite,
        case v_bad.kind
          when 'itself' then 'it is the flag itself'
          when 'unknown' then 'there is no such flag'
          when 'circular' then 'that one has this flag as a prerequisite'
          else 'that one has prerequisites itself, and they are one level deep'
        end),
      jsonb_build_object('field', 'prerequisites', 'kind', v_bad.kind, 'flag', v_bad.flag,
        'prerequisite', v_bad.prerequisite),
      format('Take it out of the prerequisites of "%s" first.', v_bad.flag));
  end if;
  return null;
end $$;

comment on function crossfade_private.refuse_bad_flag is
  'Refuse a name that no address can hold, and a prerequisite that is the flag itself, unknown, circular or nested, when either is set or the flag it names goes. CF012.';

drop trigger if exists crossfade_refuse_bad on crossfade.flags;
-- A constraint trigger, because a change set may name a flag before the one that it needs.
create constraint trigger crossfade_refuse_bad
after insert or delete or update of name, prerequisites on crossfade.flags
deferrable initially immediate
for each row execute function crossfade_private.refuse_bad_flag();
