"""One statement, or one transaction, that edits both tables of a pair: every edit is in both."""

from __future__ import annotations

import psycopg
import pytest

from tests.sql.cases.pairs import (
    PLAIN,
    TWO_SIDED,
    agreed,
    both,
    create,
    dualwrite,
    only_since,
    register,
    repair,
    settled,
    to_stage,
    unseen,
)
from tests.sql.conftest import Connection, begins_with
from tests.sql.control import call, one
from tests.sql.notes_pair import rows
from tests.sql.things_pair import failures

SHAPE = TWO_SIDED.but(
    v1="id bigint primary key, body text, note text, draft text",
    v2="id bigint primary key, body text, note text, pinned text",
    to_v2="a.id, a.body, a.note, o.pinned",
    to_v1="b.id, b.body, b.note, o.draft",
)


def fresh(db: Connection) -> None:
    """Rows 1 to 20 in both tables, whatever the statement before has left."""
    with unseen(db):
        db.execute("delete from public.things")
        db.execute("delete from public.things_v2")
    call(db, "repair", "things")
    db.execute(
        "insert into public.things "
        "select g, 'b' || g, 'n' || g, 'd' || g from generate_series(1, 20) g"
    )
    db.execute("update public.things_v2 set pinned = 'p' || id")


Row = tuple[str, str, str, str]

# A statement, and the rows that differ afterwards from b, n, d and p with their number.
STATEMENTS: dict[str, tuple[str, dict[int, Row | None]]] = {
    "v2 after v1": (
        "with a as (update {s} set body = 'x' where id = 1 returning id) "
        "update {t} b set note = 'y' from a where b.id = a.id",
        {1: ("x", "y", "d1", "p1")},
    ),
    "what only one side holds": (
        "with a as (update {s} set body = 'x', {only_s} = 'mine' where id = 1 returning id) "
        "update {t} b set {only_t} = 'its own' from a where b.id = a.id",
        {1: ("x", "n1", "s", "t")},
    ),
    "many rows each": (
        "with a as (update {s} set body = 'x' where id <= 15 returning id) "
        "update {t} b set note = 'y' where id > 5",
        {
            n: ("x" if n <= 15 else f"b{n}", "y" if n > 5 else f"n{n}", f"d{n}", f"p{n}")
            for n in range(1, 21)
        },
    ),
    "other rows": (
        "with a as (update {s} set body = 'x' where id = 1), "
        "b as (update {t} set body = 'y' where id = 2) select 1",
        {1: ("x", "n1", "d1", "p1"), 2: ("y", "n2", "d2", "p2")},
    ),
    "a new row here and an edit there": (
        "with a as (insert into {s} (id, body) values (30, 'new')) "
        "update {t} set note = 'y' where id = 3",
        {30: ("new", None, None, None), 3: ("b3", "y", "d3", "p3")},  # type: ignore[dict-item]
    ),
    "new rows in both": (
        "with a as (insert into {s} (id, body) values (30, 'one')) "
        "insert into {t} (id, body) values (31, 'two'), (32, 'three')",
        {
            30: ("one", None, None, None),  # type: ignore[dict-item]
            31: ("two", None, None, None),  # type: ignore[dict-item]
            32: ("three", None, None, None),  # type: ignore[dict-item]
        },
    ),
    "a delete here and an edit there": (
        "with a as (delete from {s} where id = 4) update {t} set note = 'y' where id = 5",
        {4: None, 5: ("b5", "y", "d5", "p5")},
    ),
    "deletes in both": (
        "with a as (delete from {s} where id = 4) delete from {t} where id in (5, 6)",
        {4: None, 5: None, 6: None},
    ),
    "a move here and an edit there": (
        "with a as (update {s} set id = 40 where id = 7) update {t} set note = 'y' where id = 8",
        {7: None, 40: ("b7", "n7", "d7", "p7"), 8: ("b8", "y", "d8", "p8")},
    ),
    "an upsert here and an edit there": (
        "with a as (insert into {s} (id, body) values (9, 'x'), (41, 'new') "
        "on conflict (id) do update set body = excluded.body returning id) "
        "update {t} b set note = 'y' where id in (9, 10)",
        {
            9: ("x", "y", "d9", "p9"),
            41: ("new", None, None, None),  # type: ignore[dict-item]
            10: ("b10", "y", "d10", "p10"),
        },
    ),
    "three edits of one row": (
        "with a as (update {s} set body = 'x' where id = 11), "
        "b as (update {t} set note = 'y' where id = 11) "
        "update {s} set draft = draft where id = 12",
        {11: ("x", "y", "d11", "p11")},
    ),
}


def wanted(side: int, changed: dict[int, Row | None]) -> list[tuple[object, ...]]:
    model: dict[int, tuple[object, ...] | None] = {
        n: (f"b{n}", f"n{n}", f"d{n}", f"p{n}") for n in range(1, 21)
    }
    for n, row in changed.items():
        if row is not None and row[2:] == ("s", "t"):
            row = (*row[:2], *(("mine", "its own") if side == 1 else ("its own", "mine")))
        model[n] = row
    return [(n, *row) for n, row in sorted(model.items()) if row is not None]


