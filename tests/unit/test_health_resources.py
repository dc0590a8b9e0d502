"""R6, R7, R9, R12, R13: each fires, nearly fires, has no data, has its source down."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from tests.unit.builders import at, sample, thresholds, window

from crossfade.core.contract import Level, Mode, Outcome, RolloutState, RunState
from crossfade.health import judgement
from crossfade.health.model import Baseline, HealthSample, RolloutBrief
from crossfade.health.thresholds import Thresholds
from crossfade.health.verdicts import Verdict, worst
from crossfade.rollback import planning
from crossfade.runs.model import Run

LIMITS = thresholds()
FULL = int(LIMITS.r6_limit_bytes * LIMITS.r6_memory_rate) + 1


def play(samples: Sequence[HealthSample], limits: Thresholds = LIMITS) -> dict[str, Verdict]:
    """Evaluate one sample after the other, each with the verdicts before it."""
    verdicts: tuple[Verdict, ...] = ()
    for given in samples:
        verdicts = judgement.evaluate(given, verdicts, limits)
    return {item.rule: item for item in verdicts}


def judge(given: HealthSample, limits: Thresholds = LIMITS) -> dict[str, Verdict]:
    return play([given], limits)


# R6: memory --------------------------------------------------------------------------------


def test_r6_holds_at_three_reports_and_goes_one_step_back_when_they_last() -> None:
    full = [sample(second, memory_bytes=(FULL, FULL, FULL)) for second in range(0, 181, 60)]
    assert play(full[:1])["R6"].verdict is Outcome.HOLD
    assert play(full[:-1])["R6"].verdict is Outcome.HOLD
    failed = play(full)["R6"]
    assert (failed.verdict, failed.level) == (Outcome.FAIL, Level.PARTIAL)
    assert (failed.n, failed.threshold) == (3, 0.9)
    assert failed.value == pytest.approx(0.9, abs=1e-6)


@pytest.mark.parametrize(
    ("reports", "why"),
    [
        ((FULL, FULL), "two reports"),
        ((FULL, FULL, FULL - 1), "one of three just below"),
        ((1, 2, 3, FULL, FULL), "most isolates are fine"),
        ((), "nobody reports, as where Deno.memoryUsage is missing"),
    ],
)
def test_r6_nearly_fires(reports: tuple[int, ...], why: str) -> None:
    some = [sample(second, memory_bytes=reports) for second in (0, 60, 120, 180)]
    assert play(some)["R6"].verdict is Outcome.PASS, why


def test_r6_says_when_it_is_not_measured() -> None:
    verdict = judge(sample())["R6"]
    assert (verdict.value, verdict.details["measured"]) == (None, False)
    assert "not measured" in verdict.message


def test_r6_uses_the_limit_of_the_settings() -> None:
    local = thresholds(r6_limit_bytes=150 * 2**20)
    reports = (140 * 2**20,) * 3
    assert judge(sample(memory_bytes=reports))["R6"].verdict is Outcome.PASS
    assert judge(sample(memory_bytes=reports), local)["R6"].verdict is Outcome.HOLD


# R7: runs that stand still -----------------------------------------------------------------


def run(age_s: float, **changes: object) -> Run:
    """A backfill whose last progress was so long ago; its batches took a second each."""
    base = Run(
        4,
        "backfill",
        "notes",
        rows_total=1000,
        rows_done=500,
        batches=100,
        started_at=at(-age_s - 100),
        progress_at=at(-age_s),
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def test_r7_holds_after_an_hour_and_calls_a_person_after_a_day() -> None:
    hour, day = judge(sample(runs=(run(3600),)))["R7"], judge(sample(runs=(run(86_400),)))["R7"]
    assert (hour.verdict, hour.details["page"]) == (Outcome.HOLD, False)
    assert (day.verdict, day.details["page"], day.value) == (Outcome.HOLD, True, 86_400)
    assert "backfill 4" in day.message
    assert planning.plan(sample(runs=(run(86_400),)), [day]) is None


@pytest.mark.parametrize(
    ("runs", "why"),
    [
        ((run(3599),), "a second to go"),
        ((run(90_000, state=RunState.PAUSED),), "somebody paused it"),
        ((run(90_000, state=RunState.FINISHED),), "it is over"),
        ((run(90_000, reason="self-drive: throttled: 9 sessions"),), "it is throttled"),
        ((), "no run"),
        ((run(0, progress_at=None),), "it has not begun"),
    ],
)
def test_r7_nearly_fires(runs: tuple[Run, ...], why: str) -> None:
    assert judge(sample(runs=runs))["R7"].verdict is Outcome.PASS, why


def test_r7_says_early_that_a_run_is_slower_than_its_batches() -> None:
    assert judge(sample(runs=(run(59),)))["R7"].details["slow"] is False
    slow = judge(sample(runs=(run(60),)))["R7"]
    assert (slow.verdict, slow.details["slow"]) == (Outcome.PASS, True)


# R8: rows that are lost --------------------------------------------------------------------


def test_r8_goes_back_for_one_lost_row_on_the_second_look() -> None:
    lost = [sample(second, open_mismatches=1, lost_rows=1) for second in (0, 4, 5)]
    assert play(lost[:2])["R8"].verdict is Outcome.HOLD
    failed = play(lost)["R8"]
    assert (failed.verdict, failed.level) == (Outcome.FAIL, Level.COMPLETE)
    assert "1 rows in one table only" in failed.message


def test_r8_forgets_what_has_been_repaired() -> None:
    checked = Run(1, "verify", "notes", rows_done=1000, mismatches=500)
    looks = [sample(second, checked=checked) for second in (0, 5)]
    assert play(looks)["R8"].verdict is Outcome.PASS


# R9: what mirroring costs ------------------------------------------------------------------

BEFORE = Baseline(requests=500, p50_ms=50, p95_ms=100)


def test_r9_holds_from_the_second_window_and_never_goes_back() -> None:
    slow = [sample(second, v1=window(300, p95=121), baseline=BEFORE) for second in (0, 15, 900)]
    assert play(slow[:1])["R9"].verdict is Outcome.PASS
    verdict = play(slow[:2])["R9"]
    assert (verdict.verdict, verdict.level) == (Outcome.HOLD, None)
    assert verdict.value == pytest.approx(1.21)
    assert play(slow)["R9"].verdict is not Outcome.FAIL


@pytest.mark.parametrize(
    ("p95", "requests", "baseline", "why"),
    [
        (120, 300, BEFORE, "exactly 1.2 times"),
        (200, 49, BEFORE, "too few requests now"),
        (200, 300, replace(BEFORE, requests=49), "too few requests before"),
        (24, 300, replace(BEFORE, p95_ms=15), "less than 10 ms apart"),
        (200, 300, None, "no baseline"),
        (200, 0, BEFORE, "no traffic"),
    ],
)
def test_r9_nearly_fires(p95: float, requests: int, baseline: Baseline | None, why: str) -> None:
    v1 = window(requests, p95=p95)
    some = [sample(second, v1=v1, baseline=baseline) for second in (0, 15, 30)]
    assert play(some)["R9"].verdict is Outcome.PASS, why


# R12: nobody watches -----------------------------------------------------------------------

PLAN = RolloutBrief(1, "p", RolloutState.RUNNING)


@pytest.mark.parametrize(
    ("age_s", "rollout", "verdict"),
    [
        (61, None, Outcome.HOLD),
        (60, None, Outcome.PASS),
        (None, None, Outcome.PASS),
        (None, PLAN, Outcome.HOLD),
        (None, replace(PLAN, state=RolloutState.HELD), Outcome.PASS),
    ],
)
def test_r12(age_s: float | None, rollout: RolloutBrief | None, verdict: Outcome) -> None:
    beat = None if age_s is None else at(-age_s)
    assert judge(sample(heartbeat_at=beat, rollout=rollout))["R12"].verdict is verdict


# R13: a person -----------------------------------------------------------------------------


def test_r13_names_the_switch_and_who_holds() -> None:
    held = replace(PLAN, state=RolloutState.HELD, changed_by="ada", reason="freeze")
    verdict = judge(sample(engaged=("disable_v2_messages",), rollout=held))["R13"]
    assert verdict.verdict is Outcome.HOLD
    assert verdict.message == "kill switch disable_v2_messages is engaged; held by ada: freeze"


def test_r13_cannot_be_muted() -> None:
    muted = thresholds(rule_modes={"R13": "off", "R8": "off"})
    verdicts = judge(sample(engaged=("emergency_rollback",)), muted)
    assert verdicts["R13"].mode is Mode.ENFORCE
    assert worst(verdicts.values()) is Outcome.HOLD
    assert "R8" not in verdicts


@pytest.mark.parametrize("given", [sample(), sample(rollout=PLAN, heartbeat_at=at(0))])
def test_r13_nobody_said_stop(given: HealthSample) -> None:
    assert judge(given)["R13"].verdict is Outcome.PASS


# All of them -------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", list(Mode))
def test_every_rule_obeys_its_mode(mode: Mode) -> None:
    bad = sample(
        v1=window(300),
        v2=window(100, 90, p50=2000, p95=60_000),
        streak=90,
        open_mismatches=5,
        lost_rows=5,
        memory_bytes=(FULL,) * 5,
        runs=(run(90_000),),
        heartbeat_at=at(-900),
        newest_request_at=at(-900),
    )
    names = ("R1", "R1s", "R1k", "R2", "R3", "R4", "R5", "R6", "R7", "R8", "R9", "R10", "R11")
    modes = dict.fromkeys((*names, "R12"), mode.value)
    verdicts = judge(bad, thresholds(rule_modes=modes))
    ours = [item for rule, item in verdicts.items() if rule != "R13"]
    assert (not ours) is (mode is Mode.OFF)
    assert {item.mode for item in ours} <= {mode}
    acted = planning.plan(bad, verdicts.values()) is not None
    assert acted is (mode is Mode.ENFORCE)
    assert (worst(verdicts.values()) is not Outcome.PASS) is (mode is Mode.ENFORCE)


def test_the_limits_of_the_beginning_are_settings() -> None:
    assert LIMITS.r1_error_rate == 0.10
    assert LIMITS.r2_error_rate == 0.05
    assert LIMITS.r3_success_rate == 0.95
    assert LIMITS.r4_p95_ms == 10_000
    assert LIMITS.r5_p95_ratio == 2.0
    assert LIMITS.r6_memory_rate == 0.90
    assert LIMITS.r7_stall_s == 24 * 3600


def test_success_is_judged_over_the_whole_step_and_errors_over_the_window() -> None:
    v2 = replace(window(60), whole=replace(window(1000, 60).recent))
    assert judge(sample(v2=v2))["R3"].verdict is Outcome.HOLD
    assert judge(sample(v2=v2))["R1"].verdict is Outcome.PASS
