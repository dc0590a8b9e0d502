"""The model itself: what it expects and what the judge finds."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from .journal import Effect, Transaction, expect
from .judge import judge
from .plans import Habits, Known, make_plan
from .rows import Key, Row, RowV1, RowV2, to_v1, to_v2
from .shape import SHAPES, Shape

START = datetime(2026, 1, 1, tzinfo=UTC)
KEY = (1, 7)
OLD, NEW = RowV1(None, "old", "a", 5), RowV1(None, "new", "b", None)
RICH = RowV2(None, "rich", ("a", 7), 5, pinned=True, note="n")


def committed(second: float, *effects: Effect) -> Transaction:
    at = START + timedelta(seconds=second)
    return Transaction(f"t{second}", 1, "read committed", effects=list(effects), committed_at=at)


def write(row: Row, key: Key = KEY, moved_from: Key | None = None) -> Effect:
    return Effect(1 if isinstance(row, RowV1) else 2, key, row, moved_from)


def verdict_of(
    transactions: list[Transaction], v1: Row | None, v2: Row | None, *, failed: bool = False
) -> tuple[int, int]:
    """Return how many keys are lost and wrong when KEY holds these rows."""
    found = judge(
        expect(transactions),
        {} if v1 is None else {KEY: v1},
        {} if v2 is None else {KEY: v2},
        {KEY} if failed else set(),
    )
    return len(found.lost), len(found.wrong)


def test_last_commit_wins_whatever_the_order_of_the_journal() -> None:
    history = [committed(2, write(NEW)), committed(1, write(OLD))]
    assert verdict_of(history, NEW, to_v2(NEW, None)) == (0, 0)
    assert verdict_of(history, OLD, to_v2(OLD, None)) == (1, 0)


def test_what_did_not_commit_is_not_expected() -> None:
    undone = Transaction("x", 1, "read committed", effects=[write(NEW)], outcome="rolled_back")
    assert verdict_of([committed(1, write(OLD)), undone], OLD, to_v2(OLD, None)) == (0, 0)


def test_missing_row_of_one_table_is_lost() -> None:
    assert verdict_of([committed(1, write(OLD))], OLD, None) == (1, 0)
    assert verdict_of([committed(1, write(OLD))], None, to_v2(OLD, None)) == (1, 0)


def test_row_after_its_delete_is_wrong() -> None:
    history = [committed(1, write(OLD)), committed(2, Effect(2, KEY, None))]
    assert verdict_of(history, None, None) == (0, 0)
    assert verdict_of(history, None, to_v2(OLD, None)) == (0, 1)


def test_edit_of_v1_must_keep_what_only_v2_holds() -> None:
    edited = RowV1(None, "edited", "a", 9)
    history = [committed(1, write(RICH)), committed(2, write(edited))]
    kept = RowV2(None, "edited", ("a", 7), 9, pinned=True, note="n")
    assert verdict_of(history, edited, kept) == (0, 0)
    assert verdict_of(history, edited, to_v2(edited, None)) == (0, 1)


def test_key_with_a_mirror_failure_may_have_lost_v2_only_data_but_no_write() -> None:
    edited = RowV1(None, "edited", "a", 9)
    history = [committed(1, write(RICH)), committed(2, write(edited))]
    assert verdict_of(history, edited, to_v2(edited, None), failed=True) == (0, 0)
    assert verdict_of(history, to_v1(RICH), RICH, failed=True) == (1, 0)
    assert verdict_of(history, edited, RICH, failed=True) == (0, 1)


def test_moved_row_leaves_its_old_key_and_takes_v2_only_data_along() -> None:
    moved = RowV1(None, "moved", "a", 5)
    history = [committed(1, write(RICH, (1, 1))), committed(2, write(moved, KEY, (1, 1)))]
    assert verdict_of(history, moved, to_v2(moved, RICH)) == (0, 0)
    assert verdict_of(history, moved, to_v2(moved, None)) == (0, 1)
    assert expect(history)[(1, 1)].v1 is None


@pytest.mark.parametrize(("truncated_at", "present"), [(0.5, (1, 0)), (2, (0, 0))])
def test_truncate_removes_what_was_committed_before_it_began(
    truncated_at: float, present: tuple[int, int]
) -> None:
    began = START + timedelta(seconds=truncated_at)
    history = [committed(1, write(OLD)), committed(3, Effect(1, None, None, started_at=began))]
    gone = verdict_of(history, None, None)
    assert gone == (0, 0)
    # A writer that committed while the TRUNCATE ran may have come after it.
    stays = verdict_of(history, OLD, to_v2(OLD, None))
    assert stays == ((0, 0) if present == (1, 0) else (0, 1))


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_same_seed_makes_the_same_script(shape: Shape) -> None:
    def script() -> list[str]:
        rng, known = random.Random(5), Known(1, {(1, n) for n in range(1, 30)}, set(), 30)
        plans = [make_plan(rng, shape, known, Habits(None)) for _ in range(200)]
        return [s.statement.sql for p in plans for s in p.steps if s.statement]

    assert script() == script()
    assert len({text.split(" ")[0] for text in script()}) >= 6
