"""How fast a run goes and how long it will take. Pure, with flat memory."""

from collections import deque
from dataclasses import dataclass
from typing import Final

from crossfade.core.contract import RunState
from crossfade.runs.model import Batch, Run

WINDOW_S: Final = 30.0
_POINTS: Final = 120


@dataclass(frozen=True, slots=True)
class Progress:
    """One report. ``left_s`` None means that nobody can honestly say."""

    run: Run
    state: RunState
    rows_per_s: float
    left_s: float | None = None
    reason: str | None = None

    @property
    def fraction(self) -> float | None:
        """Done share, 0.0 to 1.0; None when the total is not known."""
        if not self.run.rows_total:
            return None
        return min(1.0, self.run.rows_done / self.run.rows_total)


class Meter:
    """Rate over the last half minute, so that a pause or a slow start shows at once."""

    def __init__(self, *, now: float, rows_done: int) -> None:
        self._points: deque[tuple[float, int]] = deque([(now, rows_done)], maxlen=_POINTS)

    def report(self, batch: Batch, *, now: float) -> Progress:
        """Take in what a batch answered at ``now`` (monotonic seconds)."""
        run = batch.run
        self._points.append((now, run.rows_done))
        while len(self._points) > 2 and now - self._points[0][0] > WINDOW_S:
            self._points.popleft()
        rate = self._rate()
        return Progress(run, batch.state, rate, self._left_s(batch, rate), batch.reason)

    def _rate(self) -> float:
        (start, before), (end, after) = self._points[0], self._points[-1]
        return max(0, after - before) / (end - start) if end > start else 0.0

    def _left_s(self, batch: Batch, rate: float) -> float | None:
        # rows_total is an estimate made at the start: past it, or without a rate, we do not know.
        total, done = batch.run.rows_total, batch.run.rows_done
        if batch.state is not RunState.RUNNING or rate <= 0 or not total or done > total:
            return None
        return (total - done) / rate
