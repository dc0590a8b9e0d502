"""Databases of a round: made from the migrated template, dropped, crashed."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import psycopg

from crossfade.local.postgres import PostgresServer
from tests.sql.conftest import DEBIAN_15, migrated

from .client import Connection
from .worlds import World, create_sql

SETTINGS = {"deadlock_timeout": "60ms", "log_min_messages": "fatal", "checkpoint_timeout": "60s"}
_numbers = itertools.count()


def make_server(folder: Path, version: int) -> PostgresServer:
    """Return a server that keeps what it confirmed through a crash."""
    folder.chmod(0o755)
    if version == 15:
        return PostgresServer(folder / "pg15", bin_dir=DEBIAN_15, settings=SETTINGS)
    return PostgresServer(folder / f"pg{version}", version=version, settings=SETTINGS)


@dataclass
class Place:
    """A database on a running server; both may change when it is dumped and restored.

    Attributes:
        spare: gives another cluster, started and with the roles.
    """

    server: PostgresServer
    database: str
    spare: Callable[[], PostgresServer] | None = None

    def connect(self, role: str = "postgres") -> Connection:
        """Open an autocommit connection, waiting for a server that restarts."""
        deadline = time.monotonic() + 60
        while True:
            try:
                url = self.server.dsn(role, self.database)
                return psycopg.connect(url, autocommit=True)
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)


def admin(server: PostgresServer) -> Connection:
    return psycopg.connect(server.dsn("supabase_admin", "postgres"), autocommit=True)


def new_name() -> str:
    return f"soak_{os.getpid()}_{next(_numbers)}"


def drop(place: Place) -> None:
    with admin(place.server) as connection:
        connection.execute(f"drop database if exists {place.database} with (force)".encode())


@contextlib.contextmanager
def world_database(
    server: PostgresServer, world: World, spare: Callable[[], PostgresServer] | None = None
) -> Iterator[Place]:
    """Make a database that holds the world; it is dropped in the end, wherever it is by then."""
    with text_database(server, create_sql(world), spare) as place:
        yield place


@contextlib.contextmanager
def text_database(
    server: PostgresServer, text: str, spare: Callable[[], PostgresServer] | None = None
) -> Iterator[Place]:
    """Make a database of this SQL; it is dropped in the end, wherever it is by then."""
    with copied_database(Place(server, "crossfade_template", spare)) as place:
        with place.connect() as connection:
            connection.execute(text.encode())
        yield place


@contextlib.contextmanager
def copied_database(source: Place) -> Iterator[Place]:
    """Copy a database that nobody uses."""
    place = replace(source, database=new_name())
    with admin(place.server) as connection:
        connection.execute(
            f"create database {place.database} owner postgres "
            f"template {source.database} strategy file_copy".encode()
        )
    try:
        yield place
    finally:
        drop(place)


def ready(server: PostgresServer) -> PostgresServer:
    """Give a started server the migrated template database."""
    migrated(server)
    return server


def crash(server: PostgresServer) -> None:
    """SIGKILL the server with all its processes, as a power cut would end them."""
    processes: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(server.pid)
        processes = [parent, *parent.children(recursive=True)]
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    psutil.wait_procs(processes, timeout=10)
