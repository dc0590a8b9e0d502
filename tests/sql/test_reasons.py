"""A reason is one line of plain text, and a stop is never refused for one."""

from __future__ import annotations

import pytest

from tests.sql.conftest import Connection
from tests.sql.control import call, create_pair, one, refused

ODD = [chr(code) for code in (0x01, 0x07, 0x09, 0x0A, 0x0D, 0x1B, 0x1F, 0x7F, 0x85, 0x9B, 0x9F,
                              0x61C, 0x200E, 0x2028, 0x2029, 0x202E, 0x2066, 0x2069)]  # fmt: skip


def test_control_characters_in_a_reason_are_refused(db: Connection) -> None:
    create_pair(db, stage="live", percentage=5)
    for odd in ODD:
        with refused("CF012", 400) as refusal:
            call(db, "set_cohort", "orders", {"percentage": 6}, f"a{odd}b")
        assert refusal.detail["field"] == "reason", hex(ord(odd))
    for rpc, given in (
        ("set_stage", ("orders", "shadow")), ("take_snapshot", ()), ("rearm", ("orders",)),
        ("rollback", ("COMPLETE", "orders")), ("release_kill_switch", ("emergency_rollback",)),
        ("unregister_pair", ("orders",)), ("set_setting", ("kill_wait_ms", "100")),
    ):  # fmt: skip
        with refused("CF012", 400):
            call(db, rpc, *given, "why\x1b[2J")
    call(db, "set_cohort", "orders", {"percentage": 6}, "Zoë: 日本語 العربية 👩‍👧")


def test_a_stop_and_a_rollback_by_itself_are_not_refused_for_one(db: Connection) -> None:
    create_pair(db, stage="live", percentage=5)
    done = call(db, "engage_kill_switch", "disable_v2_orders", "fire\x1b[2J\nnow")
    assert done["kill_switch"]["reason"] == "fire?[2J?now"
    call(db, "rollback", "COMPLETE", "orders", "R1: row \x1b says", automatic=True)
    assert one(db, "select latch_reason from crossfade.pairs") == "R1: row ? says"


@pytest.mark.parametrize("reason", ["", "  "])
def test_none_at_all_is_refused_as_before(db: Connection, reason: str) -> None:
    create_pair(db)
    with refused("CF007", 400):
        call(db, "set_stage", "orders", "dualwrite", reason)
