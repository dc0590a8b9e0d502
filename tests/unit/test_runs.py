"""The loop that drives runs: to the end, through trouble, and never for ever."""

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
from tests.unit.builders import batch, project, run_of

from crossfade.core.contract import FollowerOnly, RunState
from crossfade.core.errors import (
    PairChangedError,
    ServerFailedError,
    StalledError,
    UnreachableError,
)
from crossfade.runs.backfill import run_backfill
from crossfade.runs.driver import FIRST_WAIT_S, LONGEST_WAIT_S, DriveOptions
from crossfade.runs.model import Repaired
from crossfade.runs.progress import Meter, Progress
from crossfade.runs.verify import repair_all, run_verify
from crossfade.testing import FakeGateway


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


def options(clock: Clock, **more: object) -> DriveOptions:
    base = DriveOptions(clock=clock, sleep=clock.sleep)
    return replace(base, **more)  # type: ignore[arg-type]


def test_a_backfill_runs_to_its_end() -> None:
    fake, seen = project(), list[Progress]()
    done = run_backfill(fake, "notes", options=options(Clock(), on_progress=seen.append))
    assert done.state is RunState.FINISHED
    assert done.run.rows_done == 1000
    assert fake.calls.count("backfill_batch") == 10
    assert [item.run.rows_done for item in seen] == list(range(100, 1001, 100))


def test_a_second_call_continues_the_run_that_is_not_over() -> None:
    fake = project()
    fake.fail("backfill_batch", PairChangedError("changed"), times=1)
    with pytest.raises(PairChangedError):
        run_backfill(fake, "notes", options=options(Clock()))
    assert run_backfill(fake, "notes", options=options(Clock())).run.id == 1


@pytest.mark.parametrize("error", [UnreachableError("gone"), ServerFailedError("503")])
def test_errors_of_network_and_server_are_outlived(error: Exception) -> None:
    fake, clock, seen = project(), Clock(), list[Progress]()
    fake.fail("verify_batch", error, times=5)  # type: ignore[arg-type]
    done = run_verify(fake, "notes", options=options(clock, on_progress=seen.append))
    assert done.state is RunState.FINISHED
    assert len(clock.waits) == 5
    assert seen[0].state is RunState.WAITING
    assert seen[0].reason == str(error)


def test_errors_are_outlived_only_for_a_bounded_time() -> None:
    fake, clock = project(), Clock()
    fake.fail("backfill_batch", UnreachableError("gone"), times=1000)
    with pytest.raises(UnreachableError):
        run_backfill(fake, "notes", options=options(clock, patience_s=60))
    assert 60 <= clock.now < 90
    assert max(clock.waits) <= LONGEST_WAIT_S * 1.2


def test_a_throttled_run_waits_longer_and_longer_and_shows_why() -> None:
    fake, clock, seen = project(), Clock(), list[Progress]()
    fake.script.extend(batch(0, state=RunState.THROTTLED, reason="lag 12 s") for _ in range(4))
    run_backfill(fake, "notes", options=options(clock, on_progress=seen.append))
    assert clock.waits == sorted(clock.waits)
    assert [item.reason for item in seen[:4]] == ["lag 12 s"] * 4
    assert seen[3].left_s is None


def test_a_run_without_progress_is_given_up_and_says_why() -> None:
    fake, clock = project(), Clock()
    fake.script.extend(batch(0, state=RunState.THROTTLED, reason="lag 12 s") for _ in range(999))
    with pytest.raises(StalledError, match="lag 12 s"):
        run_backfill(fake, "notes", options=options(clock, stall_s=120))
    assert 120 <= clock.now < 150


def test_a_run_that_answers_running_without_rows_does_not_spin() -> None:
    fake, clock = project(), Clock()
    idle = replace(batch(0), rows_read=0, rows_written=0)
    fake.script.extend(idle for _ in range(20))
    run_backfill(fake, "notes", options=options(clock))
    assert len(clock.waits) == 20


@pytest.mark.parametrize("state", [RunState.PAUSED, RunState.CANCELLED])
def test_a_run_paused_or_cancelled_elsewhere_ends_the_loop(state: RunState) -> None:
    fake = project()
    fake.script.append(batch(100, state=state))
    assert run_backfill(fake, "notes", options=options(Clock())).state is state


def test_an_interrupt_leaves_the_run_as_it_was_committed() -> None:
    fake, clock = project(), Clock()

    def interrupt(progress: Progress) -> None:
        if progress.run.rows_done == 300:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_backfill(fake, "notes", options=options(clock, on_progress=interrupt))
    assert fake.runs[1].rows_done == 300
    done = run_backfill(fake, "notes", options=options(clock))
    assert done.run.rows_done == 1000
    assert fake.calls.count("backfill_batch") == 10


