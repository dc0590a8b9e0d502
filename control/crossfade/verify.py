"""Compare both tables of a pair, and make the follower equal to the leader."""

from collections.abc import Callable
from dataclasses import dataclass

from crossfade.models import Batch, Repaired
from crossfade.ports import Runs
from crossfade.runs import DriveOptions, Driver


def run_verify(gateway: Runs, pair: str, *, options: DriveOptions | None = None) -> Batch:
    """Start a verification, or continue the one that is not over, and drive it to its end.

    The answer's run says how many rows differ; none in a full pass is a clean verify.

    Raises:
        StalledError: no progress for longer than the options allow.
        RefusedError: the pair is unknown, or its tables or converters changed.
    """
    options = options or DriveOptions()
    run = gateway.start_verify(pair, ranges=options.workers).run
    step = lambda: gateway.verify_batch(run.id, target_ms=options.target_ms)  # noqa: E731
    return Driver(run, step, options).drive()


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What a whole repair did. ``failed`` rows stay listed and are not tried again here."""

    repaired: int
    remaining: int
    failed: int


def repair_all(
    gateway: Runs,
    pair: str,
    *,
    reason: str | None = None,
    batch_rows: int = 500,
    on_progress: Callable[[Repaired], None] | None = None,
) -> RepairReport:
    """Repair mirror failures and mismatches in batches until none is left that can be.

    Stops at a batch that repairs nothing, so a row that cannot be repaired is no endless loop.
    """
    repaired, failed = 0, 0
    while True:
        part = gateway.repair(pair, max_rows=batch_rows, reason=reason)
        repaired, failed = repaired + part.repaired, part.failed
        if on_progress:
            on_progress(part)
        if part.remaining == 0 or part.repaired == 0:
            return RepairReport(repaired, part.remaining, failed)
