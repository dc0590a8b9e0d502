"""Fixtures for SQL tests: a fresh, migrated database on every PostgreSQL version at hand."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from crossfade.local.postgres import PostgresServer
from tests.folders import memory_folder

ROOT = Path(__file__).parents[2]
MIGRATIONS = sorted((ROOT / "supabase" / "migrations").glob("*.sql"))
DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
DEBIAN_15_EXTENSIONS = Path("/usr/share/postgresql/15/extension")
INSTALLED = ["18", "16"] + (["15"] if (DEBIAN_15 / "postgres").exists() else [])
# What does not hang on the version is tested on the newest one, unless somebody asks for all.
VERSIONS = INSTALLED if os.environ.get("CROSSFADE_TEST_EVERY_VERSION") else INSTALLED[:1]

Connection = psycopg.Connection[tuple[Any, ...]]
Connect = Callable[..., Connection]
_numbers = itertools.count()
_KEPT = 6

on_every_version = pytest.mark.parametrize("template", INSTALLED, indirect=True, scope="session")
on_both_ends = pytest.mark.parametrize(
    "template", VERSIONS if VERSIONS[1:] else [INSTALLED[0], INSTALLED[-1]],
    indirect=True, scope="session",
)  # fmt: skip
"""For files about what versions do differently: the newest and the oldest, or all."""

on_debian_15 = pytest.mark.parametrize(
    "template",
    [
        pytest.param(
            "15",
            marks=pytest.mark.skipif(
                not (DEBIAN_15 / "postgres").exists(), reason="needs Debian's PostgreSQL 15"
            ),
        )
    ],
    indirect=True,
    scope="session",
)
"""For tests of what the embedded PostgreSQL was built without: ICU and extensions."""


def begins_with(
    build: Callable[..., object], *values: object, **options: object
) -> pytest.MarkDecorator:
    """The test's database is a copy of one in which ``build(db, ...)`` has run.

    It runs once for tests that stand together: registering a pair takes longer than most of them.
    Where it hangs on a parameter of the test, its value is Its("name of the parameter").
    """
    return pytest.mark.begins_with(build, values, options)


@dataclass(frozen=True)
class Its:
    """A value of begins_with: what the test's own parameter of this name is."""

    parameter: str


@dataclass(frozen=True)
class Template:
    """A running server and the name of its migrated template database.

    Attributes:
        prepared: names of databases by what was done in them, see begins_with; the last few.
    """

    server: PostgresServer
    database: str
    prepared: dict[str, str] = field(default_factory=dict)

    def url(self, database: str, role: str = "postgres") -> str:
        return self.server.dsn(role, database)


def apply_migrations(url: str) -> None:
    for path in MIGRATIONS:
        with psycopg.connect(url) as connection:
            connection.execute(path.read_text())


@pytest.fixture(scope="session", params=VERSIONS)
def template(request: pytest.FixtureRequest) -> Iterator[Template]:
    version: str = request.param
    # Not pytest's own folder: it deletes the oldest ones while another run may still use them.
    with tempfile.TemporaryDirectory(
        prefix="crossfade-sql-", dir=memory_folder(), ignore_cleanup_errors=True
    ) as folder:
        Path(folder).chmod(0o755)
        data_dir = Path(folder) / f"pg{version}"
        server = PostgresServer(
            data_dir,
            None if version == "15" else int(version),
            bin_dir=DEBIAN_15 if version == "15" else None,
            durable=False,
        )
        with server:
            yield migrated(server)


def migrated(server: PostgresServer) -> Template:
    found = Template(server, "crossfade_template")
    server.bootstrap()  # the roles, which belong to the whole cluster
    server.create_database(found.database)
    server.bootstrap(found.database)
    apply_migrations(found.url(found.database))
    return found


@contextmanager
def copied(template: Template, original: str) -> Iterator[str]:
    """The name of a database that is a copy of another one, to which nobody is connected."""
    name = copy_of(template, original)
    yield name
    drop(template, name)