def test_several_workers_share_one_run() -> None:
    fake = project()
    done = run_backfill(fake, "notes", options=DriveOptions(workers=4))
    assert done.state is RunState.FINISHED
    assert fake.given[fake.calls.index("start_backfill")][-1] == 4


def test_an_error_in_one_worker_stops_them_all() -> None:
    fake = project()
    fake.fail("backfill_batch", PairChangedError("changed"), times=1)
    with pytest.raises(PairChangedError):
        run_backfill(fake, "notes", options=DriveOptions(workers=3))


def peak_bytes(action: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


class ManyRows(FakeGateway):
    """Forgets its calls, so that only the loop's own memory is measured."""

    def _called(self, method: str, *given: object) -> None:
        pass


def drive_rows(rows: int) -> None:
    fake = ManyRows()
    fake.add_pair(project().pairs["notes"])
    fake.start_backfill("notes", direction=run_of().direction, ranges=1)  # type: ignore[arg-type]
    fake.runs[1] = replace(fake.runs[1], rows_total=rows)
    run_backfill(fake, "notes", options=options(Clock()))


def test_memory_stays_flat() -> None:
    drive_rows(1000)  # imports and caches
    small, large = (peak_bytes(partial(drive_rows, rows)) for rows in (20_000, 80_000))
    assert large <= small * 1.1


def test_the_meter_forgets_even_when_the_clock_stands_still() -> None:
    def feed(reports: int) -> None:
        meter = Meter(now=0, rows_done=0)
        for number in range(reports):
            meter.report(batch(number), now=0)

    small, large = peak_bytes(partial(feed, 1000)), peak_bytes(partial(feed, 4000))
    assert large <= small * 1.1


def test_rate_and_time_left_come_from_the_last_half_minute() -> None:
    meter = Meter(now=0, rows_done=0)
    assert meter.report(batch(100), now=10).rows_per_s == 10
    for second in range(20, 110, 10):
        report = meter.report(batch(100 + second), now=second)
    assert report.rows_per_s == pytest.approx(1)
    assert report.left_s == pytest.approx(1000 - 200)


def test_nobody_claims_to_know_the_time_left_past_the_estimate() -> None:
    meter = Meter(now=0, rows_done=0)
    assert meter.report(batch(1001), now=10).left_s is None
    assert meter.report(batch(1001), now=20).fraction == 1.0


def test_repair_goes_on_until_nothing_is_left() -> None:
    fake = project()
    fake.repairs.extend([Repaired(500, 300), Repaired(300, 0)])
    assert repair_all(fake, "notes").repaired == 800


def test_repair_stops_when_all_that_are_left_have_failed() -> None:
    fake = project()
    fake.repairs.extend([Repaired(5, 2, 2), Repaired(0, 2, 2), Repaired(0, 2, 2)])
    report = repair_all(fake, "notes")
    assert (report.repaired, report.remaining, report.failed) == (5, 2, 2)
    assert len(fake.repairs) == 1


def test_repair_goes_on_past_rows_that_fail_while_others_have_had_no_turn() -> None:
    fake = project()
    # 511 rows, of which the first 500 cannot be repaired.
    fake.repairs.extend([Repaired(0, 511, 500), Repaired(11, 500, 489), Repaired(0, 500, 500)])
    report = repair_all(fake, "notes")
    assert (report.repaired, report.failed) == (11, 500)
    assert not fake.repairs


def test_repair_ends_where_only_a_person_can_decide() -> None:
    fake = project()
    fake.repairs.extend([Repaired(3, 2, 0, undecided=2), Repaired(0, 2, 0, undecided=2)])
    report = repair_all(fake, "notes", follower_only=FollowerOnly.KEEP)
    assert (report.repaired, report.failed, report.undecided) == (3, 0, 2)
    assert len(fake.repairs) == 1


def test_the_choice_for_rows_of_the_follower_reaches_the_database() -> None:
    fake = project()
    repair_all(fake, "notes", follower_only=FollowerOnly.COPY)
    assert fake.given[-1] == ("notes", 500, None, FollowerOnly.COPY)


def test_a_worker_waits_as_long_as_the_batch_asks_for_and_stays_at_its_pace() -> None:
    fake, clock = project(), Clock()
    fake.script.extend(replace(batch(n * 100), wait_ms=250 * n) for n in (1, 2, 3))
    run_backfill(fake, "notes", options=options(clock))
    assert clock.waits == [0.25, 0.5, 0.75]


def test_a_shrunk_batch_is_followed_by_the_next_one_soon() -> None:
    fake, clock, seen = project(), Clock(), list[Progress]()
    fake.script.extend(
        batch(0, state=RunState.SHRUNK, reason="statement_timeout") for _ in range(8)
    )
    run_backfill(fake, "notes", options=options(clock, on_progress=seen.append))
    assert len(clock.waits) == 8
    assert max(clock.waits) <= FIRST_WAIT_S * 1.2
    assert [item.reason for item in seen[:8]] == ["statement_timeout"] * 8
