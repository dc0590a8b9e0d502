"""Change sets: all or nothing, on the version they were made for; at their time exactly once."""

from __future__ import annotations

from typing import Any

from tests.sql.conftest import Connect
from tests.sql.control import (
    Connection,
    call,
    create_pair,
    in_background,
    one,
    refused,
    wait_until_gone,
)

ON = {"kind": "flag", "name": "enable_caching", "action": "change", "changes": {"enabled": True}}
NEW = {"kind": "flag", "name": "mine", "action": "create", "changes": {"percentage": 12.5}}
BAD = {"kind": "flag", "name": "no_such_flag", "action": "change", "changes": {"enabled": True}}


def enabled(db: Connection, name: str = "enable_caching") -> bool:
    return bool(one(db, "select enabled from crossfade.flags where name = %s", name))


def schedule(db: Connection, *changes: dict[str, Any], in_s: float = -1) -> int:
    due = one(db, "select clock_timestamp() + %s * interval '1 s'", in_s)
    return int(call(db, "schedule_changes", list(changes), due, "t")["scheduled"]["id"])


def state(db: Connection, number: int) -> tuple[str, Any]:
    query = "select state, outcome from crossfade.scheduled_changes where id = %s"
    found = db.execute(query, [number]).fetchone()
    assert found is not None
    return found[0], found[1]


def test_a_change_set_is_one_transaction_and_one_reason(scratch: Connection) -> None:
    create_pair(scratch, stage="live", percentage=25)
    switch = {"kind": "kill_switch", "name": "stop_orders", "action": "create",
              "changes": {"fences": True, "pair": "orders", "description": "d"}}  # fmt: skip
    cohort = {"kind": "cohort", "name": "orders", "action": "change",
              "changes": {"percentage": 5, "enabled_user_ids": ["a"]}}  # fmt: skip
    assert call(scratch, "apply_changes", [ON, NEW, switch, cohort], "import")["applied"] == 4
    assert enabled(scratch)
    assert one(scratch, "select percentage from crossfade.cohorts") == 5
    row = scratch.execute(
        "select fences, pair, engaged from crossfade.kill_switches where name = 'stop_orders'"
    ).fetchone()
    assert row == (True, "orders", False)
    reasons = "select array_agg(distinct reason) from crossfade.audit where reason = 'import'"
    assert one(scratch, reasons) == ["import"]
    gone = [{"kind": "flag", "name": "mine", "action": "delete"},
            {"kind": "kill_switch", "name": "stop_orders", "action": "delete"}]  # fmt: skip
    call(scratch, "apply_changes", gone, "import")
    assert one(scratch, "select count(*) from crossfade.flags where name = 'mine'") == 0


def test_one_bad_change_leaves_everything_as_it_was(scratch: Connection) -> None:
    version = call(scratch, "flags_version")
    with refused("CF002", 404):
        call(scratch, "apply_changes", [ON, NEW, BAD], "t")
    assert not enabled(scratch)
    assert call(scratch, "flags_version") == version


def test_a_change_set_is_for_the_version_it_was_made_for(scratch: Connection) -> None:
    version = call(scratch, "flags_version")
    call(scratch, "apply_changes", [NEW], "t", version)
    with refused("CF025", 409) as refusal:
        call(scratch, "apply_changes", [ON], "t", version)
    assert refusal.detail["expected"] == version
    assert not enabled(scratch)


def test_what_is_no_change_set_is_refused(scratch: Connection) -> None:
    bad_ones: list[Any] = [
        {},
        [1],
        [{"kind": "flag"}],
        [{**ON, "kind": "setting"}],
        [{**ON, "action": "engage"}],
        [{**ON, "changes": None}],
        [{**ON, "name": 5}],
        [{"kind": "cohort", "name": "orders", "action": "delete"}],
        [{"kind": "kill_switch", "name": "disable_new_tools", "action": "change",
          "changes": {"engaged": True}}],
        [{"kind": "kill_switch", "name": "disable_new_tools", "action": "change",
          "changes": {"pair": 5}}],
    ]  # fmt: skip
    for bad in bad_ones:
        with refused("CF012", 400):
            call(scratch, "apply_changes", bad, "t")
    with refused("CF007", 400):
        call(scratch, "apply_changes", [ON], " ")


def test_an_engaged_switch_is_not_redefined(scratch: Connection) -> None:
    call(scratch, "engage_kill_switch", "disable_new_tools")
    for action in ("change", "delete"):
        change = {"kind": "kill_switch", "name": "disable_new_tools", "action": action,
                  "changes": {"fences": True}}  # fmt: skip
        with refused("CF012", 400):
            call(scratch, "apply_changes", [change], "t")


