"""The rules, one function each: a case -> a verdict. Pure."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

from crossfade.contract import Level, Outcome, Stage
from crossfade.verdicts import Case, Scalar, Verdict
from crossfade.wilson import lower_bound

Rule = Callable[[Case], Verdict]

MIN_EXPECTED: Final = 5
"""Requests that had to be seen before silence means anything (p of chance below 1 %)."""


def r1(case: Case) -> Verdict:
    """Critical error rate, held: COMPLETE."""
    limits, v2 = case.limits, case.v2
    bound = lower_bound(v2.errors, v2.requests, z=limits.wilson_z)
    breach = (
        v2.requests >= limits.r1_min_requests
        and case.v2_rate >= limits.r1_error_rate
        and bound >= limits.r1_lower_bound_rate
    )
    held = case.held_s("R1") if breach else 0.0
    return _error_rate(
        case,
        "R1",
        bound=bound,
        threshold=limits.r1_error_rate,
        breach=breach,
        fails=breach and held >= limits.r1_hold_s,
        level=Level.COMPLETE,
    )


def r1s(case: Case) -> Verdict:
    """Severe error rate: EMERGENCY at once."""
    limits, v2 = case.limits, case.v2
    bound = lower_bound(v2.errors, v2.requests, z=limits.wilson_z)
    breach = v2.requests >= limits.r1s_min_requests and bound >= limits.r1s_lower_bound_rate
    return _error_rate(
        case,
        "R1s",
        bound=bound,
        threshold=limits.r1s_lower_bound_rate,
        breach=breach,
        fails=breach,
        level=Level.EMERGENCY,
    )


def _error_rate(
    case: Case,
    rule: str,
    *,
    bound: float,
    threshold: float,
    breach: bool,
    fails: bool,
    level: Level,
) -> Verdict:
    shared = breach and case.shares_cause()
    if fails and shared and case.limits.shared_cause == "suppress":
        fails = False  # the owner chose to stay: V1 is as bad
    outcome = Outcome.FAIL if fails else Outcome.HOLD if breach else Outcome.PASS
    v2 = case.v2
    return Verdict(
        rule,
        outcome,
        f"{v2.errors} of {v2.requests} V2 requests failed" + (", V1 as well" if shared else ""),
        value=case.v2_rate,
        n=v2.requests,
        bound=bound,
        threshold=threshold,
        level=level,
        breach_since=case.since(rule) if breach else None,
        details={"errors": v2.errors, "shared_cause": shared},
    )


def r1k(case: Case) -> Verdict:
    """Nothing but errors lately: EMERGENCY at once."""
    streak, limit = case.sample.streak, case.limits.r1k_streak
    return Verdict(
        "R1k",
        Outcome.FAIL if streak >= limit else Outcome.PASS,
        f"the last {streak} V2 requests failed" if streak else "the last V2 request worked",
        value=float(streak),
        n=streak,
        threshold=float(limit),
        level=Level.EMERGENCY,
        breach_since=case.since("R1k") if streak >= limit else None,
    )


def r2(case: Case) -> Verdict:
    """Warning error rate: hold, and clear only after some quiet time."""
    limits, v2, before = case.limits, case.v2, case.before("R2")
    active = before is not None and before.verdict is Outcome.HOLD
    breach = v2.requests >= limits.r2_min_requests and case.v2_rate >= limits.r2_error_rate
    quiet = active and not breach and case.v2_rate < limits.r2_clear_rate
    clear_since = _clear_since(before, case.sample.at) if quiet else None
    cleared = (
        clear_since is not None
        and (case.sample.at - clear_since).total_seconds() >= limits.r2_clear_s
    )
    hold = breach or (active and not cleared)
    held = case.held_s("R2") if hold else 0.0
    return Verdict(
        "R2",
        Outcome.HOLD if hold else Outcome.PASS,
        f"{v2.errors} of {v2.requests} V2 requests failed",
        value=case.v2_rate,
        n=v2.requests,
        threshold=limits.r2_error_rate,
        breach_since=case.since("R2") if hold else None,
        details={
            "clear_since": clear_since.isoformat() if clear_since and hold else None,
            "page": hold and held >= limits.r2_page_s,
        },
    )


def _clear_since(before: Verdict | None, now: datetime) -> datetime:
    text = before.details.get("clear_since") if before else None
    return datetime.fromisoformat(text) if isinstance(text, str) else now


def r4(case: Case) -> Verdict:
    """Response time: hold when slow, COMPLETE when critical and held."""
    limits, v2 = case.limits, case.v2
    p95 = v2.p95_ms or 0.0
    enough = v2.requests >= limits.r4_min_requests
    critical = enough and p95 >= limits.r4_p95_ms
    fails = critical and case.held_s("R4") >= limits.r4_hold_s
    slow = enough and p95 >= limits.r4_warn_p95_ms
    return Verdict(
        "R4",
        Outcome.FAIL if fails else Outcome.HOLD if slow else Outcome.PASS,
        f"p95 of V2 is {p95:.0f} ms",
        value=p95,
        n=v2.requests,
        threshold=limits.r4_p95_ms if critical else limits.r4_warn_p95_ms,
        level=Level.COMPLETE,
        # Only the critical part has a clock: a long slow time must not make it fail at once.
        breach_since=case.since("R4") if critical else None,
    )


def r5(case: Case) -> Verdict:
    """Slower than V1: hold from the second window on, PARTIAL when held."""
    limits, v2 = case.limits, case.v2
    base_p50, base_p95, stale = _baseline(case)
    p50, p95 = v2.p50_ms or 0.0, v2.p95_ms or 0.0
    breach = (
        base_p95 > 0
        and v2.requests >= limits.r5_min_requests
        and p95 >= limits.r5_p95_ratio * base_p95
        and p50 >= limits.r5_p50_ratio * base_p50
        and p95 - base_p95 >= limits.r5_min_difference_ms
    )
    held = case.held_s("R5") if breach else 0.0
    fails = breach and held >= limits.r5_hold_s
    second = breach and held > 0
    # An outage must not become its own baseline, so a breached window leaves the old one.
    known = base_p95 > 0 and not breach
    old = case.previous.get("R5")
    details: dict[str, Scalar] = dict(old.details) if old and not known else {}
    if known:
        details = {"baseline_p50_ms": base_p50, "baseline_p95_ms": base_p95}
    return Verdict(
        "R5",
        Outcome.FAIL if fails else Outcome.HOLD if second else Outcome.PASS,
        f"p95 is {p95:.0f} ms on V2, {base_p95:.0f} ms on V1" if base_p95 else "no V1 baseline",
        value=p95 / base_p95 if base_p95 else None,
        n=v2.requests,
        threshold=limits.r5_p95_ratio,
        level=Level.PARTIAL,
        breach_since=case.since("R5") if breach else None,
        details={**details, "stale_baseline": stale},
    )


def _baseline(case: Case) -> tuple[float, float, bool]:
    """Median and p95 of V1 now, or of the last good window when V1 has no traffic."""
    v1 = case.v1
    if v1.requests >= case.limits.r5_min_requests and v1.p50_ms and v1.p95_ms:
        return v1.p50_ms, v1.p95_ms, False
    old = case.previous.get("R5")  # of any age: a baseline does not expire, it is marked stale
    p50 = old.details.get("baseline_p50_ms") if old else None
    p95 = old.details.get("baseline_p95_ms") if old else None
    if isinstance(p50, float | int) and isinstance(p95, float | int):
        return float(p50), float(p95), True
    return 0.0, 0.0, True


def r8(case: Case) -> Verdict:
    """Data integrity: hold at once; COMPLETE when a second look finds too much different."""
    sample, limits = case.sample, case.limits
    # Not drift_count: it never falls, so it would hold for ever what repair has made good.
    wrong = sample.open_mismatches + sample.open_failures
    checked = next((run for run in sample.runs if run.kind == "verify" and run.rows_done), None)
    rate = checked.mismatches / checked.rows_done if checked else 0.0
    severe = rate > limits.r8_mismatch_rate
    fails = severe and case.held_s("R8") > 0
    return Verdict(
        "R8",
        Outcome.FAIL if fails else Outcome.HOLD if wrong or severe else Outcome.PASS,
        f"{sample.open_mismatches} mismatches, {sample.open_failures} mirror failures open",
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
    """May the rollout advance? Needs enough requests, enough successes and no other objection."""
    sample, limits, v2 = case.sample, case.limits, case.v2
    success = 1 - case.v2_rate
    bound = lower_bound(v2.requests - v2.errors, v2.requests, z=limits.wilson_z)
    objections = [item.rule for item in others if item.counts and item.verdict is not Outcome.PASS]
    shown = bound if limits.r3_strict else success
    if sample.stage is not Stage.LIVE or (sample.percentage == 0 and not v2.requests):
        outcome, message = Outcome.PASS, "no V2 traffic to judge yet"
        outcome = Outcome.HOLD if objections else outcome
    elif v2.requests < limits.r3_min_requests:
        outcome, message = Outcome.HOLD, f"{v2.requests} of {limits.r3_min_requests} requests"
    elif shown < limits.r3_success_rate:
        outcome, message = Outcome.HOLD, f"{success:.1%} of V2 requests worked"
    else:
        outcome = Outcome.HOLD if objections else Outcome.PASS
        message = f"{success:.1%} of V2 requests worked"
    return Verdict(
        "R3",
        outcome,
        message + (f"; objections: {', '.join(objections)}" if objections else ""),
        value=success if v2.requests else None,
        n=v2.requests,
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
    "R8": r8,
    "R10": r10,
    "R11": r11,
}
