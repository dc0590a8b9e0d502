"""Two clients write one row through both tables: what either was told is stored is in both.

They are two threads with a fixed number of statements each; nothing here waits for a clock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import psycopg
import pytest

from tests.sql.cases.pairs import Shape, both, dualwrite, repair, settled
from tests.sql.conftest import Connect, Connection, begins_with, on_both_ends
from tests.sql.control import one
from tests.sql.notes_pair import rows
from tests.sql.things_pair import failures, verify

pytestmark = [on_both_ends, pytest.mark.usefixtures("quick_deadlocks")]

COUNTERS = Shape(
    v1="id bigint primary key, a bigint not null default 0, b bigint not null default 0, x bigint",
    v2="id bigint primary key, a bigint not null default 0, b bigint not null default 0, y bigint",
    to_v2="a.id, a.a, a.b, o.y",
    to_v1="b.id, b.a, b.b, o.x",
)
# What a client may be told when it cannot be served; it tries again. Anything else is an outage.
TRY_AGAIN = {"40P01", "40001", "55P03"}
ROUNDS = 120


@dataclass
class Client:
    """One session that adds to one column through one table and keeps count of what was stored."""

    session: Connection
    write: Callable[[Connection, int], object]
    stored: dict[int, int] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def run(self, start: threading.Barrier) -> None:
        start.wait()
        for n in range(ROUNDS):
            row = n % 3 + 1
            try:
                self.write(self.session, row)
            except psycopg.Error as error:
                if self.session.info.transaction_status.name != "IDLE":
                    self.session.execute("rollback")
                (self.told if error.sqlstate in TRY_AGAIN else self.broken).append(
                    error.sqlstate or ""
                )
            else:
                self.stored[row] = self.stored.get(row, 0) + 1


def play(*clients: Client) -> None:
    start = threading.Barrier(len(clients))
    threads = [threading.Thread(target=client.run, args=(start,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [client.broken for client in clients] == [[] for _ in clients]


def adding(table: str, column: str, *, isolation: str = "") -> Callable[[Connection, int], object]:
    """Add one to a column of a row, in a transaction of its own kind."""

    def write(session: Connection, row: int) -> object:
        text = f"update public.{table} set {column} = {column} + 1 where id = %s"
        if not isolation:
            return session.execute(text, [row])
        session.execute(f"begin isolation level {isolation}")
        session.execute(text, [row])
        return session.execute("commit")

    return write


def prepare(db: Connection, **options: str) -> None:
    dualwrite(db, COUNTERS, **options)
    db.execute("insert into public.things (id, x) select g, 0 from generate_series(1, 3) g")
    db.execute("update public.things_v2 set y = 0")


MIXES = {
    "different columns": [("things", "a"), ("things_v2", "b")],
    "the same column": [("things", "a"), ("things_v2", "a")],
    "what only one side holds": [("things", "a"), ("things_v2", "y")],
    "both sides' own": [("things", "x"), ("things_v2", "y")],
    "four clients": [("things", "a"), ("things_v2", "b"), ("things", "b"), ("things_v2", "a")],
}


@pytest.mark.parametrize("policy", ["record", "raise"])
@pytest.mark.parametrize("mix", MIXES)
def test_no_acknowledged_edit_is_lost(
    db: Connection, connect: Connect, mix: str, policy: str
) -> None:
    prepare(db, failure_policy=policy)
    clients = [Client(connect(), adding(table, column)) for table, column in MIXES[mix]]
    play(*clients)
    wanted: dict[str, dict[int, int]] = {}
    for (_, column), client in zip(MIXES[mix], clients, strict=True):
        into = wanted.setdefault(column, {})
        for row, count in client.stored.items():
            into[row] = into.get(row, 0) + count
    assert failures(db) == []
    both(db, "id, a, b")
    for column, by_row in wanted.items():
        table = "things_v2" if column == "y" else "things"
        assert dict(rows(db, f"select id, {column} from public.{table}")) == by_row, column
    settled(db, "id, a, b")
    assert repair(db)["repaired"] == 0


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
@begins_with(prepare)
def test_no_acknowledged_edit_is_lost_under_a_snapshot(
    db: Connection, connect: Connect, isolation: str
) -> None:
    clients = [
        Client(connect(), adding("things", "a", isolation=isolation)),
        Client(connect(), adding("things_v2", "b", isolation=isolation)),
        Client(connect(), adding("things_v2", "a")),
    ]
    play(*clients)
    found = {row[0]: row[1:] for row in settled(db, "id, a, b")}
    for row in (1, 2, 3):
        a = clients[0].stored.get(row, 0) + clients[2].stored.get(row, 0)
        assert found[row] == (a, clients[1].stored.get(row, 0))


def in_a_savepoint(table: str, column: str) -> Callable[[Connection, int], object]:
    """Add two, of which one is taken back."""

    def write(session: Connection, row: int) -> object:
        session.execute("begin")
        text = f"update public.{table} set {column} = {column} + 1 where id = %s"
        session.execute(text, [row])
        session.execute("savepoint s")
        session.execute(text, [row])
        session.execute("rollback to savepoint s")
        return session.execute("commit")

    return write


def in_two_tables(session: Connection, row: int) -> object:
    """Add one to a column through each table, in one statement."""
    return session.execute(
        "with a as (update public.things set a = a + 1 where id = %s) "
        "update public.things_v2 set b = b + 1 where id = %s",
        [row, row],
    )


def by_upsert(table: str, column: str) -> Callable[[Connection, int], object]:
    def write(session: Connection, row: int) -> object:
        return session.execute(
            f"insert into public.{table} as t (id, {column}) values (%s, 1) "
            f"on conflict (id) do update set {column} = t.{column} + 1",
            [row],
        )

    return write


def every_row(table: str, column: str) -> Callable[[Connection, int], object]:
    """Add one to a row by a statement that touches all of them."""

    def write(session: Connection, row: int) -> object:
        return session.execute(
            f"update public.{table} set {column} = {column} + (id = %s)::int", [row]
        )

    return write


KINDS: dict[str, list[tuple[str, Callable[[Connection, int], object]]]] = {
    # The column that each client adds to; "ab" for both.
    "savepoints": [("a", in_a_savepoint("things", "a")), ("b", in_a_savepoint("things_v2", "b"))],
    "both tables at once": [("ab", in_two_tables), ("ab", in_two_tables)],
    "upserts": [("a", by_upsert("things", "a")), ("b", by_upsert("things_v2", "b"))],
    "upserts and updates": [("a", by_upsert("things", "a")), ("a", adding("things_v2", "a"))],
    "many rows": [("a", every_row("things", "a")), ("b", adding("things_v2", "b"))],
}


@pytest.mark.parametrize("kind", KINDS)
@begins_with(prepare)
def test_no_acknowledged_edit_is_lost_by_other_statements(
    db: Connection, connect: Connect, kind: str
) -> None:
    clients = [Client(connect(), write) for _, write in KINDS[kind]]
    play(*clients)
    found = {row[0]: {"a": row[1], "b": row[2]} for row in settled(db, "id, a, b")}
    for column in ("a", "b"):
        for row in (1, 2, 3):
            wanted = sum(
                client.stored.get(row, 0)
                for (columns, _), client in zip(KINDS[kind], clients, strict=True)
                if column in columns
            )
            assert found[row][column] == wanted, (column, row)


@begins_with(prepare)
def test_a_row_that_is_deleted_and_edited_at_once_is_in_both_tables_or_in_none(
    db: Connection, connect: Connect
) -> None:

    def delete_and_insert(session: Connection, row: int) -> object:
        session.execute("delete from public.things where id = %s", [row])
        return session.execute(
            "insert into public.things (id) values (%s) on conflict do nothing", [row]
        )

    clients = [
        Client(connect(), delete_and_insert),
        Client(connect(), adding("things_v2", "b")),
    ]
    play(*clients)
    assert len(settled(db, "id, a, b")) == 3


@begins_with(prepare)
def test_the_victim_of_a_deadlock_is_told_and_nothing_of_it_is_stored(
    db: Connection, connect: Connect
) -> None:
    first, second = connect(), connect()
    first.execute("begin")
    second.execute("begin")
    # Each holds its own row of the pair and then wants the one that the other holds.
    first.execute("select from public.things where id = 1 for update")
    second.execute("select from public.things_v2 where id = 1 for update")
    outcomes: dict[str, str] = {}

    def edit(name: str, session: Connection, table: str, column: str) -> None:
        try:
            session.execute(f"update public.{table} set {column} = {column} + 1 where id = 1")
            session.execute("commit")
            outcomes[name] = "stored"
        except psycopg.Error as error:
            session.execute("rollback")
            outcomes[name] = error.sqlstate or ""

    threads = [
        threading.Thread(target=edit, args=("first", first, "things", "a")),
        threading.Thread(target=edit, args=("second", second, "things_v2", "b")),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes.values()) in (["40P01", "stored"], ["55P03", "stored"])
    a, b = rows(db, "select a, b from public.things where id = 1")[0]
    assert (a, b) == ((1, 0) if outcomes["first"] == "stored" else (0, 1))
    assert failures(db) == []
    settled(db, "id, a, b")


@pytest.mark.parametrize("policy", ["record", "raise"])
@pytest.mark.parametrize("side", [1, 2])
def test_a_lock_timeout_or_a_cancel_is_told_to_the_writer(
    db: Connection, connect: Connect, side: int, policy: str
) -> None:
    prepare(db, failure_policy=policy)
    table, other = ("things", "things_v2")[:: 1 if side == 1 else -1]
    holder, writer = connect(), connect()
    for setting, sqlstate in (("lock_timeout", "55P03"), ("statement_timeout", "57014")):
        holder.execute("begin")
        holder.execute(f"select from public.{other} where id in (1, 2) for update")
        for statement in (
            f"update public.{table} set a = a + 1 where id = 1",
            f"update public.{table} set a = a + 1",
            f"delete from public.{table} where id = 2",
            f"update public.{table} set id = 20 where id = 2",
            f"insert into public.{table} (id) values (2) on conflict (id) do update set a = 9",
        ):
            writer.execute(f"set {setting} = '100ms'")
            with pytest.raises(psycopg.Error) as caught:
                writer.execute(statement)
            writer.execute(f"reset {setting}")
            assert caught.value.sqlstate == sqlstate, statement
        holder.execute("rollback")
    assert settled(db, "id, a, b") == [(1, 0, 0), (2, 0, 0), (3, 0, 0)]


TRANSIENT = ["40001", "40P01", "40002", "53100", "53200", "53300", "55P03", "55006", "57014",
             "57P01", "58030"]  # fmt: skip


WEATHER = """
create table public.weather (code text);
create function public.pass_on(x text) returns text language plpgsql stable as $$
declare v_code text := (select code from public.weather);
begin
  if x = 'now' then
    raise exception using errcode = v_code, message = 'it passes';
  end if;
  return x;
