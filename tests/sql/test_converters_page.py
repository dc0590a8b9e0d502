"""The page on converters: what it calls wrong is caught by the law it names, the right passes."""

from __future__ import annotations

import re
from typing import Any

import pytest

from .conftest import ROOT, Connection
from .control import call

PAGE = (ROOT / "sql" / "CONVERTERS.md").read_text(encoding="utf-8")
EXAMPLE, REST = PAGE.split("## What registration refuses", 1)
BLOCK = re.compile(r"^```sql\n(.*?)^```", re.MULTILINE | re.DOTALL)
TABLES, RIGHT, *MISTAKES = BLOCK.findall(EXAMPLE)
(NARROW,) = BLOCK.findall(REST)
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


def test_ids_that_v1_cannot_hold_are_left_out_as_the_page_says(scratch: Connection) -> None:
    scratch.execute(f"""
        create table public.tickets (id integer primary key, note text);
        create table public.tickets_v2 (id bigint primary key, note text);
        create function public.tickets_to_v2(new_v1 public.tickets, old_v2 public.tickets_v2)
        returns setof public.tickets_v2 language sql stable
        begin atomic select new_v1.id, new_v1.note; end;
        {NARROW}""")
    tables = ("public.tickets", "public.tickets_v2", "public.tickets_to_v2", "public.tickets_to_v1")
    call(scratch, "register_pair", "tickets", *tables)
    call(scratch, "set_stage", "tickets", "dualwrite", "test")
    scratch.execute("insert into public.tickets_v2 values (7, 'a'), (3000000000, 'b')")
    scratch.execute("update public.tickets_v2 set note = 'c'")
    assert scratch.execute("select * from public.tickets").fetchall() == [(7, "c")]
    assert scratch.execute("select * from crossfade.mirror_failures").fetchall() == []