# Schedules ---------------------------------------------------------------------------------------


def test_a_change_waits_for_its_time_and_happens_once(scratch: Connection) -> None:
    due, later = schedule(scratch, ON), schedule(scratch, NEW, in_s=3600)
    done = call(scratch, "apply_due_changes")["done"]
    assert [row["id"] for row in done] == [due]
    assert enabled(scratch)
    assert (state(scratch, due)[0], state(scratch, later)[0]) == ("applied", "pending")
    call(scratch, "set_flag", "enable_caching", {"enabled": False}, "t")
    assert call(scratch, "apply_due_changes")["done"] == []
    assert not enabled(scratch)
    reason = one(scratch, "select reason from crossfade.audit where action = 'flag.update'"
                          " order by id limit 1")  # fmt: skip
    assert reason == "t (scheduled by postgres)"


def test_a_refused_change_is_marked_and_does_not_stop_the_next(scratch: Connection) -> None:
    bad, good = schedule(scratch, NEW, BAD), schedule(scratch, ON)
    call(scratch, "apply_due_changes")
    assert state(scratch, bad) == (
        "refused", {"code": "CF002", "message": 'Unknown flag "no_such_flag"'}
    )  # fmt: skip
    assert state(scratch, good)[0] == "applied"
    assert one(scratch, "select count(*) from crossfade.flags where name = 'mine'") == 0


def test_nothing_is_raised_by_schedule_while_a_pair_is_latched(scratch: Connection) -> None:
    create_pair(scratch, stage="live", percentage=25)
    call(scratch, "rollback", "PARTIAL", "orders", "t", True)
    call(scratch, "set_flag", "use_advanced_messages", {"enabled": True}, "t")
    raising = [
        ON,
        NEW,
        {"kind": "flag", "name": "use_advanced_messages", "action": "change",
         "changes": {"killed_by": []}},
        {"kind": "cohort", "name": "orders", "action": "change", "changes": {"percentage": 99}},
    ]  # fmt: skip
    numbers = [schedule(scratch, change) for change in raising]
    lowering = schedule(
        scratch,
        {"kind": "flag", "name": "use_advanced_messages", "action": "change",
         "changes": {"percentage": 5, "deny_user_ids": ["u"]}},
    )  # fmt: skip
    call(scratch, "apply_due_changes")
    assert [state(scratch, number)[1]["code"] for number in numbers] == ["CF006"] * 4
    assert state(scratch, lowering)[0] == "applied"


def test_two_callers_apply_a_change_once(db: Connection, connect: Connect) -> None:
    number = schedule(db, ON)
    first = connect()
    first.execute("begin")
    assert len(call(first, "apply_due_changes")["done"]) == 1
    with in_background(lambda: call(connect(), "apply_due_changes")["done"]) as result:
        pass  # does not wait: the row is skipped
    assert result == [[]]
    first.execute("commit")
    assert state(db, number)[0] == "applied"
    assert one(db, "select count(*) from crossfade.audit where action = 'schedule.applied'") == 1


def test_a_crash_before_the_commit_leaves_the_change_for_the_next(
    db: Connection, connect: Connect
) -> None:
    number = schedule(db, ON)
    first = connect()
    first.execute("begin")
    call(first, "apply_due_changes")
    pid = first.info.backend_pid
    first.close()
    wait_until_gone(
        db, pid
    )  # its locks, which make others skip the row, go with the server process
    assert (state(db, number)[0], enabled(db)) == ("pending", False)
    call(db, "apply_due_changes")
    assert (state(db, number)[0], enabled(db)) == ("applied", True)


def test_a_schedule_can_be_taken_back_until_it_is_done(scratch: Connection) -> None:
    number = schedule(scratch, ON)
    call(scratch, "cancel_changes", number, "t")
    assert call(scratch, "cancel_changes", number, "t")["scheduled"]["state"] == "cancelled"
    assert call(scratch, "apply_due_changes")["done"] == []
    done = schedule(scratch, ON)
    call(scratch, "apply_due_changes")
    with refused("CF026", 404):
        call(scratch, "cancel_changes", done, "t")
    with refused("CF026", 404):
        call(scratch, "cancel_changes", 999, "t")
    with refused("CF012", 400):
        call(scratch, "schedule_changes", [ON], "infinity", "t")
    with refused("CF012", 400):
        call(scratch, "schedule_changes", [ON], "2020-01-01T00:00:00Z", "t")
