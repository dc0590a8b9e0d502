"""Rules on who is there: the monitor R12, a person R13. Pure."""

from crossfade.core.contract import Outcome, RolloutState
from crossfade.health.verdicts import Case, Verdict


def r12(case: Case) -> Verdict:
    """Nobody watches: nothing advances. That nobody ever did is news only while a plan runs."""
    sample, limit = case.sample, case.limits.r12_dead_s
    beat, rollout = sample.heartbeat_at, sample.rollout
    age = (sample.at - beat).total_seconds() if beat else None
    relied_on = rollout is not None and rollout.state is RolloutState.RUNNING
    dead = age > limit if age is not None else relied_on
    return Verdict(
        "R12",
        Outcome.HOLD if dead else Outcome.PASS,
        "no monitor runs" if age is None else f"the monitor was heard {age:.0f} s ago",
        value=age,
        threshold=limit,
        breach_since=case.since("R12") if dead else None,
        details={"page": dead},
    )


def r13(case: Case) -> Verdict:
    """A person said stop: a kill switch or a hold. Always wins, whatever the mode."""
    sample, rollout = case.sample, case.sample.rollout
    said = [f"kill switch {name} is engaged" for name in sample.engaged]
    if rollout is not None and rollout.state is RolloutState.HELD:
        said.append(f"held by {rollout.changed_by}: {rollout.reason}")
    return Verdict(
        "R13",
        Outcome.HOLD if said else Outcome.PASS,
        "; ".join(said) or "nobody has stopped it",
        value=float(len(said)),
        threshold=0.0,
        breach_since=case.since("R13") if said else None,
    )
