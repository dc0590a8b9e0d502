"""A pair that is mirrored already: registering one takes longer than most of these tests."""

from __future__ import annotations

import pytest

from tests.sql.cases.pairs import dualwrite
from tests.sql.conftest import Connection, Template, prepared


@pytest.fixture
def original(request: pytest.FixtureRequest, template: Template, original: str) -> str:
    """Also for tests that ask for it by the name of its connection."""
    if "mirrored" in request.fixturenames:
        return prepared(template, dualwrite, (), {})
    return original


@pytest.fixture
def mirrored(db: Connection) -> Connection:
    """One autocommit connection; the plain pair is in dualwrite, V2 open to everybody."""
    return db
