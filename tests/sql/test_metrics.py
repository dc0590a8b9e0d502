"""Metrics: counting, histograms, streaks, windows, verdicts."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.sql.control import Connection, call, cases, create_pair, one, refused

HISTOGRAM = next(
    case.values[0]["expect"]
    for case in cases("contract")
    if case.values[0]["name"] == "latency_histogram"
)


def event(outcome: str = "ok", **fields: Any) -> dict[str, Any]:
    """One request that backend 2 answered in 10 ms."""
    return {
        "pair": "orders", "backend_version": 2, "wire_version": 1, "outcome": outcome,
        "latency_ms": 10, **fields,
    }  # fmt: skip


def record(db: Connection, *events: dict[str, Any]) -> Any:
    return call(db, "record_requests", list(events))


def backend(db: Connection, version: int = 2) -> Any:
    return call(db, "health_sample", "orders")["backends"][str(version)]


def move_back(db: Connection, minutes: int) -> None:
    """Let everything recorded so far have happened so many minutes earlier."""
    db.execute(
        "update crossfade.request_minutes set minute = minute - make_interval(mins => %s)",
        [minutes],
    )


@pytest.fixture
def db(scratch: Connection) -> Connection:
    return scratch


@pytest.fixture
def live(db: Connection) -> Connection:
    create_pair(db, stage="live", percentage=25)
    # The step began an hour ago.
    db.execute("update crossfade.pairs set step_started_at = now() - interval '2 hours'")
    return db


# Counting ----------------------------------------------------------------------------------


def test_requests_are_counted_by_all_their_labels(live: Connection) -> None:
    events = [event(), event(count=3), event(wire_version=2), event(flag_set="memory")]
    assert record(live, *events)["recorded"] == 6
    rows = live.execute(
        "select wire_version, flag_set, requests from crossfade.request_minutes order by 1, 2"
    ).fetchall()
    assert rows == [(1, "", 4), (1, "memory", 1), (2, "", 1)]


def test_a_second_batch_adds_to_the_same_counters(live: Connection) -> None:
    for _ in range(3):
        record(live, event())
    assert one(live, "select sum(requests) from crossfade.request_minutes") == 3
    # A full minute may end between two batches.
    assert one(live, "select count(*) = count(distinct minute) from crossfade.request_minutes")


def test_the_answer_carries_the_version(live: Connection) -> None:
    assert record(live, event())["flags_version"] == call(live, "flags_version")


def test_an_empty_batch_records_nothing(live: Connection) -> None:
    assert record(live)["recorded"] == 0


@pytest.mark.parametrize(("latency_ms", "bucket"), HISTOGRAM["examples"])
def test_latency_bucket_equals_the_vector(live: Connection, latency_ms: Any, bucket: int) -> None:
    record(live, event(latency_ms=latency_ms))
    assert one(live, "select latency_bucket from crossfade.request_minutes") == bucket


def test_every_upper_bound_of_a_bucket_begins_the_next_one(db: Connection) -> None:
    wrong = one(
        db,
        "select array_agg(i) from generate_series(0, 78) i"
        " where crossfade_private.latency_bucket(power(2::numeric, i / 4.0)) <> i + 1",
    )
    assert wrong is None


def test_a_huge_latency_is_clamped(live: Connection) -> None:
    live.execute(
        'select crossfade.record_requests(\'[{"pair": "orders", "backend_version": 2,'
        ' "wire_version": 1, "outcome": "ok", "latency_ms": 1e400}]\')'
    )
    assert one(live, "select latency_bucket from crossfade.request_minutes") == 79


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("pair", None),
        ("pair", 5),
        ("backend_version", 3),
        ("backend_version", "2"),
        ("backend_version", None),
        ("wire_version", 0),
        ("flag_set", 5),
        ("flag_set", "x" * 201),
        ("outcome", "failed"),
        ("outcome", None),
        ("latency_ms", -1),
        ("latency_ms", "10"),
        ("latency_ms", None),
        ("flags_version", -1),
        ("flags_version", "7"),
        ("flags_version", 1.5),
        ("count", 0),
        ("count", -1),
        ("count", 1.5),
        ("count", 10**12),
    ],
)
def test_an_event_that_cannot_be_counted_is_refused_and_named(
    live: Connection, field: str, value: Any
) -> None:
    with refused("CF012", 400) as refusal:
        record(live, event(), event(**{field: value}))
    assert (refusal.detail["event"], refusal.detail["field"]) == (1, field)
    assert refusal.detail["value"] == value
    assert one(live, "select count(*) from crossfade.request_minutes") == 0


@pytest.mark.parametrize("batch", [{"pair": "orders"}, ["x"], [[]], [None]])
def test_a_batch_that_is_none_is_refused(live: Connection, batch: Any) -> None:
    with refused("CF012", 400):
        call(live, "record_requests", batch)


def test_a_batch_of_more_than_10000_events_is_refused(live: Connection) -> None:
    assert record(live, *[event()] * 10000)["recorded"] == 10000
    with refused("CF012", 400) as refusal:
        record(live, *[event()] * 10001)
    assert refusal.detail["field"] == "batch"


def test_an_unknown_pair_is_refused_and_nothing_is_counted(live: Connection) -> None:
    with refused("CF001", 404) as refusal:
        record(live, event(), event(pair="nowhere"))
    assert refusal.detail["pair"] == "nowhere"
    assert one(live, "select count(*) from crossfade.request_minutes") == 0


def test_an_event_decided_before_the_step_counts_for_the_step_before(live: Connection) -> None:
    step = one(live, "select step from crossfade.pairs")
    began = one(live, "select step_flags_version from crossfade.pairs")
    record(live, event("error", flags_version=began - 1), event(flags_version=began), event())
    rows = live.execute("select step, sum(requests) from crossfade.request_minutes group by 1")
    assert dict(rows.fetchall()) == {step - 1: 1, step: 2}
    sample = call(live, "health_sample", "orders")
    assert (sample["backends"]["2"]["requests"], sample["streak"]) == (2, 0)


def test_many_callers_lose_nothing_and_never_deadlock(connect: Any) -> None:
    live = connect()
    create_pair(live, "orders")
    create_pair(live, "bills")
    callers, turns, errors = 6, 12, []

    def work(number: int) -> None:
        api = connect("service_role")
        try:
            for turn in range(turns):
                events = [
                    event(outcome, pair=pair, latency_ms=2**power)
                    for pair in ("orders", "bills")
                    for outcome in ("ok", "error")
                    for power in range(8)
                ]
                # Every caller has its own order.
                record(api, *events[number + turn :], *events[: number + turn])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    total = one(live, "select sum(requests) from crossfade.request_minutes")
    assert total == callers * turns * 32


# The streak --------------------------------------------------------------------------------


def streak(db: Connection) -> Any:
    return call(db, "health_sample", "orders")["streak"]


@pytest.mark.parametrize(
    ("outcomes", "length"),
    [
        (["error"], 1),
        (["error", "fallback", "error"], 3),
        (["error", "ok", "error"], 1),
        (["error", "ok"], 0),
        (["error", "client_error", "shadow_mismatch", "error"], 2),
        (["ok"], 0),
        ([], 0),
    ],
)
def test_streak_counts_v2_errors_since_the_last_ok(
    live: Connection, outcomes: list[str], length: int
) -> None:
    record(live, *[event(outcome) for outcome in outcomes])
    assert streak(live) == length


@pytest.mark.parametrize(
    ("outcomes", "length"),
    [(["error", "error"], 2), (["error", "ok", "error"], 1), (["error", "ok"], 0)],
)
def test_streak_goes_on_over_batches(live: Connection, outcomes: list[str], length: int) -> None:
    for outcome in outcomes:
        record(live, event(outcome))
    assert streak(live) == length


def test_streak_ignores_backend_1(live: Connection) -> None:
    record(live, event("error"))
    record(live, event("error", backend_version=1), event("ok", backend_version=1))
    assert streak(live) == 1


def test_streak_ignores_what_was_decided_before_the_step(live: Connection) -> None:
    began = one(live, "select step_flags_version from crossfade.pairs")
    record(live, event("error", count=3))
    record(live, event("error", flags_version=began - 1), event("ok", flags_version=began - 1))
    assert streak(live) == 3


def test_streak_begins_anew_with_a_step(live: Connection) -> None:
    record(live, event("error", count=5))
    call(live, "set_cohort", "orders", {"percentage": 75}, "test")
    assert streak(live) == 0
    record(live, event("error"))
    assert streak(live) == 1


# Health ------------------------------------------------------------------------------------


def test_a_sample_without_requests_has_no_rates(live: Connection) -> None:
    sample = call(live, "health_sample", "orders")
    assert (sample["pair"], sample["stage"], sample["percentage"]) == ("orders", "live", 25)
    assert (sample["latched"], sample["newest_request_at"], sample["runs"]) == (False, None, [])
    for version in ("1", "2"):
        window = sample["backends"][version]
        assert (window["requests"], window["errors"]) == (0, 0)
        assert (window["error_rate"], window["p50_ms"], window["p95_ms"]) == (None, None, None)


def test_a_fallback_is_a_v2_error_and_a_client_error_is_none(live: Connection) -> None:
    events = [event(), event("error"), event("fallback", backend_version=1), event("client_error")]
    record(live, *events)
    window = backend(live)
    assert (window["requests"], window["errors"], window["client_errors"]) == (3, 2, 1)
    assert window["error_rate"] == pytest.approx(2 / 3, abs=1e-5)
    assert backend(live, 1)["requests"] == 0


def test_quantiles_are_within_a_bucket_of_the_truth(live: Connection) -> None:
    record(live, *[event(latency_ms=ms) for ms in range(1, 1001)])
    window = backend(live)
    assert window["p50_ms"] == pytest.approx(500, rel=0.19)
    assert window["p95_ms"] == pytest.approx(950, rel=0.19)


@pytest.mark.parametrize(
    ("histogram", "quantile", "milliseconds"),
    [
        ([0, 0, 4], 0.5, 2**0.375),  # the middle of bucket 2, which is 2^(1/4) to 2^(2/4)
        ([0, 0, 4], 1.0, 2**0.5),
        ([4], 0.5, 0.5),
        ([2, 2], 0.5, 1.0),
        ([2, 0, 0, 0, 0, 2], 0.75, 2**1.125),
        ([0] * 80, 0.5, None),
    ],
)
def test_quantile_of_a_histogram(
    db: Connection, histogram: list[int], quantile: float, milliseconds: float | None
) -> None:
    value = one(db, "select crossfade_private.quantile_ms(%s::bigint[], %s)", histogram, quantile)
    assert value == (milliseconds if milliseconds is None else pytest.approx(milliseconds))


def test_the_window_is_five_minutes_when_they_hold_fifty_v2_requests(live: Connection) -> None:
    record(live, event("error", count=100))
    move_back(live, 7)
    record(live, event(count=50))
    assert (backend(live)["requests"], backend(live)["errors"]) == (50, 0)


def test_the_window_grows_until_it_holds_fifty_v2_requests(live: Connection) -> None:
    record(live, event("error", count=10))
    move_back(live, 20)
    record(live, event("error", count=3))
    move_back(live, 20)
    record(live, event(count=49))
    window = backend(live)
    assert (window["requests"], window["errors"]) == (52, 3)
    assert (window["recent"]["requests"], window["recent"]["errors"]) == (49, 0)


def test_the_window_ends_after_an_hour(live: Connection) -> None:
    record(live, event("error"))
    move_back(live, 61)
    record(live, event())
    assert (backend(live)["requests"], backend(live)["errors"]) == (1, 0)


def test_the_window_of_v1_is_that_of_v2(live: Connection) -> None:
    record(live, event(backend_version=1, count=7))
    move_back(live, 20)
    record(live, event(count=10))
    assert backend(live, 1)["requests"] == 7
    record(live, event(count=40))
    assert backend(live, 1)["requests"] == 0


def test_the_window_begins_with_the_step(live: Connection) -> None:
    record(live, event("error", count=60))
    call(live, "set_cohort", "orders", {"percentage": 75}, "test")
    record(live, event())
    assert (backend(live)["requests"], backend(live)["errors"]) == (1, 0)


def test_shadow_reads_are_counted_apart(live: Connection) -> None:
    record(live, event("shadow_match", count=3), event("shadow_mismatch"))
    sample = call(live, "health_sample", "orders")
    assert sample["shadow"] == {"compared": 4, "mismatched": 1}
    assert sample["backends"]["2"]["requests"] == 0


def test_the_newest_request_is_known_exactly(live: Connection) -> None:
    record(live, event())
    assert one(
        live,
        "select (crossfade.health_sample('orders') ->> 'newest_request_at')::timestamptz"
        " = max(last_at) from crossfade.request_minutes",
    )


def test_a_sample_of_an_unknown_pair_is_refused(db: Connection) -> None:
    with refused("CF001", 404):
        call(db, "health_sample", "nowhere")


# Verdicts ----------------------------------------------------------------------------------


def verdict(db: Connection, verdict: str, rule: str = "R1") -> Any:
    answer = call(db, "record_verdicts", "orders", [{"rule": rule, "verdict": verdict}])
    return answer["verdicts"][0]["breach_since"]


def test_a_verdict_is_stored_with_what_it_was_decided_on(live: Connection) -> None:
    given = {
        "rule": "R1", "verdict": "FAIL", "mode": "warn", "value": 0.5, "n": 20, "bound": 0.3,
        "threshold": 0.1, "window_s": 300, "rule_version": 2, "details": {"k": 10},
    }  # fmt: skip
    call(live, "record_verdicts", "orders", [given])
    stored = one(live, "select to_jsonb(v) from crossfade.verdicts v")
    assert {key: stored[key] for key in given} == given
    assert stored["pair"] == "orders"


def test_a_breach_keeps_its_beginning_while_the_rule_holds_or_fails(live: Connection) -> None:
    since = verdict(live, "HOLD")
    assert since is not None
    assert verdict(live, "FAIL") == since
    assert verdict(live, "FAIL", "R2") != since
    assert verdict(live, "HOLD") == since


@pytest.mark.parametrize("between", ["PASS", "ERROR"])
def test_a_breach_begins_anew_after_another_verdict(live: Connection, between: str) -> None:
    since = verdict(live, "FAIL")
    assert verdict(live, between) is None
    assert verdict(live, "FAIL") > since


def test_a_breach_of_an_earlier_step_is_over(live: Connection) -> None:
    since = verdict(live, "FAIL")
    call(live, "set_cohort", "orders", {"percentage": 75}, "test")
    assert verdict(live, "FAIL") > since


@pytest.mark.parametrize(
    "verdicts",
    [
        {"rule": "R1"},
        [{"rule": "R1", "verdict": "MAYBE"}],
        [{"rule": "R1", "verdict": "PASS", "mode": "loud"}],
        [{"verdict": "PASS"}],
        [{"rule": "R1", "verdict": "PASS", "n": "many"}],
    ],
)
def test_verdicts_that_are_none_are_refused(live: Connection, verdicts: Any) -> None:
    with refused("CF012", 400):
        call(live, "record_verdicts", "orders", verdicts)
    assert one(live, "select count(*) from crossfade.verdicts") == 0


def test_verdicts_of_an_unknown_pair_are_refused(db: Connection) -> None:
    with refused("CF001", 404):
        call(db, "record_verdicts", "nowhere", [])
