"""Each rule: fires, nearly fires, no data; and what follows from all of them together."""

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal

import pytest
from tests.unit.builders import at, sample, thresholds, window

from crossfade.core.contract import Level, Mode, Outcome, Stage
from crossfade.health import judgement
from crossfade.health.model import BackendSample, Evidence, HealthSample
from crossfade.health.thresholds import Thresholds
from crossfade.health.verdicts import Verdict, worst
from crossfade.rollback import planning
from crossfade.runs.model import Run
from crossfade.testing import NOW

LIMITS = thresholds()
NO_DATA = BackendSample()


def judge(
    given: HealthSample, previous: Sequence[Verdict] = (), limits: Thresholds = LIMITS
) -> dict[str, Verdict]:
    return {item.rule: item for item in judgement.evaluate(given, previous, limits)}


def play(samples: Sequence[HealthSample], limits: Thresholds = LIMITS) -> dict[str, Verdict]:
    """Evaluate one sample after the other, each with the verdicts before it."""
    verdicts: tuple[Verdict, ...] = ()
    for given in samples:
        verdicts = judgement.evaluate(given, verdicts, limits)
    return {item.rule: item for item in verdicts}


def test_a_healthy_pair_passes_every_rule() -> None:
    verdicts = judge(sample())
    assert {item.verdict for item in verdicts.values()} == {Outcome.PASS}
    assert worst(verdicts.values()) is Outcome.PASS


def test_r1_holds_first_and_fails_after_sixty_seconds() -> None:
    bad = [sample(second, v2=window(100, 15)) for second in range(0, 61, 15)]
    assert play(bad[:1])["R1"].verdict is Outcome.HOLD
    assert play(bad[:4])["R1"].verdict is Outcome.HOLD
    failed = play(bad)["R1"]
    assert (failed.verdict, failed.level) == (Outcome.FAIL, Level.COMPLETE)
    assert (failed.value, failed.n, failed.threshold) == (0.15, 100, 0.10)
    assert failed.bound is not None
    assert failed.bound >= LIMITS.r1_lower_bound_rate


@pytest.mark.parametrize(
    ("requests", "errors", "why"),
    [
        (19, 19, "one request too few for R1"),
        (100, 9, "below ten percent"),
        (20, 2, "ten percent, but the bound says it may be chance"),
        (0, 0, "no data"),
    ],
)
def test_r1_nearly_fires(requests: int, errors: int, why: str) -> None:
    v2 = window(requests, errors)
    assert play([sample(0, v2=v2), sample(60, v2=v2)])["R1"].verdict is Outcome.PASS, why


def test_r1_counts_from_the_beginning_after_a_good_window() -> None:
    bad, good = window(100, 15), window(100, 1)
    verdicts = play([sample(0, v2=bad), sample(30, v2=good), sample(61, v2=bad)])
    assert verdicts["R1"].verdict is Outcome.HOLD
    assert verdicts["R1"].breach_since == at(61)


def test_r1_does_not_count_time_in_which_nobody_looked() -> None:
    bad = window(100, 15)
    assert play([sample(0, v2=bad), sample(1000, v2=bad)])["R1"].verdict is Outcome.HOLD


def test_r1_does_not_count_the_time_of_an_earlier_step() -> None:
    bad = window(100, 15)
    later = sample(60, v2=bad, step=4, step_started_at=at(50))
    assert play([sample(0, v2=bad), later])["R1"].verdict is Outcome.HOLD


def test_r1s_fails_at_once() -> None:
    failed = judge(sample(v2=window(10, 6)))["R1s"]
    assert (failed.verdict, failed.level) == (Outcome.FAIL, Level.EMERGENCY)


@pytest.mark.parametrize(("requests", "errors"), [(9, 9), (10, 5), (0, 0)])
def test_r1s_nearly_fires(requests: int, errors: int) -> None:
    assert judge(sample(v2=window(requests, errors)))["R1s"].verdict is Outcome.PASS


@pytest.mark.parametrize(
    ("streak", "verdict"), [(6, Outcome.FAIL), (5, Outcome.PASS), (0, Outcome.PASS)]
)
def test_r1k_fails_at_six_errors_in_a_row(streak: int, verdict: Outcome) -> None:
    assert judge(sample(v2=window(streak, streak), streak=streak))["R1k"].verdict is verdict


