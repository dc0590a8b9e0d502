"""Rules on what serving and copying cost: memory R6, stalled runs R7, dual write R9. Pure."""

from typing import Final

from crossfade.core.contract import Level, Outcome, RunState
from crossfade.health.verdicts import Case, Verdict
from crossfade.runs.model import Run

SLOW_BATCHES: Final = 3
"""A run this many times slower than its usual batch is said to be slow; that holds nothing."""
SLOW_FLOOR_S: Final = 60
"""Below this a slow batch is not worth a word."""


def r6(case: Case) -> Verdict:
    """Memory of isolates: hold, and PARTIAL when it lasts. Not measured where none reports."""
    limits, reports = case.limits, case.sample.memory_bytes
    limit = limits.r6_memory_rate * limits.r6_limit_bytes
    over = sum(used >= limit for used in reports)
    breach = over >= limits.r6_min_reports
    held = case.held_s("R6") if breach else 0.0
    fails = breach and held >= limits.r6_hold_s
    share = max(reports, default=0) / limits.r6_limit_bytes
    return Verdict(
        "R6",
        Outcome.FAIL if fails else Outcome.HOLD if breach else Outcome.PASS,
        f"isolates use up to {share:.0%} of their memory" if reports else "memory is not measured",
        value=share if reports else None,
        n=len(reports),
        threshold=limits.r6_memory_rate,
        level=Level.PARTIAL,
        breach_since=case.since("R6") if breach else None,
        details={"measured": bool(reports), "over": over},
    )


def r7(case: Case) -> Verdict:
    """A run that copies or compares nothing any more: hold, and call a person after a day."""
    limits = case.limits
    ages = {run.id: _age_s(case, run) for run in case.sample.runs if _should_move(run)}
    runs = {run.id: run for run in case.sample.runs}
    worst = max(ages, key=lambda number: ages[number], default=None)
    age = ages[worst] if worst is not None else 0.0
    what = f"{runs[worst].kind} {worst}" if worst is not None else "no run"
    slow = worst is not None and age >= max(SLOW_FLOOR_S, SLOW_BATCHES * _batch_s(runs[worst]))
    return Verdict(
        "R7",
        Outcome.HOLD if age >= limits.r7_warn_s else Outcome.PASS,
        f"{what} has made no progress for {age:.0f} s"
        if slow
        else f"{what} is under way"
        if worst is not None
        else "no run is under way",
        value=age,
        n=len(ages),
        threshold=limits.r7_stall_s,
        breach_since=case.since("R7") if age >= limits.r7_warn_s else None,
        details={"page": age >= limits.r7_stall_s, "slow": slow},
    )


def _should_move(run: Run) -> bool:
    # A pause or a throttle is somebody's decision and shown elsewhere; heartbeats are no progress.
    waits = "throttled" in (run.reason or "")
    return run.state is RunState.RUNNING and run.progress_at is not None and not waits


def _age_s(case: Case, run: Run) -> float:
    return (case.sample.at - run.progress_at).total_seconds() if run.progress_at else 0.0


def _batch_s(run: Run) -> float:
    """The mean time of a batch so far."""
    if not run.batches or run.started_at is None or run.progress_at is None:
        return 0.0
    return (run.progress_at - run.started_at).total_seconds() / run.batches


def r9(case: Case) -> Verdict:
    """What mirroring costs V1: p95 now against p95 before mirroring began. Only ever holds."""
    limits, v1, base = case.limits, case.v1, case.sample.baseline
    p95 = v1.p95_ms or 0.0
    measured = base is not None and min(v1.requests, base.requests) >= limits.r9_min_requests
    ratio = p95 / base.p95_ms if base is not None and base.p95_ms else 0.0
    breach = (
        measured
        and base is not None
        and ratio > limits.r9_p95_ratio
        and p95 - base.p95_ms >= limits.r9_min_difference_ms
    )
    # One window may be chance, and the time of day differs: the second one in a row holds.
    second = breach and case.held_s("R9") > 0
    return Verdict(
        "R9",
        Outcome.HOLD if second else Outcome.PASS,
        f"p95 of V1 is {p95:.0f} ms, {base.p95_ms:.0f} ms before mirroring"
        if measured and base is not None
        else "not measured: too few requests before mirroring began or now",
        value=ratio if measured else None,
        n=v1.requests,
        threshold=limits.r9_p95_ratio,
        breach_since=case.since("R9") if breach else None,
        details={"measured": measured},
    )
