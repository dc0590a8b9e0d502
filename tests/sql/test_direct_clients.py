"""Clients that call the Data API themselves: which version serves them, what holds them to it."""

from __future__ import annotations

import json

import psycopg
import pytest

from crossfade.pairs.check import client_policy
from tests.sql.cases.pairs import Shape, backfill, create, register, to_stage, warnings
from tests.sql.conftest import Connect, Connection, begins_with
from tests.sql.control import call, force, one, refused
from tests.sql.notes_pair import rows

ADA = "00000000-0000-4000-8000-0000000000a1"
BOB = "00000000-0000-4000-8000-0000000000b2"
OWNED = Shape(
    v1="id bigint primary key, owner_id uuid, body text",
    v2="id bigint primary key, owner_id uuid, parts text[]",
    to_v2="a.id, a.owner_id, array[a.body]",
    to_v1="b.id, b.owner_id, b.parts[1]",
    after="""
        alter table public.things enable row level security;
        alter table public.things_v2 enable row level security;
        create policy own on public.things to authenticated
          using (owner_id = (select auth.uid()));
        create policy own on public.things_v2 to authenticated
          using (owner_id = (select auth.uid()))
    """,
)
POLICY = client_policy("things", "public.things_v2")


def begin(db: Connection) -> None:
    """Both users have rows; Ada is served by V2, once the pair is in live."""
    create(db, OWNED)
    register(db)
    to_stage(db, "dualwrite")
    backfill(db)
    db.execute(
        f"insert into public.things select g, case when g % 2 = 0 then '{ADA}'::uuid "
        f"else '{BOB}' end, 'n' from generate_series(1, 20) g"
    )
    db.execute(POLICY)
    call(db, "set_cohort", "things", {"enabled_user_ids": [ADA]}, "test")


def to(db: Connection, stage: str) -> None:
    force(db, "update crossfade.pairs set stage = %s", stage)


def sees(connection: Connection, table: str) -> int:
    return int(one(connection, f"select count(*) from public.{table}"))


@begins_with(begin)
def test_each_stage_serves_users_as_choose_backend_says(db: Connection, connect: Connect) -> None:
    ada, bob = connect("authenticated", sub=ADA), connect("authenticated", sub=BOB)
    for stage, expected in (
        ("dualwrite", (1, 1)), ("shadow", (1, 1)), ("live", (2, 1)), ("rampdown", (2, 2)),
    ):  # fmt: skip
        to(db, stage)
        for user, sub, version in zip((ada, bob), (ADA, BOB), expected, strict=True):
            assert one(user, "select crossfade.my_backend('things')") == version
            assert call(db, "choose_backend", "things", {"user_id": sub})["backend"] == version
            assert sees(user, "things") == 10, "version 1 is everybody's until it is an archive"
            assert sees(user, "things_v2") == (10 if version == 2 else 0)


@begins_with(begin)
def test_the_policy_holds_for_every_kind_of_write(db: Connection, connect: Connect) -> None:
    to(db, "live")
    ada, bob = connect("authenticated", sub=ADA), connect("authenticated", sub=BOB)
    row = "insert into public.things_v2 values (%s, %s, array['by v2'])"
    ada.execute(row, [100, ADA])
    ada.execute("update public.things_v2 set parts = array['new'] where id = 2")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="crossfade clients"):
        bob.execute(row, [101, BOB])
    assert bob.execute("update public.things_v2 set parts = array['new']").rowcount == 0
    assert bob.execute("delete from public.things_v2").rowcount == 0
    bob.execute("update public.things set body = 'by v1' where id = 1")
    assert rows(db, "select body from public.things where id in (2, 100) order by id") == [
        ("new",),
        ("by v2",),
    ]
    assert rows(db, "select parts from public.things_v2 where id = 1") == [(["by v1"],)]


@begins_with(begin)
def test_a_kill_switch_sends_everybody_back_at_the_next_statement(
    db: Connection, connect: Connect
) -> None:
    to(db, "live")
    ada = connect("authenticated", sub=ADA)
    assert sees(ada, "things_v2") == 10
    call(db, "engage_kill_switch", "disable_v2_messages", "test")
    assert one(ada, "select crossfade.my_backend('things')") == 1
    assert sees(ada, "things_v2") == 0
    assert sees(ada, "things") == 10


