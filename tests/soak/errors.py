"""Which errors a statement may answer with. Pure."""

from __future__ import annotations

import psycopg

from .statements import Statement
from .worlds import World

RETRIED = {
    "40P01": "deadlocks", "40001": "serialization failures", "55P03": "lock timeouts"
}  # fmt: skip
# Duplicate keys, foreign keys, a row that an upsert or MERGE meets twice, policies, and keys that
# the table makes: what tables like these answer without an engine too.
_ORDINARY = ("23505", "23503", "21000", "42501", "428C9")
_CLOSED = ("CF_CLOSED", "CF_FENCED")
_ARCHIVED = "CF_ARCHIVED"


# What nobody can do to a view, and to a row that one statement writes by both of its names.
_OF_VIEWS = {"upsert": ("42P10",), "truncate": ("42809",), "merge": ("42809", "0A000"),
             "same row": ("27000",)}  # fmt: skip


def is_expected(
    world: World, statement: Statement | None, error: psycopg.Error, *, retired: bool = False
) -> bool:
    """Return whether a client must expect this answer; None stands for COMMIT.

    Args:
        retired: V1's name is, or may have been, a view.
    """
    state = error.sqlstate or ""
    sides = statement.sides if statement else {1, 2}
    if state in RETRIED:
        return True
    if retired and statement and 1 in sides and state in _OF_VIEWS.get(statement.form, ()):
        return True
    if state in ("23514", "42P01") and world.parted and 2 in sides:
        return True  # by the name of a partition, which may be gone
    if state == "0A000" and world.parted and 2 in sides:
        return True  # a BEFORE trigger of the owner's would move the row to another partition
    if state == "23514" and retired:
        return True  # V1's name is V2 then
    if state == "23514":
        # V2's own CHECK. A client of V1 must never notice it, unless the pair's policy says so.
        return 2 in sides or world.policy == "raise"
    if state == "55006":
        # A deferred check of a row is still to come, also of one that the mirror wrote.
        return statement is not None and statement.form == "truncate"
    if state == "PT409":
        detail = error.diag.message_detail or ""
        if _ARCHIVED in detail:
            return 1 in sides or not statement or statement.form == "signup"
        return 2 in sides and any(code in detail for code in _CLOSED)
    return state in _ORDINARY
