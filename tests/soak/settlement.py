"""After a round: finish what is under way, drain what is open, and read what there is."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from .client import Connection, Shared
from .engine import Operator, active_run, batch, verify_pass, way_back
from .journal import Transaction
from .rows import Key, Row, read_row
from .shape import Shape, select_list


def settle(shared: Shared) -> None:
    """Bring the pair back from complete, finish the backfill, repair until nothing is open."""
    operator = Operator(shared)
    complete = operator.call("select stage from crossfade.pairs") == "complete"
    if complete and not any(way_back(operator, shared) for _ in range(10)):
        shared.problems.append("no way back from complete")
    operator.call(
        "update crossfade_private.mirror_state set mirror = 'both' where mirror = 'log_only'"
    )
    # What V2 refused can be repaired only when it does not refuse any more.
    operator.call("alter table public.box_v2 drop constraint amount_is_small")
    _finish_backfill(operator, shared)
    answer: dict[str, Any] = {"remaining": 1, "repaired": 1}
    while answer["remaining"] and answer["repaired"]:
        answer = operator.call("select crossfade.repair('box', 5000, 'soak')") or answer
    if answer["remaining"]:
        shared.problems.append(f"repair does not drain: {answer}")
    operator.close()


def _finish_backfill(operator: Operator, shared: Shared) -> None:
    run = operator.call(
        "select id from crossfade.runs where kind = 'backfill' and state = 'paused'"
    )
    if run is not None:
        operator.call(f"select crossfade.control_run({run}, 'resume', 'soak')")
    if operator.call("select last_backfill_at is null from crossfade.pairs"):
        operator.call("select crossfade.start_backfill('box')")
    deadline = time.monotonic() + 30
    while active_run(operator, "backfill") is not None and time.monotonic() < deadline:
        batch(operator, "backfill")
    if active_run(operator, "backfill") is not None:
        shared.problems.append("the backfill does not finish")


def final_verify(shared: Shared) -> None:
    """Let the engine compare as well: it must find nothing that the soak did not."""
    operator = Operator(shared)
    operator.call(
        "update crossfade.runs set state = 'cancelled' where kind = 'verify' "
        "and state in ('running', 'paused')"
    )
    found = verify_pass(operator, shared)
    if found:
        shared.problems.append(f"the engine's own verify finds {found} mismatches")
    operator.close()


def resolve(db: Connection, shared: Shared, transactions: Iterable[Transaction]) -> None:
    """Find out what committed: the server's word counts, for lost connections above all."""
    found: list[tuple[str, datetime]] = [
        (row[0], row[1])
        for row in db.execute("select token, pg_xact_commit_timestamp(xmin) from soak.txns")
    ]
    times = dict(found)
    for transaction in transactions:
        transaction.committed_at = times.get(transaction.token)
        committed = transaction.committed_at is not None
        if transaction.outcome == "unknown":
            shared.counts["unknown: committed" if committed else "unknown: rolled back"] += 1
        elif transaction.outcome == "committed" and not committed:
            shared.problems.append(f"committed transaction {transaction.token} is gone")
        elif transaction.outcome == "rolled_back" and committed:
            shared.problems.append(f"rolled back transaction {transaction.token} is there")


def failed_keys(db: Connection, shape: Shape) -> set[Key]:
    """Return the keys that ever had a mirror failure."""
    found = db.execute("select distinct key from crossfade.mirror_failures").fetchall()
    return {shape.json_key(row[0]) for row in found}


def unexplained(db: Connection, shape: Shape, failed: set[Key]) -> list[str]:
    """Return differences that verify saw and that nobody had recorded."""
    found = db.execute(
        "select key, kind, columns, found_at from crossfade.mismatches "
        "where kind <> 'missing_v2'"  # before the backfill got there
    )
    return [
        f"a difference that nobody recorded: {row}"
        for row in found.fetchall()
        if shape.json_key(row[0]) not in failed
    ]


def read_table(db: Connection, shape: Shape, side: int) -> dict[Key, Row]:
    """Return all rows of a table."""
    width = len(shape.keys(side))
    text = f"select {select_list(shape, side)} from {shape.table(side)} t"
    return {
        shape.key(row[:width]): read_row(side, row[width:])
        for row in db.execute(text.encode()).fetchall()
    }
