"""Widening step by step: which percentage comes next and whether it may come now. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from crossfade.core.contract import Outcome, Stage
from crossfade.flags.bucketing import parse_percentage
from crossfade.health.thresholds import Thresholds
from crossfade.health.verdicts import Verdict
from crossfade.pairs.model import PairStatus


@dataclass(frozen=True, slots=True)
class Advance:
    """Whether a pair may go to ``target``. ``waits`` says what is missing, empty when allowed.

    ``approval`` is true when a person has to confirm this step; ``ready_at`` is when the time of
    the current step is over.
    """

    pair: str
    current: Decimal
    target: Decimal | None
    waits: tuple[str, ...] = ()
    approval: bool = False
    ready_at: datetime | None = None

    @property
    def is_allowed(self) -> bool:
        """True when nothing is missing."""
        return self.target is not None and not self.waits


def next_percentage(current: Decimal, steps: Iterable[float]) -> Decimal | None:
    """The first step above ``current``; None at the end."""
    above = sorted(number for number in map(parse_percentage, steps) if number > current)
    return above[0] if above else None


def step_time_s(current: Decimal, limits: Thresholds) -> float:
    """The shortest time on the current step; 0 before the first one.

    A percentage between two steps has the time of the step below it.
    """
    paired = zip(limits.rollout_steps, limits.rollout_step_min_s, strict=False)
    reached = [seconds for step, seconds in sorted(paired) if parse_percentage(step) <= current]
    return reached[-1] if reached else 0.0


def may_advance(
    pair: PairStatus,
    verdicts: Iterable[Verdict],
    limits: Thresholds,
    *,
    now: datetime,
    rolled_back_at: datetime | None = None,
) -> Advance:
    """Decide whether ``pair`` may take its next step.

    Args:
        pair: as it stands.
        verdicts: of an evaluation made just now.
        limits: the settings.
        now: the database's clock, for example ``HealthSample.at``.
        rolled_back_at: the last automatic rollback; for some time after it nothing advances.
    """
    target = next_percentage(pair.percentage, limits.rollout_steps)
    waits: list[str] = []
    calm_s = (now - rolled_back_at).total_seconds() if rolled_back_at else float("inf")
    if calm_s < limits.rollout_cooldown_s:
        waits.append(
            f"rolled back automatically {calm_s:.0f} s ago, cooling down for"
            f" {limits.rollout_cooldown_s:.0f} s"
        )
    if pair.stage is not Stage.LIVE:
        waits.append(f"stage is {pair.stage}, not live")
    stops = pair.backend.stops if pair.backend else ()
    waits.extend(stop.message for stop in stops if stop.code != "latched")
    if pair.latched_at:
        waits.append(f"latched by an automatic rollback ({pair.latch_reason}); re-arm first")
    waits.extend(
        f"{item.rule} says {item.verdict}: {item.message}"
        for item in verdicts
        if item.counts and item.verdict is not Outcome.PASS
    )
    ready_at = None
    if pair.step_started_at and pair.percentage > 0:
        needed = step_time_s(pair.percentage, limits)
        spent = (now - pair.step_started_at).total_seconds()
        if spent < needed:
            ready_at = pair.step_started_at + timedelta(seconds=needed)
            waits.append(f"{spent:.0f} of {needed:.0f} s on this step")
    if target is None:
        waits.append("already at the last step")
    manual = set(map(parse_percentage, limits.rollout_manual_steps))
    return Advance(pair.name, pair.percentage, target, tuple(waits), target in manual, ready_at)
