"""Going back: which level the verdicts ask for. Pure; the database does it in one transaction."""

from collections.abc import Iterable
from dataclasses import dataclass

from crossfade.core.contract import Level, Outcome, Stage
from crossfade.health.model import HealthSample
from crossfade.health.verdicts import Verdict


@dataclass(frozen=True, slots=True)
class RollbackPlan:
    """A rollback to ask for."""

    level: Level
    scope: str
    reason: str
    rules: tuple[str, ...] = ()


def plan(sample: HealthSample, verdicts: Iterable[Verdict]) -> RollbackPlan | None:
    """Return the rollback that the failing rules ask for, the largest level winning.

    None when no enforced rule fails or when V2 serves nobody, so that there is nothing to go back
    from. A latched pair is not exempt: after a PARTIAL rollback it may still have to go further.
    """
    if sample.stage not in (Stage.LIVE, Stage.RAMPDOWN):
        return None
    failing = [item for item in verdicts if item.counts and item.verdict is Outcome.FAIL]
    levels = [item.level for item in failing if item.level is not None]
    if not levels:
        return None
    level = max(levels, key=lambda item: item.rank)
    reason = "; ".join(f"{item.rule}: {item.message}" for item in failing)
    return RollbackPlan(level, sample.pair, reason, tuple(item.rule for item in failing))
