"""What every session did, and what must be in the tables when all is said and done. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from .rows import Key, Row, RowV1, RowV2, to_v1, to_v2


@dataclass(frozen=True)
class Effect:
    """One statement's effect on one key.

    Attributes:
        row: the row as the statement left it; None when it was deleted.
        moved_from: the key the row had before, when the statement changed the key.
        key: None for TRUNCATE, which means every key.
        started_at: server time before a TRUNCATE began.
    """

    side: int
    key: Key | None
    row: Row | None
    moved_from: Key | None = None
    started_at: datetime | None = None


@dataclass
class Transaction:
    """A transaction of one session: what it ran and how it ended.

    Attributes:
        outcome: ``running``, ``committed``, ``rolled_back`` or ``unknown`` (the connection died).
        committed_at: the server's commit time; None when it did not commit.
    """

    token: str
    session: int
    isolation: str
    script: list[str] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    outcome: str = "running"
    committed_at: datetime | None = None


@dataclass
class Expected:
    """What the model knows of one key.

    Attributes:
        last: the last committed effect on the key.
        rivals: effects of other transactions with the same commit time, which may be the last.
        unsure: a TRUNCATE ran beside the last writer; the row may be there or not.
        vague: what V2 alone holds cannot be told, because the row was unsure before.
        lineage: keys whose mirror failures may have cost V2-only data of this row.
    """

    v1: RowV1 | None = None
    v2: RowV2 | None = None
    last: Effect | None = None
    at: datetime | None = None
    by: str = ""
    rivals: list[Effect] = field(default_factory=list)
    unsure: bool = False
    vague: bool = False
    lineage: set[Key] = field(default_factory=set)


def expect(transactions: Iterable[Transaction]) -> dict[Key, Expected]:
    """Replay the committed transactions in commit order.

    Two writers of one key never overlap, whichever table they write: the second one waits for
    the first one's row lock, or for its record of the mirror failure. So commit time orders them.
    """
    state: dict[Key, Expected] = {}
    done = [(t.committed_at, t) for t in transactions if t.committed_at is not None]
    for at, transaction in sorted(done, key=lambda pair: (pair[0], pair[1].token)):
        for effect in transaction.effects:
            if effect.key is None:
                for known in state.values():
                    _truncate(known, effect, at)
            else:
                _apply(state, effect, effect.key, (at, transaction.token))
    return state


def _apply(
    state: dict[Key, Expected], effect: Effect, key: Key, commit: tuple[datetime, str]
) -> None:
    known = state.setdefault(key, Expected())
    source = known if effect.moved_from is None else state.setdefault(effect.moved_from, Expected())
    old_v2 = source.v2
    vague = source.vague or source.unsure
    lineage = known.lineage | source.lineage | {key, effect.moved_from or key}
    if source is not known and effect.moved_from is not None:
        _write(source, Effect(effect.side, effect.moved_from, None), commit)
    _write(known, effect, commit)
    known.vague, known.lineage = vague, lineage
    if isinstance(effect.row, RowV1):
        known.v1, known.v2 = effect.row, to_v2(effect.row, old_v2)
    elif isinstance(effect.row, RowV2):
        # Whoever writes V2 writes the whole row: what was lost before does not matter any more.
        known.v1, known.v2 = to_v1(effect.row), effect.row
        known.vague, known.lineage = False, {key}


def _write(known: Expected, effect: Effect, commit: tuple[datetime, str]) -> None:
    at, by = commit
    if known.at != at:
        known.rivals = []
    elif known.by != by and known.last is not None:
        known.rivals.append(known.last)
    known.last, known.at, known.by, known.unsure = effect, at, by, False
    known.v1 = known.v2 = None


def _truncate(known: Expected, effect: Effect, at: datetime) -> None:
    assert effect.started_at is not None
    if known.at is not None and known.at >= effect.started_at:
        # A writer of the other table whose mirrored write gave way commits beside the TRUNCATE.
        known.unsure = True
    else:
        _write(known, Effect(effect.side, None, None), (at, ""))
