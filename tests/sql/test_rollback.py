"""Rollback: the plan, each level, the latch, what is kept."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest

from tests.sql.control import (
    Connection,
    backfill,
    call,
    create_pair,
    force,
    one,
    ready_for_live,
    refused,
)

FLAG = "use_advanced_messages"
EMERGENCY = "emergency_rollback"


@pytest.fixture
def db(scratch: Connection) -> Connection:
    return scratch


def stage_and_percentage(db: Connection, pair: str = "orders") -> tuple[str, float]:
    row = db.execute(
        "select p.stage, c.percentage from crossfade.pairs p"
        " join crossfade.cohorts c on c.pair = p.name where p.name = %s",
        [pair],
    ).fetchone()
    assert row is not None
    return row[0], float(row[1])


def put(db: Connection, stage: str, percentage: float = 0, pair: str = "orders") -> None:
    """Register the pair and write its stage and percentage, whatever led there."""
    create_pair(db, pair, stage=stage, gate_flag=FLAG)
    force(db, "update crossfade.cohorts set percentage = %s where pair = %s", percentage, pair)


def roll_back(db: Connection, level: str, scope: str = "orders", **options: bool) -> Any:
    return call(db, "rollback", level, scope, "bad", **options)


def steps(answer: Any) -> list[tuple[str, str, Any]]:
    return [
        (step["action"], step["object"], next(iter(step["after"].values())))
        for step in answer["plan"]
    ]


# Levels ------------------------------------------------------------------------------------


def test_feature_switches_one_flag_off(db: Connection) -> None:
    put(db, "live", 25)
    answer = roll_back(db, "FEATURE", FLAG)
    assert steps(answer) == [("disable_flag", FLAG, False)]
    assert not one(db, "select enabled from crossfade.flags where name = %s", FLAG)
    assert stage_and_percentage(db) == ("live", 25)


@pytest.mark.parametrize(
    ("percentage", "previous"), [(100, 75), (75, 25), (30, 25), (25, 5), (5, 0), (1, 0)]
)
def test_partial_goes_to_the_step_below(db: Connection, percentage: float, previous: float) -> None:
    put(db, "live", percentage)
    assert steps(roll_back(db, "PARTIAL")) == [("set_percentage", "orders", previous)]
    assert stage_and_percentage(db) == ("live", previous)


def test_partial_uses_the_steps_of_the_setting(db: Connection) -> None:
    put(db, "live", 100)
    call(db, "set_setting", "rollout_steps", "[1, 10, 100]", "test")
    roll_back(db, "PARTIAL")
    assert stage_and_percentage(db) == ("live", 10)


def test_partial_takes_a_pair_in_rampdown_back_to_live(db: Connection) -> None:
    put(db, "rampdown", 100)
    answer = roll_back(db, "PARTIAL")
    assert steps(answer) == [("set_stage", "orders", "live"), ("set_percentage", "orders", 75)]
    assert stage_and_percentage(db) == ("live", 75)


@pytest.mark.parametrize("stage", ["live", "rampdown"])
def test_complete_takes_reads_back_and_keeps_dual_write_on(db: Connection, stage: str) -> None:
    put(db, stage, 100)
    roll_back(db, "COMPLETE")
    assert stage_and_percentage(db) == ("shadow", 0)
    db.execute("insert into public.orders_v1 values (1, 'a')")
    assert one(db, "select count(*) from public.orders_v2") == 1
    assert call(db, "choose_backend", "orders", {"user_id": "u"})["backend"] == 1
    assert not one(db, "select engaged from crossfade.kill_switches where name = %s", EMERGENCY)


@pytest.mark.parametrize("stage", ["off", "dualwrite", "shadow"])
def test_complete_has_nothing_to_do_before_live(db: Connection, stage: str) -> None:
    put(db, stage)
    answer = roll_back(db, "COMPLETE")
    assert (answer["plan"], answer["rollback"], answer["snapshot"]) == ([], None, None)
    assert stage_and_percentage(db) == (stage, 0)


def test_emergency_engages_the_switch_as_well(connect: Any) -> None:
    db = connect()
    put(db, "live", 25)
    answer = roll_back(db, "EMERGENCY")
    assert steps(answer)[0] == ("engage_kill_switch", EMERGENCY, True)
    assert stage_and_percentage(db) == ("shadow", 0)
    assert call(db, "evaluate_flag", FLAG, {})["metadata"]["kill_switch"] == EMERGENCY
    with refused("CF_FENCED", 409):
        connect("service_role").execute("insert into public.orders_v2 values (1, '\"x\"')")


def test_emergency_waits_for_v2_writes_that_have_begun(connect: Any) -> None:
    db = connect()
    put(db, "live", 25)
    backfill(db, "orders")
    call(db, "set_setting", "kill_wait_ms", "100", "test")
    writer = connect("service_role")
    writer.execute("begin")
    writer.execute("insert into public.orders_v2 values (1, '\"x\"')")
    elapsed = one(
        db,
        "select extract(epoch from (r ->> 'committed_at')::timestamptz - now()) * 1000"
        " from crossfade.rollback('EMERGENCY', 'orders', 'bad') r",
    )
    # Once, and not again for each change.
    assert 100 <= elapsed < 200 + 2000
    writer.execute("rollback")


def test_a_star_means_every_pair(db: Connection) -> None:
    put(db, "live", 25, "orders")
    put(db, "rampdown", 100, "bills")
    roll_back(db, "EMERGENCY", "*")
    assert stage_and_percentage(db, "orders") == ("shadow", 0)
    assert stage_and_percentage(db, "bills") == ("shadow", 0)


def test_other_pairs_and_flags_are_left_alone(db: Connection) -> None:
    put(db, "live", 25, "orders")
    put(db, "live", 75, "bills")
    roll_back(db, "COMPLETE", "orders")
    assert stage_and_percentage(db, "bills") == ("live", 75)
    assert one(db, "select enabled from crossfade.flags where name = %s", FLAG)


def test_complete_stage_has_no_instant_way_back(db: Connection) -> None:
    put(db, "complete", 100)
    for level in ("PARTIAL", "COMPLETE"):
        with refused("CF005", 409) as refusal:
            roll_back(db, level)
        assert refusal.detail["blockers"][0]["code"] == "archived"
    assert steps(roll_back(db, "EMERGENCY")) == [("engage_kill_switch", EMERGENCY, True)]
    assert stage_and_percentage(db) == ("complete", 100)


# Plan, repetition, refusals ----------------------------------------------------------------


@pytest.mark.parametrize("level", ["PARTIAL", "COMPLETE", "EMERGENCY"])
def test_a_dry_run_shows_the_plan_and_writes_nothing(connect: Any, level: str) -> None:
    db = connect()
    put(db, "live", 25)
    # A read-only transaction refuses every write and every row lock.
    with db.transaction():
        db.execute("set transaction read only")
        dry = roll_back(db, level, dry_run=True, automatic=True)
        assert one(db, "select pg_current_xact_id_if_assigned() is null")
    assert (dry["dry_run"], dry["snapshot"], dry["rollback"], dry["committed_at"]) == (
        True, None, None, None,
    )  # fmt: skip
    assert dry["plan"] == roll_back(db, level, automatic=True)["plan"]


def test_a_dry_run_needs_no_reason(db: Connection) -> None:
    put(db, "live", 25)
    assert call(db, "rollback", "COMPLETE", "orders", "", False, True)["plan"]


@pytest.mark.parametrize("level", ["COMPLETE", "EMERGENCY"])
def test_repeating_a_rollback_finds_nothing_to_do(db: Connection, level: str) -> None:
    put(db, "live", 25)
    first = roll_back(db, level, automatic=True)
    again = roll_back(db, level, automatic=True)
    assert (again["plan"], again["rollback"], again["snapshot"]) == ([], None, None)
    assert again["flags_version"] == first["flags_version"]
    assert one(db, "select count(*) from crossfade.rollbacks") == 1


@pytest.mark.parametrize(
    ("level", "scope", "code", "status"),
    [
        ("HUGE", "orders", "CF012", 400),
        ("complete", "orders", "CF012", 400),
        (None, "orders", "CF012", 400),
        ("FEATURE", "orders", "CF002", 404),
        ("PARTIAL", "nowhere", "CF001", 404),
        ("EMERGENCY", None, "CF001", 404),
    ],
)
def test_what_does_not_exist_is_refused(
    db: Connection, level: str, scope: str, code: str, status: int
) -> None:
    put(db, "live", 25)
    for dry_run in (True, False):
        with refused(code, status):
            roll_back(db, level, scope, dry_run=dry_run)


@pytest.mark.parametrize("level", ["FEATURE", "PARTIAL", "COMPLETE", "EMERGENCY"])
def test_a_rollback_without_a_reason_is_refused(db: Connection, level: str) -> None:
    put(db, "live", 25)
    version = call(db, "flags_version")
    with refused("CF007", 400):
        call(db, "rollback", level, FLAG if level == "FEATURE" else "orders", " ")
    assert call(db, "flags_version") == version


def test_control_changes_of_every_kind_never_deadlock(connect: Any) -> None:
    db = connect()
    put(db, "live", 75, "orders")
    put(db, "live", 75, "bills")
    number = call(db, "take_snapshot", "test")["snapshot"]["id"]
    changes: list[tuple[Any, ...]] = [
        ("rollback", "EMERGENCY", "*", "test"),
        ("rollback", "PARTIAL", "bills", "test"),
        ("restore_snapshot", number, "test"),
        ("set_cohort", "orders", {"percentage": 1, "denied_user_ids": ["u"]}, "test"),
        ("set_stage", "bills", "shadow", "test"),
        ("set_flag", FLAG, {"enabled": True}, "test"),
        ("engage_kill_switch", EMERGENCY),
        ("release_kill_switch", EMERGENCY, "test"),
        ("set_setting", "kill_wait_ms", "50", "test"),
    ]
    states: list[str | None] = []

    def work(first: int) -> None:
        api = connect("service_role")
        for turn in range(2 * len(changes)):
            try:
                call(api, *changes[(first * 2 + turn * (first + 1)) % len(changes)])
            except psycopg.Error as error:
                states.append(error.sqlstate)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Restoring may be refused, for a stage cannot always go forward.
    assert set(states) <= {"PT409"}


# The log -----------------------------------------------------------------------------------


def test_the_log_says_what_was_changed_and_from_where(db: Connection) -> None:
    put(db, "live", 25)
    answer = roll_back(db, "EMERGENCY")
    row = db.execute(
        "select level, scope, reason, automatic, actor, before, after, snapshot, flags_version"
        " from crossfade.rollbacks where id = %s",
        [answer["rollback"]],
    ).fetchone()
    assert row is not None
    assert row[:5] == ("EMERGENCY", "orders", "bad", False, "postgres")
    assert row[5] == {
        "orders": {"stage": "live", "percentage": 25},
        EMERGENCY: {"engaged": False},
    }
    assert row[6]["orders"] == {"stage": "shadow", "percentage": 0}
    assert row[7:] == (answer["snapshot"], answer["flags_version"])
    state = one(db, "select state from crossfade.snapshots where id = %s", answer["snapshot"])
    assert state["pairs"][0]["stage"] == "live"
    assert state["cohorts"][0]["percentage"] == 25


def test_a_rollback_is_audited_and_broadcast(db: Connection) -> None:
    put(db, "live", 25)
    version = roll_back(db, "COMPLETE")["flags_version"]
    assert one(db, "select reason from crossfade.audit where action = 'rollback.complete'") == (
        "bad"
    )
    assert one(db, "select payload - 'id' from realtime.messages where event = 'rollback'") == {
        "flags_version": version,
        "pair": "orders",
        "level": "COMPLETE",
    }


def test_what_only_one_table_holds_is_kept_in_the_log(db: Connection) -> None:
    put(db, "live", 25)
    db.execute("alter table public.orders_v1 add constraint short check (length(body) < 5)")
    db.execute("insert into public.orders_v2 values (7, '\"too long\"')")
    db.execute("insert into public.orders_v1 values (8, 'ok')")
    roll_back(db, "COMPLETE")
    preserved = one(db, "select preserved from crossfade.rollbacks")["orders"]
    assert (preserved["open_failures"], preserved["truncated"]) == (1, False)
    (kept,) = preserved["rows"]
    assert kept["row"] == {"id": 7, "body": "too long"}
    assert kept["failure"]["key"] == {"id": 7}
    assert one(db, "select count(*) from public.orders_v2 where id = 7") == 1
    assert one(db, "select count(*) from crossfade.mirror_failures where resolved_at is null") == 1


def test_a_rollback_does_not_fail_because_a_table_is_broken(db: Connection) -> None:
    put(db, "live", 25)
    db.execute("alter table public.orders_v1 add constraint short check (length(body) < 5)")
    db.execute("insert into public.orders_v2 values (7, '\"too long\"')")
    db.execute("alter table public.orders_v2 rename to gone")
    roll_back(db, "COMPLETE")
    assert stage_and_percentage(db) == ("shadow", 0)
    assert "error" in one(db, "select preserved from crossfade.rollbacks")["orders"]["rows"][0]


# The latch ---------------------------------------------------------------------------------


def test_an_automatic_rollback_latches_until_somebody_rearms(db: Connection) -> None:
    put(db, "live", 25)
    ready_for_live(db, "orders")
    roll_back(db, "PARTIAL", automatic=True)
    assert one(db, "select latch_reason from crossfade.pairs") == "bad"
    with refused("CF006", 409):
        call(db, "set_cohort", "orders", {"percentage": 25}, "test")
    call(db, "set_stage", "orders", "shadow", "back is allowed")
    with refused("CF006", 409):
        call(db, "set_stage", "orders", "live", "test")
    call(db, "rearm", "orders", "found it")
    call(db, "set_stage", "orders", "live", "test")
    call(db, "set_cohort", "orders", {"percentage": 25}, "test")


def test_a_rollback_by_a_person_does_not_latch(db: Connection) -> None:
    put(db, "live", 25)
    roll_back(db, "PARTIAL")
    assert one(db, "select latched_at is null from crossfade.pairs")


def test_a_feature_rollback_latches_the_pairs_that_the_flag_gates(db: Connection) -> None:
    put(db, "live", 25, "orders")
    create_pair(db, "bills")
    roll_back(db, "FEATURE", FLAG, automatic=True)
    latched = one(db, "select array_agg(name) from crossfade.pairs where latched_at is not null")
    assert latched == ["orders"]


def test_rearming_is_versioned_audited_and_safe_to_repeat(db: Connection) -> None:
    put(db, "live", 25)
    roll_back(db, "COMPLETE", automatic=True)
    answer = call(db, "rearm", "orders", "found it")
    assert answer == {"pair": "orders", "flags_version": call(db, "flags_version")}
    assert call(db, "rearm", "orders", "found it") == answer
    assert one(db, "select latched_at is null and latch_reason is null from crossfade.pairs")
    assert one(db, "select reason from crossfade.audit order by id desc limit 1") == "found it"


def test_rearming_needs_a_pair_and_a_reason(db: Connection) -> None:
    put(db, "live", 25)
    with refused("CF001", 404):
        call(db, "rearm", "nowhere", "test")
    with refused("CF007", 400):
        call(db, "rearm", "orders", "")
