"""A connection that knows when it was killed, and what all parts of a round share."""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg

from .rows import Key
from .shape import Shape
from .statements import Statement
from .writer import TOKEN

Connection = psycopg.Connection[tuple[Any, ...]]
Counts = collections.Counter[str]


class ConnectionLostError(Exception):
    """The session was killed or the server crashed."""


@dataclass
class Shared:
    """What sessions, engine workers and driver share during a round.

    Attributes:
        connect: opens an autocommit connection, waiting for a server that restarts.
        policy: failure policy of the pair.
        archived: V1 has been read-only in this round.
        calm: sessions keep to their own keys, so that a stage may advance.
        v2_open: mirroring is on, so V2 may be written.
        stop: everybody ends soon.
        problems: what no statement may answer; each fails the round.
        excuses: unique violations that only a recorded mirror failure explains.
    """

    shape: Shape
    connect: Callable[[], Connection]
    policy: str = "record"
    archived: bool = False
    calm: bool = False
    v2_open: bool = False
    stop: threading.Event = field(default_factory=threading.Event)
    counts: Counts = field(default_factory=collections.Counter)
    problems: list[str] = field(default_factory=list)
    excuses: list[tuple[tuple[Key, ...], str]] = field(default_factory=list)


def is_dead(error: psycopg.Error, connection: Connection) -> bool:
    """Return whether the connection broke, not the statement."""
    return connection.closed or (error.sqlstate or "08000")[:3] in ("080", "57P")


class Client:
    """The connection of one session; ``script`` collects what is sent."""

    def __init__(self, shared: Shared, owner: str | None) -> None:
        self.script: list[str] = []
        self.pid = 0
        self._shared = shared
        self._owner = owner
        self._connection: Connection | None = None

    def open(self) -> Connection:
        """Return the connection, a new one when the last one was lost."""
        if self._connection is None or self._connection.closed:
            connection = self._shared.connect()
            self.pid = connection.info.backend_pid
            try:
                connection.execute("set statement_timeout = '60s'")
                if self._owner is not None:
                    claims = f'{{"sub":"{self._owner}","role":"authenticated"}}'
                    connection.execute(
                        "select set_config('request.jwt.claims', %s, false)", [claims]
                    )
                    connection.execute("set role authenticated")
            except psycopg.OperationalError as error:
                raise ConnectionLostError from error
            self._connection = connection
        return self._connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def roll_back(self) -> None:
        try:
            self.open().execute("rollback")
        except (psycopg.Error, ConnectionLostError):
            self._connection = None

    def send(self, text: str) -> psycopg.Cursor[tuple[Any, ...]]:
        """Execute a statement.

        Raises:
            ConnectionLostError: nobody knows whether it was executed.
        """
        connection = self.open()
        self.script.append(text[:2000])
        try:
            return connection.execute(text.encode())
        except psycopg.Error as error:
            self._check_alive(error, connection)
            raise

    def copy_in(self, statement: Statement, token: str) -> None:
        """Execute a COPY with its lines."""
        connection = self.open()
        self.script.append(f"{statement.sql} -- {statement.lines}"[:2000])
        try:
            with connection.cursor().copy(statement.sql.encode()) as copy:
                for line in statement.lines:
                    copy.write_row([v and v.replace(TOKEN, token) for v in line])
        except psycopg.Error as error:
            self._check_alive(error, connection)
            raise

    def _check_alive(self, error: psycopg.Error, connection: Connection) -> None:
        if is_dead(error, connection):
            self._connection = None
            raise ConnectionLostError from error