def everything(db: Connection) -> list[tuple[object, ...]]:
    return rows(
        db,
        "select id, a.body, a.note, a.draft, b.pinned from public.things a "
        "full join public.things_v2 b using (id) order by 1",
    )


@pytest.mark.parametrize(
    ("policy", "level"),
    [
        ("record", "read committed"),
        ("raise", "read committed"),
        ("record", "repeatable read"),
        ("raise", "serializable"),
    ],
)
@pytest.mark.parametrize("side", [1, 2])
def test_edits_of_both_tables_in_one_statement_reach_both(
    db: Connection, side: int, policy: str, level: str
) -> None:
    dualwrite(db, SHAPE, failure_policy=policy)
    db.execute(f"set default_transaction_isolation = '{level}'")
    names = {
        "s": "public.things", "t": "public.things_v2", "only_s": "draft", "only_t": "pinned",
    }  # fmt: skip
    if side == 2:
        names = {
            "s": names["t"], "t": names["s"], "only_s": "pinned", "only_t": "draft",
        }  # fmt: skip
    wrong = {}
    for name, (statement, changed) in STATEMENTS.items():
        if "draft = draft" in statement and side == 2:
            statement = statement.replace("draft = draft", "pinned = pinned")
        fresh(db)
        db.execute(statement.format(**names))
        try:
            assert everything(db) == wanted(side, changed)
            agreed(db, "id, body, note")
        except AssertionError as error:
            wrong[name] = str(error)
    assert wrong == {}
    settled(db, "id, body, note")


# Where both say something about the same value, either may win; the tables must not differ.
CONFLICTS = {
    "one column": (
        "with a as (update {s} set body = 'x' where id <= {n}) "
        "update {t} set body = 'y' where id <= {n}"
    ),
    "delete and edit": (
        "with a as (delete from {s} where id <= {n}) update {t} set note = 'y' where id <= {n}"
    ),
    "delete and delete": (
        "with a as (delete from {s} where id <= {n}) delete from {t} where id <= {n} + 3"
    ),
    "move and edit": (
        "with a as (update {s} set id = id + 100 where id <= {n}) "
        "update {t} set note = 'y' where id <= {n}"
    ),
    "move and move alike": (
        "with a as (update {s} set id = id + 100 where id <= {n}) "
        "update {t} set id = id + 100 where id <= {n}"
    ),
    "delete and insert": (
        "with a as (delete from {s} where id = 1) insert into {t} (id, body) values (50, 'x')"
    ),
}


@pytest.mark.parametrize("count", [1, 8, 17])
@pytest.mark.parametrize("side", [1, 2])
@begins_with(dualwrite, SHAPE)
def test_edits_that_contradict_each_other_leave_both_tables_equal(
    db: Connection, side: int, count: int
) -> None:
    s, t = ("public.things", "public.things_v2")[:: 1 if side == 1 else -1]
    wrong = {}
    for name, statement in CONFLICTS.items():
        fresh(db)
        before = everything(db)
        try:
            db.execute(statement.format(s=s, t=t, n=count))
        except psycopg.errors.UniqueViolation:
            # The writer was told, and nothing has happened.
            assert everything(db) == before
        try:
            agreed(db, "id, body, note")
        except AssertionError as error:
            wrong[name] = str(error)
    assert wrong == {}
    settled(db, "id, body, note")


# An application that writes both tables by itself, from the time before the pair -----------------


@pytest.mark.parametrize("policy", ["record", "raise"])
@pytest.mark.parametrize("first", ["public.things", "public.things_v2"])
def test_an_application_that_writes_both_tables_by_hand_is_not_in_the_way(
    db: Connection, first: str, policy: str
) -> None:
    dualwrite(db, failure_policy=policy)
    second = "public.things_v2" if first == "public.things" else "public.things"
    with db.transaction():
        db.execute(f"insert into {first} (id, body) values (1, 'a')")
        db.execute(
            f"insert into {second} (id, body) values (1, 'a') "
            "on conflict (id) do update set body = excluded.body"
        )
    for table in (first, second):
        db.execute(f"update {table} set body = 'b' where id = 1")
    db.execute(
        f"with a as (update {first} set body = 'c' where id = 1) "
        f"update {second} set body = 'c' where id = 1"
    )
    assert settled(db) == [(1, "c")]
    for table in (first, second):
        db.execute(f"delete from {table} where id = 1")
    assert settled(db) == []


@pytest.mark.parametrize("count", [1, 30])
@pytest.mark.parametrize("first", ["public.things", "public.things_v2"])
@begins_with(dualwrite)
def test_the_same_row_inserted_into_both_tables_by_one_statement_is_one_row(
    db: Connection, first: str, count: int
) -> None:
    second = "public.things_v2" if first == "public.things" else "public.things"
    db.execute(
        f"with a as (insert into {first} (id, body) "
        f"select g, 'a' from generate_series(1, {count}) g returning id, body) "
        f"insert into {second} (id, body) select id, body from a on conflict (id) do nothing"
    )
    assert settled(db) == [(n, "a") for n in range(1, count + 1)]


