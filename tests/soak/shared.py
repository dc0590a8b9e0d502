"""What sessions, engine workers and conductor share during a round."""

from __future__ import annotations

import collections
import threading
from dataclasses import dataclass, field

from .databases import Place
from .worlds import World


@dataclass
class Shared:
    """One round's state; threads write to it.

    Attributes:
        merges: RETURNING works with MERGE.
        sides: what a transaction that begins now may write.
        gate: held while sides are read or changed.
        archived: V1 has been an archive in this round.
        retired: V1's name has been, or is about to be, a view in this round.
        problems: what must not be; each fails the round.
    """

    place: Place
    world: World
    merges: bool
    sides: tuple[int, ...] = (1,)
    gate: threading.Lock = field(default_factory=threading.Lock)
    archived: bool = False
    retired: bool = False
    stop: threading.Event = field(default_factory=threading.Event)
    counts: collections.Counter[str] = field(default_factory=collections.Counter)
    problems: list[str] = field(default_factory=list)

    def count(self, name: str, number: int = 1) -> None:
        with self.gate:
            self.counts[name] += number
