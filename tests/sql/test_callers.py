"""Evidence counts callers: one user moves no rule, two users with a broken backend do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import psycopg
import pytest

from crossfade.core.contract import Outcome
from crossfade.gateway.rows import parse
from crossfade.health import judgement
from crossfade.health.model import HealthSample
from tests.sql.control import Connection, call, create_pair, one, refused
from tests.unit.builders import thresholds

HOSTILE, OTHER, THIRD = 7, 8, 9
Event = dict[str, Any]


def event(outcome: str, caller: int | None = None, version: int = 2, **more: Any) -> Event:
    who = {} if caller is None else {"caller": caller}
    return {
        "pair": "orders", "backend_version": version, "wire_version": 1, "outcome": outcome,
        "latency_ms": 10, **who, **more,
    }  # fmt: skip


@pytest.fixture
def live(scratch: Connection) -> Connection:
    create_pair(scratch, stage="live", percentage=25)
    scratch.execute("update crossfade.pairs set step_started_at = now() - interval '2 hours'")
    return scratch


def record(db: Connection, events: Iterable[Event]) -> None:
    call(db, "record_requests", list(events))


def watch(db: Connection) -> Any:
    """One evaluation by SQL; returns the level it went back to, or None."""
    done = one(db, "select crossfade_private.watch_once()")["pairs"][0]["rollback"]
    return done and done["level"]


def objections(db: Connection) -> set[str]:
    """Rules of the control plane that do not pass. R12: no monitor runs in a test."""
    sample = parse(HealthSample, call(db, "health_sample", "orders"))
    found = judgement.evaluate(sample, [], thresholds())
    return {item.rule for item in found if item.verdict is not Outcome.PASS} - {"R12"}


def counted(db: Connection, version: int = 2) -> int:
    found: int = call(db, "health_sample", "orders")["backends"][str(version)]["errors"]
    return found


BUSY = [event("ok", count=50), event("ok", version=1, count=50)]
KINDS = {
    "fallbacks": [event("fallback", HOSTILE)],
    "errors": [event("error", HOSTILE)],
    "errors of V1, which would hide those of V2": [event("error", HOSTILE, version=1)],
    "both in turn": [event("fallback", HOSTILE), event("error", HOSTILE)],
    "a fallback said of V1": [event("fallback", HOSTILE, version=1)],
    "counted in sums": [event("error", HOSTILE, count=500)],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("in_one_batch", [True, False])
def test_one_user_moves_no_rule(live: Connection, kind: str, in_one_batch: bool) -> None:
    record(live, BUSY)
    before = (objections(live), counted(live, 1), counted(live, 2))
    for batch in [KINDS[kind] * 60] if in_one_batch else [KINDS[kind]] * 60:
        record(live, batch)
    assert (objections(live), counted(live, 1), counted(live, 2)) == before
    assert call(live, "health_sample", "orders")["streak"] == 0
    assert watch(live) is None


def test_one_user_moves_no_rule_with_the_rare_failures_of_others(live: Connection) -> None:
    record(live, BUSY)
    before = objections(live)
    for other in (OTHER, THIRD):
        record(live, [event("error", HOSTILE)] * 100)
        record(live, [event("error", other), event("ok", count=20)])
        record(live, [event("error", HOSTILE)] * 100)
    assert counted(live) == 3, "of each other caller one, and of the hostile one as many as of one"
    assert call(live, "health_sample", "orders")["streak"] <= 1
    assert (objections(live), watch(live)) == (before, None)


@pytest.mark.parametrize("served", [0, 50])
def test_two_users_of_a_broken_backend_are_rolled_back_within_a_minute(
    live: Connection, served: int
) -> None:
    """20 requests a minute: one each 3 s, looked at each 15 s. No rule that fires has a clock."""
    record(live, [event("ok", count=served)] if served else [])
    at_s, level = 0, None
    while level is None:
        at_s += 3
        assert at_s <= 60
        record(live, [event("fallback", (HOSTILE, OTHER)[at_s // 3 % 2])])
        if at_s % 15 == 0:
            level = watch(live)
    assert level == "EMERGENCY"


def test_two_users_are_enough_for_the_rules_of_the_control_plane(live: Connection) -> None:
    for n in range(22):
        record(live, [event("error", (HOSTILE, OTHER)[n % 2])])
    assert {"R1", "R1s", "R1k", "R2"} <= objections(live)


def test_the_uncounted_failures_are_client_errors_of_the_backend_that_had_them(
    live: Connection,
) -> None:
    record(live, [event("fallback", HOSTILE, version=1), event("error", HOSTILE, version=1)])
    rows = live.execute(
        "select backend_version, outcome, requests from crossfade.request_minutes order by 1"
    ).fetchall()
    assert rows == [(1, "client_error", 1), (2, "client_error", 1)]


def test_of_a_batch_the_newest_failures_count(live: Connection) -> None:
    record(live, [event("error", OTHER)] * 2)
    record(live, [event("error", HOSTILE)] * 3 + [event("ok")] + [event("error", HOSTILE)] * 2)
    assert call(live, "health_sample", "orders")["streak"] == 2


def test_failures_are_forgotten_with_the_window_and_with_the_step(live: Connection) -> None:
    record(live, [event("error", OTHER)])
    table = "crossfade_private.failing_callers"
    live.execute(f"update {table} set last_at = now() - interval '61 min'")
    record(live, [event("error", HOSTILE)])
    assert counted(live) == 0, "the other one's was too long ago"
    call(live, "set_cohort", "orders", {"percentage": 50}, "test")
    record(live, [event("error", OTHER)])
    assert counted(live) == 0, "the hostile one's was in another step"
    assert one(live, f"select array_agg(failures order by caller) from {table}") == [1, 1]


def test_a_report_that_names_no_caller_counts_as_before(live: Connection) -> None:
    record(live, [event("error", count=20)])
    assert (counted(live), watch(live)) == (20, "EMERGENCY")


@pytest.mark.parametrize("value", [-1, 1.5, "7", True, 4096, 12345, "user-id"])
def test_a_caller_is_a_number_of_twelve_bits(live: Connection, value: Any) -> None:
    with refused("CF012", 400) as refusal:
        record(live, [event("error", value)])
    assert refusal.detail["field"] == "caller"


def test_reports_of_several_pairs_never_wait_for_each_other_in_a_circle(connect: Any) -> None:
    """Two sessions, each with both pairs in the other order: one of them must not end by 40P01."""
    first, second = connect(), connect()
    for name in ("orders", "things"):
        create_pair(first, name, stage="live", percentage=25)
    there = [event("error", HOSTILE), event("error", HOSTILE) | {"pair": "things"}]
    first.execute("begin")
    record(first, there)
    second.execute("set lock_timeout = '200ms'")
    with pytest.raises(psycopg.errors.LockNotAvailable):
        record(second, reversed(there))
    first.execute("commit")
    record(second, reversed(there))
