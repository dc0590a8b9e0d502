-- Constraints that are looked at when the transaction commits: by then the mirror has said that all
-- is well, and the client's write fails without a word of whose fault it is.

create or replace function crossfade_private.constraint_kind(kind "char")
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select case kind when 'f' then 'foreign key' when 'u' then 'unique constraint'
    when 'p' then 'primary key' when 'x' then 'exclusion constraint' when 't' then 'trigger'
    else 'constraint' end;
$$;

comment on function crossfade_private.constraint_kind is
  'A kind of constraint in words.';

create or replace function crossfade_private.deferred_problems(tab regclass, label text)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format(
    '%s %s: %s "%s" is initially deferred: a mirrored row could fail at COMMIT; run: %s',
    label, tab, crossfade_private.constraint_kind(o.contype), o.conname, case o.contype
      when 'f' then format('alter table %s alter constraint %I deferrable initially immediate',
        o.conrelid::regclass, o.conname)
      else format('alter table %s drop constraint %I, add constraint %2$I %s', o.conrelid::regclass,
        o.conname, regexp_replace(pg_get_constraintdef(o.oid), case o.contype
          when 'p' then ' DEFERRABLE INITIALLY DEFERRED$' else ' INITIALLY DEFERRED$' end, '')) end)
  from pg_catalog.pg_constraint o
  where o.conrelid = tab and o.condeferred and o.contype <> 't' and o.conparentid = 0
  union all
  -- A delete that is mirrored is judged by the children of both tables.
  select format(
    '%s %s: foreign key "%s" of %s is initially deferred: a mirrored delete could fail at COMMIT; run: alter table %4$s alter constraint %3$I deferrable initially immediate',
    label, tab, o.conname, o.conrelid::regclass)
  from pg_catalog.pg_constraint o
  where o.confrelid = tab and o.conrelid <> tab and o.contype = 'f' and o.condeferred
    and 'a' in (o.confdeltype, o.confupdtype) and o.conparentid = 0
  union all
  select format(
    '%s %s has the deferrable trigger "%s": it could write after our triggers have run; run: drop trigger %3$I on %2$s; %4$s',
    label, tab, g.tgname, regexp_replace(regexp_replace(pg_get_triggerdef(g.oid),
      '^CREATE CONSTRAINT TRIGGER', 'CREATE TRIGGER'),
      ' DEFERRABLE INITIALLY (DEFERRED|IMMEDIATE) ', ' '))
  from pg_catalog.pg_trigger g
  join pg_catalog.pg_proc f on f.oid = g.tgfoid
  where g.tgrelid = tab and not g.tgisinternal and g.tgdeferrable and g.tgparentid = 0
    and f.pronamespace <> 'crossfade_private'::regnamespace;
$$;

comment on function crossfade_private.deferred_problems is
  'Constraints of any type that are looked at at COMMIT, and triggers that can run there, one sentence each.';
