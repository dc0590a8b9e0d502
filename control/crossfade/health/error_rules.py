"""Rules on the share of V2 requests that fail: R1, R1s, R1k, R2. Pure."""

from datetime import datetime

from crossfade.core.contract import Level, Outcome
from crossfade.health.verdicts import Case, Verdict
from crossfade.health.wilson import lower_bound


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
