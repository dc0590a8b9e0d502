"""Repair settles what a record explains, starves nobody, and deletes nothing that nobody chose."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.sql.cases.pairs import (
    PLAIN,
    backfill,
    create,
    dualwrite,
    mirror,
    register,
    repair,
    settled,
    to_stage,
    unseen,
)
from tests.sql.conftest import Connection, begins_with
from tests.sql.control import call, one
from tests.sql.notes_pair import rows
from tests.sql.things_pair import failures, verify

LEADERS = {"V1 leads": ("dualwrite", "things", "things_v2"),
           "V2 leads": ("rampdown", "things_v2", "things")}  # fmt: skip


def led_by(db: Connection, who: str) -> tuple[str, str]:
    """A pair with rows 1 to 20 in both tables; give the leader and the follower."""
    stage, leader, follower = LEADERS[who]
    create(db, PLAIN)
    db.execute("insert into public.things select g, 'n' from generate_series(1, 20) g")
    register(db)
    to_stage(db, stage)
    if stage == "dualwrite":
        backfill(db)
    return f"public.{leader}", f"public.{follower}"


def plan(db: Connection, **options: Any) -> dict[str, Any]:
    answer: dict[str, Any] = call(db, "plan_repair", "things", **options)
    return answer


def state(db: Connection) -> list[list[tuple[Any, ...]]]:
    return [
        rows(db, f"select * from {table} order by 1")
        for table in ("public.things", "public.things_v2", "crossfade.mirror_failures",
                      "crossfade.mismatches", "crossfade.audit")
    ]  # fmt: skip


# A row that only the follower has -----------------------------------------------------------------


@pytest.mark.parametrize("who", LEADERS)
def test_a_row_that_only_the_follower_has_is_left_alone(db: Connection, who: str) -> None:
    leader, follower = led_by(db, who)
    with unseen(db):
        db.execute(
            f"insert into {follower} (id, body) values (100, 'paid order'), (101, 'another')"
        )
        db.execute(f"update {follower} set body = 'stale' where id = 1")
    assert verify(db, "things") == 3
    answer = repair(db)
    assert (answer["repaired"], answer["failed"], answer["undecided"]) == (1, 0, 2)
    assert rows(db, f"select id, body from {follower} where id > 20 order by 1") == [
        (100, "paid order"), (101, "another"),
    ]  # fmt: skip
    assert one(db, f"select count(*) from {leader}") == 20
    assert one(db, f"select body from {follower} where id = 1") == "n"
    # Asking again, or finding it again, changes nothing.
    verify(db, "things")
    assert repair(db)["undecided"] == 2
    assert one(db, f"select count(*) from {follower}") == 22


@pytest.mark.parametrize("choice", ["delete", "copy"])
@pytest.mark.parametrize("who", LEADERS)
def test_the_operator_chooses_what_becomes_of_it(db: Connection, who: str, choice: str) -> None:
    leader, follower = led_by(db, who)
    with unseen(db):
        db.execute(f"insert into {follower} (id, body) values (100, 'paid order')")
    verify(db, "things")
    repair(db)
    answer = repair(db, follower_only=choice)
    assert (answer["repaired"], answer["undecided"], answer["remaining"]) == (1, 0, 0)
    found = dict(settled(db))
    assert found.get(100) == (None if choice == "delete" else "paid order")
    if choice == "delete":
        kept = "select count(*) from crossfade.audit where action = 'repair.row' "
        assert one(db, kept + "and before ->> 'body' = 'paid order'") == 1, "what goes is kept"
    del leader


@begins_with(dualwrite)
def test_an_unknown_choice_is_refused(db: Connection) -> None:
    for choice in ("remove", "", "DELETE"):
        with pytest.raises(psycopg.Error) as caught:
            repair(db, follower_only=choice)
        assert caught.value.sqlstate == "PT400"


# What a record explains ---------------------------------------------------------------------------

NOTED: dict[str, tuple[str, dict[int, str | None]]] = {
    # While nothing is mirrored; what is in both tables after it has been repaired.
    "insert": ("insert into {t} (id, body) values (50, 'new')", {50: "new"}),
    "update": ("update {t} set body = 'edited' where id = 1", {1: "edited"}),
    "delete": ("delete from {t} where id = 2", {2: None}),
    "delete of many": ("delete from {t} where id <= 10", dict.fromkeys(range(1, 11))),
    "delete and insert again": (
        "delete from {t} where id = 3; insert into {t} (id, body) values (3, 'again')",
        {3: "again"}),
    "insert and delete": (
        "insert into {t} (id, body) values (51, 'x'); delete from {t} where id = 51", {}),
    "upsert": ("insert into {t} (id, body) values (4, 'u'), (52, 'v') "
               "on conflict (id) do update set body = excluded.body", {4: "u", 52: "v"}),
    "truncate": ("truncate {t}", dict.fromkeys(range(1, 21))),
}  # fmt: skip


@pytest.mark.parametrize("side", [1, 2])
@pytest.mark.parametrize("kind", NOTED)
@begins_with(led_by, "V1 leads")
def test_what_was_noted_is_settled_from_the_side_that_was_written(
    db: Connection, kind: str, side: int
) -> None:
    db.execute("update public.things_v2 set pinned = true")
    mirror(db, "log_only")
    table = "public.things" if side == 1 else "public.things_v2"
    statements, changed = NOTED[kind]
    for statement in statements.split("; "):
        db.execute(statement.format(t=table))
    mirror(db, "both")
    for _ in range(2):
        answer = repair(db)
    assert (answer["failed"], answer["remaining"]) == (0, 0)
    assert answer.get("undecided", 0) == 0
    wanted: dict[int, str | None] = {**dict.fromkeys(range(1, 21), "n"), **changed}
    assert dict(settled(db)) == {key: body for key, body in wanted.items() if body is not None}
    if side == 1 and kind != "truncate":
        lost = "select count(*) from public.things_v2 where not coalesce(pinned, false) "
        assert one(db, lost + "and id <= 20 and body = 'n'") == 0


@begins_with(led_by, "V1 leads")
def test_both_sides_are_settled_each_from_where_it_was_written(db: Connection) -> None:
    mirror(db, "log_only")
    db.execute("update public.things set body = 'by V1' where id <= 5")
    db.execute("update public.things_v2 set body = 'by V2' where id between 6 and 10")
    db.execute("delete from public.things where id = 11")
    db.execute("delete from public.things_v2 where id = 12")
    db.execute("insert into public.things values (30, 'by V1')")
    db.execute("insert into public.things_v2 values (31, 'by V2')")
    mirror(db, "both")
    assert repair(db)["remaining"] == 0
    assert dict(settled(db)) == {
        **dict.fromkeys(range(1, 6), "by V1"), **dict.fromkeys(range(6, 11), "by V2"),
        **dict.fromkeys(range(13, 21), "n"), 30: "by V1", 31: "by V2",
    }  # fmt: skip


def test_a_row_of_v1_that_was_archived_and_deleted_in_v2_is_an_operators_choice(
    db: Connection,
) -> None:
    create(db, PLAIN)
    db.execute("insert into public.things select g, 'n' from generate_series(1, 20) g")
    register(db)
    to_stage(db, "complete")
    db.execute("delete from public.things_v2 where id <= 3")
    db.execute("update public.things_v2 set body = 'edited' where id = 4")
    db.execute("insert into public.things_v2 values (21, 'new')")
    backfill(db, direction="v2_to_v1")
    verify(db, "things")
    answer = repair(db)
    # Rows that the archive alone has: deleted in V2 since, or never there. Only a person knows.
    assert one(db, "select count(*) from public.things where id <= 3") in (0, 3)
    if one(db, "select count(*) from public.things where id <= 3"):
        assert answer["undecided"] == 3
        repair(db, follower_only="delete")
    assert verify(db, "things") == 0
    call(db, "set_stage", "things", "rampdown", "test")
    assert dict(settled(db)) == {4: "edited", **dict.fromkeys(range(5, 21), "n"), 21: "new"}


# The plan -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", LEADERS)
def test_the_plan_says_by_key_what_will_be_done_and_does_nothing(db: Connection, who: str) -> None:
    leader, follower = led_by(db, who)
    with unseen(db):
        db.execute(f"insert into {follower} (id, body) values (100, 'paid order')")
        db.execute(f"update {follower} set body = 'stale' where id = 1")
        db.execute(f"delete from {follower} where id = 2")
    if who == "V1 leads":
        mirror(db, "log_only")
        db.execute(f"delete from {follower} where id = 3")
        mirror(db, "both")
    verify(db, "things")
    before = state(db)
    found = plan(db)
    assert state(db) == before
    actions = {row["key"]["id"]: (row["action"], row["table"]) for row in found["rows"]}
    wanted = {
        1: ("update", follower), 2: ("insert", follower), 100: ("choose", follower),
    }  # fmt: skip
    if who == "V1 leads":
        wanted[3] = ("delete", leader)
    assert actions == wanted
    assert all(row["why"] for row in found["rows"])
    repair(db)
    assert {row["key"]["id"] for row in plan(db)["rows"]} == {100}
    repair(db, follower_only="delete")
    assert plan(db) == {"rows": [], "remaining": 0} | {
        key: value for key, value in plan(db).items() if key not in ("rows", "remaining")
    }
    settled(db)


@begins_with(led_by, "V1 leads")
def test_the_plan_is_bounded_and_counts_the_rest(db: Connection) -> None:
    mirror(db, "log_only")
    db.execute("update public.things set body = 'edited'")
    mirror(db, "both")
    found = plan(db, max_rows=7)
    assert len(found["rows"]) == 7
    assert found["remaining"] in (13, 20)
    assert len(plan(db)["rows"]) == 20


@begins_with(dualwrite)
def test_an_operator_may_read_the_plan_and_nobody_else(db: Connection) -> None:
    for role in ("anon", "authenticated"):
        db.execute(f"set role {role}")
        with pytest.raises(psycopg.Error):
            db.execute("select crossfade.plan_repair('things')")
        db.execute("reset role")


# Rows that can never be repaired ------------------------------------------------------------------

HOPELESS = PLAIN.but(
    v2="id bigint primary key, body text constraint fine check (body not like 'bad%'), "
    "pinned boolean"
)


@pytest.mark.parametrize("how", ["failures", "mismatches"])
@pytest.mark.parametrize("place", ["before", "after", "between"])
@begins_with(dualwrite, HOPELESS)
def test_rows_that_cannot_be_repaired_starve_nobody(db: Connection, place: str, how: str) -> None:
    bad = {"before": "1, 60", "after": "2001, 2060", "between": "1005, 1064"}[place]
    good = "select g, 'soon' from generate_series(1000, 1004) g union all " \
        "select g, 'soon' from generate_series(1065, 1070) g"  # fmt: skip
    insert_bad = f"insert into public.things select g, 'bad' from generate_series({bad}) g"
    insert_good = f"insert into public.things {good}"
    if how == "failures":
        db.execute(insert_bad)
        db.execute("alter table public.things_v2 add constraint soon check (body <> 'soon')")
        db.execute(insert_good)
        db.execute("alter table public.things_v2 drop constraint soon")
    else:
        with unseen(db):
            db.execute(insert_bad)
            db.execute(insert_good)
        verify(db, "things")
    # With room for ten rows a call, and more than ten that fail every time.
    repaired = 0
    for _ in range(1 + 71 // 10 + 2):
        repaired += repair(db, max_rows=10)["repaired"]
    assert repaired == 11
    assert one(db, "select count(*) from public.things_v2 where body = 'soon'") == 11
    answer = repair(db, max_rows=500)
    assert (answer["repaired"], answer["failed"], answer["remaining"]) == (0, 60, 60)
    db.execute("alter table public.things_v2 drop constraint fine")
    for _ in range(10):
        repair(db, max_rows=10)
    assert len(settled(db)) >= 71


@begins_with(dualwrite, HOPELESS)
def test_a_row_that_fails_says_why_and_how_often(db: Connection) -> None:
    db.execute("insert into public.things values (1, 'bad')")
    for _ in range(3):
        assert repair(db)["failed"] == 1
    attempts, message = rows(
        db, "select attempts, message from crossfade.mirror_failures where resolved_at is null"
    )[0]
    assert attempts >= 3
    assert "fine" in message


@begins_with(dualwrite)
def test_a_locked_row_keeps_nobody_else_waiting(db: Connection) -> None:
    db.execute("insert into public.things select g, 'n' from generate_series(1, 5) g")
    mirror(db, "log_only")
    db.execute("update public.things set body = 'edited'")
    mirror(db, "both")
    with psycopg.connect(
        host=db.info.host, port=db.info.port, dbname=db.info.dbname, user="postgres"
    ) as writer:
        writer.execute("select from public.things where id = 2 for update")
        answer = repair(db)
        assert answer["repaired"] == 4
        assert {key["id"] for key, _, _ in failures(db)} == {2}
        writer.rollback()
    assert repair(db)["remaining"] == 0
    assert settled(db) == [(n, "edited") for n in range(1, 6)]