def copy_of(template: Template, original: str) -> str:
    name = f"test_{next(_numbers)}"
    with psycopg.connect(template.url("postgres", "supabase_admin"), autocommit=True) as admin:
        # Copying files halves the time of the usual way, which writes everything to the log.
        copy = f"template {original} strategy file_copy"
        admin.execute(f"create database {name} owner postgres {copy}")
    return name


def drop(template: Template, name: str) -> None:
    with psycopg.connect(template.url("postgres", "supabase_admin"), autocommit=True) as admin:
        admin.execute(f"drop database {name} with (force)")


def prepared(
    template: Template, build: Callable[..., object], values: tuple[Any, ...], options: Any
) -> str:
    """The name of a database in which this has run, made when no test before has wanted it."""
    key = f"{build.__module__}.{build.__qualname__} {values} {options}"
    name = template.prepared.pop(key, None)
    if name is None:
        name = copy_of(template, template.database)
        with psycopg.connect(template.url(name), autocommit=True) as db:
            build(db, *values, **options)
        if len(template.prepared) == _KEPT:
            drop(template, template.prepared.pop(next(iter(template.prepared))))
    # The last one that was wanted comes last.
    template.prepared[key] = name
    return name


@pytest.fixture
def original(request: pytest.FixtureRequest, template: Template) -> str:
    """What the test's database is a copy of."""
    mark = request.node.get_closest_marker("begins_with")
    if mark is None:
        return template.database
    build, values, options = mark.args

    def known(value: object) -> object:
        return request.node.callspec.params[value.parameter] if isinstance(value, Its) else value

    return prepared(
        template,
        build,
        tuple(known(value) for value in values),
        {name: known(value) for name, value in options.items()},
    )


@pytest.fixture
def database(template: Template, original: str) -> Iterator[str]:
    """The URL of a fresh database with bootstrap and all migrations."""
    with copied(template, original) as name:
        yield template.url(name)


@pytest.fixture
def quick_deadlocks(template: Template, database: str) -> None:
    """Let the test's sessions find deadlocks at once, where they are what it is about.

    Not for tests of runs: those give way before a client would be chosen as the victim.
    """
    with psycopg.connect(template.url("postgres", "supabase_admin"), autocommit=True) as admin:
        name = conninfo_to_dict(database)["dbname"]
        admin.execute(f"alter database {name} set deadlock_timeout = '10ms'")


@pytest.fixture(scope="module")
def shared(template: Template) -> Iterator[Connection]:
    """One migrated database for a whole module; see scratch."""
    name = f"module_{next(_numbers)}"
    with psycopg.connect(template.url("postgres", "supabase_admin"), autocommit=True) as admin:
        admin.execute(f"create database {name} owner postgres template {template.database}")
        with psycopg.connect(template.url(name), autocommit=True) as connection:
            yield connection
        admin.execute(f"drop database {name} with (force)")


@pytest.fixture
def scratch(shared: Connection) -> Iterator[Connection]:
    """A connection whose work is rolled back: for tests that need one session and no commit."""
    with shared.transaction(force_rollback=True):
        yield shared


@pytest.fixture
def connect(database: str) -> Iterator[Connect]:
    """Open more autocommit connections to the test's database, optionally acting as an API role."""
    opened: list[Connection] = []

    def open_one(role: str | None = None, *, sub: str | None = None) -> Connection:
        connection = psycopg.connect(database, autocommit=True)
        opened.append(connection)
        if role:
            connection.execute(f"set role {role}")
        if sub:
            claims = f'{{"sub":"{sub}","role":"{role}"}}'
            connection.execute("select set_config('request.jwt.claims', %s, false)", [claims])
        return connection

    yield open_one
    for connection in opened:
        connection.close()


@pytest.fixture
def db(connect: Connect) -> Connection:
    """One autocommit connection as role postgres."""
    return connect()
