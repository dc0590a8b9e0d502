"""A run that drives itself: pg_cron does the batches, no client does."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from crossfade.local.postgres import PostgresServer

from .conftest import (
    DEBIAN_15,
    DEBIAN_15_EXTENSIONS,
    ROOT,
    Connect,
    Connection,
    apply_migrations,
    begins_with,
)
from .control import call, one, refused
from .fake_cron import CRON
from .notes_pair import create_notes, differences, rows
from .test_backfill import prepare, small_batches, start


def jobs(db: Connection) -> list[tuple[Any, ...]]:
    return rows(db, "select jobname, schedule, command, username from cron.job order by jobid")


def turn(db: Connection) -> None:
    """Do what pg_cron does with the only job."""
    ((command,),) = rows(db, "select command from cron.job")
    db.execute(command)


def driven(db: Connection, count: int = 50) -> int:
    """Start a backfill of some rows that drives itself."""
    db.execute(CRON)
    prepare(db, count)
    small_batches(db)
    run = start(db)
    call(db, "drive_run", run)
    return run


def state(db: Connection, run: int) -> tuple[str, str | None]:
    ((found, reason),) = rows(db, f"select state, reason from crossfade.runs where id = {run}")
    return found, reason


def test_without_pg_cron_the_error_says_so(db: Connection) -> None:
    prepare(db, 1)
    run = start(db)
    with refused("CF018", 409) as refusal:
        call(db, "drive_run", run)
    assert "pg_cron is not installed" in refusal.message
    assert call(db, "drive_run", run, False)["driven"] is False


def test_pg_cron_that_we_may_not_use_counts_as_missing(db: Connection) -> None:
    db.execute(CRON)
    db.execute("revoke execute on all functions in schema cron from public, postgres")
    prepare(db, 1)
    run = start(db)
    with refused("CF018", 409):
        call(db, "drive_run", run)
    call(db, "control_run", run, "cancel", "test")


def test_the_job_belongs_to_the_owner_and_there_is_one_of_it(
    db: Connection, connect: Connect
) -> None:
    run = driven(db)
    answer = call(connect("service_role"), "drive_run", run)
    assert (answer["driven"], answer["job"]) == (True, f"crossfade_run_{run}")
    command = one(db, "select crossfade_private.drive_command(%s, 30)", run)
    assert jobs(db) == [(f"crossfade_run_{run}", "5 seconds", command, "postgres")]


@begins_with(driven)
def test_a_turn_does_every_batch_in_a_transaction_of_its_own_and_leaves_no_job(
    db: Connection,
) -> None:
    turn(db)
    assert rows(db, "select state, reason from crossfade.runs") == [("finished", None)]
    commits = "select count(distinct pg_xact_commit_timestamp(xmin)) from public.notes_v2"
    assert rows(db, commits) == [(5,)]
    assert differences(db) == []
    assert jobs(db) == []


def test_verification_drives_itself_too(db: Connection) -> None:
    db.execute(CRON)
    create_notes(db)
    db.execute("insert into public.notes (id, body) select g, 'n' from generate_series(1, 30) g")
    run = call(db, "start_verify", "notes")["run"]["id"]
    call(db, "drive_run", run)
    turn(db)
    found = call(db, "run_status", run)["run"]
    assert (found["state"], found["rows_done"], found["mismatches"]) == ("finished", 30, 0)
    assert jobs(db) == []


def test_a_paused_run_is_left_alone_until_it_is_resumed(db: Connection) -> None:
    run = driven(db)
    call(db, "control_run", run, "pause", "peak hour")
    turn(db)
    assert state(db, run) == ("paused", "peak hour")
    assert rows(db, "select count(*) from public.notes_v2") == [(0,)]
    call(db, "control_run", run, "resume", "calm")
    turn(db)
    assert state(db, run) == ("finished", "calm")


@pytest.mark.parametrize(
    "end",
    [
        "select crossfade.control_run({run}, 'cancel', 'test')",
        "select crossfade.drive_run({run}, false)",
        "delete from crossfade.runs where id = {run}",
    ],
    ids=["cancelled", "no longer driven", "gone"],
)
def test_no_job_is_left_when_the_run_is(db: Connection, end: str) -> None:
    run = driven(db)
    db.execute(end.format(run=run))
    assert jobs(db) == []


@begins_with(driven)
def test_uninstalling_leaves_no_job(db: Connection) -> None:
    db.execute((ROOT / "sql" / "uninstall.sql").read_text())
    assert jobs(db) == []


def test_a_job_that_was_left_removes_itself(db: Connection) -> None:
    run = driven(db)
    db.execute("alter table crossfade.runs disable trigger user")
    call(db, "control_run", run, "cancel", "test")
    turn(db)
    assert jobs(db) == []


def test_a_run_that_is_over_is_not_driven(db: Connection) -> None:
    run = driven(db)
    turn(db)
    with refused("CF010", 409):
        call(db, "drive_run", run)
    assert jobs(db) == []


def test_a_throttled_turn_waits_says_why_and_ends_in_time(db: Connection) -> None:
    run = driven(db)
    # How a load is seen is proved by the tests of the backfill; here it is only said.
    db.execute("""
        create or replace function crossfade_private.load_reason() returns jsonb
        language sql as $$ select '{"reason": "9 sessions are active (limit 0)"}'::jsonb $$""")
    db.execute(one(db, "select crossfade_private.drive_command(%s, 0)", run))
    assert state(db, run) == ("running", "self-drive: throttled: 9 sessions are active (limit 0)")
    assert rows(db, "select count(*) from public.notes_v2") == [(0,)]
    db.execute("""
        create or replace function crossfade_private.load_reason() returns jsonb
        language sql as $$ select null::jsonb $$""")
    turn(db)
    assert state(db, run) == ("finished", None)


def test_an_error_that_would_come_again_pauses_the_run_once_and_keeps_what_was_done(
    db: Connection,
) -> None:
    run = driven(db)
    db.execute(one(db, "select crossfade_private.drive_command(%s, 0)", run))
    db.execute("alter table public.notes add column more text")
    turn(db)
    turn(db)
    found, reason = state(db, run)
    assert found == "paused"
    assert "self-drive: Cannot continue run" in str(reason)
    assert rows(db, "select count(*) from public.notes_v2") == [(10,)]
    paused = "select count(*) from crossfade.audit where action = 'backfill.pause'"
    assert rows(db, paused) == [(1,)]
    db.execute("alter table public.notes drop column more")
    call(db, "control_run", run, "resume", None)
    turn(db)
    assert differences(db) == []


def test_a_row_that_is_locked_is_tried_again(db: Connection, connect: Connect) -> None:
    run = driven(db)
    db.execute("alter function crossfade_private.write_rows set lock_timeout = '50ms'")
    writer = connect()
    writer.execute("begin")
    writer.execute("update public.notes set body = 'new' where id = 5")
    db.execute(one(db, "select crossfade_private.drive_command(%s, 0)", run))
    found, reason = state(db, run)
    assert found == "running"
    assert str(reason).startswith("self-drive: shrunk: a row stays locked, probably by session ")
    writer.execute("commit")
    turn(db)
    assert state(db, run) == ("finished", None)
    assert differences(db) == []


# pg_cron itself -----------------------------------------------------------------------------------

PACKAGE = DEBIAN_15_EXTENSIONS / "pg_cron.control"
needs_cron = pytest.mark.skipif(
    not (PACKAGE.exists() and (DEBIAN_15 / "postgres").exists()),
    reason="needs Debian's postgresql-15-cron",
)


@contextmanager
def cron_server(*, workers: str) -> Iterator[PostgresServer]:
    """A PostgreSQL 15 with pg_cron in a migrated database of its own."""
    with tempfile.TemporaryDirectory(prefix="crossfade-cron-", ignore_cleanup_errors=True) as made:
        Path(made).chmod(0o755)
        settings = {
            "shared_preload_libraries": "pg_cron",
            "cron.database_name": "driven",
            "cron.host": "127.0.0.1",
            "cron.use_background_workers": workers,
        }
        server = PostgresServer(
            Path(made) / "pg15", bin_dir=DEBIAN_15, durable=False, settings=settings
        )
        with server:
            server.bootstrap()
            url = server.create_database("driven")
            server.bootstrap("driven")
            with psycopg.connect(server.dsn("supabase_admin", "driven")) as admin:
                admin.execute("create extension pg_cron")
                admin.execute("grant usage on schema cron to postgres")
            apply_migrations(url)
            yield server


def restart(server: PostgresServer) -> Connection:
    """Let pg_cron start the job now, not at the next full minute: at a start of the server."""
    with psycopg.connect(server.dsn(database="driven")) as db:
        db.execute("select cron.schedule(jobname, '@reboot', command) from cron.job")
    server.stop()
    server.start()
    return psycopg.connect(server.dsn(database="driven"), autocommit=True)


def wait_for(db: Connection, query: str, wanted: Callable[[Any], bool]) -> Any:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        ((found,),) = rows(db, query)
        if wanted(found):
            return found
        time.sleep(0.05)
    raise AssertionError(f"{query}: {found}")


@needs_cron
@pytest.mark.parametrize("workers", ["on", "off"], ids=["background workers", "connections"])
def test_pg_cron_finishes_a_backfill_with_no_client(workers: str) -> None:
    with cron_server(workers=workers) as server:
        with psycopg.connect(server.dsn(database="driven"), autocommit=True) as db:
            prepare(db, 3000)
            run = start(db, ranges=4)
            answer = call(db, "drive_run", run)
            assert answer["schedule"] == "* * * * *"  # 1.4 knows no seconds
            call(db, "control_run", run, "pause", "test")

        with restart(server) as db:
            ended = "select count(*) from cron.job_run_details where status = 'succeeded'"
            wait_for(db, ended, lambda count: count == 1)
            assert state(db, run) == ("paused", "test")
            assert rows(db, "select count(*) from public.notes_v2") == [(0,)]
            call(db, "control_run", run, "resume", None)

        with restart(server) as db:
            query = f"select state from crossfade.runs where id = {run}"
            wait_for(db, query, lambda found: found == "finished")
            assert differences(db) == []
            assert jobs(db) == []
            assert rows(db, "select distinct username from cron.job_run_details") == [("postgres",)]

            again = start(db)
            call(db, "drive_run", again)
            assert len(jobs(db)) == 1
            call(db, "control_run", again, "cancel", "test")
            assert jobs(db) == []


@needs_cron
def test_a_crash_in_the_middle_of_a_turn_costs_one_batch() -> None:
    copied = "select count(*) from public.notes_v2"
    with cron_server(workers="on") as server:
        with psycopg.connect(server.dsn(database="driven"), autocommit=True) as db:
            prepare(db, 60_000)
            call(db, "set_setting", "batch_max_rows", "200", "test")
            run = start(db)
            call(db, "drive_run", run)

        with restart(server) as db:
            wait_for(db, copied, lambda count: count >= 1000)
            ((pid,),) = rows(db, "select pid from pg_stat_activity where query like 'do $drive$%'")
            os.kill(pid, signal.SIGKILL)  # PostgreSQL ends every session then, and recovers
            with pytest.raises(psycopg.OperationalError):
                wait_for(db, copied, lambda _: False)

        with psycopg.connect(reachable(server), autocommit=True) as db:
            # pg_cron starts with the server, and its job goes on.
            state_of_run = f"select state from crossfade.runs where id = {run}"
            wait_for(db, state_of_run, lambda found: found == "finished")
            assert differences(db) == []
            assert rows(db, "select sum(rows_done) from crossfade.run_ranges") == [(60_000,)]


def reachable(server: PostgresServer) -> str:
    """Wait for the end of a recovery."""
    url = server.dsn(database="driven")
    deadline = time.monotonic() + 15
    while True:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return url
