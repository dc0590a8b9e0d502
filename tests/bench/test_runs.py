"""Backfill and verify in batches, against the fastest single statement that does the same."""

from __future__ import annotations

from .measure import Backend, Connection, Cost, Report, Rounds, compare, take_turns
from .pair import (
    HAND_V2,
    HISTORY_ROWS,
    KINDS,
    ONE_TABLE,
    V1,
    V2,
    drain,
    mirror,
    promised,
    rows_v1,
    scaled,
    start,
    touch_all,
)

ROUNDS = scaled(7)


def fill(db: Connection) -> None:
    """Insert the history while the pair is off."""
    db.execute(rows_v1(V1, HISTORY_ROWS).encode())
    db.execute(f"vacuum analyze {V1}".encode())


def speed(rounds: Rounds, report: Report, name: str, limit: str, kind: str, against: str) -> None:
    """Add a row: rows a second of the first side over those of the second."""
    ours, theirs = rounds[0]
    found = compare(rounds, lambda of: of[theirs].time_us / of[ours].time_us)
    for side in (ours, theirs):
        found.beside[f"{side}, rows/s"] = HISTORY_ROWS / found.beside[f"{side}, time us"] * 1e6
    report.add(name + KINDS[kind], found, promised(kind, limit), against=against)


def backfill(db: Connection) -> Cost:
    """Backfill an empty V2."""
    mirror(db, "off")
    db.execute(f"truncate {V2}".encode())
    db.execute("checkpoint")
    mirror(db, "dualwrite")
    run = start(db, "start_backfill")
    cost = Backend(db).cost(lambda: drain(db, "backfill_batch", run))
    assert db.execute(f"select count(*) from {V2}".encode()).fetchone() == (HISTORY_ROWS,)
    return cost


def test_backfill_against_one_statement(db: Connection, kind: str, report: Report) -> None:
    fill(db)
    statement = f"""
        insert into {HAND_V2} select c.* from {V1} a
        cross join lateral public.free_to_v2(a, null) c"""

    def one_statement() -> Cost:
        db.execute(f"truncate {HAND_V2}".encode())
        db.execute("checkpoint")
        return Backend(db).cost(lambda: db.execute(statement.encode()))

    rounds = take_turns({"batches": lambda: backfill(db), "one statement": one_statement}, ROUNDS)
    against = "one INSERT ... SELECT with the same conversion"
    speed(rounds, report, "backfill, rows/s", ">= 0.85", kind, against)


def test_backfill_against_touching_every_row(db: Connection, kind: str, report: Report) -> None:
    fill(db)

    def touching() -> Cost:
        db.execute(f"truncate {ONE_TABLE}".encode())
        db.execute(f"alter table {ONE_TABLE} disable trigger user".encode())
        db.execute(rows_v1(ONE_TABLE, HISTORY_ROWS).encode())
        db.execute(f"alter table {ONE_TABLE} enable trigger user".encode())
        db.execute(f"analyze {ONE_TABLE}".encode())
        db.execute("checkpoint")
        cost = Backend(db).cost(lambda: touch_all(db))
        query = f"select count(*) from {ONE_TABLE} where parts is null or waits"
        assert db.execute(query.encode()).fetchone() == (0,)
        return cost

    rounds = take_turns({"batches": lambda: backfill(db), "touching": touching}, ROUNDS)
    against = "a batched touch-update (1,000 rows) that fires BEFORE ROW triggers, after ANALYZE"
    speed(rounds, report, "backfill against touching, rows/s", ">= 2", kind, against)


def test_verify_against_one_full_join(db: Connection, kind: str, report: Report) -> None:
    mirror(db, "dualwrite")
    db.execute(rows_v1(V1, HISTORY_ROWS).encode())
    db.execute(f"vacuum analyze {V1}, {V2}".encode())
    statement = f"""
        select count(*) from {V1} a full join {V2} b on a.id = b.id
        left join lateral public.free_to_v1(b, a) x on true
        left join lateral public.free_to_v2(a, b) y on true
        where a.id is null or b.id is null or a is distinct from x or b is distinct from y
    """

    def batches() -> Cost:
        run = start(db, "start_verify")
        return Backend(db).cost(lambda: drain(db, "verify_batch", run))

    def full_join() -> Cost:
        answers: list[object] = []
        cost = Backend(db).cost(lambda: answers.append(db.execute(statement.encode()).fetchone()))
        assert answers == [(0,)]
        return cost

    rounds = take_turns({"batches": batches, "full join": full_join}, ROUNDS)
    against = "one FULL JOIN that compares through the same converters"
    speed(rounds, report, "verify, rows/s", ">= 0.8", kind, against)
