"""Races that the soak or reading the engine found: one test, one interleaving each."""

from __future__ import annotations

import threading
from collections.abc import Callable

import psycopg
import pytest

from . import test_stages as stages
from .conftest import Connect, Connection, begins_with
from .control import refused
from .notes_pair import create_notes, differences, rows
from .test_backfill import batch, finish, prepare, small_batches, start, wait_until_blocked

LONG = "x" * 30


def beside(
    action: Callable[[], object], *, blocked: tuple[Connection, Connection]
) -> threading.Thread:
    """Start an action in a thread; return when its connection (the second one) waits for a lock."""
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    wait_until_blocked(blocked[0], blocked[1].info.backend_pid)
    return thread


def drain(db: Connection) -> None:
    db.execute("select crossfade.repair('notes')")
    assert rows(db, "select * from crossfade.mirror_failures where resolved_at is null") == []


def old_snapshot(connect: Connect) -> Connection:
    """Return a connection in a REPEATABLE READ transaction that has taken its snapshot."""
    connection = connect()
    connection.execute("begin isolation level repeatable read")
    connection.execute("select count(*) from public.notes")
    return connection


def test_backfill_waits_for_a_writer_that_began_while_the_switch_was_committing(
    db: Connection, connect: Connect
) -> None:
    create_notes(db, mirror=False)
    switch, writer = connect(), connect()
    switch.execute("begin")
    switch.execute("select crossfade.set_stage('notes', 'dualwrite', 'test')")
    writer.execute("begin")
    writer.execute("insert into public.notes (id, body) values (1, 'nobody mirrors this')")
    switch.execute("commit")
    db.execute("insert into public.notes (id, body) values (2, 'mirrored')")
    run = start(db)
    assert batch(db, run)["state"] == "waiting"
    writer.execute("commit")
    finish(db, run)
    assert differences(db) == []


@begins_with(prepare, 20)
def test_deleter_with_an_old_snapshot_is_swept_even_when_the_last_batch_overtakes_it(
    db: Connection, connect: Connect
) -> None:
    small_batches(db)
    run = start(db)
    deleter, worker = old_snapshot(connect), connect()
    batch(db, run)
    deleter.execute("delete from public.notes where id = 5")
    thread = beside(lambda: finish(worker, run), blocked=(db, worker))
    deleter.execute("commit")
    thread.join()
    assert differences(db) == []


@begins_with(create_notes)
def test_delete_with_a_snapshot_older_than_a_repair_reaches_the_other_table(
    db: Connection, connect: Connect
) -> None:
    db.execute("insert into public.notes (id, body, tag) values (5, 'a', %s)", [LONG])
    deleter = old_snapshot(connect)
    db.execute("alter table public.notes_v2 drop constraint tag_is_short")
    drain(db)
    deleter.execute("delete from public.notes where id = 5")
    deleter.execute("commit")
    drain(db)
    assert differences(db) == []


@begins_with(create_notes)
def test_bulk_delete_with_a_snapshot_older_than_a_repair_reaches_the_other_table(
    db: Connection, connect: Connect
) -> None:
    db.execute(
        "insert into public.notes (id, body, tag) "
        "select g, 'n', case g when 7 then %s end from generate_series(1, 40) g",
        [LONG],
    )
    deleter = old_snapshot(connect)
    db.execute("alter table public.notes_v2 drop constraint tag_is_short")
    drain(db)
    deleter.execute("delete from public.notes")
    deleter.execute("commit")
    assert rows(db, "select key from crossfade.mirror_failures where resolved_at is null") == [
        ({"id": 7},)
    ]
    drain(db)
    assert differences(db) == []


@begins_with(prepare, 20)
def test_key_change_with_a_snapshot_older_than_the_copy_leaves_no_old_key(
    db: Connection, connect: Connect
) -> None:
    small_batches(db)
    run = start(db)
    mover = old_snapshot(connect)
    batch(db, run)
    mover.execute("update public.notes set id = 500 where id = 5")
    mover.execute("commit")
    finish(db, run)
    drain(db)
    assert differences(db) == []


