"""Reads the project for all pages, in one thread, and only while somebody looks."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from crossfade.core.errors import CrossfadeError, UnauthorizedError
from crossfade.views.overview import Overview, Series
from crossfade.views.port import Overviews

_log = logging.getLogger(__name__)
Key = tuple[str, int]
"""Pair and minutes of a series."""
_FORGET_S = 15.0
_MAX_KEYS = 16


@dataclass(frozen=True, slots=True)
class Reading:
    """The last overview, when it was read (monotonic seconds), and what failed since."""

    overview: Overview | None = None
    read_at: float = 0.0
    error: str = ""


@dataclass(slots=True)
class _Wanted:
    asked_at: float
    read_at: float = float("-inf")
    series: Series | None = None


class Feed:
    """What pages show. Flat in memory: one overview, and a series for each that is looked at.

    Args:
        gateway: the project, with the rights of who looks.
        interval_s: time between two overviews.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        gateway: Overviews,
        *,
        interval_s: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gateway, self._interval_s, self._clock = gateway, interval_s, clock
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._reading = Reading()
        self._wanted: dict[Key, _Wanted] = {}
        self._asked_at = float("-inf")
        self._rolled_at = float("-inf")
        self._stopped = False

    def look(self, key: Key) -> tuple[Reading, Series | None]:
        """Return the newest reading, and remember that somebody looks at ``key``."""
        now = self._clock()
        with self._lock:
            self._asked_at = now
            if key[0] and key not in self._wanted and len(self._wanted) < _MAX_KEYS:
                self._wanted[key] = _Wanted(now)
                self._wake.set()
            wanted = self._wanted.get(key)
            if wanted:
                wanted.asked_at = now
            return self._reading, wanted.series if wanted else None

    @property
    def reading(self) -> Reading:
        """The newest reading."""
        with self._lock:
            return self._reading

    @property
    def stale_s(self) -> float:
        """From this age on a reading is no longer current."""
        return max(10.0, 5 * self._interval_s)

    def age_s(self, reading: Reading) -> float:
        """How old a reading is."""
        return max(0.0, self._clock() - reading.read_at)

    def hurry(self) -> None:
        """Read now: somebody has just changed something."""
        self._wake.set()

    def catch_up(self) -> None:
        """Read now, in this thread, when nobody has looked for a while."""
        with self._lock:
            self._asked_at = self._clock()
            fresh = self._reading.overview and self.age_s(self._reading) < 2 * self._interval_s
        if not fresh:
            self.step()

    def start(self) -> None:
        """Begin to read in a thread of its own, which ends with the process."""
        threading.Thread(target=self._run, name="feed", daemon=True).start()

    def stop(self) -> None:
        """Read no more."""
        self._stopped = True
        self._wake.set()

    def _run(self) -> None:
        while not self._stopped:
            self.step()
            self._wake.wait(self._interval_s)
            self._wake.clear()

    def step(self) -> None:
        """Read once, if anybody looks."""
        now = self._clock()
        with self._lock:
            for key in [k for k, w in self._wanted.items() if now - w.asked_at > _FORGET_S]:
                del self._wanted[key]
            due = [k for k, w in self._wanted.items() if now - w.read_at >= self._pause_s(k)]
            idle = now - self._asked_at > _FORGET_S
        if idle:
            return
        try:
            # The state on its own first: it is fast, whatever a long series costs.
            self._keep(self._gateway.overview())
            for pair, minutes in due:
                self._roll_up(minutes)
                shown = self._gateway.overview(minutes=minutes, series=pair)
                self._keep(shown, (pair, minutes))
        except CrossfadeError as error:
            self._fail(error.line())
        except Exception as error:
            # A page must go on to say that it is stale, whatever is wrong with an answer.
            _log.exception("cannot read the project", extra={"action": "dashboard.read"})
            self._fail(f"{type(error).__name__} while reading the project")

    def _pause_s(self, key: Key) -> float:
        """A point of a long window fills slowly."""
        return max(self._interval_s, min(60.0, key[1] / 60 * self._interval_s))

    def _roll_up(self, minutes: int) -> None:
        if minutes > 1440 and self._clock() - self._rolled_at > 600:
            self._rolled_at = self._clock()
            with suppress(UnauthorizedError):  # a viewer: slower, with the same numbers
                while self._gateway.roll_up_requests(max_hours=72):
                    pass

    def _keep(self, overview: Overview, key: Key | None = None) -> None:
        with self._lock:
            self._reading = Reading(replace(overview, series=None), self._clock())
            if key in self._wanted:
                wanted = self._wanted[key]
                wanted.series, wanted.read_at = overview.series, self._clock()

    def _fail(self, error: str) -> None:
        with self._lock:
            self._reading = replace(self._reading, error=error)
