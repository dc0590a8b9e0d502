"""A verdict of a health rule, and what a rule sees when it judges."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from crossfade.core.contract import Level, Mode, Outcome
from crossfade.health.model import BackendSample, HealthSample
from crossfade.health.thresholds import Thresholds

Scalar = str | int | float | bool | None

MIN_GAP_S: Final = 120
"""A breach last seen longer ago is over: nobody knows what happened in between."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one rule said.

    ``level`` is the rollback that a FAIL asks for. ``breach_since`` is when the condition began to
    hold without a gap; it is also set while the rule still only watches.
    """

    rule: str
    verdict: Outcome
    message: str = ""
    value: float | None = None
    n: int | None = None
    bound: float | None = None
    threshold: float | None = None
    window_s: float | None = None
    mode: Mode = Mode.ENFORCE
    rule_version: int = 1
    level: Level | None = None
    breach_since: datetime | None = None
    at: datetime | None = None
    details: Mapping[str, Scalar] = field(default_factory=dict)

    @property
    def counts(self) -> bool:
        """True when the rule may hold the rollout or roll back."""
        return self.mode is Mode.ENFORCE


def worst(verdicts: Iterable[Verdict]) -> Outcome:
    """The worst enforced verdict; PASS when there is none."""
    outcomes = (item.verdict for item in verdicts if item.counts)
    return max(outcomes, key=lambda outcome: outcome.rank, default=Outcome.PASS)


@dataclass(frozen=True, slots=True)
class Case:
    """What a rule sees: the sample, what was said before, the settings."""

    sample: HealthSample
    previous: Mapping[str, Verdict]
    limits: Thresholds

    @property
    def v1(self) -> BackendSample:
        """The window of backend 1."""
        return self.sample.backend(1)

    @property
    def v2(self) -> BackendSample:
        """The window of backend 2."""
        return self.sample.backend(2)

    @property
    def v2_rate(self) -> float:
        """Share of V2 requests that failed or fell back; 0 without requests."""
        return self.v2.errors / self.v2.requests if self.v2.requests else 0.0

    def before(self, rule: str) -> Verdict | None:
        """The rule's previous verdict, unless it is too old or of an earlier step."""
        verdict = self.previous.get(rule)
        if verdict is None or verdict.at is None:
            return None
        gap = timedelta(seconds=max(MIN_GAP_S, 4 * self.limits.monitor_interval_s))
        if self.sample.at - verdict.at > gap:
            return None
        started = self.sample.step_started_at
        return None if started and verdict.at < started else verdict

    def since(self, rule: str) -> datetime:
        """When the breach seen now began: carried over from the previous verdict, or now."""
        before = self.before(rule)
        return (before.breach_since if before else None) or self.sample.at

    def held_s(self, rule: str) -> float:
        """For how long the breach seen now has lasted."""
        return (self.sample.at - self.since(rule)).total_seconds()

    def shares_cause(self) -> bool:
        """True when V1 is as bad as V2, so that going back will not help."""
        v1, limits = self.v1, self.limits
        if v1.requests < limits.r1_min_requests:
            return False
        return v1.errors / v1.requests >= self.v2_rate - limits.shared_cause_margin_rate
