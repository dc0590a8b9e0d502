"""What the health rules see besides requests: memory, the baseline, lost rows, who watches."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sql.control import Connection, call, create_pair, one, refused
from tests.sql.rollouts import TWO, beat, start


@pytest.fixture
def db(scratch: Connection) -> Connection:
    return scratch


def event(count: int = 1, **fields: Any) -> dict[str, Any]:
    return {
        "pair": "orders", "backend_version": 1, "wire_version": 1, "outcome": "ok",
        "latency_ms": 20, "count": count, **fields,
    }  # fmt: skip


def sample(db: Connection) -> Any:
    return call(db, "health_sample", "orders")


# Memory ------------------------------------------------------------------------------------


def test_reports_of_memory_are_seen_newest_first(db: Connection) -> None:
    create_pair(db)
    call(db, "record_requests", [event(memory_bytes=10), event(), event(memory_bytes=20)])
    assert sample(db)["memory_bytes"] == [20, 10]
    assert one(db, "select sum(requests) from crossfade.request_minutes") == 3


def test_old_reports_and_those_of_the_step_before_do_not_count(db: Connection) -> None:
    create_pair(db, stage="live", percentage=25)
    call(db, "record_requests", [event(memory_bytes=10)])
    db.execute("update crossfade.memory_reports set at = clock_timestamp() - interval '61 s'")
    assert sample(db)["memory_bytes"] == []
    call(db, "record_requests", [event(memory_bytes=20)])
    assert sample(db)["memory_bytes"] == [20]
    call(db, "set_cohort", "orders", {"percentage": 50}, "test")
    assert sample(db)["memory_bytes"] == []


def test_reports_are_forgotten_after_an_hour(db: Connection) -> None:
    create_pair(db)
    call(db, "record_requests", [event(memory_bytes=10)])
    db.execute("update crossfade.memory_reports set at = clock_timestamp() - interval '61 min'")
    call(db, "record_requests", [event(memory_bytes=20)])
    assert one(db, "select array_agg(used_bytes) from crossfade.memory_reports") == [20]


@pytest.mark.parametrize("value", [0, -1, 1.5, "10", True, 10**17])
def test_memory_that_is_none_is_refused_and_named(db: Connection, value: Any) -> None:
    create_pair(db)
    with refused("CF012", 400) as refusal:
        call(db, "record_requests", [event(memory_bytes=value)])
    assert refusal.detail["field"] == "memory_bytes"


@pytest.mark.parametrize("value", [-1, 1.5, "10", True, 10**18])
def test_a_version_of_bundled_flags_that_is_none_is_refused(db: Connection, value: Any) -> None:
    create_pair(db)
    with refused("CF012", 400) as refusal:
        call(db, "record_requests", [event(bundle_version=value)])
    assert refusal.detail["field"] == "bundle_version"


def test_versions_of_bundled_flags_are_forgotten_after_a_day(db: Connection) -> None:
    create_pair(db)
    call(db, "record_requests", [event(bundle_version=1), event(bundle_version=1)])
    db.execute("update crossfade_private.bundles set last_at = clock_timestamp() - interval '25 h'")
    call(db, "record_requests", [event(bundle_version=2)])
    assert one(db, "select array_agg(flags_version) from crossfade_private.bundles") == [2]


# The baseline ------------------------------------------------------------------------------


def test_how_v1_answered_is_kept_when_mirroring_begins(db: Connection) -> None:
    create_pair(db)
    call(db, "record_requests", [event(50), event(10, latency_ms=200), event(9, backend_version=2)])
    assert sample(db)["baseline"] is None
    call(db, "set_stage", "orders", "dualwrite", "test")
    kept = sample(db)["baseline"]
    assert kept["requests"] == 60
    assert kept["p50_ms"] == pytest.approx(20, rel=0.2)
    assert kept["p95_ms"] == pytest.approx(200, rel=0.2)


def test_too_few_requests_are_no_baseline_and_a_better_one_replaces_it(db: Connection) -> None:
    create_pair(db)
    call(db, "record_requests", [event(49)])
    call(db, "set_stage", "orders", "dualwrite", "test")
    assert sample(db)["baseline"] is None
    for latency_ms, requests in ((20, 50), (80, 70)):
        call(db, "set_stage", "orders", "off", "test")
        call(db, "record_requests", [event(requests, latency_ms=latency_ms)])
        call(db, "set_stage", "orders", "dualwrite", "test")
    assert sample(db)["baseline"]["requests"] == 70


def test_requests_while_mirrored_do_not_change_the_baseline(db: Connection) -> None:
    create_pair(db)
    call(db, "record_requests", [event(50)])
    call(db, "set_stage", "orders", "dualwrite", "test")
    kept = sample(db)["baseline"]
    call(db, "record_requests", [event(500, latency_ms=900)])
    assert sample(db)["baseline"] == kept


# The rest of a sample ----------------------------------------------------------------------


def test_rows_in_one_table_only_are_lost_and_different_ones_are_not(db: Connection) -> None:
    create_pair(db, stage="live")
    for key, kind in ((1, "missing_v1"), (2, "missing_v2"), (3, "different")):
        db.execute(
            "insert into crossfade.mismatches (pair, key, kind) values ('orders', %s, %s)",
            [f'{{"id": {key}}}', kind],
        )
    found = sample(db)
    assert (found["lost_rows"], found["open_mismatches"]) == (2, 3)
    db.execute("update crossfade.mismatches set resolved_at = now()")
    assert sample(db)["lost_rows"] == 0


def test_the_whole_step_is_counted_beyond_an_hour(db: Connection) -> None:
    create_pair(db, stage="live", percentage=25)
    db.execute("update crossfade.pairs set step_started_at = now() - interval '3 days'")
    call(db, "record_requests", [event(100, backend_version=2, outcome="fallback")])
    db.execute("update crossfade.request_minutes set minute = minute - interval '2 days'")
    call(db, "record_requests", [event(60, backend_version=2)])
    found = sample(db)["backends"]["2"]
    assert (found["requests"], found["whole"]) == (60, {"requests": 160, "errors": 100})


def test_the_last_verify_run_is_seen_also_when_it_is_over(db: Connection) -> None:
    create_pair(db, stage="live")
    assert sample(db)["checked"] is None
    run = call(db, "start_verify", "orders")["run"]["id"]
    while call(db, "verify_batch", run)["state"] == "running":
        pass
    assert sample(db)["checked"]["id"] == run


def test_the_sample_says_who_watches_and_who_said_stop(db: Connection) -> None:
    create_pair(db, stage="live", percentage=5)
    found = sample(db)
    assert (found["heartbeat_at"], found["engaged"], found["rollout"]) == (None, [], None)
    beat(db)
    start(db, TWO)
    call(db, "engage_kill_switch", "disable_v2_messages")
    call(db, "engage_kill_switch", "disable_memory_system")
    found = sample(db)
    assert found["heartbeat_at"] is not None
    # Only what keeps V2 from serving: a feature that is off stops nothing.
    assert found["engaged"] == ["disable_v2_messages"]
    assert (found["rollout"]["state"], found["rollout"]["plan"]) == ("running", "test")
