"""The mirror counts who writes which table: evidence where no edge function reports."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from .conftest import Connect, Connection, begins_with
from .control import backfill, call
from .notes_pair import create_notes, differences
from .things_pair import verify


def counts(db: Connection) -> dict[tuple[int, str], int]:
    """Return the statements of the last hour by side and source, but for zeros."""
    sides = call(db, "pair_writes", "notes")["sides"]
    found = {(int(side), source): int(n) for side, by in sides.items() for source, n in by.items()}
    return {key: n for key, n in found.items() if n}


def open_to_users(db: Connection) -> None:
    db.execute("""
        grant all on public.notes, public.notes_v2 to anon, authenticated;
        create policy p on public.notes to anon, authenticated using (true);
        create policy p on public.notes_v2 to anon, authenticated using (true)""")


@begins_with(create_notes, opened=True)
def test_statements_are_counted_by_side_and_source_and_not_what_the_mirror_writes(
    db: Connection, connect: Connect
) -> None:
    open_to_users(db)
    user, service = connect("authenticated"), connect("service_role")
    user.execute("insert into public.notes (id, body) values (1, 'a'), (2, 'b')")
    user.execute("update public.notes set body = 'c' where id = 1")
    user.execute("update public.notes set id = 3 where id = 2")
    user.execute("delete from public.notes where id = 3")
    service.execute("update public.notes_v2 set pinned = true")
    service.execute("""update public.notes_v2 set parts = '["d"]', tag = 't'""")
    connect("anon").execute("""insert into public.notes_v2 (id, parts) values (9, '["e"]')""")
    db.execute("update public.notes set body = body || '!'")
    db.execute("truncate public.notes_v2")
    assert differences(db) == []
    assert counts(db) == {
        (1, "user"): 4, (1, "direct"): 1, (2, "service"): 2, (2, "user"): 1, (2, "direct"): 1,
    }  # fmt: skip
    # What a batch, a verify pass and a repair write is nobody's.
    db.execute("insert into public.notes (id, body) select g, 'x' from generate_series(20, 60) g")
    backfill(db, "notes")
    assert verify(db, "notes") == 0
    assert counts(db)[1, "direct"] == 2


@begins_with(create_notes, opened=True)
def test_writes_of_the_owners_triggers_and_those_that_are_only_noted_count(
    db: Connection, connect: Connect
) -> None:
    db.execute("""
        create table public.boxes (id bigint primary key);
        create function public.fill() returns trigger language plpgsql security definer
        set search_path = '' as $$
        begin insert into public.notes (id, body) values (new.id, 'box'); return null; end $$;
        create trigger fill after insert on public.boxes
        for each row execute function public.fill();
        grant all on public.boxes to authenticated""")
    connect("authenticated").execute("insert into public.boxes values (1), (2)")
    assert counts(db) == {(1, "user"): 2}
    db.execute("select crossfade.set_mirror('notes', 'log_only', 'test')")
    db.execute("insert into public.notes (id, body) values (5, 'x')")
    db.execute("update public.notes set body = 'y' where id = 5")
    assert counts(db) == {(1, "user"): 2, (1, "direct"): 2}


@begins_with(create_notes, opened=True)
def test_a_step_has_the_writes_of_its_time_and_a_crash_loses_only_what_nobody_read(
    db: Connection, connect: Connect
) -> None:
    open_to_users(db)
    user = connect("authenticated")
    user.execute("insert into public.notes (id, body) values (1, 'a')")
    db.execute("select crossfade.set_stage('notes', 'shadow', 'test')")
    for _ in range(3):
        user.execute("""update public.notes_v2 set parts = '["b"]'""")
    evidence = call(db, "health_sample", "notes")["evidence"]
    assert evidence == {"kind": "writes", "v2": 3, "failed": 0}
    assert counts(db) == {(1, "user"): 1, (2, "user"): 3}
    # As after a crash, which an unlogged sequence does not survive.
    call(db, "record_verdicts", "notes", "[]")
    db.execute("alter sequence crossfade_private.writes_notes_v2_user restart")
    user.execute("""update public.notes_v2 set parts = '["c"]'""")
    assert counts(db) == {(1, "user"): 1, (2, "user"): 4}
    answer = call(db, "pair_writes", "notes")
    assert sum(row["statements"] for row in answer["minutes"]) == 5


@begins_with(create_notes, opened=True)
def test_reading_the_counters_keeps_nobody_from_going_back(
    db: Connection, connect: Connect
) -> None:
    db.execute("insert into public.notes (id, body) values (1, 'a')")
    reader = connect()
    with reader.transaction():
        reader.execute("select crossfade.pair_writes('notes')")
        db.execute("set lock_timeout = '1s'")
        db.execute("select crossfade.set_stage('notes', 'off', 'test')")


@begins_with(create_notes, opened=True)
def test_without_a_function_writes_open_live_and_with_one_nothing_but_its_reads(
    db: Connection, connect: Connect
) -> None:
    open_to_users(db)
    db.execute("select crossfade.set_setting('shadow_min_reads', '4', 'test')")
    db.execute("select crossfade.set_stage('notes', 'shadow', 'test')")
    assert verify(db, "notes") == 0

    def blockers() -> list[dict[str, Any]]:
        status = call(db, "pair_status", "notes")["pairs"][0]
        return [b for b in status["blockers"] if b["code"] == "shadow_reads"]

    user = connect("authenticated")
    user.execute("insert into public.notes (id, body) values (1, 'a')")
    assert "no function compares reads, and 1 writes" in blockers()[0]["message"]
    for _ in range(3):
        user.execute("update public.notes set body = body || '.'")
    assert blockers() == []
    # It has reported once: from now on its reads count, also while it is silent.
    db.execute("""select crossfade.record_requests('[{"pair": "notes", "backend_version": 1,
      "wire_version": 1, "outcome": "ok", "latency_ms": 3, "requests": 1}]')""")
    assert "0 shadow reads compared" in blockers()[0]["message"]


@begins_with(create_notes, mirror=False)
def test_the_time_asked_for_is_bounded(db: Connection) -> None:
    with pytest.raises(psycopg.Error, match="Invalid minutes 0"):
        call(db, "pair_writes", "notes", 0)
