"""Rules on how long V2 requests take: R4, R5. Pure."""

from crossfade.core.contract import Level, Outcome
from crossfade.health.verdicts import Case, Scalar, Verdict


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
