"""While writes are only noted, two rows never come to have one key: repair would keep only one."""

from __future__ import annotations

import threading

import psycopg
import pytest

from tests.sql.cases.pairs import (
    PLAIN,
    backfill,
    both,
    create,
    dualwrite,
    mirror,
    register,
    repair,
    settled,
    to_stage,
)
from tests.sql.conftest import Connect, Connection
from tests.sql.things_pair import failures

SIDES = [("things", "things_v2"), ("things_v2", "things")]


def test_a_row_that_is_not_copied_yet_keeps_its_key(db: Connection) -> None:
    create(db, PLAIN)
    register(db)
    db.execute("insert into public.things values (1, 'was first')")
    to_stage(db, "dualwrite")
    mirror(db, "log_only")
    with pytest.raises(psycopg.errors.UniqueViolation, match="things has a row with it"):
        db.execute("insert into public.things_v2 values (1, 'another')")
    db.execute("insert into public.things_v2 values (2, 'free')")
    mirror(db, "both")
    backfill(db)
    assert repair(db)["remaining"] == 0
    assert settled(db) == [(1, "was first"), (2, "free")]


@pytest.mark.parametrize(("table", "other"), SIDES)
def test_a_key_that_the_other_table_has_given_out_is_taken(
    db: Connection, table: str, other: str
) -> None:
    dualwrite(db)
    mirror(db, "log_only")
    db.execute(f"insert into public.{table} (id, body) values (1, 'one')")
    for text in (
        f"insert into public.{other} (id, body) values (1, 'another'), (2, 'two')",
        f"insert into public.{other} (id, body) select g, 'many' from generate_series(1, 40) g",
    ):
        with pytest.raises(psycopg.errors.UniqueViolation, match='"id": 1'):
            db.execute(text)
    db.execute(f"insert into public.{other} (id, body) values (2, 'two')")
    mirror(db, "both")
    assert repair(db)["remaining"] == 0
    assert settled(db) == [(1, "one"), (2, "two")]


@pytest.mark.parametrize(("table", "other"), SIDES)
def test_an_application_that_writes_both_tables_itself_is_not_refused(
    db: Connection, table: str, other: str
) -> None:
    dualwrite(db)
    mirror(db, "log_only")
    for n, name in enumerate((table, other)):
        db.execute(
            f"insert into public.{name} (id, body) values (1, 'one') "
            f"on conflict (id) do update set body = 'step {n}'"
        )
    with db.transaction():
        for name in (table, other):
            db.execute(f"insert into public.{name} (id, body) values (2, 'two')")
    assert both(db) == [(1, "one"), (2, "two")]
    mirror(db, "both")
    assert repair(db)["remaining"] == 0
    assert settled(db) == [(1, "one"), (2, "two")]


@pytest.mark.parametrize(("table", "other"), SIDES)
def test_a_row_moves_to_no_key_of_a_row_that_only_the_other_table_has(
    db: Connection, table: str, other: str
) -> None:
    dualwrite(db)
    db.execute(f"insert into public.{table} (id, body) values (1, 'one')")
    mirror(db, "log_only")
    db.execute(f"insert into public.{other} (id, body) values (2, 'two')")
    with pytest.raises(psycopg.errors.UniqueViolation):
        db.execute(f"update public.{table} set id = 2 where id = 1")
    mirror(db, "both")
    assert repair(db)["remaining"] == 0
    assert settled(db) == [(1, "one"), (2, "two")]


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read"])
def test_of_two_that_take_a_key_at_once_one_is_refused(
    db: Connection, connect: Connect, isolation: str
) -> None:
    dualwrite(db)
    mirror(db, "log_only")
    first, second = connect(), connect()
    for client in (first, second):
        client.execute(f"begin isolation level {isolation}")
        client.execute("select from public.things")
    first.execute("insert into public.things values (1, 'first')")
    told: list[str | None] = []

    def insert() -> None:
        try:
            second.execute("insert into public.things_v2 values (1, 'second')")
        except psycopg.Error as error:
            told.append(error.sqlstate)
        second.execute("rollback" if told else "commit")

    thread = threading.Thread(target=insert)
    thread.start()
    thread.join(0.5)
    assert thread.is_alive(), "the second waits until it is known whether the first comes to be"
    first.execute("commit")
    thread.join(10)
    assert told == ["23505" if isolation == "read committed" else "40001"]
    mirror(db, "both")
    assert repair(db)["remaining"] == 0
    assert settled(db) == [(1, "first")]
    assert failures(db) == []
