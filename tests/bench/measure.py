"""Measuring two sides side by side, and keeping what was found."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult

ROOT = Path(__file__).resolve().parents[2]
REPORT = ROOT / "build" / "bench.json"

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True)
class Row:
    """One line of the report.

    Attributes:
        value: ours over the other's.
        limit: which way, such as ``<= 0.75``; nothing where nothing is promised.
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
            limit: ``<=`` or ``>=`` and a number; nothing for a row that promises nothing.
            against: what the other side does.
        """
        value = round(measured.value, 3)
        holds = _holds(value, limit)
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


def _holds(value: float, limit: str) -> bool:
    if not limit:
        return True
    sign, number = limit.split()
    return value <= float(number) if sign == "<=" else value >= float(number)


def show(row: Row) -> str:
    """Return a row as text."""
    verdict = "holds" if row.holds else "DOES NOT HOLD"
    promise = f"{row.limit}, {verdict}" if row.limit else "no promise"
    beside = "".join(f"\n  {name}: {value:,.6g}" for name, value in row.beside.items())
    head = f"{row.name}: {row.value:.2f} ({promise}; {row.spread})"
    return f"{head}\n  against {row.against}{beside}"


@dataclass(frozen=True)
class Ratio:
    """Ours over the other's, and how far the ratios of neighbouring rounds lie apart."""

    value: float
    spread: str
    beside: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Cost:
    """What some work took: CPU of the server process, and time as its client saw it."""

    cpu_us: float
    time_us: float


Rounds = list[dict[str, Cost]]


class Backend:
    """The server process of a connection, and its CPU time as the kernel counts it (Linux)."""

    def __init__(self, db: Connection) -> None:
        self._pgconn = db.pgconn
        self._schedstat = Path(f"/proc/{db.info.backend_pid}/schedstat")

    def prepare(self, name: str, statement: str) -> None:
        """Prepare a statement as clients do that send it often."""
        self._check(self._pgconn.prepare(name.encode(), statement.encode()))

    def cost(self, work: Callable[[], object]) -> Cost:
        """Return what one call took."""
        cpu, start = self._cpu_ns(), time.perf_counter()
        work()
        time_us = 1e6 * (time.perf_counter() - start)
        return Cost((self._cpu_ns() - cpu) / 1e3, time_us)

    def each(self, name: str, parameters: Iterable[Sequence[object]]) -> Cost:
        """Run a prepared statement for each of the parameters; return what one of them took.

        Through libpq: psycopg's cursors take longer than the server. The time is that of the
        quarter that was disturbed least: a busy processor says nothing about a statement.

        """
        values = [[str(value).encode() for value in one] for one in parameters]
        times = []
        cpu = self._cpu_ns()
        for one in values:
            start = time.perf_counter()
            result = self._pgconn.exec_prepared(name.encode(), one)
            times.append(time.perf_counter() - start)
            self._check(result)
        return Cost(
            (self._cpu_ns() - cpu) / 1e3 / len(values), 1e6 * statistics.quantiles(times, n=4)[0]
        )

    def _cpu_ns(self) -> int:
        return int(self._schedstat.read_text().split()[0])

    def _check(self, result: PGresult) -> None:
        assert result.status in (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK), result.error_message


def take_turns(sides: Mapping[str, Callable[[], Cost]], rounds: int) -> Rounds:
    """Measure all sides in every round, each time beginning with another one.

    What is compared with each other is measured within moments: other work on the machine meets
    all sides alike. One more round warms up.
    """
    names = list(sides)
    found = []
    for number in range(rounds + 1):
        first = number % len(names)
        costs = {name: sides[name]() for name in (*names[first:], *names[:first])}
        found.append({name: costs[name] for name in names})
    return found[1:]


def compare(rounds: Rounds, ratio: Callable[[dict[str, Cost]], float]) -> Ratio:
    """Return the median of the rounds' ratios, with the medians of all sides beside it."""
    ratios = [ratio(one) for one in rounds]
    quarters = statistics.quantiles(ratios, n=4)
    spread = (
        f"{min(ratios):.2f} to {max(ratios):.2f}, middle half {quarters[0]:.2f} to "
        f"{quarters[2]:.2f}, {len(ratios)} rounds"
    )
    beside = {}
    for name in rounds[0]:
        beside[f"{name}, CPU us"] = statistics.median(one[name].cpu_us for one in rounds)
        beside[f"{name}, time us"] = statistics.median(one[name].time_us for one in rounds)
    return Ratio(statistics.median(ratios), spread, beside)


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
