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

from crossfade.local.postgres import PostgresServer
from crossfade.project import resources
from tests.integration.next_release import GONE, NEW_LINE, NEXT, next_release
from tests.integration.test_supabase_cli import SERVERS, apply_files, empty_project
from tests.sql.control import call, force, one, refused
from tests.sql.notes_pair import REGISTER, TABLES, differences
from tests.sql.test_schema import catalog

Connection = psycopg.Connection[tuple[Any, ...]]
ADA = "00000000-0000-4000-8000-0000000000a1"
MIGRATIONS = sorted(resources.migrations_dir().glob("*.sql"))
ROWS = 1000
BATCH_ROWS = "where name in ('batch_min_rows', 'batch_max_rows', 'batch_first_rows')"
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
        time.sleep(min(answer["wait_ms"], 50) / 1000)
    raise AssertionError(answer)


class Client(threading.Thread):
    """A client in a loop. ``kept``: keys of rows that it inserted and that were acknowledged."""

    def __init__(
        self, url: str, steps: tuple[str, ...], *, user: bool = False, pause_s: float = 0.02
    ) -> None:
        super().__init__(daemon=True)
        self.url, self.steps, self.user, self.pause_s = url, steps, user, pause_s
        self.kept: set[int] = set()
        self.done = self.again = 0
        self.writes: list[tuple[float, float]] = []
        """When each transaction began and ended."""
        self.errors: list[str] = []
        self.over = threading.Event()
        self.start()

    def run(self) -> None:
        with connect(self.url) as db:
            if self.user:
                claims = json.dumps({"sub": ADA, "role": "authenticated"})
                db.execute("select set_config('request.jwt.claims', %s, false)", [claims])
                db.execute("set statement_timeout = '8s'")  # as the role has it on Supabase
                db.execute("set role authenticated")
            while not self.over.wait(self.pause_s) and not self.errors:
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
        self.writes.append((began, time.monotonic()))

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
        Client(url, V1_REFUSED, pause_s=0.1),
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
            " and proname ~ '^mirror_notes_v[12]_'"
            " and proname ~ '_(insert|update|delete|put|edit|move|remove|push)$'"
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


LEFT_BEHIND = """
create function crossfade_private.mirror_notes_v1_extra() returns trigger language plpgsql as $$
-- crossfade 0.2.0: mirror of pair "notes": what the next release does not make any more.
begin
  raise exception 'made by an older release';
end $$;
create trigger crossfade_mirror_extra after insert on public.notes
  for each statement when (false) execute function crossfade_private.mirror_notes_v1_extra();
"""


def test_the_next_release_is_applied_while_clients_write_and_runs_are_half_done(
    server: PostgresServer, release: str
) -> None:
    url = project(server)
    with connect(url) as db:
        force(db, f"update crossfade.settings set value = '20' {BATCH_ROWS}")
        runs = {}
        for kind in ("backfill", "verify"):
            runs[kind] = call(db, f"start_{kind}", "notes")["run"]["id"]
            db.execute("update crossfade.run_ranges set batch_rows = 20")
            call(db, f"{kind}_batch", runs[kind])
        db.execute(LEFT_BEHIND)
        writers = clients(url)
        batch = f"select crossfade.backfill_batch({runs['backfill']})"
        worker = Client(url, (batch,), pause_s=0.2)
        time.sleep(1)
        assert one(db, "select count(*) from crossfade.runs where state = 'running'") == 2
        began = time.monotonic()
        assert apply(url, release) == []
        took_s = time.monotonic() - began
        time.sleep(1)
        for client in (worker, *writers):
            client.stop()

        assert one(db, "select generator from crossfade.pairs") == NEXT
        texts = generated(db)
        assert len(texts) == 16
        for text in texts.values():
            first, second = text.strip().splitlines()[:2]
            assert first.startswith(f'-- crossfade {NEXT}: mirror of pair "notes"')
            assert second == NEW_LINE
        assert still_there(db) == []
        assert one(db, "select to_regproc('crossfade_private.mirror_notes_v1_extra') is null")
        force(db, f"update crossfade.settings set value = '2000' {BATCH_ROWS}")
        assert drive(db, "backfill", runs["backfill"])["release"] == NEXT
        drive(db, "verify", runs["verify"])
        settle(db)
        assert differences(db) == []
        assert drive(db, "verify")["run"]["mismatches"] == 0
        here = {key for (key,) in db.execute("select id from public.notes").fetchall()}
        assert [key for writer in writers for key in writer.kept if key not in here] == []
    print(f"applied in {took_s:.2f} s")
    for client in (*writers, worker):
        slowest_s = max(end - start for start, end in client.writes)
        print(f"{client.done} times, {client.again} again, slowest {slowest_s:.2f} s")
        assert client.done > 3
    # Tables that writers need are locked at the end only: until then everybody goes on writing.
    late = began + took_s * 2 / 3
    for writer in writers:
        assert any(began < start and end < late for start, end in writer.writes)


