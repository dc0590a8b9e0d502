"""What the judge of threads and posts takes for a loss, and what not."""

from __future__ import annotations

from typing import Any

import pytest

from .tree_judge import replay

_POST = {"id": 1, "thread_id": 1, "birth": "p", "title": None, "log1": [], "log2": [], "log_x": []}


def entry(source: str, tab: str, transaction: int, old: Any, new: Any) -> dict[str, Any]:
    return {
        "source": source, "tab": tab, "archived": False, "transaction": transaction,
        "old": old, "new": new, "mirrored": True,
    }  # fmt: skip


@pytest.mark.parametrize(("deleter", "alive"), [("client", False), ("engine", True)])
def test_a_delete_that_reaches_the_counterpart_after_an_edit_came_after_it(
    deleter: str, alive: bool
) -> None:
    edited = {**_POST, "log_x": ["x"]}
    entries = [
        entry("client", "posts", 1, None, _POST),
        entry("engine", "posts_v2", 1, None, _POST),
        entry(deleter, "posts", 2, _POST, None),
        # V1 does not have this column: nothing waits for the delete.
        entry("client", "posts_v2", 3, _POST, edited),
        entry("engine", "posts_v2", 2, edited, None),
    ]
    assert replay(entries, {})["posts", "p"].alive == alive
