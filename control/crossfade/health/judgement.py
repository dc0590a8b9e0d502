"""Health: a sample and the previous verdicts -> new verdicts. Pure.

Each rule says PASS, HOLD (do not advance), ERROR (cannot measure) or FAIL (go back), with the
value, the number of requests, the bound and the threshold it used, so that nobody has to guess.
The worst verdict wins. R1, R1s, R1k and R12 are also in SQL (``crossfade_private.judge``), for when
no monitor runs; tests/vectors/health_rules.json keeps the two equal.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from crossfade.core.contract import Mode, Outcome
from crossfade.health.model import HealthSample
from crossfade.health.rules import RULES, r3
from crossfade.health.thresholds import Thresholds
from crossfade.health.verdicts import Case, Verdict, worst

__all__ = ["Verdict", "blind", "evaluate", "worst"]


def evaluate(
    sample: HealthSample, previous: Iterable[Verdict], limits: Thresholds
) -> tuple[Verdict, ...]:
    """Apply all rules that are not off.

    Args:
        sample: read in one statement; its ``at`` is the only clock.
        previous: verdicts of the evaluation before, from memory or as stored. They carry since
            when a breach lasts, so that a restarted monitor does not begin to count again.
        limits: the settings.
    """
    case = Case(sample, {item.rule: item for item in previous}, limits)
    verdicts = [
        _signed(rule(case), case)
        for name, rule in RULES.items()
        if limits.mode(name) is not Mode.OFF
    ]
    if limits.mode("R3") is not Mode.OFF:
        verdicts.append(_signed(r3(case, verdicts), case))
    return tuple(verdicts)


def blind(failures: int, *, at: datetime, limits: Thresholds, error: str) -> Verdict:
    """R11 when the sample itself cannot be read ``failures`` times in a row."""
    return Verdict(
        "R11",
        Outcome.ERROR if failures >= limits.r11_failures else Outcome.HOLD,
        f"the health sample could not be read {failures} times: {error}",
        value=float(failures),
        n=failures,
        threshold=float(limits.r11_failures),
        mode=limits.mode("R11"),
        rule_version=limits.rule_version,
        at=at,
    )


def _signed(verdict: Verdict, case: Case) -> Verdict:
    since, begin = verdict.breach_since, case.sample.window_from
    window = (case.sample.at - begin).total_seconds() if begin else case.limits.health_window_s
    return replace(
        verdict,
        mode=case.limits.mode(verdict.rule),
        rule_version=case.limits.rule_version,
        window_s=window,
        at=case.sample.at,
        # The database keeps its own breach_since; this one also covers breaches still watched.
        details={**verdict.details, "since": since.isoformat() if since else None},
    )
