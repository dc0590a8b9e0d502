"""Batches are held to what clients notice: V1's answers, a share of the time, nobody at all."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Connect, Connection, begins_with
from .control import call, one
from .notes_pair import differences, rows
from .test_backfill import finish, prepare, start


def batch(db: Connection, run: int) -> dict[str, Any]:
    """One batch as the settings and the load want it."""
    answer: dict[str, Any] = call(db, "backfill_batch", run)
    return answer


def begun(db: Connection) -> int:
    """A run of many small batches, of which one is done."""
    prepare(db, 3000)
    call(db, "set_setting", "batch_max_rows", "50", "test")
    run = start(db)
    batch(db, run)
    return run


def in_some_batches(db: Connection) -> None:
    """3,000 rows; every batch leaves some for the next ones, however fast the machine is."""
    prepare(db, 3000)
    call(db, "set_setting", "batch_max_rows", "500", "test")


def looked_before(db: Connection, seconds: float) -> None:
    """Let the last look at the load be so long ago, with what has happened until now."""
    db.execute("select pg_stat_force_next_flush()")
    db.execute(
        "update crossfade.run_ranges set load_seen_at = clock_timestamp() - %s * interval '1 s',"
        " load_seen = crossfade_private.others_transactions(run)",
        [seconds],
    )


def transactions(db: Connection, number: int) -> None:
    """End so many transactions, and have them counted at once."""
    for _ in range(number - 1):
        db.execute("select 1")
    db.execute("select pg_stat_force_next_flush()")


# Others -------------------------------------------------------------------------------------------


@begins_with(in_some_batches)
def test_a_run_knows_nothing_of_others_at_first_and_goes_gently(db: Connection) -> None:
    answer = batch(db, start(db))
    # 30 % of the time: for each ms of work 2.3 ms of rest.
    assert answer["wait_ms"] == pytest.approx(answer["batch_ms"] * 70 / 30, abs=1.5)
    assert rows(db, "select is_busy from crossfade.run_ranges") == [(True,)]


def test_batches_are_long_and_do_not_wait_while_nobody_else_is_there(db: Connection) -> None:
    run = begun(db)
    looked_before(db, 3)
    for _ in range(8):  # our own batches are nobody else's
        answer = batch(db, run)
    assert answer["wait_ms"] == 0
    assert rows(db, "select is_busy from crossfade.run_ranges") == [(False,)]
    aims_at = "select crossfade_private.target_ms(a, %s) from crossfade.run_ranges a"
    assert one(db, aims_at, None) == 500
    assert one(db, aims_at, 70) == 70
    db.execute("update crossfade.run_ranges set is_busy = true")
    assert one(db, aims_at, None) == 40


@pytest.mark.parametrize(("number", "busy"), [(5, False), (60, True)])
def test_transactions_of_others_make_batches_wait_again(
    db: Connection, connect: Connect, number: int, busy: bool
) -> None:
    run = begun(db)
    other = connect()
    looked_before(db, 3)
    assert batch(db, run)["wait_ms"] == 0
    looked_before(db, 3)
    transactions(other, number)
    answer = batch(db, run)
    assert (answer["wait_ms"] > 0) is busy
    assert rows(db, "select is_busy from crossfade.run_ranges") == [(busy,)]


@pytest.mark.parametrize("how", ["a long pause", "counters that were reset"])
def test_after_a_pause_or_a_reset_a_run_knows_nothing_again(db: Connection, how: str) -> None:
    run = begun(db)
    looked_before(db, 3)
    assert batch(db, run)["wait_ms"] == 0
    looked_before(db, 3600 if how == "a long pause" else 3)
    if how != "a long pause":
        db.execute("update crossfade.run_ranges set load_seen = load_seen + 100000")
    assert batch(db, run)["wait_ms"] > 0


def test_workers_share_what_is_allowed(db: Connection) -> None:
    prepare(db, 4000)
    run = start(db, ranges=4)
    wait = (
        "select crossfade_private.wait_ms(a, 30, %s::numeric) from crossfade.run_ranges a"
        " where a.range = 1"
    )
    assert one(db, wait, 1) == 70
    db.execute("update crossfade.run_ranges set batches = 1 where range <= 3")
    assert one(db, wait, 1) == 270  # three workers: a tenth of the time each
    db.execute("update crossfade.run_ranges set done = true where range = 2")
    assert one(db, wait, 1) == 170
    db.execute("update crossfade.run_ranges set progress_at = progress_at - interval '1 minute'")
    assert one(db, wait, 1) == 70
    assert one(db, wait, 0.5) == 170  # V1 is slower: half the share
    call(db, "set_setting", "batch_duty_pct", "100", "test")
    assert one(db, wait, 1) == 0
    call(db, "control_run", run, "cancel", "test")


# What V1 answers ----------------------------------------------------------------------------------

MS = {"before": 14, "the same": 14, "a little": 15, "slow": 17}
"""Latency buckets: about 10, 11 and 16 ms."""


def answers(
    db: Connection, bucket: int, count: int, *, ago_s: float = 0, errors: int = 0, backend: int = 1
) -> None:
    """Count requests of a minute as the edge function does."""
    for outcome, number in (("ok", count - errors), ("error", errors)):
        db.execute(
            "insert into crossfade.request_minutes as m (pair, minute, step, backend_version,"
            " wire_version, outcome, latency_bucket, requests, last_at)"
            " select 'notes', date_trunc('minute', clock_timestamp() - %s * interval '1 s'), 1, %s,"
            " 1, %s, %s, %s, clock_timestamp() where %s > 0 on conflict do nothing",
            [ago_s, backend, outcome, bucket, number, number],
        )


def under_traffic(db: Connection, *, before: int = 200, errors: int = 0) -> int:
    """A run with one batch done whose pair was used in the minutes before it."""
    in_some_batches(db)
    answers(db, MS["before"], before, ago_s=120, errors=errors)
    run = start(db)
    batch(db, run)
    return run


def test_a_run_remembers_how_v1_answered_before_it(db: Connection) -> None:
    run = under_traffic(db, errors=2)
    found = (
        "select v1_requests, round(v1_p95_ms), v1_error_rate::float8"
        " from crossfade.runs where id = %s"
    )
    assert db.execute(found, [run]).fetchone() == (200, 11, 0.01)


@begins_with(in_some_batches)
def test_without_traffic_there_is_nothing_to_be_held_to(db: Connection) -> None:
    run = start(db)
    assert rows(db, "select v1_requests, v1_p95_ms, v1_error_rate from crossfade.runs") == [
        (0, None, None)
    ]
    answers(db, MS["slow"], 500, errors=100)
    assert batch(db, run)["state"] == "running"


def test_batches_wait_while_v1_is_slower_than_before_the_run(db: Connection) -> None:
    run = under_traffic(db)
    answers(db, MS["slow"], 100)
    answer = batch(db, run)
    assert (answer["state"], answer["rows_read"]) == ("throttled", 0)
    assert answer["reason"].startswith("V1 is slow: p95 ")
    assert "before the run 11" in answer["reason"]
    db.execute("delete from crossfade.request_minutes where latency_bucket = %s", [MS["slow"]])
    answers(db, MS["the same"], 100)
    assert finish(db, run)["state"] == "finished"
    assert differences(db) == []


def test_the_nearer_v1_comes_to_the_limit_the_longer_batches_wait(db: Connection) -> None:
    run = under_traffic(db)
    ease = "select crossfade_private.throttle(r) ->> 'ease' from crossfade.runs r where id = %s"
    answers(db, MS["the same"], 100)
    assert float(one(db, ease, run)) == pytest.approx(1, abs=0.05)
    db.execute("update crossfade.request_minutes set latency_bucket = %s where minute >="
               " date_trunc('minute', clock_timestamp())", [MS["a little"]])  # fmt: skip
    nearer = float(one(db, ease, run))
    assert 0.25 <= nearer < 0.5
    answer = batch(db, run)
    assert answer["wait_ms"] > answer["batch_ms"] * 70 / 30 * 1.5


@pytest.mark.parametrize(("errors", "state"), [(3, "running"), (8, "throttled")])
def test_batches_wait_while_v1_fails_more_often_than_before_the_run(
    db: Connection, errors: int, state: str
) -> None:
    run = under_traffic(db, errors=4)
    answers(db, MS["the same"], 100, errors=errors)
    answer = batch(db, run)
    assert answer["state"] == state
    if state == "throttled":
        assert answer["reason"] == (
            "V1 answers 8.0 % of its requests with errors, before the run 2.0 %"
        )


@pytest.mark.parametrize("what", ["few before", "few now", "the other backend", "long ago"])
def test_what_says_too_little_holds_up_no_batch(db: Connection, what: str) -> None:
    run = under_traffic(db, before=10 if what == "few before" else 200)
    answers(
        db,
        MS["slow"],
        10 if what == "few now" else 100,
        backend=2 if what == "the other backend" else 1,
        ago_s=300 if what == "long ago" else 0,
    )
    assert batch(db, run)["state"] == "running"


@begins_with(in_some_batches)
def test_a_difference_of_less_than_two_milliseconds_holds_up_no_batch(db: Connection) -> None:
    answers(db, 3, 200, ago_s=120)  # about 1.6 ms
    run = start(db)
    batch(db, run)
    answers(db, 6, 100)  # about 2.7 ms
    assert batch(db, run)["state"] == "running"
    call(db, "set_setting", "throttle_min_difference_ms", "0", "test")
    assert batch(db, run)["state"] == "throttled"


def test_v1_that_stays_slow_without_any_batch_is_what_the_run_is_held_to_from_then_on(
    db: Connection,
) -> None:
    run = under_traffic(db)
    answers(db, MS["slow"], 100)
    answers(db, MS["slow"], 100, ago_s=60)
    assert batch(db, run)["state"] == "throttled"
    db.execute("update crossfade.run_ranges set progress_at = progress_at - interval '1 minute'")
    assert batch(db, run)["state"] == "throttled"
    db.execute("update crossfade.run_ranges set progress_at = progress_at - interval '1 minute'")
    assert batch(db, run)["state"] == "running"
    assert one(db, "select v1_p95_ms from crossfade.runs where id = %s", run) > 14
    assert finish(db, run)["state"] == "finished"


@begins_with(in_some_batches)
def test_the_first_batch_does_not_wait_for_a_slowness_that_it_did_not_make(db: Connection) -> None:
    answers(db, MS["before"], 200, ago_s=120)
    run = start(db)
    answers(db, MS["slow"], 100)
    assert batch(db, run)["state"] == "running"
    assert one(db, "select v1_p95_ms from crossfade.runs where id = %s", run) > 14
    answers(db, MS["slow"] + 4, 100)
    assert batch(db, run)["state"] == "throttled"


def test_verification_is_held_to_the_same(db: Connection) -> None:
    finish(db, under_traffic(db))
    call(db, "set_setting", "batch_max_rows", "50", "test")
    run = call(db, "start_verify", "notes")["run"]["id"]
    assert call(db, "verify_batch", run)["state"] == "running"
    answers(db, MS["slow"], 400)
    assert call(db, "verify_batch", run)["state"] == "throttled"
    db.execute("delete from crossfade.request_minutes where latency_bucket = %s", [MS["slow"]])
    answer = call(db, "verify_batch", run)
    assert answer["state"] in ("running", "finished")
    assert answer["wait_ms"] > 0
