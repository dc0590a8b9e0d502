"""Measuring two sides side by side, and keeping what was found."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psycopg

ROOT = Path(__file__).resolve().parents[2]
REPORT = ROOT / "build" / "bench.json"

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True)
class Row:
    """One line of the report.

    Attributes:
        value: ours over the other's.
        limit: which way, such as ``<= 0.75``.
        spread: the ratios of the single rounds.
        beside: figures that are no promise, by name.
    """

    name: str
    value: float
    against: str
    limit: str
    holds: bool
    spread: str = ""
    beside: dict[str, float] = field(default_factory=dict)


class Report:
    """The rows of one session; they replace those of the same name in the file."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def add(self, name: str, measured: Ratio, limit: str, *, against: str) -> None:
        """Add a row and print it, also when it does not hold; then fail if it does not.

        Args:
            name: what is measured.
            measured: ours over the other's.
            limit: ``<=`` or ``>=`` and a number.
            against: what the other side does.
        """
        sign, number = limit.split()
        value = round(measured.value, 3)
        holds = value <= float(number) if sign == "<=" else value >= float(number)
        row = Row(name, value, against, limit, holds, measured.spread, measured.beside)
        self.rows.append(row)
        print(f"\n{show(row)}")
        assert holds, show(row)

    def write(self) -> None:
        """Write the file; rows that another session measured stay."""
        REPORT.parent.mkdir(exist_ok=True)
        known = json.loads(REPORT.read_text()) if REPORT.exists() else []
        names = {row.name for row in self.rows}
        kept = [row for row in known if row["name"] not in names]
        rows = [*kept, *(asdict(row) for row in self.rows)]
        REPORT.write_text(json.dumps(rows, indent=2) + "\n")


def show(row: Row) -> str:
    """Return a row as text."""
    verdict = "holds" if row.holds else "DOES NOT HOLD"
    beside = "".join(f"\n  {name}: {value:,.6g}" for name, value in row.beside.items())
    head = f"{row.name}: {row.value:.2f} ({row.limit}, {verdict}; {row.spread})"
    return f"{head}\n  against {row.against}{beside}"


@dataclass(frozen=True)
class Ratio:
    """Ours over the other's, and how far the ratios of neighbouring rounds lie apart."""

    value: float
    spread: str
    beside: dict[str, float] = field(default_factory=dict)


Side = Callable[[], float]


def alternate(ours: Side, theirs: Side, *, rounds: int = 7, smaller: bool = False) -> Ratio:
    """Measure both sides in turn: ours, theirs, theirs, ours, ...

    Neighbours in time meet the same machine, and every other round begins with the other side.
    Other work on the machine only ever makes a round slower, so what is compared is the quarter of
    each side's rounds that was disturbed least.

    Args:
        ours: does one round, returns its figure.
        theirs: the same for what we compare with.
        rounds: rounds that count; one more warms up both sides.
        smaller: the figures are times, not speeds.
    """
    found = []
    for number in range(rounds + 1):
        first, second = (ours, theirs) if number % 2 == 0 else (theirs, ours)
        one, two = first(), second()
        if number:
            found.append((one, two) if number % 2 == 0 else (two, one))
    ratios = [own / other for own, other in found]
    own, other = (_least_disturbed(side, smaller=smaller) for side in zip(*found, strict=True))
    quarters = statistics.quantiles(ratios, n=4)
    spread = (
        f"round by round {min(ratios):.2f} to {max(ratios):.2f}, middle half {quarters[0]:.2f} to "
        f"{quarters[2]:.2f}, median {quarters[1]:.2f}, {rounds} rounds"
    )
    return Ratio(own / other, spread, {"ours": own, "theirs": other})


def _least_disturbed(figures: Sequence[float], *, smaller: bool) -> float:
    best = sorted(figures, reverse=not smaller)
    return statistics.median(best[: max(1, len(best) // 4 + 1)])


@contextmanager
def awake(limit_s: float = 900) -> Iterator[None]:
    """Keep the cores from sleeping: an idle virtual core takes tens of microseconds to wake up.

    That would be charged to the side whose answer the client has to sleep for: a handler that does
    nothing for 30 microseconds measured as 70 on an idle machine, as 23 with this. One loop of the
    lowest priority a core, which gives way at once and ends by itself after ``limit_s``.
    """
    loop = f"import time; end = time.time() + {limit_s}\nwhile time.time() < end: pass"
    command = ["nice", "-n", "19", sys.executable, "-c", loop]
    loops = [subprocess.Popen(command) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for process in loops:
            process.kill()
            process.wait()


def seconds(work: Callable[[], object]) -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@contextmanager
def costs(db: Connection, tables: Sequence[str], rows: int) -> Iterator[dict[str, float]]:
    """Fill in WAL bytes and dead tuples per row, once the block has ended."""
    found: dict[str, float] = {}
    marks = _wal(db), _dead(db, tables)
    yield found
    found["WAL bytes per row"] = (_wal(db) - marks[0]) / rows
    found["dead tuples per row"] = (_dead(db, tables) - marks[1]) / rows


def _wal(db: Connection) -> float:
    (found,) = db.execute("select pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone() or (0,)
    return float(found)


def _dead(db: Connection, tables: Sequence[str]) -> float:
    db.execute("select pg_stat_force_next_flush()")
    query = "select coalesce(sum(n_dead_tup), 0) from pg_stat_user_tables where relid = any(%s)"
    db.execute("select pg_stat_clear_snapshot()")
    (found,) = db.execute(query, [[_oid(db, table) for table in tables]]).fetchone() or (0,)
    return float(found)


def _oid(db: Connection, table: str) -> int:
    (found,) = db.execute("select %s::regclass::oid", [table]).fetchone() or (0,)
    return int(found)