@pytest.mark.parametrize("claims", [
    {"user_id": ADA}, {"sub": "", "user_id": ADA}, {"sub": BOB, "user_metadata": {"sub": ADA}},
    {"sub": [ADA]}, {},
])  # fmt: skip
@begins_with(begin)
def test_nothing_but_the_sub_of_the_token_chooses(
    db: Connection, connect: Connect, claims: dict[str, object]
) -> None:
    to(db, "live")
    forger = connect("authenticated")
    forger.execute(
        "select set_config('request.jwt.claims', %s, false)",
        [json.dumps(claims | {"role": "authenticated"})],
    )
    assert one(forger, "select crossfade.my_backend('things')") == 1
    assert sees(forger, "things_v2") == 0


@begins_with(begin)
def test_a_policy_asks_once_a_statement_and_keeps_the_index(
    db: Connection, connect: Connect
) -> None:
    to(db, "live")
    db.execute(
        f"insert into public.things select g, '{ADA}', 'n' from generate_series(1000, 6000) g"
    )
    db.execute("analyze public.things_v2")
    ada = connect("authenticated", sub=ADA)
    plan = "\n".join(
        line for (line,) in rows(
            ada, "explain (analyze, timing off, costs off, buffers off) "
            "select * from public.things_v2 order by id limit 20",
        )
    )  # fmt: skip
    assert "Index Scan" in plan, plan
    assert "Sort" not in plan
    assert "InitPlan 2" in plan, "the user's own id, and the version"
    assert "InitPlan 3" not in plan
    assert "loops=20" not in plan


@pytest.mark.parametrize("call_of", ["my_backend('things')", "my_backend(pair => 'things')"])
@begins_with(begin)
def test_a_pair_is_not_removed_under_a_policy_that_asks_for_it(
    db: Connection, call_of: str
) -> None:
    db.execute(
        f'alter policy "crossfade clients" on public.things_v2 using (crossfade.{call_of} = 2)'
    )
    to(db, "off")
    with refused("CF005", 409) as refusal:
        call(db, "unregister_pair", "things", "test")
    assert refusal.detail["policies"] == ['"crossfade clients" on public.things_v2']
    db.execute('drop policy "crossfade clients" on public.things_v2')
    call(db, "unregister_pair", "things", "test")


@begins_with(begin)
def test_the_comparison_of_rights_looks_past_the_policy_and_nobody_else_does(
    db: Connection, connect: Connect
) -> None:
    to(db, "live")
    secret = connect("service_role")
    assert call(secret, "check_rls", "things", [ADA, BOB])["differences"] == []
    db.execute("alter policy own on public.things_v2 using (owner_id is null)")
    found = call(secret, "check_rls", "things", [BOB])["differences"]
    assert {d["command"] for d in found} >= {"select", "update", "delete"}
    assert rows(db, "select * from crossfade_private.rights_checks") == []
    for table in ("crossfade_private.rights_checks", "crossfade.rls_checks"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connect("authenticated", sub=BOB).execute(f"insert into {table} default values")
    for function in ("rls_questions('things')", "record_rls_check('things', 1, 0)"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connect("authenticated", sub=BOB).execute(f"select crossfade.{function}")


def test_the_policy_counts_as_no_difference_and_any_other_does(db: Connection) -> None:
    create(db, OWNED)
    db.execute(POLICY)
    assert "policies of both tables differ" not in warnings(db)
    db.execute(POLICY.replace("clients", "others").replace("'things'", "'chat'"))
    assert "my_backend('chat'" in warnings(db)


@begins_with(begin)
def test_anonymous_visitors_and_unknown_pairs_get_an_error(
    db: Connection, connect: Connect
) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        connect("anon").execute("select crossfade.my_backend('things')")
    with refused("CF001", 404) as refusal:
        call(connect("authenticated", sub=ADA), "my_backend", "nothing")
    assert refusal.detail == {"code": "CF001", "pair": "nothing"}, "and no other pair is named"
