"""A connection that knows when it was killed, and acts for a tenant."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import psycopg

from .columns import load
from .model import image_before
from .plans import Plan, begin_sql
from .statements import Statement
from .worlds import TABLES

Connection = psycopg.Connection[tuple[Any, ...]]

_WRITE_DOWN = (
    "insert into soak.audit (source, side, op, who, old, new) "
    "select 'client', %s, %s, soak.who(), %s::jsonb, %s::jsonb"
)


class ConnectionLostError(Exception):
    """The session was killed or the server crashed: nobody knows what was executed."""


def is_dead(error: psycopg.Error, connection: Connection) -> bool:
    """Return whether the connection broke, not the statement."""
    return connection.closed or (error.sqlstate or "08000")[:3] in ("080", "57P")


class Client:
    """The connection of one session.

    Args:
        connect: opens an autocommit connection of the tables' owner.
        returning: write down by RETURNING what a statement did; else the database does.
    """

    def __init__(self, connect: Callable[[], Connection], *, returning: bool) -> None:
        self.pid = 0
        self._connect = connect
        self._returning = returning
        self._connection: Connection | None = None

    def open(self) -> Connection:
        """Return the connection, a new one when the last one was lost."""
        if self._connection is None or self._connection.closed:
            try:
                self._connection = self._connect()
                self._connection.execute("set statement_timeout = '20s'")
            except psycopg.OperationalError as error:
                raise ConnectionLostError from error
            self.pid = self._connection.info.backend_pid
        return self._connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def send(self, text: str, values: tuple[Any, ...] | None = None) -> list[tuple[Any, ...]]:
        """Execute a statement; return its rows."""
        connection = self.open()
        try:
            cursor = connection.execute(text.encode(), values)
            return cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            if is_dead(error, connection):
                self._connection = None
                raise ConnectionLostError from error
            raise

    def roll_back(self) -> None:
        try:
            self.send("rollback")
        except (psycopg.Error, ConnectionLostError):
            self._connection = None

    def begin(self, plan: Plan) -> None:
        """Begin a transaction as the plan's tenant."""
        for text in begin_sql(plan):
            self.send(text)

    def execute(self, statement: Statement) -> None:
        """Execute a statement, and write down what it did where no trigger does."""
        if statement.lines:
            self._copy_in(statement)
            return
        if statement.form == "truncate" and self._returning:
            self._note_truncate(min(statement.sides))
        rows = self.send(statement.text(returning=self._returning))
        if self._returning and statement.parts:
            for side, op, row in rows:
                self._write_down(statement, side, op, row)

    def _write_down(self, statement: Statement, side: int, op: str, row: str) -> None:
        image = load(row)
        if op == "D":
            self.send(_WRITE_DOWN, (side, "D", row, None))
        elif image["birth"].startswith(f"{statement.tag}/"):
            self.send(_WRITE_DOWN, (side, "I", None, row))
        else:
            part = next(p for p in statement.parts if p.side == side and p.op in ("U", "M"))
            before = json.dumps(image_before(part, statement.tag, image))
            self.send(_WRITE_DOWN, (side, "U", before, row))

    def _note_truncate(self, side: int) -> None:
        table = TABLES[side]
        self.send(f"lock table {table} in access exclusive mode")
        self.send(
            "insert into soak.audit (source, side, op, who, old) "
            f"select 'client', {side}, 'D', soak.who(), to_jsonb(t) from {table} as t"
        )

    def _copy_in(self, statement: Statement) -> None:
        connection, part = self.open(), statement.parts[0]
        try:
            with connection.cursor().copy(part.sql.encode()) as copy:
                for line in statement.lines:
                    copy.write_row(line)
        except psycopg.Error as error:
            if is_dead(error, connection):
                self._connection = None
                raise ConnectionLostError from error
            raise
        if self._returning:
            births = f"select to_jsonb(t)::text from {TABLES[part.side]} as t where t.birth like %s"
            for (row,) in self.send(births, (f"{statement.tag}/%",)):
                self.send(_WRITE_DOWN, (part.side, "I", None, row))
