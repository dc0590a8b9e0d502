"""What mirroring costs a writer, against what it would be without or by other means.

Not part of `make test`: `make bench` runs it and writes build/bench.json.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count, islice

import pytest

from crossfade.local.postgres import PostgresServer

from .conftest import database
from .measure import Backend, Connection, Cost, Report, Rounds, compare, costs, take_turns
from .pair import (
    BULK_ROWS,
    CASCADE_ROWS,
    HAND_V1,
    HAND_V2,
    KINDS,
    ONE_TABLE,
    REFUSED_OF,
    V1,
    V2,
    calls,
    empty,
    failures,
    mirror,
    promised,
    refuse_empty_bodies,
    rows_v1,
    rows_v2,
    scaled,
)

STATEMENTS = 50  # of one side in a round
ROUNDS = scaled(120)
UPDATED_ROWS = 1_000
PARENT = 20_001
SLOW_PATH = {f"v{side}_{way}" for side in (1, 2) for way in ("put", "edit", "move", "remove")}
ROW_TRIGGERS = "one table, a BEFORE ROW trigger a direction that assigns one converted column"
BY_HAND = "both statements by hand, in one transaction"


@dataclass(frozen=True)
class Promise:
    """A row of the report that is read off the rounds of single statements."""

    name: str
    ratio: Callable[[dict[str, Cost]], float]
    limit: str
    against: str

    def keep(self, report: Report, rounds: Rounds, kind: str) -> None:
        report.add(
            self.name + KINDS[kind],
            compare(rounds, self.ratio),
            promised(kind, self.limit),
            against=self.against,
        )


INSERTS = (
    Promise(
        "insert V1, CPU that the mirror adds",
        lambda of: (of["insert V1"].cpu_us - of["plain V1"].cpu_us) / of["plain V2"].cpu_us,
        "<= 0.65",
        "the plain INSERT of the V2 row",
    ),
    Promise(
        "insert V2, CPU that the mirror adds",
        lambda of: (of["insert V2"].cpu_us - of["plain V2"].cpu_us) / of["plain V1"].cpu_us,
        "<= 0.65",
        "the plain INSERT of the V1 row",
    ),
    Promise(
        "insert V1, time",
        lambda of: of["insert V1"].time_us / of["row triggers V1"].time_us,
        "<= 1.3",
        ROW_TRIGGERS,
    ),
    Promise(
        "insert V2, time",
        lambda of: of["insert V2"].time_us / of["row triggers V2"].time_us,
        "<= 1.3",
        ROW_TRIGGERS,
    ),
)
UPDATES = (
    Promise(
        "update V1, time",
        lambda of: of["update V1"].time_us / of["row triggers"].time_us,
        "<= 1.8",
        ROW_TRIGGERS,
    ),
    Promise(
        "update of a column that only V2 has, CPU",
        lambda of: of["update V2"].cpu_us / of["plain V2"].cpu_us,
        "<= 1.7",
        "the plain UPDATE",
    ),
)


@pytest.fixture(scope="module")
def single(server: PostgresServer, kind: str) -> Iterator[Connection]:
    """Single statements: no answer waits for the disk, which would hide all else."""
    with database(server, "single", kind) as db:
        db.execute("set synchronous_commit = off")
        mirror(db, "dualwrite")
        yield db


@pytest.fixture(scope="module")
def inserts(single: Connection) -> Rounds:
    """One row a statement, prepared, each its own transaction."""
    v1_row = "(person_id, body) values ($1, $2)"
    v2_row = "(id, person_id, parts) values ($1, $2, $3)"
    found = calls(single, f"insert into {V1} (person_id, body) values (1, 'note')")
    assert found == {"v1_insert", "v2_insert"}
    found = calls(single, f"insert into {V2} (person_id, parts) values (1, '[\"note\"]')")
    assert found == {"v2_insert", "v1_insert"}
    backend = Backend(single)
    for version, row, tables in (
        ("V1", v1_row, (V1, HAND_V1, ONE_TABLE)),
        ("V2", v2_row, (V2, HAND_V2, ONE_TABLE)),
    ):
        for name, table in zip(("insert", "plain", "row triggers"), tables, strict=True):
            backend.prepare(f"{name} {version}", f"insert into {table} {row}")
    ids = count(10**9)  # no sequence comes so far

    def v1(name: str) -> Cost:
        return backend.each(name, [(1 + n % 1000, f"note {n}") for n in range(STATEMENTS)])

    def v2(name: str) -> Cost:
        rows = [(n, 1 + n % 1000, f'["note {n}"]') for n in islice(ids, STATEMENTS)]
        return backend.each(name, rows)

    def row_triggers_v2() -> Cost:
        single.execute("set bench.version = '2'")
        cost = v2("row triggers V2")
        single.execute("set bench.version = '1'")
        return cost

    sides = {name: partial(v1, name) for name in ("insert V1", "plain V1", "row triggers V1")}
    sides |= {name: partial(v2, name) for name in ("insert V2", "plain V2")}
    return take_turns({**sides, "row triggers V2": row_triggers_v2}, ROUNDS)


@pytest.mark.parametrize("promise", INSERTS, ids=lambda promise: promise.name)
def test_single_insert(promise: Promise, inserts: Rounds, kind: str, report: Report) -> None:
    promise.keep(report, inserts, kind)


@pytest.fixture(scope="module")
def updates(single: Connection, inserts: Rounds, kind: str) -> Rounds:
    """One row a statement, by key; the body, or a column that version 1 knows nothing of."""
    assert inserts
    empty(single)
    for table in (V1, HAND_V1, ONE_TABLE):
        single.execute(rows_v1(table, UPDATED_ROWS).encode())
    single.execute(rows_v2(HAND_V2, UPDATED_ROWS).encode())
    single.execute("vacuum analyze")
    edit, pin = "set body = $2 where id = $1", "set pinned = not pinned where id = $1"
    found = calls(single, f"update {V1} set body = 'text' where id = 1")
    assert found == {"v1_update", "v2_update"}
    found = calls(single, f"update {V2} set pinned = not pinned where id = 1")
    # Only of a list is it known which columns it reads; else V1 is looked at and nothing found.
    assert found == ({"v2_update"} if kind == "list" else {"v2_update", "v1_update"})
    backend = Backend(single)
    numbers = count()

    def side(name: str, table: str, change: str) -> Callable[[], Cost]:
        backend.prepare(f"update, {name}", f"update {table} {change}")

        def run() -> Cost:
            rows = [(1 + n % UPDATED_ROWS, f"text {n}") for n in islice(numbers, STATEMENTS)]
            values = rows if change is edit else [row[:1] for row in rows]
            return backend.each(f"update, {name}", values)

        return run

    return take_turns(
        {
            "update V1": side("update V1", V1, edit),
            "row triggers": side("row triggers", ONE_TABLE, edit),
            "update V2": side("update V2", V2, pin),
            "plain V2": side("plain V2", HAND_V2, pin),
        },
        ROUNDS,
    )


@pytest.mark.parametrize("promise", UPDATES, ids=lambda promise: promise.name)
def test_single_update(promise: Promise, updates: Rounds, kind: str, report: Report) -> None:
    promise.keep(report, updates, kind)


@dataclass(frozen=True)
class Bulk:
    """Two sides that take turns: the mirror, and everything by hand in one transaction."""

    db: Connection
    kind: str
    report: Report

    def measure(
        self,
        name: str,
        limit: str,
        *,
        rows: int,
        prepare: Callable[[], object],
        ours: str,
        by_hand: tuple[str, ...],
        check: Callable[[], object],
        against: str = BY_HAND,
    ) -> None:
        """Add a row. Both sides find what ``prepare`` leaves; ``check`` sees what ours did."""
        backend = Backend(self.db)
        extra: dict[str, float] = {}

        def mirrored() -> Cost:
            prepare()
            with costs(self.db, (V1, V2), rows) as found:
                cost = backend.cost(lambda: self.db.execute(ours.encode()))
            check()
            extra.update(found)
            return cost

        def without() -> Cost:
            prepare()
            with costs(self.db, (HAND_V1, HAND_V2), rows) as found:
                cost = backend.cost(lambda: self.db.execute("; ".join(by_hand).encode()))
            extra.update({f"{what}, by hand": value for what, value in found.items()})
            return cost

        rounds = take_turns({"mirrored": mirrored, "by hand": without}, max(3, scaled(11)))
        found = compare(rounds, lambda of: of["mirrored"].time_us / of["by hand"].time_us)
        found.beside.update(extra)
        self.report.add(name + KINDS[self.kind], found, promised(self.kind, limit), against=against)

    def rows_of(self, table: str) -> int:
        (found,) = self.db.execute(f"select count(*) from {table}".encode()).fetchone() or (0,)
        return int(found)

    def fill(self, rows: int) -> None:
        """Begin a round with so many rows in all tables, and nothing left to write for the last."""
        empty(self.db)
        for table in (V1, HAND_V1):
            self.db.execute(rows_v1(table, rows).encode())
        self.db.execute(rows_v2(HAND_V2, rows).encode())
        self.db.execute(f"vacuum analyze {V1}, {V2}, {HAND_V1}, {HAND_V2}".encode())
        self.db.execute("checkpoint")


@pytest.fixture
def bulk(db: Connection, kind: str, report: Report) -> Bulk:
    mirror(db, "dualwrite")
    return Bulk(db, kind, report)


def test_bulk_insert(bulk: Bulk) -> None:
    insert = rows_v1(V1, BULK_ROWS)
    assert calls(bulk.db, insert) == {"v1_insert", "v2_insert"}

    def check() -> None:
        assert bulk.rows_of(V2) == BULK_ROWS

    bulk.measure(
        "bulk insert, time",
        "<= 1.1",
        rows=BULK_ROWS,
        prepare=partial(empty, bulk.db),
        ours=insert,
        by_hand=(rows_v1(HAND_V1, BULK_ROWS), rows_v2(HAND_V2, BULK_ROWS)),
        check=check,
    )


def test_bulk_update(bulk: Bulk) -> None:
    bulk.fill(BULK_ROWS)
    update = f"update {V1} set body = body || '.'"
    assert calls(bulk.db, update) == {"v1_update", "v2_update"}
    bulk.measure(
        "bulk update, time",
        "<= 1.2",
        rows=BULK_ROWS,
        prepare=partial(bulk.fill, BULK_ROWS),
        ours=update,
        by_hand=(
            f"update {HAND_V1} set body = body || '.'",
            f"update {HAND_V2} set parts = jsonb_build_array(parts ->> 0 || '.')",
        ),
        check=lambda: None,
    )


def test_cascade(bulk: Bulk) -> None:
    """A parent goes with its rows; both tables of each side have the foreign key."""

    def prepare() -> None:
        empty(bulk.db)
        bulk.db.execute(
            f"insert into people values ({PARENT}), ({PARENT + 1}) on conflict do nothing".encode()
        )
        bulk.db.execute(rows_v1(V1, CASCADE_ROWS, person=str(PARENT)).encode())
        bulk.db.execute(rows_v1(HAND_V1, CASCADE_ROWS, person=str(PARENT + 1)).encode())
        bulk.db.execute(rows_v2(HAND_V2, CASCADE_ROWS, person=str(PARENT + 1)).encode())
        bulk.db.execute("vacuum analyze")
        bulk.db.execute("checkpoint")

    def check() -> None:
        assert bulk.rows_of(V1) == bulk.rows_of(V2) == failures(bulk.db) == 0

    delete = "delete from people where id = {}"
    prepare()
    # Called at most to see that no row is there again: by now both tables have lost theirs.
    assert SLOW_PATH & calls(bulk.db, delete.format(PARENT)) <= {"v1_put", "v2_put"}
    bulk.measure(
        "cascade, time",
        "<= 1.3",
        rows=CASCADE_ROWS,
        prepare=prepare,
        ours=delete.format(PARENT),
        by_hand=(delete.format(PARENT + 1),),
        check=check,
        against="the same cascade into the same two tables without a mirror",
    )


def test_insert_with_one_row_refused(bulk: Bulk) -> None:
    """V2 has a constraint that one of the rows breaks; V1 keeps it, and a failure is recorded."""
    refuse_empty_bodies(bulk.db)
    place = REFUSED_OF * 2 // 3
    insert = rows_v1(V1, REFUSED_OF, body=f"case n when {place} then '' else 'note ' || n end")
    assert SLOW_PATH & calls(bulk.db, insert) == {"v1_put"}

    def check() -> None:
        assert failures(bulk.db) == 1
        assert bulk.rows_of(V1) == bulk.rows_of(V2) + 1 == REFUSED_OF

    bulk.measure(
        "insert with one row refused, time",
        "<= 1.6",
        rows=REFUSED_OF,
        prepare=partial(empty, bulk.db),
        ours=insert,
        by_hand=(rows_v1(HAND_V1, REFUSED_OF), rows_v2(HAND_V2, REFUSED_OF)),
        check=check,
        against=f"{BY_HAND}, all rows good",
    )


def test_update_with_one_row_refused(bulk: Bulk) -> None:
    refuse_empty_bodies(bulk.db)
    place = REFUSED_OF * 2 // 3
    bulk.fill(REFUSED_OF)
    update = f"update {V1} set body = case id when {place} then '' else body || '.' end"
    assert SLOW_PATH & calls(bulk.db, update) == {"v1_edit"}

    def check() -> None:
        assert failures(bulk.db) == 1
        query = f"select count(*) from {V2} where parts ->> 0 like '%.'"
        assert bulk.db.execute(query.encode()).fetchone() == (REFUSED_OF - 1,)

    bulk.measure(
        "update with one row refused, time",
        "<= 3",
        rows=REFUSED_OF,
        prepare=partial(bulk.fill, REFUSED_OF),
        ours=update,
        by_hand=(
            f"update {HAND_V1} set body = body || '.'",
            f"update {HAND_V2} set parts = jsonb_build_array(parts ->> 0 || '.')",
        ),
        check=check,
        against=f"{BY_HAND}, all rows good",
    )
