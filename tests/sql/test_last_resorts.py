"""Built-in kill switches: nobody takes them away, and a rollback says what else it touches."""

from __future__ import annotations

import psycopg
import pytest

from tests.sql.conftest import Connection
from tests.sql.control import call, create_pair, one, refused, rows_of

EMERGENCY = "emergency_rollback"
OWN = "disable_v2_orders"


def engaged(db: Connection) -> list[str]:
    return rows_of(db, "select name from crossfade.kill_switches where engaged order by 1")


def test_a_pair_is_made_with_its_own_switch_which_stops_it_alone(db: Connection) -> None:
    create_pair(db, stage="live", percentage=100)
    create_pair(db, "parts", stage="live", percentage=100)
    call(db, "engage_kill_switch", OWN, "test")
    chosen = {
        pair: call(db, "choose_backend", pair, {"user_id": "u"})["backend"]
        for pair in ("orders", "parts")
    }
    assert chosen == {"orders": 1, "parts": 2}


def test_a_switch_of_that_name_is_taken_over_and_an_engaged_one_stays_as_wide(
    db: Connection,
) -> None:
    db.execute("insert into crossfade.kill_switches (name) values (%s)", [OWN])
    db.execute(
        "insert into crossfade.kill_switches (name, fences, engaged) values"
        " ('disable_v2_parts', true, true)"
    )
    create_pair(db)
    create_pair(db, "parts")
    found = db.execute(
        "select name, fences, pair, engaged from crossfade.kill_switches"
        " where name in ('disable_v2_orders', 'disable_v2_parts') order by 1"
    ).fetchall()
    assert found == [(OWN, True, "orders", False), ("disable_v2_parts", True, None, True)]


def test_the_switch_goes_with_its_pair_and_an_owners_stays(db: Connection) -> None:
    create_pair(db)
    db.execute(
        "insert into crossfade.kill_switches (name, fences, pair) values ('mine', true, 'orders')"
    )
    call(db, "engage_kill_switch", OWN, "test")
    call(db, "unregister_pair", "orders", "over")
    names = one(db, "select array_agg(name) from crossfade.kill_switches")
    assert OWN not in names
    assert "mine" in names


@pytest.mark.parametrize("role", ["postgres", "service_role"])
@pytest.mark.parametrize("name", [EMERGENCY, OWN])
@pytest.mark.parametrize(
    "edit",
    [
        "delete from crossfade.kill_switches where name = %s",
        "update crossfade.kill_switches set name = 'other' where name = %s",
        "update crossfade.kill_switches set fences = false where name = %s",
        "update crossfade.kill_switches set pair = 'parts' where name = %s",
    ],
)
def test_nobody_takes_a_built_in_switch_away(
    db: Connection, edit: str, name: str, role: str
) -> None:
    create_pair(db)
    create_pair(db, "parts")
    with refused("CF027", 409), db.transaction():
        db.execute(f"set local role {role}".encode())
        db.execute(edit.encode(), [name])
    assert one(db, "select fences from crossfade.kill_switches where name = %s", name)


def test_nor_all_of_them_nor_by_a_list_of_changes(db: Connection) -> None:
    create_pair(db)
    with refused("CF027", 409):
        db.execute("truncate crossfade.kill_switches")
    with refused("CF027", 409):
        db.execute("update crossfade.kill_switches set overrides_all = false")
    change = {"kind": "kill_switch", "name": EMERGENCY, "action": "delete", "changes": {}}
    with refused("CF027", 409):
        call(db, "apply_changes", [change], "test")
    weaken = {**change, "action": "change", "changes": {"overrides_all": False}}
    with refused("CF027", 409):
        call(db, "apply_changes", [weaken], "test")
    # What does not weaken it is an edit like any other.
    told = {**change, "action": "change", "changes": {"description": "call Ada first"}}
    call(db, "apply_changes", [told], "test")


@pytest.mark.parametrize("gone", ["delete from {0}", "update {0} set overrides_all = false"])
@pytest.mark.parametrize("dry_run", [True, False])
def test_an_emergency_without_its_switch_fails_and_the_sql_it_names_mends_it(
    db: Connection, gone: str, dry_run: bool
) -> None:
    create_pair(db, stage="live", percentage=5)
    # Only who owns the table can do this, by switching our triggers off.
    db.execute("alter table crossfade.kill_switches disable trigger user")
    db.execute((gone.format("crossfade.kill_switches") + f" where name = '{EMERGENCY}'").encode())
    db.execute("alter table crossfade.kill_switches enable trigger user")
    with pytest.raises(psycopg.Error) as caught, db.transaction():
        call(db, "rollback", "EMERGENCY", "orders", "fire", dry_run=dry_run)
    assert '"CF003"' in (caught.value.diag.message_detail or "")
    hint = caught.value.diag.message_hint or ""
    assert one(db, "select stage from crossfade.pairs") == "live"
    db.execute(hint[hint.index("insert ") : hint.index(";")].encode())
    call(db, "rollback", "EMERGENCY", "orders", "fire")
    assert engaged(db) == [EMERGENCY]


def test_an_automatic_emergency_stops_its_pair_and_no_other(db: Connection) -> None:
    create_pair(db, stage="live", percentage=5)
    create_pair(db, "parts", stage="live", percentage=25)
    done = call(db, "rollback", "EMERGENCY", "orders", "errors", automatic=True)
    assert engaged(db) == [OWN]
    assert done["touches"] == []
    assert one(db, "select stage from crossfade.pairs where name = 'parts'") == "live"
    (kept,) = rows_of(db, "select touches from crossfade.rollbacks")
    assert kept == []


def test_an_emergency_of_one_pair_says_that_it_stops_all(db: Connection) -> None:
    create_pair(db, stage="live", percentage=5)
    create_pair(db, "parts", stage="live", percentage=25)
    create_pair(db, "bills", stage="shadow")
    call(db, "set_flag", "colours", {"create": True, "enabled": True}, "test")
    plan = call(db, "rollback", "EMERGENCY", "orders", "fire", dry_run=True)
    told = {item["object"]: item["effect"] for item in plan["touches"]}
    assert "serves V1 to everybody (now in stage live, 25 % on V2)" in told["parts"]
    assert "cannot go forward (now in stage shadow)" in told["bills"]
    assert EMERGENCY in told["colours"]
    assert "orders" not in told
    done = call(db, "rollback", "EMERGENCY", "orders", "fire")
    assert done["touches"] == plan["touches"]
    assert rows_of(db, "select touches from crossfade.rollbacks") == [plan["touches"]]
    after = one(db, "select after from crossfade.audit where action = 'rollback.emergency'")
    assert after["touches"] == plan["touches"]


def test_a_feature_names_the_pairs_and_flags_that_hang_on_it(db: Connection) -> None:
    call(db, "set_flag", "gate", {"create": True, "enabled": True, "percentage": 100}, "test")
    call(db, "set_flag", "child", {"create": True, "enabled": True, "prerequisites": ["gate"]}, "t")
    create_pair(db, stage="live", percentage=5, gate_flag="gate")
    plan = call(db, "rollback", "FEATURE", "gate", "fire", dry_run=True)
    assert [item["object"] for item in plan["touches"]] == ["orders", "child"]


def test_undoing_an_emergency_brings_the_stage_back(db: Connection) -> None:
    create_pair(db, stage="live", percentage=5)
    done = call(db, "rollback", "COMPLETE", "orders", "fire")
    assert done["touches"] == []
    assert done["plan"]
