"""The overview: every number in it is what plain SQL says."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sql.control import Connection, call, create_pair, one, refused

FILL = """
insert into crossfade.request_minutes
select 'orders', date_trunc('minute', now()) - make_interval(mins => m), 1, b, w, '', o, l,
  1 + (m * 7 + l * 3 + b) %% 11, now() - make_interval(mins => m)
from generate_series(0, %s) m, generate_series(1, 2) b, generate_series(1, 2) w,
  unnest(array['ok', 'error', 'client_error', 'fallback']) o, generate_series(0, 30, 6) l
where o <> 'fallback' or b = 2
"""
COUNTED = "outcome in ('ok', 'error', 'fallback')"
SINCE = "backend_version = %s and minute >= %s::timestamptz"


@pytest.fixture
def db(scratch: Connection) -> Connection:
    create_pair(scratch, stage="live", percentage=25)
    return scratch


def overview(db: Connection, **asked: Any) -> Any:
    return call(db, "overview", **asked)


def orders(db: Connection) -> Any:
    (pair,) = overview(db)["pairs"]
    return pair


def check_window(db: Connection, window: Any) -> None:
    for version in (1, 2):
        found = window["backends"][str(version)]
        at = (version, window["since"])
        query = f"select coalesce(sum(requests), 0) from crossfade.request_minutes where {SINCE}"
        counts = {
            "requests": one(db, f"{query} and {COUNTED}", *at),
            "errors": one(db, f"{query} and outcome in ('error', 'fallback')", *at),
            "fallbacks": one(db, f"{query} and outcome = 'fallback'", *at),
            "client_errors": one(db, f"{query} and outcome = 'client_error'", *at),
        }
        assert {name: found[name] for name in counts} == counts
        assert found["error_rate"] == pytest.approx(
            float(counts["errors"] / counts["requests"]), abs=1e-6
        )
        for name, quantile in (("p50_ms", 0.5), ("p95_ms", 0.95), ("p99_ms", 0.99)):
            wanted = one(
                db,
                "select crossfade_private.quantile_ms(array_agg(coalesce(n, 0) order by b), %s)"
                " from generate_series(0, 79) b left join (select latency_bucket,"
                " sum(requests)::bigint n from crossfade.request_minutes where "
                f"{SINCE} and {COUNTED} group by 1) h on h.latency_bucket = b",
                quantile,
                *at,
            )
            assert found[name] == pytest.approx(wanted, abs=0.06), name


def test_a_project_without_anything_has_no_numbers(scratch: Connection) -> None:
    found = overview(scratch)
    assert (found["pairs"], found["series"], found["totals"]) == ([], None, None)
    assert {switch["engaged"] for switch in found["kill_switches"]} == {False}


def test_a_pair_without_requests_has_no_rate_and_no_latency(db: Connection) -> None:
    backend = orders(db)["traffic"]["backends"]["2"]
    assert backend["requests"] == 0
    assert backend["error_rate"] is backend["p50_ms"] is backend["p99_ms"] is None
    assert orders(db)["newest_request_at"] is None


def test_the_last_minutes_are_what_the_counters_say(db: Connection) -> None:
    db.execute(FILL, [30])
    check_window(db, orders(db)["traffic"])
    assert orders(db)["traffic"]["backends"]["2"]["requests"] > 0


@pytest.mark.parametrize("minutes", [60, 360, 1440])
def test_the_series_is_what_the_counters_say(db: Connection, minutes: int) -> None:
    db.execute(FILL, [200])
    series = overview(db, minutes=minutes, series="orders")["series"]
    check_window(db, series["total"])
    assert series["points"] <= 200
    for version in ("1", "2"):
        backend = series["backends"][version]
        assert {len(values) for values in backend.values()} == {series["points"]}
        for name in ("requests", "errors", "fallbacks", "client_errors"):
            assert sum(backend[name]) == series["total"]["backends"][version][name]
        empty = [at for at, count in enumerate(backend["requests"]) if not count]
        assert all(backend["p95_ms"][at] is None for at in empty)
    everything = sum(
        total[name]
        for total in series["total"]["backends"].values()
        for name in ("requests", "client_errors")
    )
    assert sum(map(sum, series["wires"].values())) == everything


def test_one_point_is_the_minutes_it_covers(db: Connection) -> None:
    db.execute(FILL, [30])
    series = overview(db, minutes=360, series="orders")["series"]
    assert series["width_s"] == 120
    for point in (-1, -2, -9):
        wanted = one(
            db,
            f"select sum(requests) from crossfade.request_minutes where backend_version = 2 and"
            f" {COUNTED} and floor(extract(epoch from minute - %s::timestamptz) / 120) = %s",
            series["since"],
            series["points"] + point,
        )
        assert series["backends"]["2"]["requests"][point] == wanted


def test_a_roll_up_changes_no_number(db: Connection) -> None:
    db.execute(FILL, [600])
    asked = {"minutes": 10080, "series": "orders", "totals": True}
    before = overview(db, **asked)
    answers = [call(db, "roll_up_requests", 3)["state"] for _ in range(9)]
    assert answers[0] == "running"
    assert answers[-1] == "finished"
    assert one(db, "select count(*) > 0 from crossfade.request_hours")
    after = overview(db, **asked)
    assert after["rolled_up_to"] is not None
    assert before["rolled_up_to"] is None
    assert after["series"] == before["series"]
    assert after["totals"] == before["totals"]


def test_the_counters_do_not_fall_when_minutes_are_purged(db: Connection) -> None:
    db.execute(FILL, [600])
    call(db, "roll_up_requests", 744)
    before = overview(db, totals=True)["totals"]
    assert sum(row["requests"] for row in before) == one(
        db, "select sum(requests) from crossfade.request_minutes"
    )
    db.execute("delete from crossfade.request_minutes where minute < now() - interval '4 hours'")
    assert overview(db, totals=True)["totals"] == before
    row = next(row for row in before if row["outcome"] == "fallback")
    assert sum(row["histogram"].values()) == row["requests"]


def test_a_roll_up_after_a_long_pause_begins_where_it_stopped(db: Connection) -> None:
    assert call(db, "roll_up_requests")["state"] == "finished"
    db.execute(FILL, [600])
    # Recorded into hours that were rolled up as empty: not counted twice, not counted at all.
    assert one(db, "select count(*) from crossfade.request_hours") == 0
    with refused("CF012", 400):
        call(db, "roll_up_requests", 0)


def test_verdicts_are_the_newest_of_each_rule(db: Connection) -> None:
    for verdict in ("FAIL", "PASS", "HOLD"):
        rows = [{"rule": rule, "verdict": verdict, "value": 0.5, "n": 9} for rule in ("R1", "R10")]
        call(db, "record_verdicts", "orders", rows)
    found = {row["rule"]: row for row in orders(db)["verdicts"]}
    assert set(found) == {"R1", "R10"}
    assert {row["verdict"] for row in found.values()} == {"HOLD"}
    assert (found["R1"]["value"], found["R1"]["n"]) == (0.5, 9)


def test_flags_show_their_exposures_and_what_kills_them(db: Connection) -> None:
    entries = [
        {"flag": "enable_caching", "variant": variant, "reason": "SPLIT", "count": count}
        for variant, count in (("on", 7), ("off", 5))
    ]
    call(db, "record_exposures", entries)
    call(db, "engage_kill_switch", "disable_memory_system", "test")
    flags = {flag["name"]: flag for flag in overview(db)["flags"]}
    assert (flags["enable_caching"]["on"], flags["enable_caching"]["off"]) == (7, 5)
    assert flags["enable_caching"]["killed_by"] == []
    assert flags["enable_memory_system"]["killed_by"] == ["disable_memory_system"]


def test_the_timeline_says_which_values_changed(db: Connection) -> None:
    call(db, "set_cohort", "orders", {"percentage": 50}, "wider")
    newest = overview(db)["timeline"][0]
    assert (newest["action"], newest["object"], newest["reason"]) == (
        "cohort.update",
        "orders",
        "wider",
    )
    assert newest["changes"] == {"percentage": [25, 50]}


def test_rollbacks_are_counted(db: Connection) -> None:
    call(db, "rollback", "COMPLETE", "orders", "slow")
    found = overview(db)["rollbacks"]
    assert found["count"] == 1
    assert (found["newest"][0]["level"], found["newest"][0]["reason"]) == ("COMPLETE", "slow")


def test_a_run_has_a_rate_and_a_time_left(db: Connection) -> None:
    db.execute("insert into public.orders_v1 select i, 'x' from generate_series(1, 50) i")
    run = call(db, "start_backfill", "orders", "v1_to_v2", 1)["run"]["id"]
    db.execute("update crossfade.runs set rows_total = 1000, started_at = now() - interval '10 s'")
    db.execute("update crossfade.run_ranges set rows_done = 250, progress_at = now()")
    (found,) = orders(db)["progress"]
    assert (found["id"], found["rows_per_s"], found["left_s"]) == (run, 25.0, 30.0)
    call(db, "control_run", run, "pause", "test")
    assert orders(db)["progress"][0]["left_s"] is None


def test_differences_come_with_both_rows(db: Connection) -> None:
    db.execute("insert into public.orders_v1 values (7, 'seven')")
    assert call(db, "show_rows", "orders", {"id": 7}) == {
        "pair": "orders",
        "key": {"id": 7},
        "v1": {"id": 7, "body": "seven"},
        "v2": {"id": 7, "body": "seven"},
    }
    assert call(db, "show_rows", "orders", {"id": 8})["v2"] is None
    for table, columns in (
        ("mismatches", "(pair, key, kind, columns) values ('orders', '{\"id\": 7}', 'different',"),
        ("mirror_failures", "(pair, key, written_side, operation, error_code, message) values"),
    ):
        rest = (
            " '{body}')"
            if table == "mismatches"
            else " ('orders', '{\"id\": 7}', 1, 'INSERT', '23505', 'no')"
        )
        db.execute(f"insert into crossfade.{table} {columns}{rest}")
    found = orders(db)
    assert (found["open_failures"], found["open_mismatches"]) == (1, 1)
    assert found["failures"][0]["key"] == found["mismatches"][0]["key"] == {"id": 7}
    assert found["mismatches"][0]["columns"] == ["body"]


def test_a_table_that_has_gone_is_a_problem_and_no_failure(db: Connection) -> None:
    db.execute(FILL, [5])
    db.execute("drop table public.orders_v2 cascade")
    found = orders(db)
    assert found["stage"] == "live"
    assert found["traffic"]["backends"]["1"]["requests"] > 0


@pytest.mark.parametrize(
    ("asked", "code", "status"),
    [
        ({"minutes": 0}, "CF012", 400),
        ({"minutes": 50000}, "CF012", 400),
        ({"series": "nothing"}, "CF001", 404),
    ],
)
def test_what_cannot_be_shown_is_refused(
    db: Connection, asked: dict[str, Any], code: str, status: int
) -> None:
    with refused(code, status):
        overview(db, **asked)
