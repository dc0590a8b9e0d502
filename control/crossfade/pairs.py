"""Describe a pair for registration, and prove its converters on live rows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crossfade.contract import FailurePolicy
from crossfade.models import Violation

if TYPE_CHECKING:
    from crossfade.ports import Pairs


@dataclass(frozen=True, slots=True)
class PairSpec:
    """Two tables and two converters. ``key`` empty means the primary key."""

    name: str
    v1: str
    v2: str
    to_v2: str
    to_v1: str
    key: tuple[str, ...] = ()
    failure_policy: FailurePolicy | None = None
    gate_flag: str | None = None
    cohort_key: str | None = None


@dataclass(frozen=True, slots=True)
class CheckProgress:
    """How far a conversion check is. ``rows_total`` is an estimate."""

    side: int
    rows_checked: int
    rows_total: int | None
    violations: int


@dataclass(frozen=True, slots=True)
class CheckReport:
    """Result of a conversion check. ``violations`` holds at most ``keep`` of ``count`` rows."""

    rows_checked: int
    count: int
    violations: tuple[Violation, ...]

    @property
    def is_clean(self) -> bool:
        """True when every row keeps the laws."""
        return self.count == 0


def check_pair(
    gateway: "Pairs",
    pair: str,
    *,
    sides: tuple[int, ...] = (1, 2),
    batch_rows: int = 1000,
    max_rows: int | None = None,
    keep: int = 100,
    on_progress: Callable[[CheckProgress], None] | None = None,
) -> CheckReport:
    """Prove laws 1, 2 and 5 on the rows of both tables, in batches that only read.

    Args:
        gateway: where the rows are.
        pair: name of the pair.
        sides: which tables to read, 1 and 2.
        batch_rows: rows per request.
        max_rows: rows per side at most; None reads all.
        keep: violations to keep in the report, so that memory stays flat.
        on_progress: called after every batch.
    """
    checked, count, kept = 0, 0, list[Violation]()
    for side in sides:
        after, done, on_side = None, False, 0
        while not done and (max_rows is None or on_side < max_rows):
            size = batch_rows if max_rows is None else min(batch_rows, max_rows - on_side)
            part = gateway.check_conversion(pair, side=side, after=after, max_rows=size)
            # A server that never says "done" must not make us loop: no rows is the end, too.
            done = part.done or part.rows_checked == 0 or part.last_key is None
            after = part.last_key
            on_side += part.rows_checked
            count += len(part.violations)
            kept.extend(part.violations[: max(0, keep - len(kept))])
            if on_progress:
                on_progress(CheckProgress(side, on_side, part.rows_total, count))
        checked += on_side
    return CheckReport(checked, count, tuple(kept))
