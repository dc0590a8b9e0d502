"""Copy the old rows of a pair."""

from crossfade.core.contract import Direction
from crossfade.runs.driver import DriveOptions, Driver
from crossfade.runs.model import Batch
from crossfade.runs.port import Runs


def run_backfill(
    gateway: Runs,
    pair: str,
    *,
    direction: Direction = Direction.V1_TO_V2,
    options: DriveOptions | None = None,
) -> Batch:
    """Start a backfill, or continue the one that is not over, and drive it to its end.

    Interrupt it whenever you like: every batch is a transaction with its cursor, and the next call
    continues after the last committed one.

    Raises:
        StalledError: no progress for longer than the options allow.
        RefusedError: the pair is unknown, or its tables or converters changed.
    """
    options = options or DriveOptions()
    run = gateway.start_backfill(pair, direction=direction, ranges=options.workers).run
    step = lambda: gateway.backfill_batch(run.id, target_ms=options.target_ms)  # noqa: E731
    return Driver(run, step, options).drive()
