"""Above READ COMMITTED a snapshot shows rows that are deleted since: none is mirrored again."""

from __future__ import annotations

import psycopg
import pytest

from tests.sql.cases.pairs import PLAIN, dualwrite, settled
from tests.sql.conftest import Connect, Connection, Its, begins_with
from tests.sql.notes_pair import rows
from tests.sql.things_pair import failures

# An owner's trigger that writes what a statement has inserted once more.
NUMBERED = """
  create function public.number() returns trigger language plpgsql as $$ begin
    update public.{0} t set body = t.body || '!' where t.id in (select id from fresh);
    return null;
  end $$;
  create trigger number after insert on public.{0} referencing new table as fresh
  for each statement execute function public.number();
"""
TRIGGERS = {"none": "", "numbered": NUMBERED}
# What a client does with key 7, which somebody else's row had, and what stands there at the end.
STATEMENTS = {
    "insert": (["insert into public.{} (id, body) values (7, 'new')"], "new"),
    "insert the same": (["insert into public.{} (id, body) values (7, 'old 7')"], "old 7"),
    "insert and edit": (
        [
            "insert into public.{} (id, body) values (7, 'new')",
            "update public.{} set body = 'newer' where id = 7",
        ],
        "newer",
    ),
    "insert and edit many": (
        [
            "insert into public.{} (id, body) select g, 'new' from generate_series(20, 40) g",
            "insert into public.{} (id, body) values (7, 'new')",
            "update public.{} set body = 'newer' where id >= 20 or id = 7",
        ],
        "newer",
    ),
    "insert and delete": (
        [
            "insert into public.{} (id, body) values (7, 'new')",
            "delete from public.{} where id = 7 and body like 'new%'",
        ],
        None,
    ),
    "insert, delete and insert": (
        [
            "insert into public.{} (id, body) values (7, 'new')",
            "delete from public.{} where id = 7 and body like 'new%'",
            "insert into public.{} (id, body) values (7, 'newest')",
        ],
        "newest",
    ),
    "move there": (["update public.{} set id = 7 where id = 8"], "old 8"),
    "move there and edit": (
        [
            "update public.{} set id = 7 where id = 8",
            "update public.{} set body = 'moved' where id = 7 and body = 'old 8'",
        ],
        "moved",
    ),
    "move there and on": (
        [
            "update public.{} set id = 7 where id = 8",
            "update public.{} set id = 9 where id = 7 and body = 'old 8'",
        ],
        None,
    ),
}


def two_rows(db: Connection, table: str, trigger: str) -> None:
    """Rows 7 and 8 in both tables, one of which has the trigger."""
    dualwrite(db, PLAIN.but(after=TRIGGERS[trigger].format(table)))
    db.execute(
        "insert into public.things_v2 select g, 'old ' || g, true from generate_series(7, 8) g"
    )
    db.execute("update public.things_v2 set body = 'old ' || id")


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
@pytest.mark.parametrize("trigger", TRIGGERS)
@pytest.mark.parametrize("statement", STATEMENTS)
@pytest.mark.parametrize("table", ["things", "things_v2"])
@begins_with(two_rows, Its("table"), Its("trigger"))
def test_a_row_that_somebody_else_has_deleted_is_not_mirrored_again(
    db: Connection, connect: Connect, table: str, statement: str, trigger: str, isolation: str
) -> None:
    texts, expected = STATEMENTS[statement]
    client = connect()
    for attempt in range(3):
        try:
            client.execute(f"begin isolation level {isolation}")
            client.execute("select from public.things")
            if attempt == 0:
                db.execute("delete from public.things where id = 7")
            for text in texts:
                client.execute(text.format(table))
            client.execute("commit")
            break
        except (psycopg.errors.SerializationFailure, psycopg.errors.UniqueViolation):
            client.execute("rollback")
    else:
        pytest.fail("no attempt came through")
    assert failures(db) == []
    found = dict(settled(db))
    trail = "!" if trigger == "numbered" and expected in ("new", "newest") else ""
    if statement == "insert the same" and trigger == "numbered":
        trail = "!"
    assert found.get(7) == (None if expected is None else expected + trail)
    moved = statement.startswith("move")
    inherited = rows(db, "select id, pinned from public.things_v2 where id in (7, 9)")
    assert [pinned for _, pinned in inherited if pinned] == ([True] if moved else [])


@pytest.mark.parametrize(("table", "other"), [("things", "things_v2"), ("things_v2", "things")])
def test_a_row_that_is_deleted_since_is_no_counterpart(
    db: Connection, connect: Connect, table: str, other: str
) -> None:
    short = f"alter table public.{other} add constraint short check (length(body) < 9)"
    dualwrite(db, PLAIN.but(after=short))
    db.execute("insert into public.things values (7, 'old')")
    client = connect()
    # The other table refuses one row, so rows are mirrored one by one.
    text = f"insert into public.{table} (id, body) values (7, 'old'), (8, 'much too long')"
    client.execute("begin isolation level repeatable read")
    client.execute("select from public.things")
    db.execute("delete from public.things where id = 7")
    try:
        client.execute(text)
        client.execute("commit")
    except psycopg.errors.SerializationFailure:
        client.execute("rollback")
        client.execute(text)
    assert [key for key, _, _ in failures(db)] == [{"id": 8}]
    assert rows(db, f"select id, body from public.{other}") == [(7, "old")]
