"""The loop that watches: sample, judge, record, go back when the rules say so."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from crossfade import health, rollback
from crossfade.alerts import Alert, Alerts, Severity
from crossfade.contract import Event, Outcome, Stage
from crossfade.errors import CrossfadeError
from crossfade.models import HealthSample, RollbackDone
from crossfade.ports import Controls, Health, Pairs
from crossfade.thresholds import Thresholds, read_thresholds
from crossfade.verdicts import Verdict, worst

_log = logging.getLogger(__name__)


class MonitorGateway(Controls, Pairs, Health, Protocol):
    """What the monitor needs."""


@dataclass(frozen=True, slots=True)
class Tick:
    """One evaluation of one pair. ``error`` is set when it could not be measured."""

    pair: str
    at: datetime
    outcome: Outcome
    verdicts: tuple[Verdict, ...] = ()
    sample: HealthSample | None = None
    rolled_back: RollbackDone | None = None
    error: str | None = None


@dataclass(slots=True)
class _Watch:
    """What is remembered of one pair between ticks."""

    verdicts: tuple[Verdict, ...] | None = None
    failures: int = 0


@dataclass(slots=True)
class Monitor:
    """Evaluates pairs until told to stop. Only ever holds or goes back, never forward.

    Args:
        gateway: the project.
        alerts: where to tell people.
        now: the clock for what cannot be read; samples carry the database's.
        enforce: False only records and tells, as a rehearsal.
        verify_rows: rows to compare of each pair between dualwrite and rampdown after every tick;
            0 leaves verifying to others.
    """

    gateway: MonitorGateway
    alerts: Alerts = field(default_factory=Alerts)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    enforce: bool = True
    verify_rows: int = 0
    _watches: dict[str, _Watch] = field(default_factory=dict)
    _limits: Thresholds | None = None
    _pairs: tuple[str, ...] = ()

    def tick(self, pairs: tuple[str, ...] = ()) -> tuple[Tick, ...]:
        """Evaluate ``pairs`` (all when empty) once. Never raises for what a project may do."""
        failure = self._refresh(pairs)
        ticks = tuple(self._tick_pair(name, failure) for name in self._pairs)
        # Last: a look may wait for locks, and no judgment may wait for a look.
        for tick in ticks:
            if tick.sample is not None and tick.sample.stage not in (Stage.OFF, Stage.COMPLETE):
                self._look(tick.pair)
        return ticks

    def run(
        self,
        pairs: tuple[str, ...] = (),
        *,
        interval_s: float | None = None,
        on_tick: Callable[[Tick], None] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Tick until ``stop()``; the interval is the setting ``monitor_interval_s`` by default."""
        while not stop():
            started = time.monotonic()
            for tick in self.tick(pairs):
                if on_tick:
                    on_tick(tick)
            wanted = interval_s or (self._limits.monitor_interval_s if self._limits else 15)
            sleep(max(0.0, wanted - (time.monotonic() - started)))

    def _refresh(self, pairs: tuple[str, ...]) -> CrossfadeError | None:
        """Read settings and names again; keep the old ones when that fails."""
        try:
            self._limits = read_thresholds(self.gateway.read_flags().settings)
            self._pairs = pairs or tuple(item.name for item in self.gateway.pair_status())
        except CrossfadeError as error:
            if self._limits is None:
                raise  # nothing to judge by yet: the caller's configuration is wrong
            self._pairs = pairs or self._pairs
            return error
        return None

    def _tick_pair(self, pair: str, failure: CrossfadeError | None) -> Tick:
        limits, watch = self._limits, self._watches.setdefault(pair, _Watch())
        assert limits is not None
        try:
            if failure:
                raise failure
            sample = self.gateway.health_sample(pair)
            previous = watch.verdicts
            if previous is None:
                previous = self.gateway.latest_verdicts(pair)
        except CrossfadeError as error:
            return self._blind(pair, watch, limits, error)
        watch.failures = 0
        watch.verdicts = health.evaluate(sample, previous, limits)
        error_text = self._record(pair, watch.verdicts)
        rolled_back = self._act(sample, watch.verdicts)
        self._tell(pair, watch.verdicts)
        outcome = worst(watch.verdicts)
        return Tick(pair, sample.at, outcome, watch.verdicts, sample, rolled_back, error_text)

    def _blind(self, pair: str, watch: _Watch, limits: Thresholds, error: CrossfadeError) -> Tick:
        watch.failures += 1
        verdict = health.blind(watch.failures, at=self.now(), limits=limits, error=error.line())
        # The other rules keep what they last said: being blind neither clears nor adds a breach.
        self._tell(pair, (verdict,))
        return Tick(pair, self.now(), verdict.verdict, (verdict,), error=error.line())

    def _record(self, pair: str, verdicts: tuple[Verdict, ...]) -> str | None:
        try:
            self.gateway.record_verdicts(pair, verdicts)
        except CrossfadeError as error:
            # Not storing a verdict must not keep us from acting on it.
            _log.warning("%s", error.line(), extra={"action": "monitor.record"})
            return error.line()
        return None

    def _look(self, pair: str) -> None:
        """Compare some rows; what differs becomes an open mismatch, which the next tick judges."""
        if self.verify_rows <= 0:
            return
        try:
            self.gateway.verify_some(pair, max_rows=self.verify_rows)
        except CrossfadeError as error:
            # Watching is worth more than this look; the next tick takes another one.
            _log.warning("%s", error.line(), extra={"action": "monitor.verify"})

    def _act(self, sample: HealthSample, verdicts: tuple[Verdict, ...]) -> RollbackDone | None:
        plan = rollback.plan(sample, verdicts)
        if plan is None or not self.enforce:
            return None
        title = f"{plan.level} rollback of {plan.scope}"
        try:
            done = self.gateway.rollback(
                plan.level, plan.scope, reason=plan.reason, automatic=True, dry_run=False
            )
        except CrossfadeError as error:
            self.alerts.raise_(
                Alert(Severity.CRITICAL, f"{sample.pair}.rollback_failed", title, error.line())
            )
            return None
        self._hint(done, sample.pair)
        self.alerts.raise_(
            Alert(Severity.CRITICAL, f"{sample.pair}.rollback.{done.rollback}", title, plan.reason)
        )
        return done

    def _hint(self, done: RollbackDone, pair: str) -> None:
        try:
            self.gateway.broadcast(
                Event.ROLLBACK,
                {"flags_version": done.flags_version, "pair": pair, "level": done.level.value},
            )
        except CrossfadeError as error:
            # Only a hint: the database already decides, and every edge copy polls.
            _log.warning("%s", error.line(), extra={"action": "rollback.broadcast"})

    def _tell(self, pair: str, verdicts: tuple[Verdict, ...]) -> None:
        for item in verdicts:
            key, title = f"{pair}.{item.rule}", f"{pair} {item.rule}"
            bad = item.verdict is not Outcome.PASS and item.rule != "R3"
            if not bad:
                self.alerts.clear(key, title=title)
                continue
            page = item.verdict is Outcome.FAIL or item.details.get("page") is True
            severity = Severity.CRITICAL if page else Severity.WARNING
            self.alerts.raise_(Alert(severity, key, title, item.message))
