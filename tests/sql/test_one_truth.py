"""Who is served by V2 is one number with its causes, and nobody goes forward against a stop."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from tests.sql.conftest import Connection
from tests.sql.control import call, create_pair, one, ready_for_live, refused

UNITS = 1500


def backend(db: Connection, pair: str = "orders") -> dict[str, Any]:
    (found,) = call(db, "pair_status", pair)["pairs"]
    return dict(found["backend"])


def codes(db: Connection, pair: str = "orders") -> list[str]:
    return [cause["code"] for cause in backend(db, pair)["causes"]]


def served(db: Connection, pair: str = "orders") -> float:
    """Per cent of many users that choose_backend really sends to V2."""
    return 100 * float(
        one(
            db,
            "select avg((crossfade.choose_backend(%s, jsonb_build_object('user_id', 'u' || n))"
            " ->> 'backend')::int - 1) from generate_series(1, %s) n",
            pair,
            UNITS,
        )
    )


@pytest.mark.parametrize(
    ("stage", "percentage", "gate", "stopped"),
    [
        *product(("live", "rampdown"), (40,), (None, 100, 30, 0, "off", "same key"), (False,)),
        *product(("live", "rampdown"), (40,), (None, 30), ("disable_v2_orders",)),
        ("live", 40, None, "emergency_rollback"),
        ("shadow", 0, None, False),
        ("complete", 100, None, "emergency_rollback"),
    ],
)
def test_the_share_that_is_shown_is_the_share_that_is_served(
    db: Connection, stage: str, percentage: int, gate: object, stopped: str | bool
) -> None:
    options: dict[str, Any] = {}
    if gate is not None:
        number = gate if isinstance(gate, int) else 30
        call(
            db,
            "set_flag",
            "gate",
            {
                "create": True,
                "enabled": gate != "off",
                "percentage": number,
                **({"cohort_key": "orders"} if gate == "same key" else {}),
            },
            "test",
        )
        options = {"gate_flag": "gate"}
    create_pair(db, stage="live", percentage=percentage, **options)
    db.execute("select set_config('crossfade.engine', 'on', false)")
    db.execute("update crossfade.pairs set stage = %s", [stage])
    db.execute("select set_config('crossfade.engine', '', false)")
    if stopped:
        call(db, "engage_kill_switch", stopped, "test")
    found = backend(db)
    assert found["share_pct"] == pytest.approx(served(db), abs=4)
    assert (found["share_pct"] == 0) == (served(db) == 0)
    # Whatever keeps it below what was set says so.
    wanted = found["set_pct"] if stage == "live" else 100
    if found["share_pct"] < wanted:
        assert found["causes"], found


def test_every_cause_has_its_name_and_a_way_out(db: Connection) -> None:
    call(db, "set_flag", "gate", {"create": True, "enabled": False}, "test")
    create_pair(db, stage="live", percentage=10, gate_flag="gate")
    assert codes(db) == ["gate_flag", "mirror"]
    call(db, "engage_kill_switch", "disable_v2_orders", "errors since 14:02")
    call(db, "rollback", "COMPLETE", "orders", "too slow", automatic=True)
    found = backend(db)
    assert [cause["code"] for cause in found["causes"]] == [
        "kill_switch", "latched", "mirror", "stage",
    ]  # fmt: skip
    assert "errors since 14:02" in found["causes"][0]["message"]
    assert all(cause["hint"].startswith("crossfade ") for cause in found["causes"])


def test_each_answer_about_a_pair_has_the_same_share(db: Connection) -> None:
    create_pair(db, stage="live", percentage=10)
    call(db, "engage_kill_switch", "disable_v2_orders", "test")
    told = call(db, "set_cohort", "orders", {"percentage": 5}, "test")["backend"]
    assert told == backend(db) == call(db, "overview")["pairs"][0]["backend"]
    assert told == call(db, "rollout_status", "orders")["backend"]
    assert (told["set_pct"], told["share_pct"]) == (5, 0)
    moved = call(db, "set_stage", "orders", "shadow", "test")["backend"]
    assert moved == backend(db)


@pytest.mark.parametrize("switch", ["disable_v2_orders", "emergency_rollback"])
def test_nobody_goes_forward_under_an_engaged_switch(db: Connection, switch: str) -> None:
    create_pair(db, "parts", stage="off")
    create_pair(db, stage="live", percentage=5)
    call(db, "engage_kill_switch", switch, "errors")
    with refused("CF028", 409) as refusal:
        call(db, "set_cohort", "orders", {"percentage": 6}, "go")
    assert switch in refusal.message
    assert "errors" in refusal.message
    assert [stop["code"] for stop in refusal.detail["stops"]] == ["kill_switch"]
    with refused("CF028", 409):
        call(db, "set_stage", "orders", "rampdown", "go")
    # A hand edit and a list of changes are no way around it.
    with refused("CF028", 409):
        db.execute("update crossfade.cohorts set percentage = 50 where pair = 'orders'")
    with refused("CF028", 409):
        call(
            db,
            "apply_changes",
            [
                {"kind": "cohort", "name": "orders", "action": "change",
                 "changes": {"percentage": 7}}
            ],
            "go",
        )  # fmt: skip
    # Down is always allowed, and a pair that the switch is not for goes on.
    call(db, "set_cohort", "orders", {"percentage": 4}, "down")
    if switch == "disable_v2_orders":
        call(db, "set_stage", "parts", "dualwrite", "go")
    done = call(db, "set_cohort", "orders", {"percentage": 6}, "go", anyway=True)
    assert done["cohort"]["percentage"] == 6
    assert done["backend"]["share_pct"] == 0, "the switch goes on stopping it"


def test_anyway_does_not_go_past_the_latch(db: Connection) -> None:
    create_pair(db, stage="live", percentage=5)
    call(db, "rollback", "PARTIAL", "orders", "errors", automatic=True)
    with refused("CF006", 409):
        call(db, "set_cohort", "orders", {"percentage": 6}, "go", anyway=True)


def test_after_an_abort_the_first_way_forward_needs_anyway(db: Connection) -> None:
    create_pair(db, stage="live", percentage=5)
    steps = [{"name": "a", "stage": "live", "percentage": 50, "min_s": 0, "min_requests": 0}]
    call(db, "start_rollout", "orders", {"name": "plan", "steps": steps}, "go")
    call(db, "control_rollout", "orders", "abort", "customers complain")
    assert "aborted" in codes(db)
    ready_for_live(db, "orders")
    with refused("CF028", 409) as refusal:
        call(db, "set_stage", "orders", "live", "go")
    assert "customers complain" in refusal.message
    call(db, "set_stage", "orders", "live", "go", anyway=True)
    assert "aborted" not in codes(db)


def test_an_abort_that_keeps_the_users_leaves_the_way_to_people(db: Connection) -> None:
    create_pair(db, stage="live", percentage=5)
    steps = [{"name": "a", "stage": "live", "percentage": 50, "min_s": 0, "min_requests": 0}]
    call(db, "start_rollout", "orders", {"name": "plan", "steps": steps}, "go")
    call(db, "control_rollout", "orders", "abort", "by hand from here", keep=True)
    call(db, "set_cohort", "orders", {"percentage": 6}, "go")
