"""Fill the column of a carried key."""

from crossfade.runs.driver import DriveOptions, Driver
from crossfade.runs.model import Batch, Run
from crossfade.runs.port import Runs


def run_fill(
    gateway: Runs,
    table: str,
    *,
    column: str,
    fires_triggers: bool,
    options: DriveOptions | None = None,
) -> Batch:
    """Fill the rows that are there, or continue; interrupt it whenever you like.

    Raises:
        StalledError: no progress for longer than the options allow.
        RefusedError: the column cannot be filled, or triggers would run that nobody has allowed.
    """
    options = options or DriveOptions()

    def step() -> Batch:
        return gateway.carry_batch(
            table, column=column, fires_triggers=fires_triggers, target_ms=options.target_ms
        )

    return Driver(Run(0, "fill", table), step, options).drive()
