"""A small pair for engine tests: notes(body, tag) becomes notes_v2(parts, tag, pinned)."""

from __future__ import annotations

from typing import Any

import psycopg

from tests.sql.control import backfill, unmirrored

Connection = psycopg.Connection[tuple[Any, ...]]

TABLES = """
create sequence public.notes_id;
create table public.notes (
  id bigint primary key default nextval('public.notes_id'),
  owner_id uuid,
  body text not null,
  tag text
);
create table public.notes_v2 (
  id bigint primary key default nextval('public.notes_id'),
  owner_id uuid,
  parts jsonb not null,
  tag text,
  pinned boolean not null default false,
  part_count integer generated always as (jsonb_array_length(parts)) stored,
  constraint tag_is_short check (length(tag) <= 20)
);
create function public.notes_to_v2(new_v1 public.notes, old_v2 public.notes_v2)
returns setof public.notes_v2 language sql stable as $$
  select new_v1.id, new_v1.owner_id,
    case when old_v2.parts ->> 0 = new_v1.body then old_v2.parts
      else jsonb_build_array(new_v1.body) end,
    new_v1.tag, coalesce(old_v2.pinned, false), 0
$$;
create function public.notes_to_v1(new_v2 public.notes_v2, old_v1 public.notes)
returns setof public.notes language sql stable as $$
  select new_v2.id, new_v2.owner_id, coalesce(new_v2.parts ->> 0, ''), new_v2.tag
$$;
alter table public.notes enable row level security;
alter table public.notes_v2 enable row level security;
create policy "own notes" on public.notes to authenticated
  using (owner_id = (select auth.uid())) with check (owner_id = (select auth.uid()));
create policy "own notes" on public.notes_v2 to authenticated
  using (owner_id = (select auth.uid())) with check (owner_id = (select auth.uid()));
grant select, insert, update, delete on public.notes, public.notes_v2
  to authenticated, service_role;
grant usage on sequence public.notes_id to authenticated, service_role;
"""

REGISTER = """
select crossfade.register_pair('notes', 'public.notes', 'public.notes_v2',
  'public.notes_to_v2', 'public.notes_to_v1', options => %s::jsonb)
"""


def create_notes(
    db: Connection, *, options: str = "{}", mirror: bool = True, opened: bool = False
) -> None:
    """Create and register the pair; mirror: both ways; opened: API roles may write V2, too."""
    db.execute(TABLES)
    db.execute(REGISTER, [options])
    if mirror:
        db.execute("select crossfade.set_stage('notes', 'dualwrite', 'test')")
    if opened:
        backfill(db, "notes")


def behind_the_mirror(db: Connection, sql: str) -> None:
    """Write as if no trigger had been there."""
    with unmirrored(db):
        db.execute(sql)


def differences(db: Connection) -> list[tuple[Any, ...]]:
    """Return rows of either table that the other one lacks or holds differently."""
    return db.execute("""
        select coalesce(a.id, b.id), a.id is null, b.id is null
        from public.notes a full join public.notes_v2 b on a.id = b.id
        where a.id is null or b.id is null or (a.body, a.tag, a.owner_id)
          is distinct from (b.parts ->> 0, b.tag, b.owner_id)
        order by 1
    """).fetchall()


def rows(db: Connection, sql: str) -> list[tuple[Any, ...]]:
    return db.execute(sql).fetchall()
