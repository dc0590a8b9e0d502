-- Which release made a pair's functions, and which triggers of the owner's they must live with.

create or replace function crossfade_private.generator()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select '0.2.0'::text;
$$;

comment on function crossfade_private.generator is
  'The release whose texts make the mirror functions; crossfade.pairs.generator says which one made a pair''s.';

create or replace function crossfade_private.has_triggers(tab regclass, kind text)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- tgtype: 1 row, 2 before, 4 insert, 16 update.
  select exists (
    select from pg_catalog.pg_trigger g
    join pg_catalog.pg_proc f on f.oid = g.tgfoid
    where g.tgrelid in (select t.id from crossfade_private.table_tree(tab) t)
      and not g.tgisinternal
      and f.pronamespace <> 'crossfade_private'::regnamespace
      and case kind
        when 'before row' then g.tgtype & 3 = 3 and g.tgtype & 20 <> 0
        when 'before insert row' then g.tgtype & 7 = 7
        when 'update of' then g.tgtype & 16 <> 0 and g.tgattr <> ''
        end);
$$;

comment on function crossfade_private.has_triggers is
  'Whether a table, or a partition of it, has triggers of its owner''s of a kind: before row, before insert row, update of (columns).';

create or replace function crossfade_private.triggers_met(tab regclass)
returns text[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select array(
    select k from unnest(array['before row', 'before insert row', 'update of']) k
    where crossfade_private.has_triggers(tab, k));
$$;

comment on function crossfade_private.triggers_met is
  'Kinds of the owner''s triggers on a table that the mirror of a pair is made for.';
