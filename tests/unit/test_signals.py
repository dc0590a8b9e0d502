"""Is anything wrong, and what comes next: from an overview alone."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from tests.unit.builders import seeded_settings

from crossfade.core.contract import Level, Mode, Outcome, RunState, Stage
from crossfade.core.errors import Blocker
from crossfade.flags.model import KillSwitch
from crossfade.health.model import Baseline
from crossfade.health.verdicts import Verdict
from crossfade.testing import NOW
from crossfade.views.overview import (
    BackendTraffic,
    MonitorLife,
    Overview,
    PairOverview,
    RollbackLog,
    RollbackNote,
    RunProgress,
    Traffic,
)
from crossfade.views.signals import Concern, find_signals, next_step, worst


def backend(requests: int = 1000, errors: int = 0, p95_ms: float = 100.0) -> BackendTraffic:
    return BackendTraffic(requests, errors, error_rate=errors / requests, p95_ms=p95_ms)


def pair(**changes: Any) -> PairOverview:
    healthy = PairOverview(
        "notes",
        "public.notes",
        "public.notes_v2",
        Stage.LIVE,
        percentage=Decimal(25),
        step_started_at=NOW - timedelta(hours=5),
        traffic=Traffic(backends={1: backend(), 2: backend()}),
        verdicts=(Verdict("R1", Outcome.PASS, at=NOW),),
    )
    return replace(healthy, **changes)


def overview(*pairs: PairOverview, **changes: Any) -> Overview:
    healthy = Overview(
        NOW, pairs=pairs, settings=seeded_settings(), monitor=MonitorLife(NOW, "host")
    )
    return replace(healthy, **changes)


def told(found: Overview) -> tuple[Concern, str]:
    signals = find_signals(found)
    return worst(signals), " | ".join(signal.text for signal in signals)


def test_a_healthy_project_needs_nobody() -> None:
    assert told(overview(pair())) == (Concern.FINE, "")
    assert told(overview()) == (Concern.FINE, "")


@pytest.mark.parametrize(
    ("errors", "concern"), [(49, Concern.FINE), (50, Concern.ATTENTION), (100, Concern.WRONG)]
)
@pytest.mark.parametrize("version", [1, 2])
def test_error_rates_are_judged_by_the_settings(
    errors: int, concern: Concern, version: int
) -> None:
    backends = {1: backend(), 2: backend()} | {version: backend(errors=errors)}
    found, text = told(overview(pair(traffic=Traffic(backends=backends))))
    assert found is concern
    assert (f"V{version}" in text) is (concern is not Concern.FINE)


def test_a_few_errors_of_a_few_requests_are_no_rate() -> None:
    few = Traffic(backends={1: backend(), 2: backend(requests=10, errors=9)})
    assert told(overview(pair(traffic=few)))[0] is Concern.FINE


@pytest.mark.parametrize(("p95_ms", "concern"), [(199, Concern.FINE), (200, Concern.ATTENTION)])
def test_twice_as_slow_as_v1_is_said(p95_ms: float, concern: Concern) -> None:
    slow = Traffic(backends={1: backend(), 2: backend(p95_ms=p95_ms)})
    assert told(overview(pair(traffic=slow)))[0] is concern


def test_without_v1_requests_the_baseline_is_compared_with() -> None:
    alone = Traffic(backends={2: backend(p95_ms=200)})
    assert told(overview(pair(traffic=alone)))[0] is Concern.FINE
    found = pair(traffic=alone, baseline=Baseline(500, 20, 100))
    assert "2.0 times as slow" in told(overview(found))[1]


@pytest.mark.parametrize(("fences", "concern"), [(True, "wrong"), (False, "attention")])
def test_an_engaged_kill_switch_is_said_with_who_and_why(fences: bool, concern: str) -> None:
    switch = KillSwitch("stop", True, fences, engaged_by="ada", reason="errors")
    found, text = told(overview(pair(), kill_switches=(switch,)))
    assert found == concern
    assert "ada" in text
    assert "errors" in text
    assert told(overview(pair(), kill_switches=(replace(switch, engaged=False),)))[1] == ""


@pytest.mark.parametrize("age_s", [None, 61])
def test_a_pair_that_serves_and_nobody_watches_is_said(age_s: int | None) -> None:
    beat = NOW - timedelta(seconds=age_s) if age_s else None
    unwatched = MonitorLife(beat)
    assert "Nobody watches notes" in told(overview(pair(), monitor=unwatched))[1]
    assert told(overview(pair(stage=Stage.SHADOW), monitor=unwatched))[1] == ""


def test_a_latch_is_wrong_and_says_the_way_out() -> None:
    latched = pair(latched_at=NOW, latch_reason="R1: 40 %")
    (signal,) = find_signals(overview(latched))
    assert signal.concern is Concern.WRONG
    assert "R1: 40 %" in signal.text
    assert "rearm notes" in signal.way_out
    assert next_step(latched, overview(latched)).target == "re-arm"


def test_a_rollback_is_news_for_an_hour() -> None:
    note = RollbackNote(1, NOW - timedelta(minutes=59), "ada", Level.PARTIAL, "notes", "slow")
    assert "slow" in told(overview(pair(), rollbacks=RollbackLog(1, (note,))))[1]
    old = replace(note, at=NOW - timedelta(minutes=61))
    assert told(overview(pair(), rollbacks=RollbackLog(1, (old,))))[1] == ""


@pytest.mark.parametrize(
    ("verdict", "concern"),
    [
        (Verdict("R1", Outcome.FAIL, at=NOW), Concern.WRONG),
        (Verdict("R8", Outcome.HOLD, at=NOW), Concern.ATTENTION),
        (Verdict("R11", Outcome.ERROR, at=NOW), Concern.ATTENTION),
        (Verdict("R3", Outcome.HOLD, at=NOW), Concern.FINE),
        (Verdict("R1", Outcome.FAIL, at=NOW, mode=Mode.DRY_RUN), Concern.FINE),
        (Verdict("R1", Outcome.FAIL, at=NOW - timedelta(minutes=6)), Concern.FINE),
    ],
)
def test_rules_speak_when_they_are_enforced_and_fresh(verdict: Verdict, concern: Concern) -> None:
    assert told(overview(pair(verdicts=(verdict,))))[0] is concern


@pytest.mark.parametrize(
    ("idle_h", "concern"), [(0.9, "fine"), (1.1, "attention"), (24.1, "wrong")]
)
def test_a_run_that_stands_still_is_said(idle_h: float, concern: str) -> None:
    run = RunProgress(7, "backfill", "notes", progress_at=NOW - timedelta(hours=idle_h))
    assert told(overview(pair(progress=(run,))))[0] == concern
    paused = replace(run, state=RunState.PAUSED)
    assert told(overview(pair(progress=(paused,))))[0] == Concern.FINE


def test_differences_and_an_unreadable_pair_are_said() -> None:
    assert "2 open mismatches" in told(overview(pair(open_mismatches=2)))[1]
    assert "1 open mirror failure" in told(overview(pair(open_failures=1)))[1]
    assert told(overview(pair(problem="relation is gone")))[0] is Concern.WRONG


def test_the_worst_comes_first() -> None:
    found = find_signals(overview(pair(open_failures=1, latched_at=NOW, latch_reason="R1")))
    assert [signal.concern for signal in found] == [Concern.WRONG, Concern.ATTENTION]


def test_the_next_step_says_what_is_missing() -> None:
    ready = pair()
    assert next_step(ready, overview(ready)).target == "75 % on V2"
    assert next_step(ready, overview(ready)).waits == ()
    early = pair(step_started_at=NOW)
    assert next_step(early, overview(early)).waits != ()
    off = pair(stage=Stage.OFF, next_stage=Stage.DUALWRITE)
    assert next_step(off, overview(off)).target == "stage dualwrite"
    blocked = replace(off, blockers=(Blocker("x", "no backfill yet"),))
    assert next_step(blocked, overview(blocked)).waits == ("no backfill yet",)
    done = pair(stage=Stage.RETIRED)
    assert "over" in next_step(done, overview(done)).target
