"""The loop that watches: sample, judge, record, go back or forward when the rules say so.

However many monitors run, one holds the lease and decides; the others show what it said and take
over when it falls silent. What must happen exactly once is left to the database: a rollback and a
step of a plan name the state they were decided on.
"""

import logging
import os
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from crossfade.core.contract import Direction, Event, Mode, Outcome, RolloutState, RunState, Stage
from crossfade.core.errors import CrossfadeError
from crossfade.flags.port import ChangeSets, Controls
from crossfade.health import judgement
from crossfade.health.model import HealthSample, Lease
from crossfade.health.port import Health
from crossfade.health.thresholds import Thresholds, read_thresholds
from crossfade.health.verdicts import Verdict, worst
from crossfade.monitor.alerts import Alert, Alerts, Figure, Severity
from crossfade.pairs.port import Pairs
from crossfade.rollback import planning
from crossfade.rollback.model import RollbackDone
from crossfade.rollback.port import Rollbacks
from crossfade.rollouts.plan import RolloutAdvanced, RolloutView
from crossfade.rollouts.port import Rollouts
from crossfade.runs.model import Batch, Run
from crossfade.runs.port import Runs

_log = logging.getLogger(__name__)


class _Batch(Protocol):
    """``backfill_batch`` or ``verify_batch``."""

    def __call__(self, run: int, *, target_ms: int | None) -> Batch:
        """Do one batch."""


class MonitorGateway(Controls, ChangeSets, Pairs, Runs, Health, Rollbacks, Rollouts, Protocol):
    """What the monitor needs."""


@dataclass(frozen=True, slots=True)
class Tick:
    """One evaluation of one pair. ``error`` is set when it could not be measured.

    ``standby``: another monitor decides, and these are the verdicts that it stored last.
    """

    pair: str
    at: datetime
    outcome: Outcome
    verdicts: tuple[Verdict, ...] = ()
    sample: HealthSample | None = None
    rolled_back: RollbackDone | None = None
    error: str | None = None
    standby: bool = False
    advanced: RolloutAdvanced | None = None


@dataclass(slots=True)
class _Watch:
    """What is remembered of one pair between ticks."""

    verdicts: tuple[Verdict, ...] | None = None
    failures: int = 0