def test_r2_holds_and_clears_only_after_five_quiet_minutes() -> None:
    warm, quiet = window(100, 5), window(100, 1)
    assert play([sample(0, v2=warm)])["R2"].verdict is Outcome.HOLD
    steps = [sample(0, v2=warm), *(sample(second, v2=quiet) for second in range(60, 420, 60))]
    assert play(steps[:-1])["R2"].verdict is Outcome.HOLD
    assert play(steps)["R2"].verdict is Outcome.PASS


def test_r2_between_clear_and_warning_keeps_holding() -> None:
    between = [sample(second, v2=window(1000, 45)) for second in range(60, 1200, 60)]
    assert play([sample(0, v2=window(100, 5)), *between])["R2"].verdict is Outcome.HOLD
    assert play(between)["R2"].verdict is Outcome.PASS


def test_r2_calls_a_person_after_thirty_minutes() -> None:
    warm = [sample(second, v2=window(100, 6)) for second in range(0, 1801, 60)]
    assert play(warm[:-1])["R2"].details["page"] is False
    assert play(warm)["R2"].details["page"] is True


@pytest.mark.parametrize(("requests", "errors"), [(19, 19), (1000, 49), (0, 0)])
def test_r2_nearly_fires(requests: int, errors: int) -> None:
    assert judge(sample(v2=window(requests, errors)))["R2"].verdict is Outcome.PASS


@pytest.mark.parametrize(
    ("requests", "errors", "verdict"),
    [
        (50, 0, Outcome.PASS),
        (50, 2, Outcome.PASS),
        (49, 0, Outcome.HOLD),
        (0, 0, Outcome.HOLD),
        (50, 3, Outcome.HOLD),
    ],
)
def test_r3_needs_enough_requests_and_successes(
    requests: int, errors: int, verdict: Outcome
) -> None:
    assert judge(sample(v2=window(requests, errors)))["R3"].verdict is verdict


@pytest.mark.parametrize(("requests", "verdict"), [(52, Outcome.PASS), (51, Outcome.HOLD)])
def test_r3_strict_needs_the_lower_bound(requests: int, verdict: Outcome) -> None:
    strict = thresholds(r3_strict=True)
    assert judge(sample(v2=window(requests)), limits=strict)["R3"].verdict is verdict


@pytest.mark.parametrize(
    ("writes", "failed", "verdict"),
    [(50, 0, Outcome.PASS), (50, 2, Outcome.PASS), (49, 0, Outcome.HOLD), (50, 3, Outcome.HOLD)],
)
def test_r3_judges_writes_where_no_function_reports(
    writes: int, failed: int, verdict: Outcome
) -> None:
    found = judge(sample(v2=NO_DATA, evidence=Evidence("writes", writes, failed)))["R3"]
    assert (found.verdict, found.n) == (verdict, writes)
    assert "writes" in found.message
    # With a function its requests count, however many writes there are.
    found = judge(sample(v2=NO_DATA, evidence=Evidence("requests", writes, None)))["R3"]
    assert (found.verdict, found.n) == (Outcome.HOLD, 0)


def test_r3_names_the_rules_that_object() -> None:
    verdict = judge(sample(open_mismatches=1))["R3"]
    assert verdict.verdict is Outcome.HOLD
    assert "R8" in verdict.message


def test_r3_has_nothing_to_judge_before_the_first_step() -> None:
    first = sample(v2=NO_DATA, percentage=0)
    assert judge(first)["R3"].verdict is Outcome.PASS


def test_r4_warns_when_slow_and_fails_when_critical_for_a_minute() -> None:
    slow, critical = window(50, p95=5000), window(50, p95=10_000)
    assert judge(sample(v2=slow))["R4"].verdict is Outcome.HOLD
    assert play([sample(0, v2=critical), sample(59, v2=critical)])["R4"].verdict is Outcome.HOLD
    failed = play([sample(0, v2=critical), sample(60, v2=critical)])["R4"]
    assert (failed.verdict, failed.level) == (Outcome.FAIL, Level.COMPLETE)


