"""The API: its contract, and what service_role can do. What others can is in test_rights.py."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.emergency_calls import CALLS
from tests.sql.control import Connection, call, cases, create_pair, one

CONTRACT = {case.values[0]["name"]: case.values[0]["expect"] for case in cases("contract")}

FUNCTIONS = """
select p.oid::regprocedure::text from pg_proc p
where p.pronamespace = %s::regnamespace order by 1
"""
TABLES = """
select c.oid::regclass::text from pg_class c
where c.relnamespace = %s::regnamespace and c.relkind = 'r' order by 1
"""


def names(db: Connection, query: str, schema: str) -> list[str]:
    return [row[0] for row in db.execute(query, [schema])]


def test_the_rpcs_are_those_of_the_contract_with_the_same_parameters(db: Connection) -> None:
    found: dict[str, list[str]] = dict(
        db.execute(
            """
            select p.proname, coalesce(p.proargnames, '{}') from pg_proc p
            where p.pronamespace = 'crossfade'::regnamespace
            """
        ).fetchall()
    )
    assert found == CONTRACT["rpcs"]


def test_no_rpc_has_two_forms(db: Connection) -> None:
    assert one(
        db,
        "select count(*) = count(distinct proname) from pg_proc"
        " where pronamespace = 'crossfade'::regnamespace",
    )


def test_service_role_reads_every_table_and_runs_every_function(db: Connection) -> None:
    for name in names(db, TABLES, "crossfade"):
        assert one(db, "select has_table_privilege('service_role', %s, 'select')", name), name
    for name in names(db, FUNCTIONS, "crossfade"):
        assert one(db, "select has_function_privilege('service_role', %s, 'execute')", name), name


def test_service_role_may_edit_control_rows_and_nothing_else(db: Connection) -> None:
    editable = {
        name
        for name in names(db, TABLES, "crossfade")
        if one(db, "select has_table_privilege('service_role', %s, 'insert, update, delete')", name)
    }
    assert editable == {
        "crossfade.settings", "crossfade.flags", "crossfade.cohorts", "crossfade.kill_switches",
    }  # fmt: skip


def test_the_audit_cannot_be_rewritten_through_the_api(connect: Any) -> None:
    api = connect("service_role")
    call(api, "set_flag", "enable_caching", {"enabled": True}, "test")
    for statement in (
        "delete from crossfade.audit",
        "update crossfade.audit set actor = 'somebody else'",
        "insert into crossfade.audit (actor, action, object, flags_version) values ('x','x','x',1)",
        "truncate crossfade.audit",
        "update crossfade.control set flags_version = 1",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            api.execute(statement)


def test_service_role_runs_the_whole_control_part(db: Connection, connect: Any) -> None:
    create_pair(db, stage="live", percentage=25)
    start = one(db, "select clock_timestamp()")
    api = connect("service_role")
    event = {
        "pair": "orders", "backend_version": 2, "wire_version": 1, "outcome": "ok", "latency_ms": 1
    }  # fmt: skip
    call(api, "read_flags")
    call(api, "set_setting", "kill_wait_ms", "100", "test")
    call(api, "set_flag", "enable_caching", {"enabled": True}, "test")
    call(api, "evaluate_flag", "enable_caching", {"user_id": "u"})
    call(api, "explain_flag", "enable_caching", {"user_id": "u"})
    call(api, "choose_backend", "orders", {"user_id": "u"})
    assert call(api, "bucket", "chat-v2", "user-1") == 56093
    call(api, "record_requests", [event])
    assert call(api, "health_sample", "orders")["backends"]["2"]["requests"] == 1
    call(api, "record_verdicts", "orders", [{"rule": "R1", "verdict": "PASS"}])
    snapshot = call(api, "take_snapshot", "test")["snapshot"]["id"]
    call(api, "rollback", "PARTIAL", "orders", "test", True, True)
    call(api, "rollback", "PARTIAL", "orders", "test", True)
    call(api, "rearm", "orders", "test")
    call(api, "engage_kill_switch", "emergency_rollback")
    call(api, "release_kill_switch", "emergency_rollback", "test")
    call(api, "set_cohort", "orders", {"percentage": 25}, "test")
    call(api, "restore_snapshot", snapshot, "test")
    assert one(api, "select count(*) from crossfade.rollbacks") == 1
    # create_pair is what role postgres did.
    actors = one(api, "select array_agg(distinct actor) from crossfade.audit where at > %s", start)
    assert actors == ["service_role"]


def test_control_rows_of_every_kind_can_be_edited_through_the_api(
    db: Connection, connect: Any
) -> None:
    create_pair(db)
    api = connect("service_role")
    for statement in (
        "insert into crossfade.flags (name, cohort_key) values ('mine', 'mine')",
        "update crossfade.flags set enabled = true where name = 'mine'",
        "delete from crossfade.flags where name = 'mine'",
        "insert into crossfade.kill_switches (name, fences) values ('mine', true)",
        "update crossfade.kill_switches set engaged = true where name = 'mine'",
        "delete from crossfade.kill_switches where name = 'mine'",
        "update crossfade.settings set value = '7' where name = 'kill_wait_ms'",
        "update crossfade.cohorts set enabled_user_ids = '{u}' where pair = 'orders'",
    ):
        version = call(db, "flags_version")
        audited = one(db, "select count(*) from crossfade.audit")
        api.execute(statement)
        assert call(db, "flags_version") == version + 1, statement
        assert one(db, "select count(*) from crossfade.audit") == audited + 1, statement


def test_no_function_raises_the_code_that_the_data_api_retries(db: Connection) -> None:
    found = one(
        db,
        r"""
        select array_agg(oid::regprocedure) from pg_proc
        where pronamespace in ('crossfade'::regnamespace, 'crossfade_private'::regnamespace)
          and prosrc ~ 'errcode\s*=\s*''(40001|serialization_failure)'
        """,
    )
    assert found is None


def test_stopping_going_back_and_looking_take_what_every_command_sends(scratch: Connection) -> None:
    found = scratch.execute(
        "select proname, proargnames[1:pronargs], pronargdefaults from pg_proc"
        " where pronamespace = 'crossfade'::regnamespace and proname = any (%s)",
        [list(CALLS)],
    ).fetchall()
    assert {name for name, _, _ in found} == set(CALLS)
    for name, arguments, defaults in found:
        taken = arguments or []
        assert set(taken) >= CALLS[name], name
        assert len(set(taken) - CALLS[name]) <= defaults, f"{name} needs more than it is sent"