@dataclass(slots=True)
class Monitor:
    """Evaluates pairs until told to stop. Goes forward only where a rollout plan says so.

    Args:
        gateway: the project.
        alerts: where to tell people.
        now: the clock for what cannot be read; samples carry the database's.
        enforce: False only records and tells, as a rehearsal.
        verify_rows: rows to compare of each pair between dualwrite and rampdown after every tick;
            0 leaves verifying to others.
        follow_plans: take the steps of rollout plans, and copy and verify what they wait for.
        holder: the name of this monitor among others.
    """

    gateway: MonitorGateway
    alerts: Alerts = field(default_factory=Alerts)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    enforce: bool = True
    verify_rows: int = 0
    follow_plans: bool = True
    sleep: Callable[[float], None] = time.sleep
    holder: str = field(
        default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
    )
    _watches: dict[str, _Watch] = field(default_factory=dict)
    _limits: Thresholds | None = None
    _pairs: tuple[str, ...] = ()

    def tick(self, pairs: tuple[str, ...] = ()) -> tuple[Tick, ...]:
        """Evaluate ``pairs`` (all when empty) once. Never raises for what a project may do."""
        failure = self._refresh(pairs)
        lease = self._beat()
        if lease is not None and not lease.held:
            return tuple(self._stand_by(name) for name in self._pairs)
        self._apply_due()
        ticks = tuple(self._tick_pair(name, failure) for name in self._pairs)
        # Last: a look may wait for locks, and no judgment may wait for a look.
        for tick in ticks:
            sample = tick.sample
            if sample is not None and sample.stage is not Stage.OFF and not sample.stage.is_over:
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
        try:
            while not stop():
                started = time.monotonic()
                for tick in self.tick(pairs):
                    if on_tick:
                        on_tick(tick)
                wanted = interval_s or (self._limits.monitor_interval_s if self._limits else 15)
                sleep(max(0.0, wanted - (time.monotonic() - started)))
        finally:
            self.release()

    def release(self) -> None:
        """Stop deciding, so that another monitor can at once. Best effort: the lease runs out."""
        if not self.enforce:
            return
        try:
            self.gateway.monitor_beat(self.holder, release=True)
        except CrossfadeError as error:
            _log.warning("%s", error.line(), extra={"action": "monitor.release"})

    def _beat(self) -> Lease | None:
        """Renew the lease; None when that is not known or, in a rehearsal, not wanted."""
        if not self.enforce:
            return None
        try:
            return self.gateway.monitor_beat(self.holder)
        except CrossfadeError as error:
            # Judge all the same: two that decide at once are harmless, none is not.
            _log.warning("%s", error.line(), extra={"action": "monitor.beat"})
            return None

    def _apply_due(self) -> None:
        """Scheduled changes of flags: the database applies each once, whoever asks."""
        if not self.enforce:
            return
        try:
            done = self.gateway.apply_due_changes()
        except CrossfadeError as error:
            _log.warning("%s", error.line(), extra={"action": "monitor.schedule"})
            return
        for item in done:
            if item.state == "refused":
                title = f"Scheduled changes {item.id} were refused"
                self.alerts.raise_(
                    Alert(Severity.WARNING, f"schedule.{item.id}", title, item.outcome)
                )

    def _stand_by(self, pair: str) -> Tick:
        try:
            verdicts = self.gateway.latest_verdicts(pair)
        except CrossfadeError as error:
            return Tick(pair, self.now(), Outcome.ERROR, error=error.line(), standby=True)
        return Tick(pair, self.now(), worst(verdicts), verdicts, standby=True)

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
        watch.verdicts = judgement.evaluate(sample, previous, limits)
        error_text = self._record(pair, watch.verdicts)
        rolled_back = self._act(sample, watch.verdicts)
        self._tell(pair, watch.verdicts)
        self._tell_latch(sample)
        advanced = None if rolled_back else self._follow(sample)
        outcome = worst(watch.verdicts)
        return Tick(
            pair,
            sample.at,
            outcome,
            watch.verdicts,
            sample,
            rolled_back,
            error_text,
            False,
            advanced,
        )

    def _blind(self, pair: str, watch: _Watch, limits: Thresholds, error: CrossfadeError) -> Tick:
        watch.failures += 1
        verdict = judgement.blind(watch.failures, at=self.now(), limits=limits, error=error.line())
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
        plan = planning.plan(sample, verdicts)
        if plan is None or not self.enforce:
            return None
        title = f"{plan.level} rollback of {plan.scope}"
        try:
            done = self.gateway.rollback(
                plan.level,
                plan.scope,
                reason=plan.reason,
                automatic=True,
                dry_run=False,
                expected_step=sample.step,
            )
        except CrossfadeError as error:
            self.alerts.raise_(
                Alert(Severity.CRITICAL, f"{sample.pair}.rollback_failed", title, error.line())
            )
            return None
        if done.rollback is None:
            return None  # somebody else had gone back already
        self._hint(done, sample.pair)
        self.alerts.raise_(
            Alert(
                Severity.CRITICAL,
                f"{sample.pair}.rollback.{done.rollback}",
                title,
                "; ".join((plan.reason, *done.also)),
                figures(*(item for item in verdicts if item.rule in plan.rules)),
            )
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
            # R3 only says that it is not time yet, and a dry run is not for people's pockets.
            quiet = item.rule == "R3" or item.mode is Mode.DRY_RUN
            bad = item.verdict is not Outcome.PASS and not quiet
            if not bad:
                self.alerts.clear(key, title=title)
                continue
            page = item.verdict is Outcome.FAIL or item.details.get("page") is True
            severity = Severity.CRITICAL if page else Severity.WARNING
            self.alerts.raise_(Alert(severity, key, title, item.message, figures(item)))

    def _tell_latch(self, sample: HealthSample) -> None:
        """Also after a takeover: the one that went back may have died before it told anybody."""
        key, title = f"{sample.pair}.latched", f"{sample.pair} was rolled back"
        if not sample.latched:
            self.alerts.clear(key, title=title)
            return
        hint = f"find the cause, then crossfade rollout rearm {sample.pair}"
        self.alerts.raise_(Alert(Severity.CRITICAL, key, title, hint))

    # Forward, by a plan --------------------------------------------------------------------------

    def _follow(self, sample: HealthSample) -> RolloutAdvanced | None:
        """Take the next step of a running plan when nothing stands against it."""
        running = sample.rollout is not None and sample.rollout.state is RolloutState.RUNNING
        if not (running and self.follow_plans and self.enforce):
            return None
        try:
            view = self.gateway.rollout_status(sample.pair)
            if view.waits:
                self._prepare(view)
                return None
            done = self.gateway.advance_rollout(
                sample.pair, expected_step=view.step, automatic=True
            )
        except CrossfadeError as error:
            # Widening can wait for the next tick.
            _log.warning("%s", error.line(), extra={"action": "rollout.advance"})
            return None
        if not done.advanced:
            return None
        name = done.current.name if view.next and done.current else "the end"
        self.alerts.raise_(
            Alert(
                Severity.INFO,
                f"{done.pair}.rollout.{done.step}",
                f"{done.pair} advanced",
                f"{name}: {done.stage} at {done.percentage} %",
            )
        )
        return done

    def _prepare(self, view: RolloutView) -> None:
        """Copy or compare rows when that is all the next step waits for."""
        if any(wait.code not in ("stage", "time") for wait in view.waits):
            return
        blockers: dict[str, set[str]] = {}
        for wait in view.waits:
            if wait.blocker:
                blockers.setdefault(wait.pair or view.pair, set()).add(wait.blocker)
        # One pair of a group at a time, and no child before its parents.
        for pair, found in blockers.items():
            if found & {"backfill_needed", "backfill_running"}:
                if "parent_backfill_needed" not in found:
                    run = self.gateway.start_backfill(
                        pair, direction=Direction.V1_TO_V2, ranges=1
                    ).run
                    self._drive(run, self.gateway.backfill_batch)
                    return
            elif found & {"verify_needed", "drift_since_verify"}:
                run = self.gateway.start_verify(pair, ranges=1).run
                self._drive(run, self.gateway.verify_batch)
                return

    def _drive(self, run: Run, batch: _Batch) -> None:
        """Do batches for a part of the interval: judging must not wait for copying."""
        assert self._limits is not None
        until = time.monotonic() + self._limits.monitor_interval_s / 3
        while True:
            done = batch(run.id, target_ms=None)
            left_s = until - time.monotonic()
            if done.state is not RunState.RUNNING or done.wait_ms / 1000 >= left_s:
                return
            self.sleep(done.wait_ms / 1000)


def figures(*verdicts: Verdict) -> dict[str, Figure]:
    """What the verdicts were made of, for an alert: rule -> value, n, bound, threshold, window."""
    found: dict[str, Figure] = {}
    for item in verdicts:
        for name in ("value", "n", "bound", "threshold", "window_s", "rule_version"):
            value = getattr(item, name)
            if value is not None:
                found[f"{item.rule}.{name}"] = value
    return found
