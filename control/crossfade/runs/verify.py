"""Compare both tables of a pair, and make the follower equal to the leader."""

from collections.abc import Callable
from dataclasses import dataclass

from crossfade.core.contract import FollowerOnly
from crossfade.runs.driver import DriveOptions, Driver
from crossfade.runs.model import Batch, Repaired
from crossfade.runs.port import Runs


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
    """What a whole repair did. ``remaining`` is what is still open.

    ``undecided`` of it are rows that only the follower has: nobody has chosen what becomes of them.
    """

    repaired: int
    remaining: int
    undecided: int = 0

    @property
    def failed(self) -> int:
        """Rows that cannot be repaired now."""
        return self.remaining - self.undecided


def repair_all(
    gateway: Runs,
    pair: str,
    *,
    reason: str | None = None,
    batch_rows: int = 500,
    follower_only: FollowerOnly = FollowerOnly.KEEP,
    on_progress: Callable[[Repaired], None] | None = None,
) -> RepairReport:
    """Repair mirror failures and mismatches in batches until none is left that can be.

    Each call takes the rows whose last try is longest ago. So it stops, without trying for ever,
    when all that are left have failed since the last one that was repaired.
    """
    repaired, failed = 0, 0
    while True:
        part = gateway.repair(pair, max_rows=batch_rows, reason=reason, follower_only=follower_only)
        repaired += part.repaired
        failed = part.failed if part.repaired else failed + part.failed
        if on_progress:
            on_progress(part)
        nothing = part.repaired == 0 and (part.failed == 0 or failed >= part.remaining)
        if part.remaining == part.undecided or nothing:
            return RepairReport(repaired, part.remaining, part.undecided)
