"""What a kill did, as the edge functions report it."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from crossfade.flags.kill_effect import Effect, measure
from crossfade.flags.model import Engaged, KillSwitch
from crossfade.testing import NOW

ENGAGED = Engaged(KillSwitch("stop", engaged=True, fences=True), True, NOW, 7)


class Edge:
    """Backends that report at given seconds after the kill."""

    def __init__(self, **reports: list[float]) -> None:
        self.now = 0.0
        self.reports = reports

    def last_served(self, backend: int, *, pair: str | None, since: datetime) -> datetime | None:
        assert (pair, since) == (None, NOW - timedelta(hours=1))
        times = [at for at in self.reports.get(f"v{backend}", []) if at <= self.now]
        return NOW + timedelta(seconds=times[-1]) if times else None

    def measured(self, wait_s: float = 5) -> Effect:
        def sleep(seconds: float) -> None:
            self.now += seconds

        return measure(self, ENGAGED, wait_s=wait_s, clock=lambda: self.now, sleep=sleep)


def every(step: float, until: float, start: float = -5) -> list[float]:
    return [start + n * step for n in range(int((until - start) / step) + 1)]


def test_the_last_request_of_v2_is_measured_once_v1_has_taken_over() -> None:
    edge = Edge(v2=[*every(0.5, 0), 0.125], v1=every(0.5, 10))
    effect = edge.measured()
    assert (effect.last_v2_ms, effect.stopped) == (125, True)
    assert edge.now < 5  # it need not wait to the end
    assert "125 ms after" in effect.line()


@pytest.mark.parametrize(
    ("edge", "stopped", "words"),
    [
        (lambda: Edge(), False, "nothing to measure"),
        (lambda: Edge(v2=[-30], v1=[-20]), False, "nothing to measure"),
        (lambda: Edge(v2=every(0.5, 99), v1=every(0.5, 99)), False, "may serve on"),
        (lambda: Edge(v2=every(0.5, 99)), False, "may serve on"),
        (lambda: Edge(v2=[-30], v1=every(0.5, 99)), True, "30000 ms before"),
        (lambda: Edge(v1=every(0.5, 99)), True, "not served for an hour"),
    ],
)
def test_what_cannot_be_said_is_not_said(
    edge: Callable[[], Edge], stopped: bool, words: str
) -> None:
    effect = edge().measured()
    assert effect.stopped is stopped
    assert words in effect.line()
