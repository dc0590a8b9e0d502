"""The model itself: what it expects, and what the judge finds."""

from __future__ import annotations

import random
from typing import Any

import pytest

from .columns import Image
from .judge import Excuses, foreign, judge, read_tables
from .model import Entry, image_before, replay
from .scripts import make_script
from .statements import Part, psql_text
from .worlds import TENANTS, World, choose

WORLD = World()
A, B = TENANTS["A"], TENANTS["B"]


def note(number: int = 1, **more: Any) -> Image:
    """A row of V1 as to_jsonb shows it."""
    row: Image = dict.fromkeys(
        ("folder_id", "label_id", "pos", "title", "mood", "price", "spot", "happens", "meta",
         "mark", "slug", "updated_at", "edited", "loud")
    )  # fmt: skip
    row |= {"id": number, "birth": f"A:{number}", "owner_id": A, "log1": ["A:x"], "log2": []}
    return row | {"logs": [], "hits1": 1, "hits2": 0, "hits": 0} | more


def card(row: Image, **more: Any) -> Image:
    """The row of V2 that belongs to a note."""
    names = {"id": "card_id", "owner_id": "org", "pos": "place", "title": "heading",
             "price": "cents"}  # fmt: skip
    found = {names.get(name, name): value for name, value in row.items()}
    return found | {"log_x": [], "reads": 0, "pinned": False} | more


def entry(
    op: str, old: Image | None, new: Image | None, side: int = 1, source: str = "client"
) -> Entry:
    return Entry(1, source, side, op, None, old, new)


def kinds(
    entries: list[Entry],
    v1: list[Image],
    v2: list[Image],
    excuses: Excuses = Excuses(),  # noqa: B008
) -> list[str]:
    """What is wrong when these rows are there after these writes."""
    found = judge(WORLD, replay(WORLD, entries, {}), read_tables(v1, v2, []), excuses)
    return [problem.kind for problem in found]


MADE = entry("I", None, note())
EDITED = note(log1=["A:x", "A:y"], hits1=2, title="new")
EDIT = entry("U", note(), EDITED)


def test_rows_that_agree_are_right() -> None:
    assert kinds([MADE], [note()], [card(note())]) == []
    assert kinds([MADE, EDIT], [EDITED], [card(EDITED)]) == []
    assert kinds([MADE, entry("D", note(), None)], [], []) == []
    assert kinds([MADE], [note()], [], Excuses(copied=False)) == []


def test_row_in_neither_table_is_lost() -> None:
    assert kinds([MADE], [], []) == ["lost row"]


def test_row_in_one_table_is_a_silent_difference_unless_a_failure_is_open() -> None:
    assert kinds([MADE], [note()], []) == ["silent difference"]
    assert kinds([MADE], [note()], [], Excuses(open=frozenset({(1,)}))) == []
    # An open failure excuses that table only which did not get the write.
    assert kinds([MADE], [], [card(note())], Excuses(open=frozenset({(2,)}))) != []


def test_edit_missing_from_both_tables_is_lost() -> None:
    assert set(kinds([MADE, EDIT], [note()], [card(note())])) == {"lost edit"}


def test_own_edit_is_lost_in_spite_of_an_open_failure() -> None:
    excuse = Excuses(open=frozenset({(1,)}))
    assert set(kinds([MADE, EDIT], [note()], [card(note())], excuse)) == {"lost edit"}
    assert kinds([MADE, EDIT], [EDITED], [card(note())], excuse) == []


def test_last_value_of_a_column_counts() -> None:
    late = EDITED | {"title": None}
    assert kinds([MADE, EDIT], [late], [card(late)]) == ["lost edit"]


def test_edit_of_v2_alone_must_stay() -> None:
    old, new = card(note()), card(note(), log_x=["A:z"])
    edits = [MADE, entry("U", old, new, side=2)]
    assert kinds(edits, [note()], [new]) == []
    assert kinds(edits, [note()], [old]) == ["lost edit"]


def test_columns_that_differ_are_a_silent_difference() -> None:
    assert kinds([MADE], [note()], [card(note(slug="other"))]) == ["silent difference"]


def test_amounts_and_composites_are_compared_by_what_they_mean() -> None:
    row = note(price="12.50", spot={"x": "1.00", "label": "a"})
    same = card(row) | {"cents": 1250}
    assert kinds([entry("I", None, row)], [row], [same]) == []
    assert kinds([entry("I", None, row)], [row], [same | {"cents": 1251}]) == ["silent difference"]


def test_row_after_its_delete_is_wrong() -> None:
    gone = [MADE, entry("D", note(), None)]
    assert kinds(gone, [note()], [card(note())]) == ["other problem"]
    assert kinds(gone, [], [card(note())]) == ["silent difference"]


def test_what_the_engine_wrote_is_not_expected() -> None:
    copied = entry("U", note(), EDITED, source="engine")
    assert kinds([MADE, copied], [note()], [card(note())]) == []


def test_row_with_the_tag_of_another_tenant_is_foreign() -> None:
    row = note(log1=["A:x", "B:y"])
    found = kinds([entry("I", None, row)], [row], [card(row)])
    assert set(found) == {"foreign row"}
    assert kinds([entry("I", None, row)], [row | {"owner_id": B}], [card(row)])[0] == "foreign row"


@pytest.mark.parametrize("source", ["client", "owner", "engine"])
def test_write_to_a_row_of_another_tenant_is_foreign(source: str) -> None:
    theirs = Entry(1, source, 1, "U", B, {"owner_id": A}, {"owner_id": B})
    own = Entry(1, source, 2, "U", B, {"org": B}, {"org": B})
    assert [problem.kind for problem in foreign([theirs, own])] == ["foreign row"]


def test_the_counterpart_of_a_row_that_its_owner_has_deleted_goes_in_anybodys_session() -> None:
    row = {"org": A, "birth": "b"}
    gone = Entry(2, "engine", 2, "D", B, row, None)
    assert [problem.kind for problem in foreign([gone])] == ["foreign row"]
    assert foreign([gone], dead=["b"]) == []
    assert foreign([Entry(1, "client", 1, "D", A, row, None), gone]) == []
    back = Entry(1, "client", 1, "I", A, None, row)
    assert [problem.kind for problem in foreign([back, gone], dead=["b"])] == ["foreign row"]


def test_same_seed_makes_the_same_script() -> None:
    def text() -> list[str]:
        rng = random.Random(5)
        items = make_script(rng, choose(rng, 18), 18, 200)
        return [psql_text(s.statement) for i in items for s in i.steps if s.statement]

    assert text() == text()
    assert len({line.split(" ")[0] for line in text()}) >= 6


def test_an_image_that_a_view_returned_also_has_what_another_part_edited() -> None:
    part = Part(1, "U", "update ...", ("log1", "hits1"))
    row: Image = {"log1": ["B:s.1.0"], "log2": ["B:s.1.0"], "logs": [], "hits1": 2, "hits2": 5}
    before = image_before(part, "B:s.1.0", row)
    assert before == {**row, "log1": [], "hits1": 1}