end $$;
create function public.busy() returns trigger language plpgsql as $$
begin new.body := public.pass_on(new.body); return new; end $$
"""


@pytest.mark.parametrize("how", ["converter", "trigger"])
def test_an_error_that_passes_reaches_the_writer_whatever_the_policy(
    db: Connection, how: str
) -> None:
    dualwrite(
        db,
        Shape(
            v1="id bigint primary key, body text",
            v2="id bigint primary key, body text, extra text",
            to_v2="a.id, public.pass_on(a.body), o.extra" if how == "converter"
            else "a.id, a.body, o.extra",
            to_v1="b.id, b.body",
            before=WEATHER,
            after="" if how == "converter" else "create trigger busy before insert or update "
            "on public.things_v2 for each row execute function public.busy()",
        ),
    )  # fmt: skip
    db.execute("insert into public.things select g, 'n' from generate_series(1, 30) g")
    told = {}
    for code in TRANSIENT:
        db.execute("delete from public.weather")
        db.execute("insert into public.weather values (%s)", [code])
        for statement in (
            "insert into public.things values (100, 'now')",
            "insert into public.things select g, case g when 210 then 'now' else 'n' end "
            "from generate_series(200, 230) g",
            "update public.things set body = 'now' where id = 1",
            "update public.things set body = case id when 7 then 'now' else 'm' end",
            "insert into public.things values (1, 'x') on conflict (id) do update set body = 'now'",
        ):
            try:
                with db.transaction(force_rollback=True):
                    db.execute(statement)
                told[code, statement] = "stored"
            except psycopg.Error as error:
                if error.sqlstate != code:
                    told[code, statement] = f"{error.sqlstate} {error}"
    assert told == {}
    assert settled(db) == [(n, "n") for n in range(1, 31)]
    assert one(db, "select count(*) from crossfade.mirror_failures") == 0
    assert verify(db, "things") == 0
