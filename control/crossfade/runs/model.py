"""Runs and their batches, and what repair says.

Times are aware UTC datetimes, rates 0.0 to 1.0, percentages 0 to 100 with three decimals.
"""

from dataclasses import dataclass
from datetime import datetime

from crossfade.core.contract import (
    Direction,
    RepairAction,
    RunState,
)
from crossfade.core.values import Key


@dataclass(frozen=True, slots=True)
class Run:
    """A backfill or verification, as the database has it."""

    id: int
    kind: str
    pair: str
    direction: Direction | None = None
    state: RunState = RunState.RUNNING
    rows_total: int | None = None
    rows_done: int = 0
    rows_written: int = 0
    mismatches: int = 0
    batches: int = 0
    batch_rows: int | None = None
    started_at: datetime | None = None
    progress_at: datetime | None = None
    finished_at: datetime | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Blocking:
    """A session that a batch waits for; what the database does not show is None.

    ``transaction_s`` is the age of its transaction. A prepared transaction has no ``pid`` but the
    name to commit or roll back, ``prepared``.
    """

    pid: int | None = None
    user: str | None = None
    application: str | None = None
    state: str | None = None
    transaction_s: float | None = None
    query_started_at: datetime | None = None
    prepared: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """What one batch did. ``reason`` says why nothing happened when it waited, and for whom.

    ``wait_ms``: how long its worker should wait before the next one.
    """

    run: Run
    state: RunState
    rows_read: int = 0
    rows_written: int = 0
    mismatches: int = 0
    batch_ms: float = 0.0
    wait_ms: float = 0.0
    reason: str | None = None
    blocking: tuple[Blocking, ...] = ()


@dataclass(frozen=True, slots=True)
class Started:
    """A run; ``already`` is true when it existed before."""

    run: Run
    already: bool = False


@dataclass(frozen=True, slots=True)
class Driven:
    """A run that pg_cron drives, or no longer does. ``schedule`` is None when no job is left."""

    run: Run
    driven: bool
    job: str
    schedule: str | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """What one call of ``verify_some`` saw. ``passes``: how often it has come to the end.

    ``state`` is running, waiting (no backfill has ended yet) or busy (another one looks).
    """

    pair: str
    state: str
    mismatches: int = 0
    passes: int = 0
    rows_checked: int = 0


@dataclass(frozen=True, slots=True)
class Repaired:
    """What one call of ``repair`` did.

    ``remaining`` is what is open now; ``undecided`` of it are rows that only the follower has.
    """

    repaired: int
    remaining: int
    failed: int = 0
    undecided: int = 0


@dataclass(frozen=True, slots=True)
class PlannedRow:
    """What a repair would do to one row of ``table``, the one that is written."""

    key: Key
    table: str
    action: RepairAction
    why: str


@dataclass(frozen=True, slots=True)
class RepairPlan:
    """The first rows of a repair; ``remaining`` counts all that are open."""

    rows: tuple[PlannedRow, ...] = ()
    remaining: int = 0
