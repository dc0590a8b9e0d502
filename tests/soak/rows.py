"""Rows of both tables and the two conversions, in Python and independent of the SQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Key = tuple[int, int]


@dataclass(frozen=True)
class RowV1:
    owner: str | None
    token: str
    body: str | None
    cents: int | None


@dataclass(frozen=True)
class RowV2:
    owner: str | None
    token: str
    parts: tuple[str | int | None, ...]
    cents: int | None  # the column amount, in cents
    pinned: bool
    note: str | None


Row = RowV1 | RowV2


def first(parts: Sequence[str | int | None]) -> str | None:
    """Return what ``parts ->> 0`` gives."""
    return None if not parts or parts[0] is None else str(parts[0])


def to_v2(new: RowV1, old: RowV2 | None) -> RowV2:
    """Convert as box_to_v2 does: what only V2 holds survives unless the body changed."""
    if old is not None and first(old.parts) == new.body:
        parts = old.parts
    else:
        parts = () if new.body is None else (new.body,)
    pinned, note = (old.pinned, old.note) if old is not None else (False, None)
    return RowV2(new.owner, new.token, parts, new.cents, pinned, note)


def to_v1(new: RowV2) -> RowV1:
    """Convert as box_to_v1 does: V1 holds nothing that V2 does not."""
    return RowV1(new.owner, new.token, first(new.parts), new.cents)


def read_row(side: int, values: Sequence[Any]) -> Row:
    """Make a row of the value columns of a query with ``select_list``."""
    if side == 1:
        owner, token, body, cents = values
        return RowV1(owner, token, body, cents)
    owner, token, parts, amount, pinned, note = values
    cents = None if amount is None else int(amount * 100)
    return RowV2(owner, token, tuple(parts), cents, pinned, note)