def test_r4_a_long_slow_time_does_not_make_a_critical_moment_fail() -> None:
    slow = [sample(second, v2=window(50, p95=6000)) for second in range(0, 300, 30)]
    assert play([*slow, sample(300, v2=window(50, p95=12_000))])["R4"].verdict is Outcome.HOLD


@pytest.mark.parametrize("v2", [window(19, p95=20_000), window(50, p95=4999), NO_DATA])
def test_r4_nearly_fires(v2: BackendSample) -> None:
    assert play([sample(0, v2=v2), sample(60, v2=v2)])["R4"].verdict is Outcome.PASS


def test_r5_watches_one_window_holds_the_second_and_goes_one_step_back_when_held() -> None:
    slow = [sample(second, v2=window(60, p50=150, p95=400)) for second in range(0, 601, 60)]
    assert play(slow[:1])["R5"].verdict is Outcome.PASS
    assert play(slow[:2])["R5"].verdict is Outcome.HOLD
    failed = play(slow)["R5"]
    assert (failed.verdict, failed.level) == (Outcome.FAIL, Level.PARTIAL)


@pytest.mark.parametrize(
    ("v1", "v2", "why"),
    [
        (window(60), window(60, p50=149, p95=400), "the median is not slower"),
        (window(60), window(60, p50=150, p95=399), "p95 below twice"),
        (window(60, p50=10, p95=20), window(60, p50=30, p95=69), "less than 50 ms apart"),
        (window(60), window(49, p50=150, p95=400), "too few V2 requests"),
        (window(49), window(60, p50=150, p95=400), "too few V1 requests, no baseline"),
        (NO_DATA, NO_DATA, "no data"),
    ],
)
def test_r5_nearly_fires(v1: BackendSample, v2: BackendSample, why: str) -> None:
    slow = [sample(second, v1=v1, v2=v2) for second in (0, 60, 120)]
    assert play(slow)["R5"].verdict is Outcome.PASS, why


def test_r5_uses_the_last_good_baseline_when_v1_has_no_traffic() -> None:
    slow = window(60, p50=150, p95=400)
    alone = [sample(second, v1=NO_DATA, v2=slow) for second in (60, 120)]
    verdict = play([sample(0), *alone])["R5"]
    assert (verdict.verdict, verdict.details["stale_baseline"]) == (Outcome.HOLD, True)


def test_r5_an_outage_does_not_become_its_own_baseline() -> None:
    slower_v1 = window(60, p50=300, p95=900)
    both_slow = sample(60, v1=slower_v1, v2=window(60, p50=900, p95=3000))
    assert play([sample(0), both_slow])["R5"].details["baseline_p95_ms"] == 200


def test_r8_holds_for_any_open_difference() -> None:
    assert judge(sample(open_mismatches=1))["R8"].verdict is Outcome.HOLD
    assert judge(sample(open_failures=1))["R8"].verdict is Outcome.HOLD
    assert judge(sample(drift_count=9))["R8"].verdict is Outcome.PASS


@pytest.mark.parametrize(("mismatches", "verdict"), [(11, Outcome.FAIL), (10, Outcome.HOLD)])
def test_r8_fails_above_one_in_a_thousand_on_the_second_look(
    mismatches: int, verdict: Outcome
) -> None:
    checked = Run(1, "verify", "notes", rows_done=10_000, mismatches=mismatches)
    looks = [sample(second, open_mismatches=mismatches, runs=(checked,)) for second in (0, 4, 5)]
    assert play(looks[:2])["R8"].verdict is Outcome.HOLD
    assert play(looks)["R8"].verdict is verdict


