"""pgbench writes both tables while an operator takes the pair through its whole life.

No client statement may fail, except for deadlocks and serialization failures, which pgbench
repeats. LIVE_WRITERS_S sets how long each step is watched (default 0.4 s).
"""

from __future__ import annotations

import collections
import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from crossfade.local.postgres import PostgresServer

from .conftest import migrated
from .live_operator import Operator
from .notes_pair import REGISTER, TABLES, differences

DWELL_S = float(os.environ.get("LIVE_WRITERS_S", "0.4"))
ROWS = 2000

V1_WRITER = r"""
\set id random(1, 2000)
\set low random(1, 1900)
insert into public.notes (body, tag) values ('new', 'a'), ('new too', null);
insert into public.notes (id, body) values (:id, 'upsert')
  on conflict (id) do update set body = excluded.body;
update public.notes set body = body || '.' where id between :low and :low + 12;
delete from public.notes where id > 2000 and random() < 0.05;
begin isolation level repeatable read;
update public.notes set tag = 'rr' where id = :id;
commit;
"""
V2_WRITER = r"""
\set id random(1, 2000)
insert into public.notes_v2 (parts, pinned) values ('["new", 7]', true);
insert into public.notes_v2 (id, parts) values (:id, '["upsert"]')
  on conflict (id) do update set parts = excluded.parts;
update public.notes_v2 set tag = 'by v2' where id = :id;
delete from public.notes_v2 where id > 2000 and random() < 0.05;
"""
_COUNTED = {
    "transactions": r"number of transactions actually processed: (\d+)",
    "failed": r"number of failed transactions: (\d+)",
    "retried": r"number of transactions retried: (\d+)",
    "retries": r"total number of retries: (\d+)",
}


class Writers:
    """pgbench on one table, a second at a time, until stopped."""

    def __init__(self, server: PostgresServer, database: str, script: Path) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self.errors: list[str] = []
        self._server = server
        self._database = database
        self._script = script
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(60)
        assert not self.errors, "\n".join(self.errors)

    def _run(self) -> None:
        while not self._stop.is_set():
            done = self._server.run(
                "pgbench", "-n", "-c", "2", "-T", "1", "--max-tries", "20", "-f", str(self._script),
                database=self._database, check=False,
            )  # fmt: skip
            for name, pattern in _COUNTED.items():
                found = re.search(pattern, done.stdout)
                self.counts[name] += int(found[1]) if found else 0
            if done.returncode != 0 or "ERROR" in done.stderr:
                self.errors.append(done.stderr[-2000:])
                return


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PostgresServer]:
    tmp_path.chmod(0o755)
    settings = {"deadlock_timeout": "100ms"}
    with PostgresServer(tmp_path / "data", durable=False, settings=settings) as started:
        yield started


def test_no_statement_of_a_live_writer_fails_from_register_to_removal(
    server: PostgresServer, tmp_path: Path
) -> None:
    database = migrated(server).database
    scripts = []
    for name, text in (("v1.sql", V1_WRITER), ("v2.sql", V2_WRITER)):
        (tmp_path / name).write_text(text)
        scripts.append(tmp_path / name)
    with psycopg.connect(server.dsn(database=database), autocommit=True) as db:
        db.execute(TABLES)
        db.execute("select setval('public.notes_id', 2000)")
        db.execute(
            f"insert into public.notes (id, body) select g, 'n' from generate_series(1, {ROWS}) g"
        )
        db.execute(
            "update crossfade.settings set value = '0' "
            "where name in ('shadow_min_reads', 'stage_bake_s')"
        )
        db.execute(
            "update crossfade.settings set value = '1000' where name = 'throttle_lock_waits'"
        )
        counts = live_through_it(Operator(db, "notes", dwell_s=DWELL_S), server, database, scripts)
    print(f"live writers: {dict(counts)}")
    assert counts["failed"] == 0
    assert counts["transactions"] > 100


def live_through_it(
    operator: Operator, server: PostgresServer, database: str, scripts: list[Path]
) -> collections.Counter[str]:
    db = operator.db
    v1 = Writers(server, database, scripts[0])
    for _ in range(20):
        try:
            db.execute(REGISTER, ["{}"])
            break
        except psycopg.errors.LockNotAvailable:
            continue
    operator.stage("dualwrite")
    operator.run("backfill", ", ranges => 3")
    v2 = Writers(server, database, scripts[1])  # from now on version 2 is open
    for stage, clean in (
        ("shadow", False), ("live", True), ("shadow", False), ("dualwrite", False),
        ("shadow", False), ("live", True), ("rampdown", True), ("live", False),
        ("rampdown", True), ("shadow", False), ("live", True), ("rampdown", True),
    ):  # fmt: skip
        operator.stage(stage, clean=clean)
    v1.stop()  # version 1 is read-only in complete
    operator.stage("complete", clean=True)
    operator.run("backfill", ", 'v2_to_v1'")
    operator.stage("rampdown", clean=True)
    v1_again = Writers(server, database, scripts[0])
    operator.stage("dualwrite")
    time.sleep(DWELL_S)
    for writers in (v1_again, v2):
        writers.stop()
    operator.call("select crossfade.repair('notes', 100000)")
    assert differences(db) == []
    # Nothing is mirrored any more from here on; taking the triggers away fails nobody either.
    last = [Writers(server, database, script) for script in scripts]
    operator.stage("off")
    operator.call("select crossfade.unregister_pair('notes', 'test')")
    time.sleep(DWELL_S)
    for writers in last:
        writers.stop()
    return sum((w.counts for w in (v1, v1_again, v2, *last)), collections.Counter())
