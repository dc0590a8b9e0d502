"""What a kill did: when backend 2 served last, by what the edge functions report."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from crossfade.flags.model import Engaged

QUIET_S = 2.0
"""Backend 2 counts as stopped when it reported nothing for so long while backend 1 serves."""


class LastServed(Protocol):
    """What is asked of the gateway."""

    def last_served(self, backend: int, *, pair: str | None, since: datetime) -> datetime | None:
        """When this backend last served a request (database's clock); None: not since then."""


@dataclass(frozen=True, slots=True)
class Effect:
    """Times in ms after the commit of the kill, below 0 before it; None: not in the last hour.

    ``stopped``: backend 1 has served since, and backend 2 no more. Requests are recorded after the
    answer, so that the last of backend 2 began earlier than it says.
    """

    last_v2_ms: float | None
    last_v1_ms: float | None
    stopped: bool

    def line(self) -> str:
        """For people."""
        if self.stopped:
            return f"Effect: {_served(2, self.last_v2_ms)}; V1 serves"
        if (self.last_v1_ms or -1) <= 0 and (self.last_v2_ms or -1) <= 0:
            return "Effect: no request was recorded since the kill, so there is nothing to measure"
        if (self.last_v2_ms or -1) > 0:
            return f"Effect: {_served(2, self.last_v2_ms)} and may serve on; see crossfade status"
        return f"Effect: {_served(1, self.last_v1_ms)}"


def _served(backend: int, after_ms: float | None) -> str:
    if after_ms is None:
        return f"V{backend} has not served for an hour"
    side = "after" if after_ms >= 0 else "before"
    return f"V{backend} last served {abs(after_ms):.0f} ms {side} the commit"


def measure(
    gateway: LastServed,
    engaged: Engaged,
    *,
    wait_s: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    every_s: float = 0.25,
) -> Effect:
    """Look until backend 2 has stopped or ``wait_s`` is over."""
    started = quiet_since = clock()
    pair, before = engaged.kill_switch.pair, None
    since = engaged.committed_at - timedelta(hours=1)
    while True:
        last_v2 = gateway.last_served(2, pair=pair, since=since)
        last_v1 = gateway.last_served(1, pair=pair, since=since)
        if last_v1 is None and last_v2 is None:
            return Effect(None, None, stopped=False)
        if last_v2 != before:
            before, quiet_since = last_v2, clock()
        v1_ms, v2_ms = _after(last_v1, engaged), _after(last_v2, engaged)
        v1_serves = v1_ms is not None and v1_ms > 0 and (v2_ms is None or v1_ms > v2_ms)
        stopped = v1_serves and clock() - quiet_since >= QUIET_S
        if stopped or clock() - started >= wait_s:
            return Effect(v2_ms, v1_ms, stopped)
        sleep(every_s)


def _after(at: datetime | None, engaged: Engaged) -> float | None:
    return None if at is None else (at - engaged.committed_at).total_seconds() * 1000
