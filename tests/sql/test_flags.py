"""Flags: buckets, rules, backends, changes, and the snapshot that isolates read."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from tests.sql.control import (
    Connection,
    call,
    cases,
    create_pair,
    force,
    in_background,
    one,
    refused,
    unmirrored,
    wait_for_waiters,
)

FLAG = "enable_caching"


@pytest.fixture
def db(scratch: Connection) -> Connection:
    return scratch


def load(db: Connection, table: str, rows: list[dict[str, Any]], defaults: dict[str, Any]) -> None:
    """Make rows the only content of a control table, also those that it would refuse."""
    if table == "flags":
        db.execute("alter table crossfade.flags disable trigger crossfade_refuse_bad")
    with unmirrored(db):  # built-in switches are deleted by nobody
        db.execute(f"delete from crossfade.{table}")
    now = {"updated_at": "2026-01-01", "updated_by": "test"}
    for row in rows:
        whole = {"cohort_key": row["name"], **now, **defaults, **row}
        db.execute(
            f"insert into crossfade.{table}"
            f" select * from jsonb_populate_record(null::crossfade.{table}, %s)",
            [json.dumps(whole)],
        )


def load_case(db: Connection, case: Any, document: Any) -> None:
    defaults = document["defaults"]
    load(db, "flags", case["input"].get("flags", []), defaults["flag"])
    load(db, "kill_switches", case["input"].get("kill_switches", []), defaults["kill_switch"])


# Vectors --------------------------------------------------------------------------------


@pytest.mark.parametrize(("case", "document"), cases("bucket"))
def test_bucket_equals_the_vector(db: Connection, case: Any, document: Any) -> None:
    key, unit = case["input"]["cohort_key"], case["input"]["unit"]
    assert call(db, "bucket", key, unit) == case["expect"]["bucket"]


@pytest.mark.parametrize(("case", "document"), cases("flag_evaluation"))
def test_evaluation_equals_the_vector(db: Connection, case: Any, document: Any) -> None:
    load_case(db, case, document)
    answer = call(db, "evaluate_flag", case["input"]["flag"], case["input"]["context"])
    assert answer["metadata"].pop("flags_version") == call(db, "flags_version")
    assert answer == case["expect"]


@pytest.mark.parametrize(("case", "document"), cases("flag_explanation"))
def test_explanation_equals_the_vector(db: Connection, case: Any, document: Any) -> None:
    load_case(db, case, document)
    answer = call(db, "explain_flag", case["input"]["flag"], case["input"]["context"])
    assert answer["steps"] == case["expect"]["steps"]


@pytest.mark.parametrize(("case", "document"), cases("backend_choice"))
def test_backend_choice_equals_the_vector(db: Connection, case: Any, document: Any) -> None:
    pair = document["defaults"]["pair"] | case["input"].get("pair", {})
    cohort = document["defaults"]["pair"]["cohort"] | pair["cohort"]
    create_pair(db, pair["name"])
    load_case(db, case, document)
    force(
        db,
        "update crossfade.pairs set stage = %s, gate_flag = %s",
        pair["stage"],
        pair["gate_flag"],
    )
    force(
        db,
        """
        update crossfade.cohorts c
        set (percentage, cohort_key, enabled_user_ids, enabled_agent_ids, denied_user_ids,
          denied_agent_ids) = (
          select percentage, cohort_key, enabled_user_ids, enabled_agent_ids, denied_user_ids,
            denied_agent_ids
          from jsonb_populate_record(null::crossfade.cohorts, %s))
        """,
        json.dumps(cohort),
    )
    answer = call(db, "choose_backend", pair["name"], case["input"]["context"])
    assert answer.pop("flags_version") == call(db, "flags_version")
    assert answer == {key: value for key, value in case["expect"].items() if value is not None}


def prepare_change(db: Connection, flags: list[dict[str, Any]]) -> None:
    """Make these flags the only ones, within the rules."""
    db.execute("delete from crossfade.flags")
    needed = [flag for flag in flags if not flag["prerequisites"]]
    for flag in needed + [flag for flag in flags if flag["prerequisites"]]:
        fields = {"create": True, "prerequisites": flag["prerequisites"]}
        call(db, "set_flag", flag["name"], fields, "test")


@pytest.mark.parametrize(("case", "document"), cases("flag_changes"))
def test_a_change_of_flags_is_judged_as_the_vector_says(
    db: Connection, case: Any, document: Any
) -> None:
    prepare_change(db, case["input"]["flags"])
    changes = case["input"]["changes"]
    if case["expect"] is None:
        assert call(db, "apply_changes", changes, "test")["applied"] == len(changes)
        return
    with refused("CF012", 400) as refusal:
        call(db, "apply_changes", changes, "test")
    assert {key: refusal.detail[key] for key in case["expect"]} == case["expect"]


def test_a_hand_edit_and_a_rename_are_judged_as_well(db: Connection) -> None:
    prepare_change(db, [{"name": "a", "prerequisites": ["b"]}, {"name": "b", "prerequisites": []}])
    for edit in (
        "update crossfade.flags set prerequisites = '{a}' where name = 'a'",
        "update crossfade.flags set prerequisites = '{a}' where name = 'b'",
        "update crossfade.flags set name = 'c' where name = 'b'",
        "update crossfade.flags set name = 'a/b' where name = 'a'",
        "delete from crossfade.flags where name = 'b'",
        "insert into crossfade.flags (name, cohort_key, prerequisites) values ('n', 'n', '{a}')",
    ):
        with refused("CF012", 400), db.transaction():
            db.execute(edit)


def test_a_flag_that_was_bad_before_can_still_be_switched_off(db: Connection) -> None:
    db.execute("alter table crossfade.flags disable trigger crossfade_refuse_bad")
    db.execute("update crossfade.flags set prerequisites = '{nowhere}', enabled = true")
    db.execute("alter table crossfade.flags enable trigger crossfade_refuse_bad")
    assert call(db, "set_flag", FLAG, {"enabled": False}, "off")["flag"]["enabled"] is False


# Buckets --------------------------------------------------------------------------------


def test_raising_a_percentage_never_drops_a_unit(db: Connection) -> None:
    dropped = one(
        db,
        """
        select count(*) from (
          select crossfade.bucket('k', 'user-' || i) as bucket from generate_series(1, 2000) i
        ) b cross join generate_series(0, 100) p
        where b.bucket < p * 1000 and not b.bucket < (p + 1) * 1000
        """,
    )
    assert dropped == 0


def test_a_quarter_of_the_units_is_in_at_25_percent(db: Connection) -> None:
    share = one(
        db,
        "select avg((crossfade.bucket('k', 'user-' || i) < 25000)::int)"
        " from generate_series(1, 20000) i",
    )
    assert abs(share - Decimal("0.25")) < Decimal("0.01")


def test_bucket_may_be_computed_in_parallel_and_in_an_index(db: Connection) -> None:
    db.execute("create table public.t (id text)")
    db.execute("create index on public.t (crossfade.bucket('chat-v2', id))")
    assert one(db, "select proparallel from pg_proc where oid = 'crossfade.bucket'::regproc") == (
        "s"
    )


# Explaining -----------------------------------------------------------------------------


def test_explain_shows_every_rule_in_order_and_marks_the_one_that_decides(db: Connection) -> None:
    call(db, "set_flag", FLAG, {"enabled": True, "percentage": 50, "deny_user_ids": ["u"]}, "test")
    answer = call(db, "explain_flag", FLAG, {"user_id": "u"})
    steps = answer["steps"]
    assert [step["rule"] for step in steps] == [
        "kill_switch", "disabled", "prerequisite", "deny", "allow", "percentage", "default",
    ]  # fmt: skip
    assert [step["rule"] for step in steps if step["decides"]] == ["deny"]
    assert steps[5]["bucket"] == call(db, "bucket", FLAG, "u")
    assert steps[5]["threshold"] == 50000
    assert answer["value"] is False


def test_a_context_that_is_not_an_object_is_refused(db: Connection) -> None:
    for function, name in (("evaluate_flag", FLAG), ("explain_flag", FLAG)):
        with refused("CF012", 400):
            call(db, function, name, ["user-1"])
    create_pair(db)
    with refused("CF012", 400):
        call(db, "choose_backend", "orders", ["user-1"])


def test_choosing_for_an_unknown_pair_is_refused(db: Connection) -> None:
    with refused("CF001", 404):
        call(db, "choose_backend", "nowhere", {})


# Changing -------------------------------------------------------------------------------


def test_set_flag_changes_only_the_fields_it_names(db: Connection) -> None:
    before = call(db, "set_flag", FLAG, {"allow_user_ids": ["u"], "percentage": 5}, "a")["flag"]
    after = call(db, "set_flag", FLAG, {"enabled": True}, "b")["flag"]
    changed = {key for key in after if after[key] != before[key]}
    assert changed == {"enabled", "updated_at"}


def test_set_flag_stores_every_field(db: Connection) -> None:
    changes = {
        "description": "d",
        "enabled": True,
        "percentage": 1.5,
        "default_value": True,
        "cohort_key": "k",
        "allow_user_ids": ["a"],
        "allow_agent_ids": ["b"],
        "deny_user_ids": ["c", "d"],
        "deny_agent_ids": ["e"],
        "prerequisites": ["use_advanced_messages"],
        "killed_by": ["g"],
    }
    call(db, "set_flag", FLAG, changes, "test")
    stored = one(db, "select to_jsonb(f) from crossfade.flags f where name = %s", FLAG)
    assert {key: stored[key] for key in changes} == changes


def test_a_change_raises_the_version_is_audited_and_broadcast(db: Connection) -> None:
    version = call(db, "flags_version")
    assert call(db, "set_flag", FLAG, {"enabled": True}, "because")["flags_version"] == version + 1
    audit = db.execute(
        "select action, object, reason, actor, before ->> 'enabled', after ->> 'enabled',"
        " flags_version from crossfade.audit order by id desc limit 1"
    ).fetchone()
    assert audit == ("flag.update", FLAG, "because", "postgres", "false", "true", version + 1)
    assert one(
        db,
        "select payload ->> 'flags_version' from realtime.messages"
        " where event = 'flags_changed' and topic = 'crossfade:flags' and private",
    ) == str(version + 1)


def test_a_change_that_changes_nothing_raises_no_version(db: Connection) -> None:
    version = call(db, "flags_version")
    call(db, "set_flag", FLAG, {"enabled": False}, "again")
    assert call(db, "flags_version") == version
    assert one(db, "select count(*) from crossfade.audit") == 0


def test_a_hand_edit_is_versioned_audited_and_stamped_too(db: Connection) -> None:
    version = call(db, "flags_version")
    db.execute(
        "update crossfade.flags set enabled = true, updated_by = 'x' where name = %s", [FLAG]
    )
    assert call(db, "flags_version") == version + 1
    assert one(db, "select reason is null from crossfade.audit where object = %s", FLAG)
    assert one(db, "select updated_by from crossfade.flags where name = %s", FLAG) == "postgres"


def test_a_hand_edit_through_the_data_api_is_audited_with_its_actor(connect: Any) -> None:
    api = connect("service_role")
    api.execute("select set_config('request.headers', %s, false)", ['{"x-crossfade-actor": "ada"}'])
    api.execute("update crossfade.flags set enabled = true where name = %s", [FLAG])
    assert one(api, "select actor from crossfade.audit where object = %s", FLAG) == "ada"


def test_hand_edits_of_several_flags_never_deadlock(connect: Any) -> None:
    first, second, watcher = connect(), connect(), connect()
    edit = "update crossfade.flags set enabled = not enabled where name = %s"
    first.execute("begin")
    first.execute(edit, [FLAG])
    with in_background(lambda: second.execute(edit, ["enable_parallel_tools"])):
        wait_for_waiters(watcher, 1)
        first.execute(edit, ["enable_parallel_tools"])
        first.execute("commit")
    assert one(watcher, "select count(*) from crossfade.audit") == 3


def test_an_unknown_flag_is_refused_with_the_known_names(db: Connection) -> None:
    with refused("CF002", 404) as refusal:
        call(db, "set_flag", "nowhere", {"enabled": True}, "test")
    assert FLAG in refusal.detail["known"]


def test_create_adds_a_flag_off_with_its_name_as_cohort_key(db: Connection) -> None:
    flag = call(db, "set_flag", "größe-数", {"create": True}, "test")["flag"]
    assert (flag["enabled"], flag["percentage"], flag["cohort_key"]) == (False, None, "größe-数")


def test_create_changes_a_flag_that_exists(db: Connection) -> None:
    call(db, "set_flag", FLAG, {"create": True, "enabled": True}, "test")
    assert one(db, "select enabled from crossfade.flags where name = %s", FLAG)


@pytest.mark.parametrize(
    "percentage", [-1, 100.001, 101, 12.3456, "abc", "1e1", "", True, [5], {"a": 1}, "12.5 "]
)
def test_a_percentage_that_is_none_is_refused_and_named(db: Connection, percentage: Any) -> None:
    with refused("CF004", 400) as refusal:
        call(db, "set_flag", FLAG, {"percentage": percentage}, "test")
    assert refusal.detail["percentage"] == percentage
    assert one(db, "select percentage from crossfade.flags where name = %s", FLAG) == 0


@pytest.mark.parametrize("percentage", [0, 100, 12.345, "0.001", 5.0, "12.3400"])
def test_a_percentage_with_three_decimals_is_kept_exactly(db: Connection, percentage: Any) -> None:
    call(db, "set_flag", FLAG, {"percentage": percentage}, "test")
    kept = one(db, "select percentage from crossfade.flags where name = %s", FLAG)
    assert kept == Decimal(str(percentage))


def test_a_percentage_of_null_leaves_the_default_to_decide(db: Connection) -> None:
    call(db, "set_flag", FLAG, {"percentage": None, "enabled": True, "default_value": True}, "test")
    assert call(db, "evaluate_flag", FLAG, {"user_id": "u"})["reason"] == "DEFAULT"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"enable": True}, "enable"),
        ({"name": "other"}, "name"),
        ({"enabled": "true"}, "enabled"),
        ({"enabled": None}, "enabled"),
        ({"cohort_key": 5}, "cohort_key"),
        ({"allow_user_ids": "u"}, "allow_user_ids"),
        ({"allow_user_ids": [5]}, "allow_user_ids"),
        ({"killed_by": [None]}, "killed_by"),
    ],
)
def test_a_wrong_field_or_type_is_refused_and_named(
    db: Connection, changes: Any, field: str
) -> None:
    with refused("CF012", 400) as refusal:
        call(db, "set_flag", FLAG, changes, "test")
    assert refusal.detail["field"] == field


def test_changes_that_are_not_an_object_are_refused(db: Connection) -> None:
    with refused("CF012", 400):
        call(db, "set_flag", FLAG, ["enabled"], "test")


@pytest.mark.parametrize("reason", ["", "  ", None])
def test_a_change_without_a_reason_is_refused(db: Connection, reason: str | None) -> None:
    with refused("CF007", 400):
        call(db, "set_flag", FLAG, {"enabled": True}, reason)


# Reading --------------------------------------------------------------------------------


def test_read_flags_returns_everything_an_evaluator_needs(db: Connection) -> None:
    create_pair(db, gate_flag="use_advanced_messages")
    state = call(db, "read_flags")
    assert set(state) == {"flags_version", "flags", "kill_switches", "pairs", "settings"}
    assert len(state["flags"]) == 11
    assert len(state["kill_switches"]) == 6  # the pair brings its own
    (pair,) = state["pairs"]
    assert set(pair) == {"name", "stage", "gate_flag", "step", "cohort"}
    assert (pair["name"], pair["stage"], pair["gate_flag"]) == (
        "orders", "off", "use_advanced_messages",
    )  # fmt: skip
    assert pair["cohort"]["percentage"] == 0
    assert state["settings"]["kill_wait_ms"] == 500


def test_read_flags_answers_unchanged_only_for_the_current_version(db: Connection) -> None:
    version = call(db, "flags_version")
    assert call(db, "read_flags", version) == {"flags_version": version, "unchanged": True}
    assert "flags" in call(db, "read_flags", version - 1)
    assert "flags" in call(db, "read_flags", version + 1)
    call(db, "set_flag", FLAG, {"enabled": True}, "test")
    assert "flags" in call(db, "read_flags", version)


def test_the_seeds_are_the_contract(db: Connection) -> None:
    expected = {case.values[0]["name"]: case.values[0]["expect"] for case in cases("contract")}
    killed_by: dict[str, list[str]] = dict(
        db.execute("select name, killed_by from crossfade.flags").fetchall()
    )
    assert killed_by == expected["flags"]
    on = {name for (name,) in db.execute("select name from crossfade.flags where enabled")}
    assert on == {
        "use_advanced_messages", "maintain_dual_write", "auto_migrate_messages",
        "enable_compatibility_mode",
    }  # fmt: skip
    switches = {
        name: {"fences": fences, "overrides_all": overrides}
        for name, fences, overrides in db.execute(
            "select name, fences, overrides_all from crossfade.kill_switches"
        )
    }
    assert switches == expected["kill_switches"]
