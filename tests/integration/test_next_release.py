"""A made-up next release is applied under pairs with live writers, batches and old transactions.

Writers may meet only what every client of PostgreSQL must try again anyway: a serialization failure
(40001) or a deadlock (40P01). They are counted; whatever else they meet fails the test.
"""

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from crossfade import resources
from crossfade.local.postgres import PostgresServer
from tests.integration.next_release import GONE, NEW_LINE, NEXT, next_release
from tests.integration.test_supabase_cli import SERVERS, apply_files, empty_project
from tests.sql.control import call, force, one
from tests.sql.notes_pair import REGISTER, TABLES, differences

Connection = psycopg.Connection[tuple[Any, ...]]
ADA = "00000000-0000-4000-8000-0000000000a1"
MIGRATIONS = sorted(resources.migrations_dir().glob("*.sql"))
ROWS = 400
BATCH_ROWS = "where name in ('batch_min_rows', 'batch_max_rows', 'batch_first_rows')"
STALL_S = 2.9
"""No statement of a client may wait longer: role anon is cut off after 3 s."""
_numbers = itertools.count()


@pytest.fixture(scope="module", params=SERVERS)
def server(
    request: pytest.FixtureRequest, fresh_dir: Callable[[str], Path]
) -> Iterator[PostgresServer]:
    folder = fresh_dir("next") / "pg"
    with PostgresServer(folder, bin_dir=SERVERS[request.param], durable=False) as running:
        running.bootstrap()
        yield running


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> str:
    return next_release(tmp_path_factory.mktemp("schema"))


@contextmanager
def connect(url: str) -> Iterator[Connection]:
    with psycopg.connect(url, autocommit=True) as db:
        yield db


def project(server: PostgresServer, *, rows: int = ROWS) -> str:
    """Make a project with this release and a pair in stage live; return its URL."""
    name = f"project_{next(_numbers)}"
    url = empty_project(server, name)
    apply_files(server, name, MIGRATIONS)
    with connect(url) as db:
        db.execute(TABLES)
        db.execute(
            "insert into public.notes (owner_id, body, tag)"
            f" select %s, 'note ' || n, 'tag' from generate_series(1, {rows}) n",
            [ADA],
        )
        db.execute(REGISTER, ["{}"])
        call(db, "set_setting", "shadow_min_reads", "0", "test")
        force(db, "update crossfade.settings set value = '1000' where name = 'throttle_lock_waits'")
        call(db, "set_stage", "notes", "dualwrite", "test")
        drive(db, "backfill")
        call(db, "set_stage", "notes", "shadow", "test")
        drive(db, "verify")
        call(db, "set_stage", "notes", "live", "test", True)
    return url


def drive(db: Connection, kind: str, run: int | None = None) -> dict[str, Any]:
    """Run a backfill or verify to its end; return the last answer."""
    run = run or call(db, f"start_{kind}", "notes")["run"]["id"]
    for _ in range(500):
        answer: dict[str, Any] = call(db, f"{kind}_batch", run)
        if answer["state"] == "finished":
            return answer
    raise AssertionError(answer)


class Client(threading.Thread):
    """A client in a loop. ``kept``: keys of rows that it inserted and that were acknowledged."""

    def __init__(self, url: str, steps: tuple[str, ...], *, user: bool = False) -> None:
        super().__init__(daemon=True)
        self.url, self.steps, self.user = url, steps, user
        self.kept: set[int] = set()
        self.done = self.again = 0
        self.slowest_s = 0.0
        self.errors: list[str] = []
        self.over = threading.Event()
        self.start()

    def run(self) -> None:
        with connect(self.url) as db:
            if self.user:
                claims = json.dumps({"sub": ADA, "role": "authenticated"})
                db.execute("select set_config('request.jwt.claims', %s, false)", [claims])
                db.execute("set statement_timeout = '3s'")
                db.execute("set role authenticated")
            while not self.over.is_set() and not self.errors:
                self.once(db)

    def once(self, db: Connection) -> None:
        began = time.monotonic()
        made: list[int] = []
        try:
            with db.transaction():
                for step in self.steps:
                    done = db.execute(step.encode())
                    if step.startswith("insert"):
                        made += [key for (key,) in done.fetchall()]
        except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure):
            self.again += 1
            return
        except psycopg.Error as error:
            self.errors.append(f"{error.sqlstate} {error}")
            return
        self.kept.update(made)
        self.done += 1
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)

    def stop(self) -> None:
        self.over.set()
        self.join(60)
        assert not self.is_alive()
        assert self.errors == []


