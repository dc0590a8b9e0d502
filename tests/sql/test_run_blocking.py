"""Whoever a run waits for is named: session, user, application, age. Never what it executes."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import psycopg

from crossfade.local.postgres import PostgresServer

from .conftest import Connect, Connection, begins_with, migrated
from .control import call, in_background, one, unmirrored, wait_for_waiters
from .notes_pair import create_notes, differences, rows
from .test_backfill import batch, finish, prepare, start

SECRET = "a value of a client"


def named(connection: Connection, name: str) -> Connection:
    connection.execute(f"set application_name = '{name}'")
    return connection


def write_in(connection: Connection, sql: str) -> None:
    """Begin a transaction, write in it, and leave it open."""
    connection.execute("begin")
    connection.execute(sql)


def assert_names(answer: dict[str, Any], session: Connection, application: str) -> None:
    """The answer says who it is, to people and to programs."""
    found = {item["pid"]: item for item in answer["blocking"]}
    assert session.info.backend_pid in found, answer
    item = found[session.info.backend_pid]
    assert (item["user"], item["application"]) == ("postgres", application)
    assert item["transaction_s"] >= 0
    assert item["query_started_at"]
    assert f'session {session.info.backend_pid} of postgres ("{application}", ' in answer["reason"]
    assert "transaction open for " in answer["reason"]
    assert SECRET not in json.dumps(answer)


def test_who_was_writing_before_the_switch_is_named(db: Connection, connect: Connect) -> None:
    create_notes(db, mirror=False)
    writer = named(connect(), "old import")
    write_in(writer, f"insert into public.notes (id, body) values (1, '{SECRET}')")
    call(db, "set_stage", "notes", "dualwrite", "test")
    run = start(db)
    bystander = connect()
    write_in(bystander, "insert into public.notes (id, body) values (2, 'later')")
    answer = batch(db, run)
    assert answer["state"] == "waiting"
    assert answer["reason"].startswith("transactions older than the switch to dualwrite")
    assert_names(answer, writer, "old import")
    assert bystander.info.backend_pid not in [item["pid"] for item in answer["blocking"]]
    writer.execute("commit")
    bystander.execute("commit")
    assert batch(db, run)["blocking"] == []
    finish(db, run)


def test_a_prepared_transaction_is_named_by_what_ends_it() -> None:
    with tempfile.TemporaryDirectory(prefix="crossfade-2pc-", ignore_cleanup_errors=True) as made:
        Path(made).chmod(0o755)
        settings = {"max_prepared_transactions": "2"}
        server = PostgresServer(Path(made) / "pg", durable=False, settings=settings)
        with server:
            url = migrated(server).url("crossfade_template")
            with psycopg.connect(url, autocommit=True) as db:
                create_notes(db, mirror=False)
                write_in(db, f"insert into public.notes (id, body) values (1, '{SECRET}')")
                db.execute("prepare transaction 'two\nlines'")
                call(db, "set_stage", "notes", "dualwrite", "test")
                run = start(db)
                answer = batch(db, run)
                assert answer["state"] == "waiting"
                assert 'prepared transaction "two\\nlines" of postgres' in answer["reason"]
                assert answer["blocking"][0]["prepared"] == "two\nlines"
                assert answer["blocking"][0]["pid"] is None
                db.execute("commit prepared 'two\nlines'")
                call(db, "control_run", run, "cancel", "test")
                finish(db, start(db))
                assert differences(db) == []


@begins_with(prepare, 20)
def test_who_others_wait_for_is_named_when_batches_are_throttled(
    db: Connection, connect: Connect
) -> None:
    run = start(db)
    call(db, "set_setting", "throttle_lock_waits", "0", "test")
    holder, waiter = named(connect(), "reports"), connect()
    write_in(holder, f"update public.notes set body = '{SECRET}' where id = 1")
    with in_background(lambda: waiter.execute("update public.notes set body = 'x' where id = 1")):
        wait_for_waiters(db, 1)
        answer = batch(db, run)
        holder.execute("commit")
    assert answer["state"] == "throttled"
    assert answer["reason"].startswith("1 sessions wait for a lock (limit 0), for session ")
    assert_names(answer, holder, "reports")
    assert [item["pid"] for item in answer["blocking"]] == [holder.info.backend_pid]


@begins_with(prepare, 40)
def test_who_holds_a_row_of_the_batch_is_named_and_the_batch_shrinks_down_to_it(
    db: Connection, connect: Connect
) -> None:
    run = start(db)
    call(db, "set_setting", "batch_first_rows", "4", "test")
    call(db, "set_setting", "batch_max_rows", "4", "test")
    batch(db, run)
    db.execute("update crossfade.run_ranges set batch_rows = 4")
    writer = named(connect(), "editor")
    write_in(writer, f"update public.notes set body = '{SECRET}' where id = 20")
    answers = [batch(db, run) for _ in range(12)]
    stuck = [answer for answer in answers if answer["state"] in ("shrunk", "waiting")]
    assert stuck[0]["state"] == "shrunk"
    assert "a row stays locked, probably by session " in stuck[0]["reason"]
    assert stuck[0]["reason"].endswith("the next has 2 rows")
    for answer in stuck:
        assert_names(answer, writer, "editor")
    # All rows before it are copied; at the row itself it waits, and never passes it.
    assert answers[-1]["state"] == "waiting"
    assert one(db, "select count(*) from public.notes_v2 where id < 20") == 19
    assert rows(db, "select count(*) from crossfade.mirror_failures") == [(0,)]
    writer.execute("commit")
    finish(db, run)
    assert differences(db) == []


def test_who_holds_a_parent_that_a_row_refers_to_is_named(db: Connection, connect: Connect) -> None:
    owner = "00000000-0000-4000-8000-000000000001"
    create_notes(db, mirror=False)
    db.execute("create table public.owners (id uuid primary key)")
    db.execute("insert into public.owners values (%s)", [owner])
    db.execute("alter table public.notes_v2 add foreign key (owner_id) references public.owners")
    db.execute("insert into public.notes (id, body) values (1, 'first')")
    db.execute("insert into public.notes (id, body, owner_id) values (2, 'x', %s)", [owner])
    call(db, "set_stage", "notes", "dualwrite", "test")
    call(db, "set_setting", "batch_first_rows", "1", "test")
    run = start(db)
    batch(db, run)  # whoever is older than the switch is waited for in another way
    holder = named(connect(), "clean-up")
    write_in(holder, "select from public.owners for update")
    answer = batch(db, run)
    assert answer["state"] in ("shrunk", "waiting")
    assert_names(answer, holder, "clean-up")
    holder.execute("commit")
    finish(db, run)
    assert differences(db) == []


@begins_with(prepare, 20)
def test_who_holds_up_the_end_of_a_backfill_is_named(db: Connection, connect: Connect) -> None:
    call(db, "set_setting", "batch_max_rows", "10", "test")
    run = start(db)
    deleter = named(connect(), "old snapshot")
    deleter.execute("begin isolation level repeatable read")
    deleter.execute("select count(*) from public.notes")
    batch(db, run)
    deleter.execute("delete from public.notes where id = 5")
    answers = [batch(db, run) for _ in range(3)]
    assert [answer["state"] for answer in answers] == ["waiting"] * 3
    assert answers[0]["run"]["rows_done"] == 20
    assert answers[0]["reason"].startswith("all rows are copied, and the end of the run is locked")
    assert_names(answers[-1], deleter, "old snapshot")
    deleter.execute("commit")
    assert batch(db, run)["run"]["swept_rows"] == 1
    assert differences(db) == []


@begins_with(prepare, 40)
def test_a_batch_gives_way_before_a_client_is_chosen_as_the_victim(
    db: Connection, connect: Connect
) -> None:
    # The writer holds row 20 and wants row 3, which the batch has locked: a deadlock.
    run = start(db)
    call(db, "set_setting", "batch_max_rows", "1", "test")
    batch(db, run)
    call(db, "set_setting", "batch_max_rows", "100", "test")
    db.execute("update crossfade.run_ranges set batch_rows = 100")
    writer, worker = connect(), connect()
    write_in(writer, "update public.notes set body = 'new' where id = 20")
    with in_background(lambda: batch(worker, run)) as answer:
        wait_for_waiters(db, 1)
        writer.execute("update public.notes set body = 'new' where id = 3")
        writer.execute("commit")
    assert answer[0]["state"] == "shrunk"
    finish(db, run)
    assert differences(db) == []


def test_verify_waits_for_no_row(db: Connection, connect: Connect) -> None:
    create_notes(db)
    db.execute("insert into public.notes (id, body) select g, 'n' from generate_series(1, 50) g")
    with unmirrored(db):
        db.execute("update public.notes_v2 set tag = 'x' where id > 10")
    writer = connect()
    write_in(writer, "update public.notes set tag = 'held' where id between 5 and 20")
    run = call(db, "start_verify", "notes")["run"]["id"]
    begun = one(db, "select clock_timestamp()")
    while call(db, "verify_batch", run)["state"] != "finished":
        pass
    assert one(db, "select clock_timestamp() - %s < interval '5 s'", begun)
    assert one(db, "select count(*) from crossfade.mismatches") == 40
    writer.execute("rollback")
