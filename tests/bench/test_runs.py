"""Backfill and verify in batches, against the fastest single statement that does the same."""

from __future__ import annotations

from .chat import (
    HISTORY_ROWS,
    ONE_TABLE,
    V1,
    V2,
    columns,
    copy_converters,
    create_one_table,
    drain,
    fill,
    mirror,
    start,
    touch_all,
)
from .measure import Connection, Report, alternate, costs, seconds


def backfill(db: Connection) -> tuple[float, dict[str, float]]:
    """Backfill an empty V2; return rows/s and what a row costs."""
    mirror(db, "off")
    db.execute(f"truncate {V2}".encode())
    db.execute("checkpoint")
    mirror(db, "dualwrite")
    run = start(db, "start_backfill")
    with costs(db, (V1, V2), HISTORY_ROWS) as cost:
        speed = HISTORY_ROWS / seconds(lambda: drain(db, "backfill_batch", run))
    return speed, cost


def test_backfill_against_one_statement(db: Connection, report: Report) -> None:
    copy_converters(db)
    fill(db, HISTORY_ROWS)
    db.execute(f"vacuum analyze {V1}".encode())
    statement = (
        f"insert into {V2} ({columns(db, V2)}) select c.* from {V1} a"
        " cross join lateral public.inlined_to_v2(a, null) c"
    )
    cost: dict[str, float] = {}

    def ours() -> float:
        speed, found = backfill(db)
        cost.update(found)
        return speed

    def theirs() -> float:
        mirror(db, "off")
        db.execute(f"truncate {V2}".encode())
        db.execute("checkpoint")
        return HISTORY_ROWS / seconds(lambda: db.execute(statement.encode()))

    found = alternate(ours, theirs)
    found.beside.update(cost)
    against = "one INSERT ... SELECT with the same conversion"
    report.add("backfill, rows/s", found, ">= 0.85", against=against)


def test_backfill_against_touching_every_row(db: Connection, report: Report) -> None:
    create_one_table(db)
    fill(db, HISTORY_ROWS)
    db.execute(f"vacuum analyze {V1}".encode())
    cost: dict[str, float] = {}

    def theirs() -> float:
        db.execute(f"truncate {ONE_TABLE}".encode())
        db.execute(f"alter table {ONE_TABLE} disable trigger convert".encode())
        names = columns(db, V1)
        db.execute(f"insert into {ONE_TABLE} ({names}) select {names} from {V1}".encode())
        db.execute(f"alter table {ONE_TABLE} enable trigger convert".encode())
        db.execute(f"analyze {ONE_TABLE}".encode())
        db.execute("checkpoint")
        with costs(db, (ONE_TABLE,), HISTORY_ROWS) as found:
            speed = HISTORY_ROWS / seconds(lambda: touch_all(db))
        cost.update({f"theirs, {name}": value for name, value in found.items()})
        return speed

    found = alternate(lambda: backfill(db)[0], theirs, rounds=5)
    found.beside.update(cost)
    report.add(
        "backfill against touching, rows/s",
        found,
        ">= 2",
        against="a batched touch-update (1,000 rows) that fires a BEFORE trigger, after ANALYZE",
    )


def test_verify_against_one_full_join(db: Connection, report: Report) -> None:
    copy_converters(db)
    mirror(db, "dualwrite")
    fill(db, HISTORY_ROWS)
    db.execute(f"vacuum analyze {V1}, {V2}".encode())
    statement = f"""
        select count(*) from {V1} a full join {V2} b on a.id = b.id
        left join lateral public.inlined_to_v1(b, a) x on true
        left join lateral public.inlined_to_v2(a, b) y on true
        where a.id is null or b.id is null or a is distinct from x or b is distinct from y
    """

    def ours() -> float:
        run = start(db, "start_verify")
        return HISTORY_ROWS / seconds(lambda: drain(db, "verify_batch", run))

    def theirs() -> float:
        return HISTORY_ROWS / seconds(lambda: db.execute(statement.encode()))

    found = alternate(ours, theirs)
    against = "one FULL JOIN that compares through the same converters"
    report.add("verify, rows/s", found, ">= 0.8", against=against)