@pytest.mark.parametrize("table", ["notes", "notes_v2"])
@begins_with(create_notes, opened=True)
def test_truncate_with_an_old_snapshot_empties_both_tables(
    db: Connection, connect: Connect, table: str
) -> None:
    truncater = old_snapshot(connect)
    db.execute("insert into public.notes (id, body) values (1, 'younger than the snapshot')")
    truncater.execute(f"truncate public.{table}")
    truncater.execute("commit")
    assert rows(
        db, "select (select count(*) from public.notes), count(*) from public.notes_v2"
    ) == [(0, 0)]


@pytest.mark.parametrize("table", ["notes", "notes_v2"])
@pytest.mark.parametrize("why", ["not copied yet", "refused"])
def test_truncate_with_an_old_snapshot_is_refused_while_a_row_may_be_alone(
    db: Connection, connect: Connect, table: str, why: str
) -> None:
    create_notes(db, opened=why == "refused")
    db.execute("insert into public.notes (id, body, tag) values (1, 'a', %s)", [LONG])
    truncater = old_snapshot(connect)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="READ COMMITTED"):
        truncater.execute(f"truncate public.{table}")
    truncater.execute("rollback")
    assert rows(db, "select count(*) from public.notes") == [(1,)]


@begins_with(create_notes)
def test_repair_leaves_a_row_that_is_being_written_and_asks_again_which_side_was_last(
    db: Connection, connect: Connect
) -> None:
    db.execute("alter table public.notes add constraint no_v2 check (tag <> 'by v2')")
    db.execute("insert into public.notes (id, body) values (1, 'a'), (2, 'a')")
    db.execute("update public.notes set tag = %s", [LONG])
    # Key 2 is written again, through V2, and this time V1 cannot follow.
    writer = connect()
    writer.execute("begin")
    writer.execute("update public.notes_v2 set tag = 'by v2' where id = 2")
    db.execute("set statement_timeout = '10s'")  # it would wait for the writer for ever
    ((answer,),) = rows(db, "select crossfade.repair('notes')")
    assert answer["remaining"] == 2
    writer.execute("commit")
    db.execute("alter table public.notes drop constraint no_v2")
    db.execute("alter table public.notes_v2 drop constraint tag_is_short")
    drain(db)
    assert rows(db, "select tag from public.notes_v2 order by id") == [(LONG,), ("by v2",)]
    assert differences(db) == []


@begins_with(create_notes)
def test_repair_does_not_settle_a_failure_that_is_recorded_anew(
    db: Connection, connect: Connect
) -> None:
    failing = "insert into public.notes (id, body, tag) values (1, 'a', %s)"
    db.execute(failing, [LONG])
    db.execute("delete from public.notes where id = 1")
    writer = connect()
    writer.execute("begin")
    writer.execute(failing, [LONG])
    db.execute("set statement_timeout = '10s'")
    db.execute("select crossfade.repair('notes')")
    writer.execute("commit")
    assert differences(db) == [(1, False, True)]
    assert rows(db, "select key from crossfade.mirror_failures where resolved_at is null") == [
        ({"id": 1},)
    ]
    db.execute("alter table public.notes_v2 drop constraint tag_is_short")
    drain(db)
    assert differences(db) == []


def test_complete_waits_for_writers_of_v1_and_sees_what_they_recorded(
    db: Connection, connect: Connect
) -> None:
    stages.prepare(db, "rampdown")
    writer, operator = connect(), connect()
    writer.execute("begin")
    writer.execute("update public.notes set tag = %s where id = 1", [LONG])
    told: list[str] = []

    def complete() -> None:
        with refused("CF005", 409) as refusal:
            stages.stage(operator, "complete", confirm=True)
        told.extend(blocker["code"] for blocker in refusal.detail["blockers"])

    thread = beside(complete, blocked=(db, operator))
    writer.execute("commit")
    thread.join()
    assert told == ["open_failures"]
