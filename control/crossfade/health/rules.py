"""All rules by name, and those on integrity and on what can be seen: R3, R8, R10, R11. Pure."""

from collections.abc import Callable, Iterable
from typing import Final

from crossfade.core.contract import Level, Outcome, Stage
from crossfade.health.error_rules import r1, r1k, r1s, r2
from crossfade.health.latency_rules import r4, r5
from crossfade.health.presence_rules import r12, r13
from crossfade.health.resource_rules import r6, r7, r9
from crossfade.health.verdicts import Case, Verdict
from crossfade.health.wilson import lower_bound

Rule = Callable[[Case], Verdict]

MIN_EXPECTED: Final = 5
"""Requests that had to be seen before silence means anything (p of chance below 1 %)."""
RECHECK_S: Final = 5
"""A difference seen again this much later is real, not a write that was under way."""


def r8(case: Case) -> Verdict:
    """Data integrity: hold at once; COMPLETE when a second look finds rows lost or many wrong."""
    sample, limits = case.sample, case.limits
    # Not drift_count: it never falls, so it would hold for ever what repair has made good.
    wrong = sample.open_mismatches + sample.open_failures
    verifies = [run for run in (sample.checked, *sample.runs) if run and run.kind == "verify"]
    checked = next((run for run in verifies if run.rows_done), None)
    # What has been repaired since is no longer wrong.
    rate = min(sample.open_mismatches, checked.mismatches) / checked.rows_done if checked else 0.0
    severe = rate > limits.r8_mismatch_rate or sample.lost_rows > 0
    fails = severe and case.held_s("R8") >= RECHECK_S
    return Verdict(
        "R8",
        Outcome.FAIL if fails else Outcome.HOLD if wrong or severe else Outcome.PASS,
        f"{sample.open_mismatches} mismatches, {sample.open_failures} mirror failures open"
        + (f", {sample.lost_rows} rows in one table only" if sample.lost_rows else ""),
        value=rate if checked else float(wrong),
        n=checked.rows_done if checked else None,
        threshold=limits.r8_mismatch_rate if checked else 0.0,
        level=Level.COMPLETE,
        breach_since=case.since("R8") if severe else None,
    )


def r10(case: Case) -> Verdict:
    """V2 should serve but does not: routing is broken."""
    sample, limits = case.sample, case.limits
    share = float(sample.percentage) / 100 if sample.stage is Stage.LIVE else 1.0
    routed = sample.stage in (Stage.LIVE, Stage.RAMPDOWN) and share > 0
    other = case.v1.recent.requests
    expected = other * share / (1 - share) if share < 1 else float(other)
    silent = routed and case.v2.recent.requests == 0 and expected >= MIN_EXPECTED
    # The recent window itself is part of the silence.
    held = case.held_s("R10") + limits.health_window_s if silent else 0.0
    return Verdict(
        "R10",
        Outcome.HOLD if silent and held >= limits.r10_no_data_s else Outcome.PASS,
        f"V2 served {case.v2.recent.requests} requests lately, V1 {other}",
        value=held,
        n=case.v2.recent.requests,
        threshold=limits.r10_no_data_s,
        breach_since=case.since("R10") if silent else None,
    )


def r11(case: Case) -> Verdict:
    """Requests stopped being reported while there was traffic."""
    sample, limits = case.sample, case.limits
    newest = sample.newest_request_at
    age = (sample.at - newest).total_seconds() if newest else 0.0
    seen = case.v1.recent.requests + case.v2.recent.requests
    expected = seen * age / limits.health_window_s
    blind = age > limits.r11_max_age_s and expected >= MIN_EXPECTED
    return Verdict(
        "R11",
        Outcome.ERROR if blind else Outcome.PASS,
        f"the newest request is {age:.0f} s old" if newest else "no request yet",
        value=age,
        n=seen,
        threshold=limits.r11_max_age_s,
        breach_since=case.since("R11") if blind else None,
    )


def r3(case: Case, others: Iterable[Verdict]) -> Verdict:
    """May the rollout advance? Needs requests and successes in the whole step, no objection."""
    sample, limits = case.sample, case.limits
    seen, errors, what = case.v2.whole.requests, case.v2.whole.errors, "requests"
    if sample.evidence.kind == "writes":
        # No function has ever reported: what is known is who wrote V2, and what did not reach V1.
        seen, errors, what = sample.evidence.v2, sample.evidence.failed or 0, "writes"
        errors = min(errors, seen)
    success = 1 - (errors / seen if seen else 0.0)
    bound = lower_bound(seen - errors, seen, z=limits.wilson_z)
    objections = [item.rule for item in others if item.counts and item.verdict is not Outcome.PASS]
    shown = bound if limits.r3_strict else success
    if sample.stage is not Stage.LIVE or (sample.percentage == 0 and not seen):
        outcome, message = Outcome.PASS, "no V2 traffic to judge yet"
        outcome = Outcome.HOLD if objections else outcome
    elif seen < limits.r3_min_requests:
        outcome, message = Outcome.HOLD, f"{seen} of {limits.r3_min_requests} {what}"
    elif shown < limits.r3_success_rate:
        outcome, message = Outcome.HOLD, f"{success:.1%} of V2 {what} worked"
    else:
        outcome = Outcome.HOLD if objections else Outcome.PASS
        message = f"{success:.1%} of V2 {what} worked"
    return Verdict(
        "R3",
        outcome,
        message + (f"; objections: {', '.join(objections)}" if objections else ""),
        value=success if seen else None,
        n=seen,
        bound=bound,
        threshold=limits.r3_success_rate,
        details={"strict": limits.r3_strict},
    )


RULES: Final[dict[str, Rule]] = {
    "R1": r1,
    "R1s": r1s,
    "R1k": r1k,
    "R2": r2,
    "R4": r4,
    "R5": r5,
    "R6": r6,
    "R7": r7,
    "R8": r8,
    "R9": r9,
    "R10": r10,
    "R11": r11,
    "R12": r12,
    "R13": r13,
}
