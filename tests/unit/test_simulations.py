"""Light simulations: healthy rollouts are left alone, broken ones are stopped in time.

The figures are those of the design study (200 runs of six hours); here fewer and shorter runs, with
fixed seeds, so that a wrong rule shows and chance does not.
"""

import random
from collections import deque
from dataclasses import replace

import pytest
from tests.unit.builders import at, sample, thresholds, window

from crossfade import health, rollback
from crossfade.models import BackendSample, BackendWindow, HealthSample
from crossfade.verdicts import Verdict

LIMITS = thresholds()
TICK_S = 15


class Traffic:
    """V2 requests of one step, and the window that the database would report."""

    def __init__(self, per_minute: float, error_rate: float, seed: int) -> None:
        self._per_tick = per_minute * TICK_S / 60
        self._error_rate = error_rate
        self._random = random.Random(seed)
        self._seen: deque[tuple[float, bool]] = deque(maxlen=20_000)
        self._streak = 0

    def tick(self, now: float) -> HealthSample:
        for _ in range(self._arrivals()):
            bad = self._random.random() < self._error_rate
            self._streak = self._streak + 1 if bad else 0
            self._seen.append((now, bad))
        v2 = self._window(now)
        base = sample(now, v1=window(300, 3), v2=v2, streak=self._streak, step_started_at=at(0))
        return replace(base, newest_request_at=at(now))

    def _arrivals(self) -> int:
        whole, rest = divmod(self._per_tick, 1)
        return int(whole) + (self._random.random() < rest)

    def _window(self, now: float) -> BackendSample:
        recent = [bad for moment, bad in self._seen if now - moment < 300]
        last = [bad for moment, bad in list(self._seen)[-50:] if now - moment < 3600]
        chosen = max((recent, last), key=len)
        small = BackendWindow(len(recent), sum(recent), None, 100, 200)
        return BackendSample(len(chosen), sum(chosen), None, 100, 200, small)


def seconds_to_rollback(per_minute: float, error_rate: float, seed: int, *, hours: float) -> float:
    traffic, verdicts = Traffic(per_minute, error_rate, seed), tuple[Verdict, ...]()
    for tick in range(1, int(hours * 3600 / TICK_S) + 1):
        given = traffic.tick(tick * TICK_S)
        verdicts = health.evaluate(given, verdicts, LIMITS)
        if rollback.plan(given, verdicts):
            return tick * TICK_S
    return float("inf")


@pytest.mark.parametrize("per_minute", [1, 5, 20])
@pytest.mark.parametrize("error_rate", [0.01, 0.02])
def test_healthy_rollouts_are_not_rolled_back(per_minute: float, error_rate: float) -> None:
    runs = [seconds_to_rollback(per_minute, error_rate, seed, hours=2) for seed in range(12)]
    assert sum(run != float("inf") for run in runs) <= 1


@pytest.mark.parametrize(
    ("per_minute", "error_rate", "median_s", "slowest_s"),
    [
        (1, 1.0, 400, 700),
        (5, 1.0, 105, 200),
        (20, 1.0, 45, 60),
        (5, 0.5, 240, 450),
        (20, 0.3, 150, 240),
        (20, 0.2, 240, 500),
    ],
)
def test_broken_steps_are_stopped_in_time(
    per_minute: float, error_rate: float, median_s: float, slowest_s: float
) -> None:
    runs = sorted(seconds_to_rollback(per_minute, error_rate, seed, hours=1) for seed in range(21))
    assert runs[10] <= median_s
    assert runs[-2] <= slowest_s
