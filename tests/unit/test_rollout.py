"""Steps, cohorts, kill switches: what is decided without a database."""

from dataclasses import replace
from decimal import Decimal

import pytest
from tests.unit.builders import at, pair, project, sample, thresholds, window

from crossfade.core.contract import Event, Stage
from crossfade.core.errors import UnknownNameError, UnreachableError
from crossfade.flags import kill_switches
from crossfade.flags.cohort import Lists, cohort_changes
from crossfade.flags.model import Cohort
from crossfade.health import judgement
from crossfade.pairs.check import check_pair
from crossfade.pairs.model import ConversionCheck, PairStatus, Violation
from crossfade.rollouts.advance import Advance, may_advance, next_percentage
from crossfade.testing import NOW

LIMITS = thresholds()
STEPS = LIMITS.rollout_steps


def advance(status: PairStatus, *, requests: int = 100, errors: int = 0) -> Advance:
    given = sample(v2=window(requests, errors), percentage=float(status.percentage))
    return may_advance(status, judgement.evaluate(given, (), LIMITS), LIMITS, now=NOW)


def live(percentage: float, *, since_s: float, **more: object) -> PairStatus:
    share = Decimal(str(percentage))
    return replace(pair(percentage=share, step_started_at=at(-since_s)), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("current", "following"), [(0, 5), (5, 25), (10, 25), (75, 100), (99.999, 100), (100, None)]
)
def test_the_next_step_is_the_first_above(current: float, following: int | None) -> None:
    assert next_percentage(Decimal(str(current)), STEPS) == following


def test_a_healthy_step_that_lasted_long_enough_may_advance() -> None:
    plan = advance(live(5, since_s=1800))
    assert plan.is_allowed
    assert plan.target == Decimal(25)
    assert not plan.approval


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (live(5, since_s=1799), "of 1800 s"),
        (live(25, since_s=1800), "of 3600 s"),
        (live(10, since_s=1799), "of 1800 s"),
        (live(5, since_s=9999, stage=Stage.SHADOW), "not live"),
        (live(5, since_s=9999, latched_at=NOW, latch_reason="R1"), "re-arm"),
        (live(100, since_s=99_999), "last step"),
    ],
)
def test_what_is_missing_is_said(status: PairStatus, why: str) -> None:
    plan = advance(status)
    assert not plan.is_allowed
    assert any(why in item for item in plan.waits)


def test_too_few_requests_and_too_many_errors_hold() -> None:
    assert not advance(live(5, since_s=9999), requests=49).is_allowed
    assert not advance(live(5, since_s=9999), errors=6).is_allowed


@pytest.mark.parametrize(("ago_s", "allowed"), [(899, False), (900, True)])
def test_nothing_advances_in_the_cool_down_after_an_automatic_rollback(
    ago_s: float, allowed: bool
) -> None:
    given = sample(percentage=5)
    verdicts = judgement.evaluate(given, (), LIMITS)
    status = live(5, since_s=9999)
    plan = may_advance(status, verdicts, LIMITS, now=NOW, rolled_back_at=at(-ago_s))
    assert plan.is_allowed is allowed


def test_the_last_step_is_one_that_a_person_approves() -> None:
    assert advance(live(75, since_s=7200)).approval


def test_the_first_step_needs_no_time() -> None:
    given = sample(percentage=0, v2=window(0))
    verdicts = judgement.evaluate(given, (), LIMITS)
    assert may_advance(live(0, since_s=1), verdicts, LIMITS, now=NOW).is_allowed


COHORT = Cohort(Decimal(5), "notes", enabled_user_ids=("a",), denied_user_ids=("z",))


def test_allowing_takes_out_of_the_deny_list_and_keeps_order() -> None:
    changes = cohort_changes(COHORT, users=Lists(allow=("z", "b", "a")))
    assert changes == {"enabled_user_ids": ("a", "z", "b"), "denied_user_ids": ()}


def test_clearing_takes_out_of_both_lists() -> None:
    changes = cohort_changes(COHORT, users=Lists(clear=("a", "z", "nobody")))
    assert changes == {"enabled_user_ids": (), "denied_user_ids": ()}


def test_a_change_to_what_is_there_already_is_none() -> None:
    assert cohort_changes(COHORT, percentage=Decimal(5), users=Lists(allow=("a",))) == {}


def test_engaging_sends_the_broadcast_after_the_commit() -> None:
    fake = project()
    ticks = iter([0.0, 0.02, 0.025])
    done = kill_switches.engage(fake, "disable_v2_messages", clock=lambda: next(ticks))
    assert fake.calls == ["engage_kill_switch", "broadcast"]
    assert fake.broadcasts == [
        (Event.KILL, {"flags_version": 2, "name": "disable_v2_messages", "engaged": True})
    ]
    assert (done.commit_ms, round(done.broadcast_ms or 0)) == (20.0, 5)


def test_a_broadcast_that_fails_does_not_undo_or_hide_the_kill() -> None:
    fake = project()
    fake.fail("broadcast", UnreachableError("gone"))
    done = kill_switches.engage(fake, "disable_v2_messages")
    assert fake.kill_switches["disable_v2_messages"].engaged
    assert done.broadcast_error == "gone"


def test_an_unknown_switch_sends_no_broadcast() -> None:
    fake = project()
    with pytest.raises(UnknownNameError):
        kill_switches.engage(fake, "nope")
    assert fake.broadcasts == []


def test_check_reads_both_tables_to_the_end() -> None:
    fake = project()
    bad = Violation({"id": 7}, 1, ("body",))
    fake.checks.extend(
        [
            ConversionCheck(2, (), {"id": 2}, done=False),
            ConversionCheck(1, (bad,), {"id": 3}, done=True),
            ConversionCheck(0, (), None, done=True),
        ]
    )
    report = check_pair(fake, "notes")
    assert (report.rows_checked, report.count, report.is_clean) == (3, 1, False)
    sides = [(given[1], given[2]) for given in fake.given]
    assert sides == [(1, None), (1, {"id": 2}), (2, None)]


def test_check_keeps_only_so_many_violations() -> None:
    fake = project()
    bad = tuple(Violation({"id": number}, 1) for number in range(50))
    fake.checks.extend(ConversionCheck(50, bad, {"id": 1}, done=False) for _ in range(3))
    report = check_pair(fake, "notes", sides=(1,), keep=60)
    assert (report.count, len(report.violations)) == (150, 60)


def test_check_ends_when_the_server_gives_no_rows() -> None:
    fake = project()
    fake.checks.extend(ConversionCheck(0, (), {"id": 1}, done=False) for _ in range(9))
    check_pair(fake, "notes")
    assert fake.calls == ["check_conversion"] * 2
