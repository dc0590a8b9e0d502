"""What must be in the tables, from what clients and the owner's code wrote. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from .columns import LAST, LISTS, NUMBERS, SHARED, Image, shared_values
from .statements import Part
from .worlds import World

Key = tuple[int, ...]


@dataclass(frozen=True)
class Entry:
    """One row of soak.audit.

    Attributes:
        source: ``client``, ``owner`` (the owner's triggers) or ``engine``.
        side: 1, 2, or 3 for a clip.
        op: ``I``, ``U`` or ``D``.
        who: user id of the API client in whose session it was written.
        archived: it wrote V1 while that was an archive.
        unmirrored: the pair was in stage off.
    """

    seq: int
    source: str
    side: int
    op: str
    who: str | None
    old: Image | None
    new: Image | None
    archived: bool = False
    unmirrored: bool = False

    @property
    def is_left_behind(self) -> bool:
        """Whether V2 does not follow it: foreign keys and V1's own triggers write the archive.

        Not new rows: nobody may make one there.
        """
        return self.archived and self.op != "I"


@dataclass
class Known:
    """What the model knows of one row, by its birth.

    Attributes:
        lists: tags that each list must hold.
        last: the last value of each column, as ``shared_values`` shows it.
        keys: every key it ever had, as V1 spells it.
        clips: ids of the clips that refer to it.
        early: a trigger of another row wrote it before its own INSERT was written down.
        put_back: the side on which it was inserted again after it was deleted, or 0: what only the
            other side holds may be kept or not (LIMITS.md).
    """

    alive: bool
    lists: dict[str, Counter[str]]
    numbers: dict[str, int]
    last: Image
    keys: set[Key] = field(default_factory=set)
    clips: set[int] = field(default_factory=set)
    early: bool = False
    put_back: int = 0


def key_of(world: World, side: int, row: Image) -> Key:
    """Return the key of a row."""
    return tuple(world.part(row[name]) for name in world.keys(side))


def replay(world: World, entries: Iterable[Entry], state: dict[str, Known]) -> dict[str, Known]:
    """Add what was written to what is known: every row that was ever made, by its birth.

    The entries of one row stand in the order in which its versions were made: whoever wrote one
    held the row, in one of the tables, until the transaction ended.
    """
    for entry in entries:
        if entry.source != "engine" and not entry.is_left_behind:
            _apply(world, state, entry)
    return state


def _apply(world: World, state: dict[str, Known], entry: Entry) -> None:
    row = entry.new or entry.old
    assert row is not None
    if entry.side == 3:
        if row["birth"] in state:
            state[row["birth"]].clips.add(int(row["id"]))
        return
    known = state.setdefault(row["birth"], _unborn())
    if entry.op == "I":
        _bear(known, entry.side, row)
    elif entry.op == "D":
        known.alive = False
        known.clips = set()
    else:
        assert entry.old is not None
        assert entry.new is not None
        _edit(known, entry.side, entry.old, entry.new)
    if entry.unmirrored and key_of(world, entry.side, row) not in known.keys:
        known.put_back = entry.side  # V2 may have an older row under its key
    known.keys.add(key_of(world, entry.side, row))


def _unborn() -> Known:
    lists: dict[str, Counter[str]] = {name: Counter() for name in LISTS[2]}
    return Known(False, lists, dict.fromkeys(NUMBERS[2], 0), {}, early=True)


def _bear(known: Known, side: int, row: Image) -> None:
    values = shared_values(side, row)
    last = {name: values[name] for name in LAST}
    if not known.early:  # put back after it was deleted
        known.lists, known.numbers, known.last = _unborn().lists, _unborn().numbers, {}
        known.put_back = side
    known.last = last | known.last
    for name in LISTS[side]:
        known.lists[name] += Counter(row[name])
    for name in NUMBERS[side]:
        known.numbers[name] += int(row[name])
    known.alive, known.early = True, False


def _edit(known: Known, side: int, old: Image, new: Image) -> None:
    for name in LISTS[side]:
        known.lists[name] += Counter(new[name]) - Counter(old[name])
    for name in NUMBERS[side]:
        known.numbers[name] += int(new[name]) - int(old[name])
    before, after = shared_values(side, old), shared_values(side, new)
    for name in LAST:
        if before[name] != after[name]:
            known.last[name] = after[name]


_OTHER = {"price": "0.01", "cents": 1, "spot": {"x": "0.01", "label": ""}}


def image_before(part: Part, tag: str, row: Image) -> Image:
    """Return an old image for a row that a client's UPDATE returned: without this edit."""
    old = dict(row)
    # Not what another part of the statement edited: a view shows that too.
    for name in {*LISTS[part.side]} & {*part.sets}:
        old[name] = [found for found in row[name] if found != tag]
    for name in {*NUMBERS[part.side]} & {*part.sets}:
        old[name] = int(row[name]) - 1
    names = {SHARED[name] if part.side == 2 else name for name in LAST}
    for name in names & set(part.sets):
        other = _OTHER.get(name, "~")
        old[name] = other if row[name] != other else None
    return old


def is_tag_of(tag: str, owner: str) -> bool:
    """Return whether a tag may stand in a row of this tenant (``A`` or ``B``)."""
    return bool(re.match(rf"(X:)?[OS{owner}]:", tag))
