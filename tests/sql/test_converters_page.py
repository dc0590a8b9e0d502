"""The page on converters: what it calls wrong is caught by the law it names, the right passes."""

from __future__ import annotations

import re
from typing import Any

import pytest

from .conftest import ROOT, Connection
from .control import call

PAGE = (ROOT / "sql" / "CONVERTERS.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sql\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
TABLES, RIGHT, *MISTAKES = BLOCKS
PARTS = re.compile(
    r"-- wrong, law (\d)(?:, after: ([^\n]+))?\n(.*?)\n-- right\n(.*?)\n\Z", re.DOTALL
)


def found(db: Connection) -> list[dict[str, Any]]:
    """Violations of both sides."""
    return [item for side in (1, 2) for item in
            call(db, "check_conversion", "tickets", side)["violations"]]  # fmt: skip


@pytest.fixture
def tickets(scratch: Connection) -> Connection:
    scratch.execute(TABLES + RIGHT)
    tables = ("public.tickets", "public.tickets_v2", "public.tickets_to_v2", "public.tickets_to_v1")
    call(scratch, "register_pair", "tickets", *tables)
    return scratch


def test_the_right_pair_keeps_the_laws(tickets: Connection) -> None:
    assert found(tickets) == []


@pytest.mark.parametrize("block", MISTAKES, ids=range(len(MISTAKES)))
def test_a_mistake_is_caught_by_the_law_that_is_named(block: str, tickets: Connection) -> None:
    match = PARTS.fullmatch(block)
    assert match, block
    law, after, wrong, right = match.groups()
    assert RIGHT.count(right) >= 1, f"the page's converters do not hold {right!r}"
    tickets.execute(RIGHT.replace(right, wrong, 1))
    if after:
        assert wrong == right
        tickets.execute(after)
    assert int(law) in {item["law"] for item in found(tickets)}


def test_there_are_as_many_mistakes_as_headings() -> None:
    mistakes = PAGE.split("## Common mistakes")[1].split("## What registration")[0]
    assert len(re.findall(r"^\*\*.+\*\*", mistakes, re.MULTILINE)) == len(MISTAKES) >= 10
