"""Snapshots: what is saved, what comes back, what stays."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sql.control import Connection, call, create_pair, one, ready_for_live, refused

FENCE = "disable_v2_messages"
EMERGENCY = "emergency_rollback"


@pytest.fixture
def db(scratch: Connection) -> Connection:
    return scratch


def snapshot(db: Connection) -> int:
    return int(call(db, "take_snapshot", "before")["snapshot"]["id"])


def restore(db: Connection, number: int) -> Any:
    return call(db, "restore_snapshot", number, "undo")


def engaged(db: Connection, name: str) -> Any:
    return one(db, "select engaged from crossfade.kill_switches where name = %s", name)


def control_state(db: Connection) -> Any:
    """Everything a snapshot promises to bring back."""
    return one(
        db,
        """
        select jsonb_build_object(
          'flags', (select jsonb_agg(to_jsonb(f) - 'updated_at' - 'updated_by' order by f.name)
                    from crossfade.flags f),
          'cohorts', (select jsonb_agg(to_jsonb(c) - 'updated_at' - 'updated_by' order by c.pair)
                      from crossfade.cohorts c),
          'switches', (select jsonb_agg(jsonb_build_array(k.name, k.engaged) order by k.name)
                       from crossfade.kill_switches k),
          'stages', (select jsonb_agg(jsonb_build_array(p.name, p.stage) order by p.name)
                     from crossfade.pairs p))
        """,
    )


def test_a_snapshot_holds_flags_switches_cohorts_and_pairs(db: Connection) -> None:
    create_pair(db, stage="live", percentage=25)
    answer = call(db, "take_snapshot", "before")
    assert answer["snapshot"]["reason"] == "before"
    state = one(db, "select state from crossfade.snapshots where id = %s", answer["snapshot"]["id"])
    assert (len(state["flags"]), len(state["kill_switches"])) == (11, 6)
    assert state["cohorts"][0]["percentage"] == 25
    pair = state["pairs"][0]
    assert (pair["name"], pair["stage"], pair["open_failures"]) == ("orders", "live", 0)
    assert pair["converter_hash"]
    assert state["flags_version"] == answer["flags_version"] == call(db, "flags_version")
    assert "/" in state["wal_lsn"]


def test_a_snapshot_without_a_reason_is_refused(db: Connection) -> None:
    with refused("CF007", 400):
        call(db, "take_snapshot", "")


def test_restoring_brings_everything_back(db: Connection) -> None:
    create_pair(db, stage="live", percentage=25)
    call(db, "set_cohort", "orders", {"enabled_user_ids": ["u"]}, "test")
    number, before = snapshot(db), control_state(db)
    call(db, "set_flag", "enable_caching", {"enabled": True, "allow_user_ids": ["x"]}, "test")
    db.execute("delete from crossfade.flags where name = 'enable_parallel_tools'")
    call(db, "set_cohort", "orders", {"percentage": 5, "denied_user_ids": ["v"]}, "test")
    assert control_state(db) != before
    restore(db, number)
    assert control_state(db) == before


def test_restoring_goes_back_and_forward_through_the_stages(db: Connection) -> None:
    create_pair(db, stage="shadow")
    ready_for_live(db, "orders")
    shadow = snapshot(db)
    call(db, "set_stage", "orders", "live", "test")
    call(db, "set_cohort", "orders", {"percentage": 100}, "test")
    call(db, "set_stage", "orders", "rampdown", "test")
    rampdown, before = snapshot(db), control_state(db)
    restore(db, shadow)
    assert one(db, "select stage from crossfade.pairs") == "shadow"
    restore(db, rampdown)
    assert control_state(db) == before


def test_restoring_is_refused_like_set_stage_and_then_changes_nothing(db: Connection) -> None:
    create_pair(db, stage="live", percentage=25)
    number = snapshot(db)
    call(db, "set_stage", "orders", "shadow", "test")
    call(db, "set_flag", "enable_caching", {"enabled": True}, "test")
    before = control_state(db)
    with refused("CF005", 409) as refusal:
        restore(db, number)
    assert "verify_needed" in {blocker["code"] for blocker in refusal.detail["blockers"]}
    assert control_state(db) == before


def test_a_latched_pair_must_be_rearmed_before_it_goes_forward(db: Connection) -> None:
    create_pair(db, stage="live", percentage=25)
    ready_for_live(db, "orders")
    number = call(db, "rollback", "COMPLETE", "orders", "bad", True)["snapshot"]
    with refused("CF006", 409):
        restore(db, number)
    call(db, "rearm", "orders", "found it")
    restore(db, number)
    assert one(db, "select stage from crossfade.pairs") == "live"
    assert one(db, "select percentage from crossfade.cohorts") == 25


def test_restoring_engages_what_was_engaged(db: Connection) -> None:
    call(db, "engage_kill_switch", FENCE)
    number = snapshot(db)
    call(db, "release_kill_switch", FENCE, "over")
    restore(db, number)
    assert engaged(db, FENCE)


def test_a_switch_engaged_after_the_snapshot_stays_engaged(db: Connection) -> None:
    number = snapshot(db)
    call(db, "engage_kill_switch", FENCE)
    assert restore(db, number)["kept_kill_switches"] == [FENCE]
    assert engaged(db, FENCE)


def test_the_switch_that_the_rollback_engaged_is_released_with_it(db: Connection) -> None:
    create_pair(db, stage="live", percentage=25)
    ready_for_live(db, "orders")
    number = call(db, "rollback", "EMERGENCY", "orders", "bad")["snapshot"]
    assert engaged(db, EMERGENCY)
    assert restore(db, number)["kept_kill_switches"] == []
    assert not engaged(db, EMERGENCY)
    assert one(db, "select stage from crossfade.pairs") == "live"


def test_a_switch_engaged_again_since_the_rollback_stays_engaged(db: Connection) -> None:
    create_pair(db, stage="shadow")
    number = call(db, "rollback", "EMERGENCY", "orders", "bad")["snapshot"]
    call(db, "release_kill_switch", EMERGENCY, "over")
    call(db, "engage_kill_switch", EMERGENCY, "something else")
    assert restore(db, number)["kept_kill_switches"] == [EMERGENCY]
    assert engaged(db, EMERGENCY)


def test_flags_and_pairs_added_later_stay_and_removed_pairs_are_skipped(db: Connection) -> None:
    create_pair(db, "bills")
    number = snapshot(db)
    call(db, "unregister_pair", "bills", "test")
    create_pair(db, "orders")
    call(db, "set_flag", "later", {"create": True}, "test")
    assert restore(db, number)["skipped_pairs"] == ["bills"]
    assert one(db, "select array_agg(name) from crossfade.pairs") == ["orders"]
    assert one(db, "select count(*) from crossfade.flags where name = 'later'") == 1


def test_restoring_can_be_undone(db: Connection) -> None:
    number = snapshot(db)
    call(db, "set_flag", "enable_caching", {"enabled": True}, "test")
    changed = control_state(db)
    previous = restore(db, number)["previous"]["id"]
    restore(db, previous)
    assert control_state(db) == changed


def test_restoring_the_present_state_changes_no_row(db: Connection) -> None:
    create_pair(db, stage="live", percentage=25)
    number = snapshot(db)
    version = call(db, "flags_version")
    assert restore(db, number)["flags_version"] == version


def test_restoring_is_audited_with_its_reason(db: Connection) -> None:
    number = snapshot(db)
    call(db, "set_flag", "enable_caching", {"enabled": True}, "test")
    restore(db, number)
    rows = db.execute("select action, object, reason from crossfade.audit order by id").fetchall()
    assert rows[-2:] == [
        ("flag.update", "enable_caching", "undo"),
        ("snapshot.restore", str(number), "undo"),
    ]


@pytest.mark.parametrize("reason", ["", None])
def test_restoring_without_a_reason_is_refused(db: Connection, reason: str | None) -> None:
    with refused("CF007", 400):
        call(db, "restore_snapshot", snapshot(db), reason)


def test_an_unknown_snapshot_is_refused(db: Connection) -> None:
    with refused("CF014", 404):
        restore(db, 77)