@pytest.mark.parametrize("policy", ["record", "raise"])
def test_two_statements_of_one_transaction_reach_both(db: Connection, policy: str) -> None:
    dualwrite(db, SHAPE, failure_policy=policy)
    fresh(db)
    with db.transaction():
        for n in range(1, 6):
            db.execute("update public.things set body = 'x' where id = %s", [n])
            db.execute("update public.things_v2 set note = 'y', pinned = 'z' where id = %s", [n])
            db.execute("update public.things set draft = 'w' where id = %s", [n])
    assert everything(db)[:5] == [(n, "x", "y", "w", "z") for n in range(1, 6)]
    settled(db, "id, body, note")


BY_FUNCTION = """
create function public.save(thing bigint) returns void language plpgsql as $$
begin
  update public.things set body = 'x' where id = thing;
  update public.things_v2 set note = 'y' where id = thing;
  update public.things set draft = 'w' where id = thing;
  insert into public.things_v2 (id, body) values (thing + 100, 'by v2');
  insert into public.things (id, body) values (thing + 200, 'by v1');
  update public.things_v2 set pinned = 'z' where id in (thing, thing + 200);
  delete from public.things where id = thing + 100;
end $$
"""


@begins_with(dualwrite, SHAPE)
def test_a_function_that_edits_both_tables_reaches_both(db: Connection) -> None:
    db.execute(BY_FUNCTION)
    fresh(db)
    # Once a statement, and many times in one.
    db.execute("select public.save(1)")
    db.execute("select public.save(g) from generate_series(2, 9) g")
    found = everything(db)
    assert found[:9] == [(n, "x", "y", "w", "z") for n in range(1, 10)]
    assert [row for row in found if row[0] > 100] == [  # type: ignore[operator]
        (n + 200, "by v1", None, None, "z") for n in range(1, 10)
    ]
    settled(db, "id, body, note")


def test_a_merge_that_answers_what_it_did_feeds_an_edit_of_the_other_table(db: Connection) -> None:
    only_since(db, 17, "MERGE that returns rows")
    dualwrite(db, SHAPE)
    fresh(db)
    db.execute("""
        with a as (
          merge into public.things t
          using (values (1, 'x'), (2, null), (50, 'new')) s (id, body) on t.id = s.id
          when matched and s.body is null then delete
          when matched then update set body = s.body
          when not matched then insert (id, body) values (s.id, s.body)
          returning merge_action(), t.id)
        update public.things_v2 set note = 'y' from a where things_v2.id = a.id + 2
    """)
    found = {row[0]: row[1:] for row in everything(db)}
    assert found[1] == ("x", "n1", "d1", "p1")
    assert 2 not in found
    assert [found[n] for n in (3, 4)] == [("b3", "y", "d3", "p3"), ("b4", "y", "d4", "p4")]
    assert found[50] == ("new", None, None, None)
    settled(db, "id, body, note")


@begins_with(dualwrite)
def test_repair_finds_nothing_to_undo_after_edits_of_both_tables(db: Connection) -> None:
    db.execute("insert into public.things values (1, 'old'), (2, 'old')")
    db.execute(
        "with a as (update public.things set body = 'new' where id = 1 returning id) "
        "update public.things_v2 b set pinned = true from a where b.id = a.id"
    )
    db.execute(
        "with b as (update public.things_v2 set pinned = true where id = 2 returning id) "
        "update public.things a set body = 'new' from b where b.id = a.id"
    )
    assert settled(db) == [(1, "new"), (2, "new")]
    assert repair(db)["repaired"] == 0
    assert both(db) == [(1, "new"), (2, "new")]
    assert one(db, "select count(*) from public.things_v2 where pinned") == 2
    assert failures(db) == []


def test_a_view_over_both_tables_that_writes_both_reaches_both(db: Connection) -> None:
    create(db, PLAIN)
    db.execute("""
        create view public.everything as
          select a.id, a.body, b.pinned from public.things a join public.things_v2 b using (id);
        create function public.spread() returns trigger language plpgsql as $$
        begin
          update public.things set body = new.body where id = new.id;
          update public.things_v2 set pinned = new.pinned where id = new.id;
          return new;
        end $$;
        create trigger spread instead of update on public.everything
        for each row execute function public.spread();
        create rule both_at_once as on insert to public.everything do instead (
          insert into public.things values (new.id, new.body);
          update public.things_v2 set pinned = new.pinned where id = new.id
        );
    """)
    register(db)
    to_stage(db, "dualwrite")
    db.execute("insert into public.everything values (1, 'a', true), (2, 'b', false)")
    db.execute("update public.everything set body = body || '!', pinned = not pinned")
    assert settled(db) == [(1, "a!"), (2, "b!")]
    assert rows(db, "select id, pinned from public.things_v2 order by 1") == [(1, False), (2, True)]
