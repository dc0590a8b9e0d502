"""Operators: who they are, what a token may claim, how they are added and removed."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from tests.sql.conftest import Connect
from tests.sql.control import Connection, call, in_background, one, refused, wait_for_waiters
from tests.sql.operators import add_operators, operate, sign_in

AUTH_USERS = """
create table auth.users (
  id uuid primary key default gen_random_uuid(), email text, email_confirmed_at timestamptz
);
grant select on auth.users to postgres;
insert into auth.users (email, email_confirmed_at) values
  ('ada@example.com', now()), ('mallory@example.com', null);
"""


@pytest.fixture
def with_auth(database: str) -> None:
    """The table of Supabase Auth, with a confirmed and an unconfirmed user."""
    with psycopg.connect(database.replace("postgres@", "supabase_admin@")) as admin:
        admin.execute(AUTH_USERS)


@pytest.fixture
def operators(db: Connection) -> Connection:
    add_operators(db)
    return db


def roles(db: Connection) -> dict[str, str]:
    return dict(db.execute("select user_id, role from crossfade.operators").fetchall())


# Who asks --------------------------------------------------------------------------------------


def test_an_operator_calls_an_rpc_with_named_parameters_of_every_kind(
    operators: Connection, connect: Connect
) -> None:
    me = sign_in(connect(), "operator")
    row = operate(
        me, "set_flag", name="enable_caching", reason="t", changes={"deny_user_ids": ["a", "ü"]}
    )["flag"]
    assert (row["deny_user_ids"], row["updated_by"]) == (["a", "ü"], "operator")
    assert operate(me, "flags_version") == one(operators, "select crossfade.flags_version()")
    assert operate(me, "rollback", level="FEATURE", scope="enable_caching", reason="t",
                   automatic=False, dry_run=True)["dry_run"]  # fmt: skip


def test_a_wrong_parameter_is_refused_and_not_ignored(
    operators: Connection, connect: Connect
) -> None:
    me = sign_in(connect(), "operator")
    with refused("CF012", 400) as refusal:
        operate(me, "take_snapshot", reasn="typo")
    assert "reasn" in refusal.message
    with pytest.raises(psycopg.errors.InvalidTextRepresentation):
        operate(me, "run_status", run="many")


@pytest.mark.parametrize(
    "claims",
    [
        {"user_role": "admin"},
        {"app_metadata": {"role": "admin", "crossfade_role": "admin"}},
        {"user_metadata": {"role": "service_role", "sub": "admin"}},
        {"email": "admin", "user_id": "admin", "aud": "service_role", "is_admin": True},
        {"role": "service_role"},
        {"role": "admin"},
    ],
    ids=json.dumps,
)
def test_no_claim_but_sub_gives_rights(
    operators: Connection, connect: Connect, claims: dict[str, Any]
) -> None:
    me = connect()
    me.execute("select set_config('request.headers', %s, false)",
               ['{"x-crossfade-actor": "admin", "x-crossfade-role": "admin"}'])  # fmt: skip
    me.execute("select set_config('request.jwt.claims', %s, false)",
               [json.dumps({"sub": "stranger", "role": "authenticated", **claims})])  # fmt: skip
    me.execute("set role authenticated")
    with refused("CF020", 403):
        operate(me, "read_flags")
    assert one(me, "select count(*) from crossfade.flags") == 0


@pytest.mark.parametrize("sub", [None, "", "stranger"])
def test_a_user_who_is_no_operator_is_told_so(
    operators: Connection, connect: Connect, sub: str | None
) -> None:
    with refused("CF020", 403) as refusal:
        operate(sign_in(connect(), sub), "whoami")
    assert refusal.detail == {"code": "CF020", "needed": "viewer", "role": None}


def test_a_role_of_the_owner_that_holds_a_token_is_no_secret_key(
    operators: Connection, connect: Connect
) -> None:
    # A custom role in the token: the owner may have granted it what service_role has.
    with psycopg.connect(operators.info.dsn.replace("user=postgres", "user=supabase_admin")) as su:
        su.execute("create role partner nologin")
        su.execute("grant partner to postgres")
        su.execute("grant usage on schema crossfade, crossfade_private to partner")
        su.execute("grant select on all tables in schema crossfade to partner")
        su.execute("grant execute on all functions in schema crossfade_private to partner")
    me = sign_in(connect(), "admin", role="partner")
    try:
        with refused("CF020", 403):
            one(me, "select crossfade_private.require_role('viewer', 'test')")
    finally:
        me.close()
        with psycopg.connect(
            operators.info.dsn.replace("user=postgres", "user=supabase_admin")
        ) as su:
            su.execute("drop owned by partner")
            su.execute("drop role partner")


def test_the_audit_names_the_person_and_never_a_header(
    operators: Connection, connect: Connect
) -> None:
    me = connect()
    me.execute("select set_config('request.headers', %s, false)",
               ['{"x-crossfade-actor": "somebody else"}'])  # fmt: skip
    operate(sign_in(me, "operator"), "engage_kill_switch", name="disable_new_tools")
    row = operators.execute(
        "select actor, actor_id from crossfade.audit order by id desc limit 1"
    ).fetchone()
    assert row == ("operator", "operator")


def test_the_audit_shows_the_address_the_admin_added_not_the_one_in_the_token(
    with_auth: None, db: Connection, connect: Connect
) -> None:
    sub = call(db, "add_operator", "ada@example.com", "operator", "test")["operator"]["user_id"]
    me = sign_in(connect(), sub, email="boss@example.com")
    operate(me, "engage_kill_switch", name="disable_new_tools")
    row = db.execute("select actor, actor_id from crossfade.audit order by id desc").fetchone()
    assert row == ("ada@example.com", sub)


def test_whoami_tells_a_person_and_the_key_apart(operators: Connection, connect: Connect) -> None:
    me = operate(sign_in(connect(), "viewer"), "whoami")
    assert (me["actor"], me["user_id"], me["role"]) == ("viewer", "viewer", "viewer")
    key = call(connect("service_role"), "whoami")
    assert (key["actor"], key["user_id"], key["role"]) == ("service_role", None, None)


# Adding and removing -----------------------------------------------------------------------------


def test_an_operator_is_added_by_a_confirmed_address_only(with_auth: None, db: Connection) -> None:
    row = call(db, "add_operator", "ADA@example.com", "viewer", "test")["operator"]
    assert (row["email"], row["role"]) == ("ada@example.com", "viewer")
    with refused("CF021", 404):  # anybody can sign up with an address of somebody else
        call(db, "add_operator", "mallory@example.com", "admin", "test")
    with refused("CF021", 404):
        call(db, "add_operator", "nobody@example.com", "viewer", "test")


def test_adding_again_changes_nothing_and_another_role_is_refused(operators: Connection) -> None:
    audited = one(operators, "select count(*) from crossfade.audit")
    assert not call(operators, "add_operator", "viewer", "viewer", "test")["changed"]
    assert not call(operators, "set_operator_role", "viewer", "viewer", "test")["changed"]
    assert one(operators, "select count(*) from crossfade.audit") == audited
    with refused("CF012", 400):
        call(operators, "add_operator", "viewer", "admin", "test")
    assert call(operators, "set_operator_role", "viewer", "operator", "test")["changed"]
    assert roles(operators)["viewer"] == "operator"


def test_a_user_who_signed_up_again_replaces_the_old_one_after_its_removal(
    with_auth: None, db: Connection, database: str
) -> None:
    call(db, "add_operator", "ada@example.com", "viewer", "test")
    with psycopg.connect(database.replace("postgres@", "supabase_admin@")) as admin:
        admin.execute("update auth.users set id = gen_random_uuid()")
    with refused("CF012", 400):
        call(db, "add_operator", "ada@example.com", "viewer", "test")
    call(db, "remove_operator", "ada@example.com", "test")
    assert call(db, "add_operator", "ada@example.com", "viewer", "test")["changed"]


def test_a_removal_acts_on_the_next_request(operators: Connection, connect: Connect) -> None:
    me = sign_in(connect(), "operator")
    operate(me, "read_flags")
    call(operators, "remove_operator", "operator", "left")
    with refused("CF020", 403):
        operate(me, "read_flags")
    assert one(me, "select count(*) from crossfade.flags") == 0


@pytest.mark.parametrize("by_hand", [False, True])
def test_the_last_admin_stays(operators: Connection, connect: Connect, by_hand: bool) -> None:
    with refused("CF022", 409):
        if by_hand:
            operators.execute("delete from crossfade.operators where role = 'admin'")
        else:
            operate(sign_in(connect(), "admin"), "remove_operator", who="admin", reason="bye")
    with refused("CF022", 409):
        if by_hand:
            operators.execute("update crossfade.operators set role = 'viewer'")
        else:
            call(operators, "set_operator_role", "admin", "operator", "test")
    assert roles(operators)["admin"] == "admin"
    call(operators, "set_operator_role", "viewer", "admin", "test")
    call(operators, "remove_operator", "admin", "test")
    assert roles(operators) == {"viewer": "admin", "operator": "operator"}


def test_two_admins_cannot_remove_each_other(operators: Connection, connect: Connect) -> None:
    call(operators, "set_operator_role", "operator", "admin", "test")
    first = connect()
    first.execute("begin")
    call(first, "remove_operator", "operator", "test")

    def remove_the_other() -> str:
        try:
            call(connect(), "remove_operator", "admin", "test")
        except psycopg.Error as error:
            return str(json.loads(error.diag.message_detail or "{}")["code"])
        return "removed"

    with in_background(remove_the_other) as result:
        wait_for_waiters(operators, 1)
        first.execute("commit")
    assert result == ["CF022"]
    assert roles(operators) == {"viewer": "viewer", "admin": "admin"}


def test_changes_of_operators_are_audited_and_leave_flags_alone(operators: Connection) -> None:
    version = one(operators, "select crossfade.flags_version()")
    call(operators, "set_operator_role", "viewer", "operator", "promoted")
    action, name, reason, before, after = (
        operators.execute(
            "select action, object, reason, before ->> 'role', after ->> 'role'"
            " from crossfade.audit order by id desc limit 1"
        ).fetchone()
        or [None] * 5
    )
    assert (action, name, reason) == ("operator.update", "viewer", "promoted")
    assert (before, after) == ("viewer", "operator")
    assert one(operators, "select crossfade.flags_version()") == version


def test_bad_arguments_of_the_operator_rpcs(operators: Connection) -> None:
    for role in ("owner", None, ""):
        with refused("CF012", 400):
            call(operators, "add_operator", "x", role, "test")
    with refused("CF007", 400):
        call(operators, "remove_operator", "viewer", " ")
    with refused("CF021", 404):
        call(operators, "remove_operator", "nobody", "test")


def test_two_operators_at_once_lose_no_update_and_both_are_named(
    operators: Connection, connect: Connect
) -> None:
    call(operators, "set_operator_role", "viewer", "operator", "test")
    ada, bob = sign_in(connect(), "operator"), sign_in(connect(), "viewer")
    ada.execute("begin")
    first = {"percentage": 25}
    operate(ada, "set_flag", name="enable_caching", changes=first, reason="ada")

    def second() -> Any:
        changes = {"deny_user_ids": ["u"]}
        return operate(bob, "set_flag", name="enable_caching", changes=changes, reason="bob")

    with in_background(second) as result:
        wait_for_waiters(operators, 1)
        ada.execute("commit")
    flag = result[0]["flag"]
    assert (flag["percentage"], flag["deny_user_ids"]) == (25, ["u"])
    rows = operators.execute(
        "select actor_id, reason from crossfade.audit order by id desc limit 2"
    ).fetchall()
    assert rows == [("viewer", "bob"), ("operator", "ada")]


@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_a_header_names_nobody_without_the_secret_key(
    db: Connection, connect: Connect, role: str
) -> None:
    # What a trigger of the owner would do: act with the owner's rights on behalf of a caller.
    db.execute(
        """
        create function public.who() returns text language sql security definer
        as 'select crossfade_private.actor()'
        """
    )
    me = connect(role)
    header = '{"x-crossfade-actor": "boss"}'
    me.execute("select set_config('request.headers', %s, false)", [header])
    assert one(me, "select public.who()") == role
    key = connect("service_role")
    key.execute("select set_config('request.headers', %s, false)", [header])
    assert one(key, "select public.who()") == "boss"
