"""A pair that is mirrored already: registering one takes longer than most of these tests."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.sql.cases.pairs import dualwrite
from tests.sql.conftest import Connection, Template, copied


@pytest.fixture(scope="module")
def prepared(template: Template) -> Iterator[str]:
    """The name of a database in which the plain pair is in dualwrite, and V2 open to everybody."""
    with copied(template, template.database) as name:
        with psycopg.connect(template.url(name), autocommit=True) as db:
            dualwrite(db)
        yield name


@pytest.fixture
def original(request: pytest.FixtureRequest, template: Template) -> str:
    """What the test's database is a copy of: of the prepared one where it asks for that."""
    if "mirrored" not in request.fixturenames:
        return template.database
    name: str = request.getfixturevalue("prepared")
    return name


@pytest.fixture
def mirrored(db: Connection) -> Connection:
    """One autocommit connection, as db, to a copy of the prepared database."""
    return db
