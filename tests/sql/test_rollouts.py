"""Rollouts: what a plan is, what a step waits for, one step at a time, yielding to people."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.sql.control import Connection, call, create_pair, one, ready_for_live, refused
from tests.sql.rollouts import (
    SHIPPED,
    TWO,
    advance,
    beat,
    control,
    judge,
    live,
    plan,
    start,
    status,
    step,
    waits,
)


@pytest.fixture
def db(scratch: Connection) -> Connection:
    return scratch


def where(db: Connection) -> tuple[str, float]:
    answer = status(db)
    return answer["stage"], answer["percentage"]


# The plan ----------------------------------------------------------------------------------


def test_the_shipped_plan_is_one_that_the_database_takes(db: Connection) -> None:
    create_pair(db)
    answer = start(db, SHIPPED.as_row())
    assert (answer["steps"], answer["reached"]) == (7, 0)
    assert answer["next"]["stage"] == "dualwrite"


@pytest.mark.parametrize(
    ("given", "code", "place", "field"),
    [
        ({"steps": [step("a", 5)]}, "CF012", None, "name"),
        ({"name": "x", "steps": []}, "CF012", None, "steps"),
        ({"name": "x", "steps": {}}, "CF012", None, "steps"),
        (plan(step("", 5)), "CF012", 1, "name"),
        (plan(step("a", 5, "off")), "CF012", 1, "stage"),
        (plan(step("a", 5, "shadow")), "CF012", 1, "percentage"),
        (plan(step("a", 5, "complete", approval="manual")), "CF012", 1, "percentage"),
        (plan(step("a", 100, "complete")), "CF012", 1, "approval"),
        (plan(step("a", 5), step("b", 5)), "CF012", 2, "percentage"),
        (plan(step("a", 25), step("b", 5)), "CF012", 2, "percentage"),
        (plan(step("a", 5, "live"), step("b", 0, "shadow")), "CF012", 2, "percentage"),
        (plan(step("a", 5), step("a", 25)), "CF012", None, "steps"),
        (plan(step("a", 5, min_s=-1)), "CF012", 1, "min_s"),
        (plan(step("a", 5, min_requests=1.5)), "CF012", 1, "min_requests"),
        (plan(step("a", 5, gates=["R99"])), "CF012", 1, "gates"),
        (plan(step("a", 5, gates="R1")), "CF012", 1, "gates"),
        (plan(step("a", 5, approval="perhaps")), "CF012", 1, "approval"),
        (plan(step("a", 5, flags={"enable_caching": "on"})), "CF012", 1, "flags"),
    ],
)
def test_a_plan_that_cannot_be_followed_is_refused_by_step_and_field(
    db: Connection, given: Any, code: str, place: int | None, field: str
) -> None:
    create_pair(db)
    with refused(code, 400) as refusal:
        start(db, given)
    assert (refusal.detail["step"], refusal.detail["field"]) == (place, field)


def test_a_flag_or_percentage_that_is_none_is_refused(db: Connection) -> None:
    create_pair(db)
    with refused("CF002", 404) as refusal:
        start(db, plan(step("a", 5, flags={"nope": True})))
    assert refusal.detail["flag"] == "nope"
    with refused("CF004", 400):
        start(db, plan(step("a", 33.3333)))


def test_starting_again_changes_nothing_and_another_plan_is_refused(db: Connection) -> None:
    live(db)
    assert start(db)["already"] is False
    version = call(db, "flags_version")
    assert start(db)["already"] is True
    assert call(db, "flags_version") == version
    with refused("CF024", 409):
        start(db, plan(step("five", 5), name="other"))


def test_without_a_rollout_there_is_nothing_to_steer(db: Connection) -> None:
    live(db)
    assert status(db)["rollout"] is None
    with refused("CF023", 409):
        control(db, "hold")
    with refused("CF023", 409):
        advance(db)


# What a step waits for ---------------------------------------------------------------------


def test_a_healthy_plan_goes_from_step_to_step_and_ends(db: Connection) -> None:
    live(db)
    start(db)
    seen = []
    for _ in range(4):
        judge(db)
        control(db, "approve", "*")
        answer = advance(db)
        assert answer["advanced"], answer["waits"]
        seen.append((answer["percentage"], answer["rollout"]["state"]))
    assert seen == [(5, "running"), (50, "running"), (100, "running"), (100, "finished")]
    actions = one(
        db,
        "select array_agg(action order by id) from crossfade.audit"
        " where action like 'rollout.%' and action <> 'rollout.approve'",
    )
    assert actions == ["rollout.start", *["rollout.advance"] * 3, "rollout.finished"]


def test_a_step_needs_its_time_its_requests_and_an_approval(db: Connection) -> None:
    live(db)
    start(
        db, plan(step("five", 5, min_s=3600, min_requests=10), step("all", 100, approval="manual"))
    )
    judge(db)
    assert advance(db)["advanced"]
    judge(db)
    answer = advance(db)
    assert (answer["advanced"], waits(answer)) == (False, ["approval", "time", "requests"])
    # No function has ever reported: the mirror's own counts would do.
    assert answer["waits"][2]["message"] == "0 of 10 V2 writes on this step"
    db.execute("update crossfade.pairs set step_started_at = now() - interval '2 hours'")
    db.execute("update crossfade.rollouts set started_at = now() - interval '2 hours'")
    event = {
        "pair": "orders",
        "backend_version": 2,
        "wire_version": 1,
        "outcome": "ok",
        "latency_ms": 1,
        "count": 9,
    }
    call(db, "record_requests", [event])
    answer = advance(db)
    assert waits(answer) == ["approval", "requests"]
    assert answer["waits"][1]["message"] == "9 of 10 V2 requests on this step"
    call(db, "record_requests", [{**event, "outcome": "fallback", "count": 1}])
    assert waits(advance(db)) == ["approval"]
    control(db, "approve")
    assert advance(db)["advanced"]
    assert where(db) == ("live", 100)


def test_time_runs_faster_for_a_rehearsal(db: Connection) -> None:
    live(db)
    start(db, plan(step("five", 5, min_s=3600), step("half", 50)), speed=3600)
    judge(db)
    advance(db)
    db.execute("update crossfade.pairs set step_started_at = now() - interval '1 second'")
    db.execute("update crossfade.rollouts set started_at = now() - interval '1 second'")
    db.execute("update crossfade.verdicts set at = now() - interval '0.5 second'")
    assert advance(db)["advanced"]


@pytest.mark.parametrize("said", ["HOLD", "ERROR", "FAIL"])
def test_any_rule_that_objects_holds_the_step(db: Connection, said: str) -> None:
    live(db, 5)
    start(db)
    judge(db, R8=said)
    answer = advance(db)
    assert (answer["advanced"], waits(answer)) == (False, ["verdict"])
    assert "R8 says" in answer["waits"][0]["message"]


def test_a_rule_that_only_warns_does_not_hold(db: Connection) -> None:
    live(db, 5)
    start(db)
    judge(db)
    call(db, "record_verdicts", "orders", [{"rule": "R8", "verdict": "FAIL", "mode": "warn"}])
    assert advance(db)["advanced"]


def test_a_success_rule_that_is_off_is_not_waited_for(db: Connection) -> None:
    live(db, 5)
    start(db)
    call(db, "set_setting", "rule_modes", '{"R3": "off"}', "test")
    call(db, "record_verdicts", "orders", [{"rule": "R8", "verdict": "PASS"}])
    assert waits(advance(db)) == ["verdict"]
    call(db, "record_verdicts", "orders", [{"rule": "R13", "verdict": "PASS"}])
    assert advance(db)["advanced"]


def test_a_step_may_name_the_rules_it_asks(db: Connection) -> None:
    live(db, 5)
    start(db, plan(step("five", 5, gates=["R1", "R3"]), step("half", 50)))
    judge(db, R8="HOLD")
    assert advance(db)["advanced"]


@pytest.mark.parametrize(
    "age",
    [
        "update crossfade.verdicts set at = now() - interval '2 minutes'",
        "delete from crossfade.verdicts",
        "delete from crossfade.verdicts where rule = 'R3'",
    ],
)
def test_no_verdict_and_an_old_one_are_no_consent(db: Connection, age: str) -> None:
    live(db, 5)
    db.execute("update crossfade.pairs set step_started_at = now() - interval '1 hour'")
    start(db)
    judge(db)
    db.execute(age.encode())
    assert waits(advance(db)) == ["verdict"]


def test_a_verdict_of_the_step_before_is_no_consent(db: Connection) -> None:
    live(db)
    start(db)
    judge(db)
    assert advance(db)["advanced"]
    assert waits(advance(db)) == ["verdict"]


def test_nothing_advances_by_itself_without_a_living_monitor(db: Connection) -> None:
    live(db)
    start(db)
    judge(db)
    db.execute("update crossfade.monitors set heartbeat_at = now() - interval '61 seconds'")
    assert waits(advance(db)) == ["monitor"]
    beat(db, release=True)
    assert waits(advance(db)) == ["monitor"]
    # A person may, and sees for herself.
    assert advance(db, automatic=False)["advanced"]


def test_an_engaged_kill_switch_holds_until_a_person_releases_it(db: Connection) -> None:
    live(db)
    start(db)
    judge(db)
    call(db, "engage_kill_switch", "disable_v2_messages")
    assert waits(advance(db)) == ["kill_switch"]
    call(db, "release_kill_switch", "disable_v2_messages", "fixed")
    assert advance(db)["advanced"]


def test_what_a_stage_asks_for_is_waited_for(db: Connection) -> None:
    create_pair(db)
    beat(db)
    start(db, plan(step("mirror", 0, "dualwrite"), step("five", 5)))
    judge(db)
    assert advance(db)["advanced"]
    judge(db)
    answer = advance(db)
    assert {wait.get("blocker") for wait in answer["waits"]} == {"backfill_needed"}
    assert where(db) == ("dualwrite", 0)
    ready_for_live(db, "orders")
    judge(db)
    assert advance(db)["advanced"]
    assert where(db) == ("live", 5)


def test_flags_are_set_with_the_step(db: Connection) -> None:
    live(db)
    flags = {"enable_caching": True, "enable_memory_system": 12.5, "maintain_dual_write": False}
    start(db, plan(step("five", 5, flags=flags)))
    judge(db)
    advance(db)
    found: dict[str, list[object]] = dict(
        db.execute(
            "select name, jsonb_build_array(enabled, percentage) from crossfade.flags"
            " where name = any (%s)",
            [list(flags)],
        ).fetchall()
    )
    assert found["enable_caching"] == [True, 100]
    assert found["enable_memory_system"] == [True, 12.5]
    assert found["maintain_dual_write"][0] is False


def test_the_plan_goes_to_the_end_through_rampdown(db: Connection) -> None:
    live(db, 75)
    call(db, "set_setting", "stage_bake_s", "0", "test")
    start(db, plan(step("end", 100, "complete", approval="manual")))
    control(db, "approve")
    judge(db)
    assert advance(db)["advanced"]
    assert where(db) == ("complete", 100)
    judge(db)
    assert advance(db)["rollout"]["state"] == "finished"


def test_a_step_that_waits_too_long_is_held_for_a_person(db: Connection) -> None:
    live(db)
    start(
        db, plan(step("five", 5, min_s=60, min_requests=10, max_extension_s=600), step("half", 50))
    )
    judge(db)
    advance(db)

    def age(seconds: int) -> None:
        for table, column in (("pairs", "step_started_at"), ("rollouts", "started_at")):
            db.execute(
                f"update crossfade.{table} set {column} = now() - interval '{seconds} s'".encode()
            )

    age(650)
    judge(db)
    assert advance(db)["rollout"]["state"] == "running"
    age(670)
    answer = advance(db)
    assert (answer["advanced"], answer["rollout"]["state"]) == (False, "held")
    assert "extension" in answer["rollout"]["reason"]
    assert control(db, "resume")["rollout"]["state"] == "running"
    # Resumed: another extension.
    assert advance(db)["rollout"]["state"] == "running"


# One step at a time ------------------------------------------------------------------------


def test_a_caller_who_has_not_seen_the_last_step_takes_none(db: Connection) -> None:
    live(db)
    start(db)
    seen = status(db)["step"]
    judge(db)
    assert call(db, "advance_rollout", "orders", seen)["advanced"]
    judge(db)
    answer = call(db, "advance_rollout", "orders", seen)
    assert (answer["advanced"], answer["stale"], answer["percentage"]) == (False, True, 5)


def test_of_many_controllers_at_once_one_takes_the_step(connect: Any) -> None:
    db = live(connect())
    start(db)
    judge(db)
    seen = status(db)["step"]
    callers = [connect("service_role") for _ in range(8)]
    barrier, answers = threading.Barrier(len(callers)), []

    def work(api: Connection) -> None:
        barrier.wait(timeout=20)
        answers.append(call(api, "advance_rollout", "orders", seen))

    threads = [threading.Thread(target=work, args=(api,)) for api in callers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert len(answers) == len(callers)
    assert sorted(answer["advanced"] for answer in answers) == [False] * 7 + [True]
    assert {answer["percentage"] for answer in answers} == {5}
    assert one(db, "select count(*) from crossfade.audit where action = 'rollout.advance'") == 1


def test_a_change_by_hand_shows_in_the_step_the_plan_is_at(db: Connection) -> None:
    live(db, 5)
    start(db)
    call(db, "set_cohort", "orders", {"percentage": 60}, "by hand")
    answer = status(db)
    assert (answer["reached"], answer["current"]["name"], answer["next"]["name"]) == (
        2,
        "half",
        "all",
    )


# Persons and rollbacks ---------------------------------------------------------------------


def test_holding_stops_and_resuming_goes_on(db: Connection) -> None:
    live(db)
    start(db)
    judge(db)
    assert control(db, "hold")["changed"]
    assert not control(db, "hold")["changed"]
    assert waits(advance(db)) == ["held"]
    assert waits(advance(db, automatic=False)) == ["held"]
    control(db, "resume")
    assert advance(db)["advanced"]


def test_going_back_by_hand_holds_the_plan(db: Connection) -> None:
    live(db, 50)
    start(db)
    call(db, "set_cohort", "orders", {"percentage": 5}, "too many complaints")
    rollout = status(db)["rollout"]
    assert (rollout["state"], rollout["reason"]) == ("held", "too many complaints")


def test_a_hand_edit_of_the_cohort_through_the_api_holds_it_too(connect: Any) -> None:
    db = live(connect(), 50)
    start(db)
    connect("service_role").execute("update crossfade.cohorts set percentage = 5")
    assert status(db)["rollout"]["state"] == "held"


@pytest.mark.parametrize("level", ["PARTIAL", "COMPLETE", "EMERGENCY"])
def test_a_rollback_by_a_person_holds_the_plan(db: Connection, level: str) -> None:
    live(db, 50)
    start(db)
    call(db, "rollback", level, "orders", "slow")
    assert status(db)["rollout"]["state"] == "held"


def test_an_automatic_rollback_ends_widening_until_rearm_and_goes_on_from_there(
    db: Connection,
) -> None:
    live(db, 50)
    start(db)
    control(db, "approve", "*")
    call(db, "rollback", "COMPLETE", "orders", "R1: 9 of 20", True)
    answer = status(db)
    assert (answer["rollout"]["state"], answer["rollout"]["approved"]) == ("rolled_back", [])
    assert waits(answer)[:2] == ["rolled_back", "latched"]
    with refused("CF006", 409):
        control(db, "resume")
    call(db, "rearm", "orders", "found it")
    answer = status(db)
    assert (answer["rollout"]["state"], answer["reached"]) == ("running", 0)
    judge(db)
    assert advance(db)["advanced"]
    assert where(db) == ("live", 5)


def test_rearming_does_not_restart_it_within_the_cool_down(db: Connection) -> None:
    live(db, 50)
    start(db)
    call(db, "set_setting", "rollout_cooldown_s", "900", "test")
    call(db, "rollback", "COMPLETE", "orders", "R1", True)
    call(db, "rearm", "orders", "found it")
    judge(db)
    assert waits(advance(db)) == ["cool_down"]


def test_partial_goes_to_the_step_before_of_the_plan_without_the_flags_it_brought(
    db: Connection,
) -> None:
    live(db)
    start(
        db,
        plan(
            step("ten", 10, flags={"enable_caching": True}),
            step("forty", 40, flags={"enable_caching": True, "enable_memory_system": True}),
        ),
    )
    for _ in range(2):
        judge(db)
        assert advance(db)["advanced"]
    dry = call(db, "rollback", "PARTIAL", "orders", "", False, True)["plan"]
    assert [(s["action"], s["object"]) for s in dry] == [
        ("disable_flag", "enable_memory_system"),
        ("set_percentage", "orders"),
    ]
    assert call(db, "rollback", "PARTIAL", "orders", "slow")["plan"] == dry
    assert where(db) == ("live", 10)
    enabled = "select enabled from crossfade.flags where name = %s"
    assert one(db, enabled, "enable_caching")
    assert not one(db, enabled, "enable_memory_system")


def test_a_rollback_decided_on_an_older_step_does_nothing(db: Connection) -> None:
    live(db, 50)
    seen = status(db)["step"]
    first = call(db, "rollback", "PARTIAL", "orders", "slow", True, expected_step=seen)
    again = call(db, "rollback", "PARTIAL", "orders", "slow", True, expected_step=seen)
    assert (first["rollback"] is None, again["rollback"], again["plan"]) == (False, None, [])
    assert where(db) == ("live", 25)


@pytest.mark.parametrize(("keep", "stage"), [(False, "shadow"), (True, "live")])
def test_aborting_takes_everybody_back_unless_told_to_keep(
    db: Connection, keep: bool, stage: str
) -> None:
    live(db, 50)
    start(db)
    answer = control(db, "abort", None, keep)
    assert (answer["rollout"]["state"], answer["stage"]) == ("aborted", stage)
    with refused("CF023", 409):
        control(db, "abort")
    assert start(db)["already"] is False


@pytest.mark.parametrize("step_name", ["five", "nope"])
def test_only_manual_steps_of_the_plan_can_be_approved(db: Connection, step_name: str) -> None:
    live(db)
    start(db)
    with refused("CF012", 400) as refusal:
        control(db, "approve", step_name)
    assert refusal.detail["known"] == ["all"]
    assert control(db, "approve", "all")["changed"]
    assert not control(db, "approve", "*")["changed"]


@pytest.mark.parametrize("action", ["hold", "resume", "approve", "abort", "advance"])
def test_an_operator_says_why(db: Connection, action: str) -> None:
    live(db)
    start(db)
    if action == "advance":
        with refused("CF007", 400):
            call(db, "start_rollout", "orders", TWO, " ")
        return
    with refused("CF007", 400):
        call(db, "control_rollout", "orders", action, " ")


def test_two_operators_at_once_lose_no_update(connect: Any) -> None:
    db = live(connect())
    start(db, plan(*(step(f"s{n}", n, approval="manual") for n in range(1, 21))))
    approvals = [f"s{n}" for n in range(1, 21)]
    operators, errors = [connect("service_role") for _ in range(2)], []

    def work(number: int) -> None:
        try:
            for name in approvals[number::2]:
                call(operators[number], "control_rollout", "orders", "approve", "ok", name)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert errors == []
    assert sorted(status(db)["rollout"]["approved"]) == sorted(approvals)


# The lease ---------------------------------------------------------------------------------


def test_one_monitor_holds_the_lease_and_another_takes_over_when_it_runs_out(
    db: Connection,
) -> None:
    assert beat(db, "a")["held"]
    assert (beat(db, "b")["held"], beat(db, "b")["holder"]) == (False, "a")
    before = beat(db, "a")["generation"]
    db.execute("update crossfade.monitors set lease_until = now() - interval '1 second'")
    taken = beat(db, "b")
    assert (taken["held"], taken["generation"]) == (True, before + 1)
    assert not beat(db, "a")["held"]
    assert not beat(db, "a", release=True)["held"]
    assert beat(db, "b")["held"]
    assert beat(db, "b", release=True)["holder"] is None
    assert beat(db, "a")["held"]


def test_of_many_monitors_at_once_one_decides(connect: Any) -> None:
    monitors = [connect("service_role") for _ in range(8)]
    barrier, held = threading.Barrier(len(monitors)), []

    def work(number: int) -> None:
        barrier.wait(timeout=20)
        held.append(beat(monitors[number], f"m{number}")["held"])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert sorted(held) == [False] * 7 + [True]


@pytest.mark.parametrize(("holder", "lease_s"), [("", 10), (None, 10), ("m", 0), ("m", 4000)])
def test_a_beat_that_is_none_is_refused(db: Connection, holder: str | None, lease_s: int) -> None:
    with refused("CF012", 400):
        call(db, "monitor_beat", holder, lease_s)