def test_r10_holds_when_v2_should_serve_and_does_not_for_ten_minutes() -> None:
    silent = [sample(second, v2=NO_DATA) for second in range(0, 301, 60)]
    assert play(silent[:-1])["R10"].verdict is Outcome.PASS
    assert play(silent)["R10"].verdict is Outcome.HOLD


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"v1": NO_DATA, "v2": NO_DATA}, "no traffic at all"),
        ({"v2": NO_DATA, "percentage": 0}, "nobody is meant to be on V2"),
        ({"v1": window(9), "v2": NO_DATA}, "too little traffic to expect a V2 request"),
        ({"v2": window(1)}, "one request came"),
        ({"v2": NO_DATA, "stage": Stage.SHADOW}, "V2 does not serve in shadow"),
    ],
)
def test_r10_nearly_fires(given: dict[str, object], why: str) -> None:
    silent = [sample(second, **given) for second in range(0, 601, 60)]  # type: ignore[arg-type]
    assert play(silent)["R10"].verdict is Outcome.PASS, why


def test_r11_is_an_error_when_reports_stop_while_there_was_traffic() -> None:
    stopped = sample(newest_request_at=at(-121))
    assert judge(stopped)["R11"].verdict is Outcome.ERROR


@pytest.mark.parametrize(
    "given",
    [
        sample(newest_request_at=at(-119)),
        sample(v1=window(3), v2=window(3), newest_request_at=at(-200)),
        sample(v1=NO_DATA, v2=NO_DATA, newest_request_at=None),
    ],
)
def test_r11_nearly_fires(given: HealthSample) -> None:
    assert judge(given)["R11"].verdict is Outcome.PASS


@pytest.mark.parametrize(("failures", "verdict"), [(3, Outcome.HOLD), (4, Outcome.ERROR)])
def test_r11_is_an_error_at_the_fourth_failed_reading(failures: int, verdict: Outcome) -> None:
    assert judgement.blind(failures, at=NOW, limits=LIMITS, error="x").verdict is verdict


def test_a_rule_in_mode_warn_says_what_it_saw_but_does_not_count() -> None:
    warn = thresholds(rule_modes={"R1k": "warn", "R1s": "warn", "R1": "warn", "R2": "warn"})
    verdicts = judge(sample(v2=window(20, 20), streak=20), limits=warn)
    assert verdicts["R1k"].verdict is Outcome.FAIL
    assert verdicts["R1k"].mode is Mode.WARN
    assert planning.plan(sample(), verdicts.values()) is None


def test_a_rule_in_mode_off_says_nothing() -> None:
    assert "R1k" not in judge(sample(streak=9), limits=thresholds(rule_modes={"R1k": "off"}))


def test_shared_cause_is_shown_and_by_default_still_goes_back() -> None:
    both = sample(v1=window(300, 180), v2=window(100, 60))
    verdict = judge(both)["R1s"]
    assert (verdict.verdict, verdict.details["shared_cause"]) == (Outcome.FAIL, True)
    suppressed = judge(both, limits=thresholds(shared_cause="suppress"))["R1s"]
    assert suppressed.verdict is Outcome.HOLD


def test_the_largest_level_of_the_failing_rules_wins() -> None:
    bad = sample(60, v2=window(100, 60), streak=6)
    verdicts = play([sample(0, v2=window(100, 60), streak=6), bad])
    plan = planning.plan(bad, verdicts.values())
    assert plan is not None
    assert plan.level is Level.EMERGENCY
    assert {"R1", "R1s", "R1k"} <= set(plan.rules)


@pytest.mark.parametrize("stage", [Stage.OFF, Stage.DUALWRITE, Stage.SHADOW, Stage.COMPLETE])
def test_nothing_is_rolled_back_where_v2_does_not_serve(stage: Stage) -> None:
    bad = sample(v2=window(100, 60), streak=60, stage=stage)
    assert planning.plan(bad, judge(bad).values()) is None


def test_a_latched_pair_that_still_serves_v2_can_go_further_back() -> None:
    bad = sample(v2=window(100, 60), latched=True, percentage=5)
    plan = planning.plan(bad, judge(bad).values())
    assert plan is not None


def test_every_verdict_says_what_it_used() -> None:
    started = NOW - timedelta(minutes=7)
    for verdict in judge(sample(window_from=started)).values():
        assert verdict.at == NOW
        assert verdict.window_s == 420
        assert verdict.rule_version == LIMITS.rule_version
        assert verdict.message


def test_percentages_of_the_sample_are_exact() -> None:
    assert sample(percentage=33.333).percentage == Decimal("33.333")