def test_a_pair_that_cannot_be_refreshed_keeps_its_mirror_and_is_named(
    server: PostgresServer, release: str
) -> None:
    url = project(server)
    with connect(url) as db, psycopg.connect(url) as old:
        run = call(db, "start_backfill", "notes")["run"]["id"]
        old.execute("insert into public.notes (body) values ('not committed')")
        writers = clients(url)
        warnings = apply(url, release)
        time.sleep(1)
        for writer in writers:
            writer.stop()

        assert len(warnings) == 1
        assert 'the mirror of pair "notes" is still that of release 0.2.0' in warnings[0]
        assert one(db, "select generator from crossfade.pairs") == "0.2.0"
        assert still_there(db) == list(GONE)
        last = max(writers[1].kept)
        assert (
            one(
                db,
                "select count(*) from crossfade.mirror_failures where key ->> 'id' = %s",
                str(last),
            )
            == 1
        ), "a row that is refused after the release is recorded by the old functions"
        # Who is told, and how it is mended.
        way_out = "crossfade pair refresh notes"
        problems = one(
            db,
            "select array(select crossfade_private.mirror_problems(p)) from crossfade.pairs p",
        )
        assert [problem for problem in problems if way_out in problem] == problems != []
        check = (resources.resource("sql/checks") / "outdated_mirrors.sql").read_bytes()
        ((_, pair, _, hint),) = db.execute(check).fetchall()
        assert (pair, hint) == ("notes", way_out)
        batch = call(db, "backfill_batch", run)
        assert batch["state"] == "waiting"
        assert way_out in batch["reason"]
        with refused("CF011", 409) as refusal:
            call(db, "repair", "notes")
        assert way_out in refusal.message

        old.rollback()
        assert call(db, "refresh_pair", "notes")["after"] == NEXT
        assert all(NEW_LINE in text for text in generated(db).values())
        assert drive(db, "backfill", run)["release"] == NEXT
        settle(db)
        assert differences(db) == []
        assert (
            one(
                db,
                "select array(select crossfade_private.mirror_problems(p)) from crossfade.pairs p",
            )
            == []
        )
        assert db.execute(check).fetchall() == []
        assert apply(url, release) == []
        assert still_there(db) == []


def test_the_next_release_gives_one_catalog_wherever_it_is_applied(
    server: PostgresServer, release: str
) -> None:
    def made(*texts: str, register_after: int) -> dict[str, list[str]]:
        url = empty_project(server, f"catalog_{next(_numbers)}")
        with connect(url) as db:
            db.execute(TABLES)
            for number, text in enumerate(texts, 1):
                assert apply(url, text) == []
                if number == register_after:
                    db.execute(REGISTER, ["{}"])
            found = catalog(db)
        # These have a time in them (the number of a change of the mirror) and an object's number.
        found["function"] = [text for text in found["function"] if "_change()" not in text]
        found["trigger"] = [text for text in found["trigger"] if "RI_ConstraintTrig" not in text]
        return found

    this = MIGRATIONS[-1].read_text(encoding="utf-8")
    fresh = made(release, register_after=1)
    assert any("remark" in text for text in fresh["column"])
    assert any("'retired'" in text for text in fresh["constraint"])
    for other in (
        made(this, release, register_after=1),
        made(release, release, register_after=1),
        made(this, this, release, release, register_after=2),
    ):
        assert {kind: set(lines) ^ set(other[kind]) for kind, lines in fresh.items()} == {
            kind: set() for kind in fresh
        }
