"""Kill switches: one step, exact, idempotent, and the same by hand."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest

from tests.sql.conftest import begins_with
from tests.sql.control import (
    Connection,
    call,
    create_pair,
    in_background,
    one,
    refused,
    wait_for_waiters,
)

FENCE = "disable_v2_messages"
PLAIN = "disable_new_tools"
EMERGENCY = "emergency_rollback"
INSERT_V2 = "insert into public.orders_v2 values (%s, '\"x\"')"


# Engaging -------------------------------------------------------------------------------


def test_engaging_needs_no_reason_and_says_what_happened(db: Connection) -> None:
    version = call(db, "flags_version")
    answer = call(db, "engage_kill_switch", FENCE)
    assert (answer["changed"], answer["in_flight"]) == (True, False)
    assert answer["flags_version"] == version + 1
    assert answer["waited_ms"] >= 0
    assert answer["committed_at"] >= answer["kill_switch"]["engaged_at"]
    switch = answer["kill_switch"]
    assert (switch["engaged"], switch["engaged_by"], switch["reason"]) == (True, "postgres", None)


def test_engaging_again_changes_nothing_and_keeps_the_first_engagement(db: Connection) -> None:
    first = call(db, "engage_kill_switch", FENCE, "fire")
    again = call(db, "engage_kill_switch", FENCE, "more fire")
    assert again["changed"] is False
    assert again["kill_switch"] == first["kill_switch"]
    assert again["flags_version"] == first["flags_version"]
    assert one(db, "select count(*) from realtime.messages where event = 'kill'") == 1


def test_the_reason_of_an_earlier_engagement_does_not_stick(db: Connection) -> None:
    assert call(db, "engage_kill_switch", PLAIN, "fire")["kill_switch"]["reason"] == "fire"
    call(db, "release_kill_switch", PLAIN, "out")
    assert call(db, "engage_kill_switch", PLAIN)["kill_switch"]["reason"] is None


def test_an_unknown_switch_is_refused_with_the_known_names(db: Connection) -> None:
    with refused("CF003", 404) as refusal:
        call(db, "engage_kill_switch", "nothing")
    assert FENCE in refusal.detail["known"]
    with refused("CF003", 404):
        call(db, "release_kill_switch", "nothing", "test")


@pytest.mark.parametrize("reason", ["", " ", None])
def test_releasing_without_a_reason_is_refused(db: Connection, reason: str | None) -> None:
    call(db, "engage_kill_switch", FENCE)
    with refused("CF007", 400):
        call(db, "release_kill_switch", FENCE, reason)
    assert one(db, "select engaged from crossfade.kill_switches where name = %s", FENCE)


def test_releasing_works_once_and_is_safe_to_repeat(db: Connection) -> None:
    call(db, "engage_kill_switch", FENCE)
    assert call(db, "release_kill_switch", FENCE, "over")["changed"] is True
    assert call(db, "release_kill_switch", FENCE, "over")["changed"] is False


def test_engaging_and_releasing_are_audited_and_broadcast(db: Connection) -> None:
    engaged = call(db, "engage_kill_switch", FENCE, "fire")["flags_version"]
    released = call(db, "release_kill_switch", FENCE, "out")["flags_version"]
    assert db.execute(
        "select action, object, reason, flags_version from crossfade.audit order by id"
    ).fetchall() == [
        ("kill_switch.update", FENCE, "fire", engaged),
        ("kill_switch.update", FENCE, "out", released),
    ]
    sent = db.execute(
        "select payload - 'id' from realtime.messages where event = 'kill' order by inserted_at"
    ).fetchall()
    assert [row[0] for row in sent] == [
        {"flags_version": engaged, "name": FENCE, "engaged": True},
        {"flags_version": released, "name": FENCE, "engaged": False},
    ]


def test_a_kill_that_is_rolled_back_broadcasts_nothing(db: Connection) -> None:
    with db.transaction(force_rollback=True):
        call(db, "engage_kill_switch", FENCE)
    assert one(db, "select count(*) from realtime.messages") == 0


# The fence ------------------------------------------------------------------------------


@pytest.mark.parametrize(("switch", "fenced"), [(FENCE, True), (EMERGENCY, True), (PLAIN, False)])
@begins_with(create_pair, stage="dualwrite", opened=True)
def test_only_a_fencing_switch_refuses_direct_v2_writes(
    db: Connection, connect: Any, switch: str, fenced: bool
) -> None:
    call(db, "engage_kill_switch", switch)
    api = connect("service_role")
    if fenced:
        with refused("CF_FENCED", 409):
            api.execute(INSERT_V2, [1])
        call(db, "release_kill_switch", switch, "over")
    api.execute(INSERT_V2, [1])


def test_a_fence_for_one_pair_leaves_the_others_alone(db: Connection, connect: Any) -> None:
    create_pair(db, "orders", stage="dualwrite", opened=True)
    create_pair(db, "bills", stage="dualwrite", opened=True)
    db.execute("update crossfade.kill_switches set pair = 'orders' where name = %s", [FENCE])
    call(db, "engage_kill_switch", FENCE)
    api = connect("service_role")
    api.execute("insert into public.bills_v2 values (1, '\"x\"')")
    with refused("CF_FENCED", 409):
        api.execute(INSERT_V2, [1])


@begins_with(create_pair, stage="dualwrite", opened=True)
def test_no_v2_write_that_began_before_the_kill_commits_after_it(
    db: Connection, connect: Any
) -> None:
    writer, killer = connect("service_role"), connect()
    writer.execute("begin")
    writer.execute(INSERT_V2, [1])
    with in_background(lambda: call(killer, "engage_kill_switch", FENCE)) as result:
        wait_for_waiters(db, 1)
        late = connect("service_role")
        with in_background(lambda: attempt(late)) as late_result:
            wait_for_waiters(db, 2)
            writer.execute("commit")
    assert result[0]["in_flight"] is False
    assert result[0]["waited_ms"] > 0
    assert late_result == ["PT409"]
    assert one(db, "select array_agg(id) from public.orders_v2") == [1]


def attempt(api: Connection) -> str | None:
    try:
        api.execute(INSERT_V2, [2])
    except psycopg.Error as error:
        return error.sqlstate
    return None


@pytest.mark.parametrize("wait_ms", [0, 60])
@begins_with(create_pair, stage="dualwrite", opened=True)
def test_a_straggler_cannot_hold_a_kill_up(db: Connection, connect: Any, wait_ms: int) -> None:
    call(db, "set_setting", "kill_wait_ms", str(wait_ms), "test")
    writer = connect("service_role")
    with writer.transaction():
        writer.execute(INSERT_V2, [1])
        answer = call(db, "engage_kill_switch", FENCE)
        assert answer["in_flight"] is True
        assert answer["changed"] is True
        assert wait_ms <= answer["waited_ms"] < wait_ms + 5000
        with refused("CF_FENCED", 409):
            connect("service_role").execute(INSERT_V2, [2])
    # Repeating the call tells that nothing is in flight any more.
    assert call(db, "engage_kill_switch", FENCE)["in_flight"] is False


def test_the_wait_leaves_lock_timeout_as_it_was(db: Connection) -> None:
    with db.transaction():
        db.execute("set local lock_timeout = '7s'")
        call(db, "engage_kill_switch", FENCE)
        assert one(db, "show lock_timeout") == "7s"


@begins_with(create_pair, stage="dualwrite", opened=True)
def test_a_switch_that_does_not_fence_does_not_wait_for_writers(
    db: Connection, connect: Any
) -> None:
    writer = connect("service_role")
    with writer.transaction():
        writer.execute(INSERT_V2, [1])
        answer = call(db, "engage_kill_switch", PLAIN)
    assert (answer["waited_ms"], answer["in_flight"]) == (0, False)


@begins_with(create_pair, stage="dualwrite", opened=True)
def test_each_fencing_switch_of_a_transaction_waits_for_writers(
    db: Connection, connect: Any
) -> None:
    call(db, "set_setting", "kill_wait_ms", "0", "test")
    writer = connect("service_role")
    with writer.transaction(), db.transaction():
        writer.execute(INSERT_V2, [1])
        call(db, "engage_kill_switch", PLAIN)
        assert call(db, "engage_kill_switch", FENCE)["in_flight"] is True


# By hand --------------------------------------------------------------------------------


@begins_with(create_pair)
def test_a_hand_edit_acts_like_the_function(db: Connection, connect: Any) -> None:
    version = call(db, "flags_version")
    api = connect("service_role")
    api.execute("update crossfade.kill_switches set engaged = true where name = %s", [FENCE])
    assert call(db, "flags_version") == version + 1
    row = db.execute(
        "select engaged_by, engaged_at is not null from crossfade.kill_switches where name = %s",
        [FENCE],
    ).fetchone()
    assert row == ("service_role", True)
    assert one(db, "select count(*) from realtime.messages where event = 'kill'") == 1
    with refused("CF_FENCED", 409):
        api.execute(INSERT_V2, [1])


@begins_with(create_pair, stage="dualwrite", opened=True)
def test_a_hand_edit_waits_for_writers_too(db: Connection, connect: Any) -> None:
    writer, hand = connect("service_role"), connect()
    edit = f"update crossfade.kill_switches set engaged = true where name = '{FENCE}'"
    writer.execute("begin")
    writer.execute(INSERT_V2, [1])
    with in_background(lambda: hand.execute(edit)):
        wait_for_waiters(db, 1)
        writer.execute("commit")
    assert one(db, "select engaged from crossfade.kill_switches where name = %s", FENCE)


@begins_with(create_pair)
def test_many_callers_engage_and_release_without_a_deadlock(db: Connection, connect: Any) -> None:
    errors: list[BaseException] = []

    def work(number: int) -> None:
        connection = connect("service_role")
        try:
            for turn in range(15):
                match (number + turn) % 4:
                    case 0:
                        call(connection, "engage_kill_switch", EMERGENCY)
                    case 1:
                        call(connection, "release_kill_switch", EMERGENCY, "test")
                    case 2:
                        changes = {"enabled": turn % 2 == 0}
                        call(connection, "set_flag", "enable_caching", changes, "test")
                    case 3:
                        call(connection, "rollback", "EMERGENCY", "*", "test")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
