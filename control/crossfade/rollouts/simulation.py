"""What the rules would do on assumed or recorded traffic: fake time, the real rules. Pure.

The window is that of the database: whole minutes, the last five of them or the last fifty requests,
within the step and the last hour. Requests are independent of each other; latency is steady.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import exp
from random import Random
from typing import Final

from crossfade.core.contract import Level, Outcome, Stage
from crossfade.health import judgement
from crossfade.health.model import BackendSample, BackendWindow, HealthSample
from crossfade.health.thresholds import Thresholds
from crossfade.health.verdicts import Verdict
from crossfade.health.wilson import upper_bound
from crossfade.rollback import planning
from crossfade.rollouts.plan import PlanStep, RolloutPlan

BEGIN: Final = datetime(2026, 1, 5, tzinfo=UTC)
WEEK_S: Final = 604_800
P50_MS: Final = 120.0
P95_MS: Final = 480.0


@dataclass(frozen=True, slots=True)
class SimulatedTraffic:
    """Requests of all users together.

    Args:
        per_minute: requests a minute, one number for each hour, repeated; one number is steady.
        v2_error_rate: share of V2 requests that fail, 0 to 1.
        v1_error_rate: the same of V1.
    """

    per_minute: tuple[float, ...]
    v2_error_rate: float = 0.01
    v1_error_rate: float = 0.01

    def at(self, seconds: float) -> float:
        """Requests a minute at this moment."""
        return self.per_minute[int(seconds // 3600) % len(self.per_minute)]

    @property
    def mean(self) -> float:
        """Requests a minute on average."""
        return sum(self.per_minute) / len(self.per_minute)


@dataclass(slots=True)
class _Backend:
    """Counts of one backend by minute, newest last, as far back as a window can reach."""

    minutes: deque[tuple[int, list[int]]] = field(default_factory=lambda: deque(maxlen=61))
    requests: int = 0
    errors: int = 0
    streak: int = 0

    def add(self, minute: int, requests: int, failed: Iterable[bool]) -> None:
        if not requests:
            return
        if not self.minutes or self.minutes[-1][0] != minute:
            self.minutes.append((minute, [0, 0]))
        counts = self.minutes[-1][1]
        for bad in failed:
            self.streak = self.streak + 1 if bad else 0
            counts[1] += bad
            self.errors += bad
        counts[0] += requests
        self.requests += requests

    def since(self, minute: int) -> tuple[int, int]:
        """Requests and errors from this minute on."""
        found = [counts for number, counts in self.minutes if number >= minute]
        return sum(item[0] for item in found), sum(item[1] for item in found)

    def reaching(self, wanted: int) -> int:
        """The newest minute from which on there are so many requests; long ago without."""
        total = 0
        for number, counts in reversed(self.minutes):
            total += counts[0]
            if total >= wanted:
                return number
        return -(10**9)


@dataclass(slots=True)
class StepWorld:
    """One step under traffic, second by second, and what the monitor says about it."""

    share: float
    traffic: SimulatedTraffic
    limits: Thresholds
    random: Random
    percentage: float = 25
    _v1: _Backend = field(default_factory=_Backend)
    _v2: _Backend = field(default_factory=_Backend)
    _verdicts: tuple[Verdict, ...] = ()

    def tick(self, now_s: float, *, v2_error_rate: float | None = None) -> Level | None:
        """Let the interval before ``now_s`` pass, judge, and return the rollback it asks for."""
        per_tick = self.traffic.at(now_s) * self.limits.monitor_interval_s / 60
        rate = self.traffic.v2_error_rate if v2_error_rate is None else v2_error_rate
        minute = int(now_s // 60)
        for backend, share, bad in (
            (self._v1, 1 - self.share, self.traffic.v1_error_rate),
            (self._v2, self.share, rate),
        ):
            count = poisson(self.random, per_tick * share)
            backend.add(minute, count, (self.random.random() < bad for _ in range(count)))
        sample = self._sample(now_s, minute)
        self._verdicts = judgement.evaluate(sample, self._verdicts, self.limits)
        plan = planning.plan(sample, self._verdicts)
        return plan.level if plan else None

    @property
    def holds(self) -> bool:
        """Whether R2 warns now."""
        return any(v.rule == "R2" and v.verdict is Outcome.HOLD for v in self._verdicts)

    @property
    def requests(self) -> int:
        """V2 requests of the step so far."""
        return self._v2.requests

    def _sample(self, now_s: float, minute: int) -> HealthSample:
        usual = minute - int(self.limits.health_window_s // 60)
        longest = minute - int(self.limits.health_window_max_s // 60)
        first = max(0, longest, min(usual, self._v2.reaching(self.limits.health_window_requests)))
        at = BEGIN + timedelta(seconds=now_s)
        return HealthSample(
            pair="simulated",
            at=at,
            stage=Stage.LIVE,
            percentage=Decimal(str(self.percentage)),
            step=1,
            step_started_at=BEGIN,
            window_from=BEGIN + timedelta(minutes=first),
            backends={
                1: _seen(self._v1, first, usual),
                2: _seen(self._v2, first, usual),
            },
            streak=self._v2.streak,
            newest_request_at=at,
            heartbeat_at=at,
        )


def _seen(backend: _Backend, first: int, recent: int) -> BackendSample:
    requests, errors = backend.since(first)
    return BackendSample(
        requests,
        errors,
        p50_ms=P50_MS,
        p95_ms=P95_MS,
        recent=BackendWindow(*backend.since(recent)),
        whole=BackendWindow(backend.requests, backend.errors),
    )


def poisson(random: Random, mean: float) -> int:
    """How many events happen where ``mean`` are expected."""
    if mean > 50:
        return max(0, round(random.gauss(mean, mean**0.5)))
    limit, count, product = exp(-mean), 0, random.random()
    while product > limit:
        count += 1
        product *= random.random()
    return count


def seconds_to_rollback(
    world: StepWorld, *, hours: float, broken_rate: float | None = None
) -> float:
    """When the monitor goes back, in seconds after the step began; infinite when it never does."""
    interval = world.limits.monitor_interval_s
    for number in range(1, int(hours * 3600 / interval) + 1):
        if world.tick(number * interval, v2_error_rate=broken_rate):
            return number * interval
    return float("inf")


# A whole plan ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StepForecast:
    """One step. Shares are of its own runs; ``*_upper`` is a one-sided 95 % bound.

    ``expected_s`` is the larger of the shortest time and the time until it has had its requests;
    infinite without traffic. ``false_alarm`` is the chance that a healthy step of that length is
    rolled back, ``warned`` the share of the time in which R2 holds it.
    """

    name: str
    percentage: float
    v2_per_minute: float
    expected_s: float
    false_alarm: float = 0.0
    false_alarm_upper: float = 0.0
    warned: float = 0.0
    detection_s: float | None = None


@dataclass(frozen=True, slots=True)
class Forecast:
    """A whole plan."""

    plan: str
    runs: int
    hours: float
    steps: tuple[StepForecast, ...]

    @property
    def expected_s(self) -> float:
        """How long it takes when nothing holds it and approvals come at once."""
        return sum(step.expected_s for step in self.steps)

    @property
    def false_alarm(self) -> float:
        """The chance that a healthy plan is rolled back at least once."""
        return _any(step.false_alarm for step in self.steps)

    @property
    def false_alarm_upper(self) -> float:
        """The same with the upper bounds of all steps."""
        return _any(step.false_alarm_upper for step in self.steps)


def _any(chances: Iterable[float]) -> float:
    calm = 1.0
    for chance in chances:
        calm *= 1 - chance
    return 1 - calm


def forecast(
    plan: RolloutPlan,
    traffic: SimulatedTraffic,
    limits: Thresholds,
    *,
    runs: int = 20,
    hours: float = 6,
    seed: int = 1,
    progress: Callable[[str], None] = lambda _: None,
) -> Forecast:
    """Simulate every step that serves V2 ``runs`` times for ``hours``, and scale to its length.

    A broken V2 (every request fails) is simulated as often, for the time until it is noticed.
    """
    steps = []
    for number, step in enumerate(plan.steps):
        progress(step.name)
        random = Random(f"{seed}:{number}")  # noqa: S311 - a simulation, not a secret
        steps.append(_forecast_step(step, traffic, limits, runs=runs, hours=hours, random=random))
    return Forecast(plan.name, runs, hours, tuple(steps))


def _forecast_step(
    step: PlanStep,
    traffic: SimulatedTraffic,
    limits: Thresholds,
    *,
    runs: int,
    hours: float,
    random: Random,
) -> StepForecast:
    rate = traffic.mean * step.share
    if step.share == 0 or step.stage is Stage.COMPLETE:  # no V2 to judge, or no way back
        return StepForecast(step.name, step.share * 100, 0, step.min_s)
    if rate == 0:
        return StepForecast(step.name, step.share * 100, 0, float("inf"))
    expected = max(step.min_s, step.min_requests / rate * 60)
    # A step of an hour is simulated for an hour; one of a week for some hours, and scaled.
    length = min(hours, max(expected / 3600, limits.health_window_max_s / 3600))
    alarms, warned, ticks, found = 0, 0, 0, []
    for _ in range(runs):
        world = StepWorld(step.share, traffic, limits, random, step.share * 100)
        for number in range(1, int(length * 3600 / limits.monitor_interval_s) + 1):
            level = world.tick(number * limits.monitor_interval_s)
            warned, ticks = warned + world.holds, ticks + 1
            if level:
                alarms += 1
                break
        broken = StepWorld(step.share, traffic, limits, random, step.share * 100)
        found.append(seconds_to_rollback(broken, hours=2, broken_rate=1.0))
    scale = max(1.0, expected / (length * 3600))
    return StepForecast(
        name=step.name,
        percentage=step.share * 100,
        v2_per_minute=rate,
        expected_s=expected,
        false_alarm=1 - (1 - alarms / runs) ** scale,
        false_alarm_upper=1 - (1 - upper_bound(alarms, runs, z=limits.wilson_z)) ** scale,
        warned=warned / ticks if ticks else 0.0,
        detection_s=sorted(found)[len(found) // 2],
    )