# Rows above the first ones are each client's own.
V1_OWNER = (
    "insert into public.notes (body, tag) values ('owner', 'a'), ('owner', null) returning id",
    f"update public.notes set body = body || '.' where id = (random() * {ROWS})::int",
)
# V2 refuses a tag as long as that, and the row becomes a recorded failure.
V1_REFUSED = (
    f"insert into public.notes (body, tag) values ('refused', '{'x' * 30}') returning id",
)
V2_OWNER = (
    "insert into public.notes_v2 (parts, pinned) values ('[\"owner\", 7]', true) returning id",
    f"update public.notes_v2 set tag = 'v2' where id = (random() * {ROWS})::int",
)
V1_USER = (
    f"insert into public.notes (owner_id, body) values ('{ADA}', 'user') returning id",
    f"update public.notes set body = body || ',' where id = (random() * {ROWS})::int",
)
V2_USER = (
    f"insert into public.notes_v2 (owner_id, parts) values ('{ADA}', '[\"user\"]') returning id",
    f"update public.notes_v2 set parts = parts || '[8]' where id = (random() * {ROWS})::int",
)


def clients(url: str) -> list[Client]:
    return [
        Client(url, V1_OWNER),
        Client(url, V1_REFUSED),
        Client(url, V2_OWNER),
        Client(url, V1_USER, user=True),
        Client(url, V2_USER, user=True),
    ]


def apply(url: str, text: str) -> list[str]:
    """Apply a migration in one transaction, as supabase db push does; return its warnings."""
    warnings: list[str] = []
    with psycopg.connect(url) as db:
        db.add_notice_handler(
            lambda told: (
                warnings.append(str(told.message_primary)) if told.severity == "WARNING" else None
            )
        )
        db.execute(text.encode())
    return warnings


def generated(db: Connection) -> dict[str, str]:
    """Return the generated functions of the pair that are made of whole texts."""
    return dict(
        db.execute(
            "select proname, prosrc from pg_proc"
            " where pronamespace = 'crossfade_private'::regnamespace"
            r" and proname ~ '^mirror_notes_v[12]_"
            r"(insert|update|delete|put|edit|move|remove|push)$'"
        ).fetchall()
    )


def still_there(db: Connection) -> list[str]:
    return [name for name in GONE if one(db, "select to_regprocedure(%s) is not null", name)]


def settle(db: Connection) -> None:
    """Repair what was refused, after its cause is gone."""
    db.execute("alter table public.notes_v2 drop constraint tag_is_short")
    force(db, "update crossfade.pairs set fingerprint = crossfade_private.table_fingerprint("
              "v1_table::regclass, v2_table::regclass)")  # fmt: skip
    for _ in range(100):
        if call(db, "repair", "notes", 5000)["remaining"] == 0:
            return
    raise AssertionError("repair does not end")


def test_the_next_release_is_applied_while_clients_write_and_runs_are_half_done(
    server: PostgresServer, release: str
) -> None:
    url = project(server)
    with connect(url) as db:
        force(db, f"update crossfade.settings set value = '20' {BATCH_ROWS}")
        runs = {
            kind: call(db, f"start_{kind}", "notes")["run"]["id"] for kind in ("backfill", "verify")
        }
        for kind, run in runs.items():
            call(db, f"{kind}_batch", run)
        writers = clients(url)
        worker = Client(
            url, (f"select crossfade.backfill_batch({runs['backfill']})", "select pg_sleep(0.2)")
        )
        time.sleep(1)
        began = time.monotonic()
        assert apply(url, release) == []
        took_s = time.monotonic() - began
        time.sleep(1)
        for client in (worker, *writers):
            client.stop()
        print(
            f"applied in {took_s:.2f} s; "
            + "; ".join(
                f"{c.done} transactions, {c.again} again, slowest {c.slowest_s:.2f} s"
                for c in (*writers, worker)
            )
        )
        assert one(db, "select generator from crossfade.pairs") == NEXT
        texts = generated(db)
        assert len(texts) == 16
        assert {text.splitlines()[0][:20] for text in texts.values()} == {f"-- crossfade {NEXT}:"}
        assert all(NEW_LINE in text for text in texts.values())
        assert still_there(db) == []

        answer = drive(db, "backfill", runs["backfill"])
        assert answer["release"] == NEXT
        drive(db, "verify", runs["verify"])
        settle(db)
        assert differences(db) == []
        assert drive(db, "verify")["run"]["mismatches"] == 0
        here = {key for (key,) in db.execute("select id from public.notes").fetchall()}
        kept = set().union(*(writer.kept for writer in writers))
        assert len(kept) > 20
        assert kept - here == set()
        for client in (*writers, worker):
            assert client.done > 3
            assert client.slowest_s < STALL_S
