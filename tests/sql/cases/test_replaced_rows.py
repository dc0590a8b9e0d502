"""Rows are deleted and others inserted with their keys: those inherit nothing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sql.cases.pairs import TWO_SIDED, dualwrite, mirror, repair, settled, unseen
from tests.sql.conftest import Connect, Connection, begins_with
from tests.sql.control import call
from tests.sql.notes_pair import rows
from tests.sql.things_pair import failures

# What the transaction did to rows 1 to {n} before; {s} is the table of the statement.
BEFORE = {
    "nothing": "select",
    "an edit": "update {s} set body = 'x' where id <= {n}",
    "an edit of the counterpart": "update {t} set body = 'x' where id <= {n}",
    "an edit of what only the counterpart holds": "update {t} set {only} = 'x' where id <= {n}",
    "another row": "delete from {s} where id <= {n}; insert into {s} (id, body) "
    "select g, 'x' from generate_series(1, {n}) g; update {t} set {only} = 'x' where id <= {n}",
    "a savepoint": "savepoint a; update {s} set body = 'x' where id <= {n}; release a",
    "a savepoint taken back": "update {t} set body = 'w' where id <= {n}; savepoint a; "
    "update {s} set body = 'x' where id <= {n}; rollback to a",
}
SHAPE = TWO_SIDED.but(v2="id bigint primary key, body text, pinned text")
SIDES = [("things", "things_v2", "pinned"), ("things_v2", "things", "draft")]


@pytest.mark.parametrize("before", BEFORE)
@begins_with(dualwrite, SHAPE)
def test_a_row_that_replaces_another_one_inherits_nothing(db: Connection, before: str) -> None:
    for table, other, only in SIDES:
        for many in (1, 20):
            db.execute("delete from public.things")
            db.execute("insert into public.things select g, 'b', 'd' from generate_series(1, 21) g")
            db.execute("update public.things_v2 set pinned = 'p'")
            with db.transaction():
                db.execute(BEFORE[before].format(s=table, t=other, only=only, n=many))
                db.execute(
                    f"with gone as (delete from {table} where id <= {many} returning id) "
                    f"insert into {table} (id, body) select id, 'new' from gone"
                )
            found = rows(db, f"select distinct id <= {many}, body, {only} from {other} order by 1")
            assert found == [(False, "b", only[0]), (True, "new", None)], (table, many)
            settled(db)


# What happens to row 1 of {s} while changes are only noted.
NOTED = {
    "one statement": [
        "with gone as (delete from {s} where id = 1 returning id) "
        "insert into {s} (id, body) select id, 'new' from gone"
    ],
    "two statements": [
        "delete from {s} where id = 1",
        "insert into {s} (id, body) values (1, 'new')",
    ],
    "edited before and after": [
        "update {s} set body = 'x' where id = 1",
        "delete from {s} where id = 1",
        "insert into {s} (id, body) values (1, 'y')",
        "update {s} set body = 'new' where id = 1",
    ],
}


@pytest.mark.parametrize("noted", NOTED)
@begins_with(dualwrite, SHAPE)
def test_a_row_that_was_replaced_while_changes_were_noted_inherits_nothing(
    db: Connection, noted: str
) -> None:
    for table, other, only in SIDES:
        db.execute("delete from public.things")
        db.execute("insert into public.things values (1, 'b', 'd'), (2, 'b', 'd')")
        db.execute("update public.things_v2 set pinned = 'p'")
        mirror(db, "log_only")
        for statement in (*NOTED[noted], "update {s} set body = 'edited' where id = 2"):
            db.execute(statement.format(s=table))
        mirror(db, "both")
        plan = call(db, "plan_repair", "things")["rows"]
        assert [(row["key"]["id"], row["action"]) for row in plan] == [(1, "insert"), (2, "update")]
        assert repair(db)["remaining"] == 0
        found = rows(db, f"select id, body, {only} from {other} order by id")
        assert found == [(1, "new", None), (2, "edited", only[0])]
        settled(db)


@begins_with(dualwrite, SHAPE)
def test_the_counterpart_of_a_deleted_row_is_gone_once_another_row_has_the_key(
    db: Connection,
) -> None:
    """An edit of it would be lost: it finds nothing, and says so."""
    db.execute("insert into public.things values (1, 'b', 'd')")
    db.execute("update public.things_v2 set pinned = 'p'")
    mirror(db, "log_only")
    db.execute("delete from public.things where id = 1")
    assert db.execute("update public.things_v2 set pinned = 'q' where id = 1").rowcount == 1
    db.execute("insert into public.things values (1, 'new')")
    assert db.execute("update public.things_v2 set pinned = 'r' where id = 1").rowcount == 0
    mirror(db, "both")
    assert repair(db)["remaining"] == 0
    assert rows(db, "select * from public.things_v2") == [(1, "new", None)]


# What happens to row 1 after changes were only noted, and what V2 holds in the end.
AFTERWARDS: dict[str, tuple[list[str], list[str]]] = {
    "replaced again": (
        ["delete from things where id = 1", "insert into things (id, body) values (1, 'new')"],
        ["delete from things where id = 1", "insert into things (id, body) values (1, 'newer')",
         "update things_v2 set pinned = 'mine' where id = 1"],
    ),
    "a row of V2's own": (
        ["delete from things where id = 1"],
        ["delete from things_v2 where id = 1",
         "insert into things_v2 (id, body, pinned) values (1, 'newer', 'mine')"],
    ),
    "edited before repair": (
        ["delete from things where id = 1", "insert into things (id, body) values (1, 'new')"],
        ["update things set body = 'newer' where id = 1", "insert into likes_v2 values (1)",
         "update things_v2 set pinned = 'mine' where id = 1"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", AFTERWARDS)
def test_repair_of_noted_changes_undoes_nothing_that_was_mirrored_since(
    db: Connection, kind: str
) -> None:
    likes = "create table public.likes_v2 (id bigint references public.things_v2 on delete cascade)"
    dualwrite(db, SHAPE.but(after=likes))
    db.execute("insert into public.things values (1, 'b'), (2, 'b')")
    noted, mirrored = AFTERWARDS[kind]
    mirror(db, "log_only")
    for statement in noted:
        db.execute(statement)
    mirror(db, "both")
    for statement in mirrored:
        db.execute(statement)
    before = rows(db, "select * from public.likes_v2")
    assert repair(db)["remaining"] == 0
    assert rows(db, "select * from public.things_v2 where id = 1") == [(1, "newer", "mine")]
    assert rows(db, "select * from public.likes_v2") == before
    settled(db)


def test_a_delete_that_is_still_open_costs_a_new_row_that_was_mirrored_nothing(
    db: Connection, connect: Connect
) -> None:
    """A transaction with an old snapshot cannot know whether it deletes a counterpart."""
    dualwrite(db, SHAPE)
    db.execute("insert into public.things values (1, 'b', 'd')")
    with unseen(db):
        db.execute("delete from public.things_v2")
    old = connect()
    old.execute("begin isolation level repeatable read")
    old.execute("delete from public.things where id = 1")
    old.execute("commit")
    assert failures(db) == [({"id": 1}, "DELETE", "CF017")]
    db.execute("insert into public.things values (1, 'new')")
    db.execute("update public.things_v2 set pinned = 'mine'")
    assert repair(db)["remaining"] == 0
    assert rows(db, "select * from public.things_v2") == [(1, "new", "mine")]


@pytest.mark.parametrize("policy", ["record", "raise"])
@pytest.mark.parametrize("together", [False, True])
def test_a_row_may_take_the_key_of_a_deleted_one_while_changes_are_noted(
    db: Connection, policy: str, *, together: bool
) -> None:
    """Nobody is refused meanwhile, and what only the other table holds goes with its row."""
    dualwrite(db, SHAPE, failure_policy=policy)
    for table, other, only in SIDES:
        mirror(db, "both")
        db.execute("delete from public.things")
        db.execute("insert into public.things select g, 'b' || g from generate_series(1, 6) g")
        db.execute(f"update {other} set {only} = 'of ' || id")
        mirror(db, "log_only")
        if together:
            db.execute(
                f"with gone as (delete from {table} where id = 3 returning id) "
                f"update {table} set id = 3 from gone where {table}.id = 5"
            )
        else:
            db.execute(f"delete from {table} where id = 3")
            db.execute(f"update {table} set id = 3 where id = 5")
            db.execute(f"update {table} set body = 'b6!' where id = 6")
            db.execute(f"insert into {table} (id, body) values (5, 'new')")
        mirror(db, "both")
        assert repair(db)["remaining"] == 0
        wanted: list[tuple[Any, ...]] = [
            (1, "b1", "of 1"), (2, "b2", "of 2"), (3, "b5", "of 5"), (4, "b4", "of 4"),
        ]  # fmt: skip
        wanted += [(6, "b6", "of 6")] if together else [(5, "new", None), (6, "b6!", "of 6")]
        assert rows(db, f"select id, body, {only} from {other} order by id") == wanted
        settled(db)
