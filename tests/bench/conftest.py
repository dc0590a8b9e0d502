"""What the benches share: a server, a database with the measured pair, the report."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from crossfade.local.postgres import PostgresServer

from . import pair
from .measure import ROOT, Connection, Report


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    """A server as durable as a real one, except where a row says otherwise.

    No autovacuum, which would hit one side and not the other; the benches vacuum themselves.
    """
    settings = {"autovacuum": "off", "jit": "off"}
    with tempfile.TemporaryDirectory(prefix="crossfade-bench-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        with PostgresServer(Path(name) / "data", settings=settings) as server:
            server.bootstrap()
            with psycopg.connect(server.dsn("supabase_admin"), autocommit=True) as admin:
                admin.execute("grant pg_checkpoint to postgres")
                admin.execute("grant set on parameter track_functions to postgres")
            yield server


@pytest.fixture(scope="module", params=pair.KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """How the converters of the measured pair are written."""
    return str(request.param)


@pytest.fixture
def db(server: PostgresServer, kind: str, request: pytest.FixtureRequest) -> Iterator[Connection]:
    """A fresh database with the migrations and the measured pair, in stage off."""
    with database(server, request.node.originalname[:60], kind) as connection:
        yield connection


@contextmanager
def database(server: PostgresServer, name: str, kind: str) -> Iterator[Connection]:
    """Create a database, install everything, and drop it."""
    url = server.create_database(name)
    try:
        server.bootstrap(name)
        with psycopg.connect(url, autocommit=True) as connection:
            for file in sorted((ROOT / "supabase" / "migrations").glob("*.sql")):
                connection.execute(file.read_bytes())
            pair.create(connection, kind)
            yield connection
    finally:
        admin_url = server.dsn("supabase_admin", "postgres")
        with psycopg.connect(admin_url, autocommit=True) as admin:
            admin.execute(f"drop database {name} with (force)".encode())


@pytest.fixture(scope="session")
def report() -> Iterator[Report]:
    """Collect the rows; write them at the end, also when one does not hold."""
    report = Report()
    yield report
    report.write()
