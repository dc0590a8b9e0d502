"""A round of one seed: everything in it follows from the seed but what threads do to each other."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from crossfade.local.postgres import PostgresServer

from . import tree
from .crowd import Chaos, Crowd
from .databases import Place, copied_database, text_database, world_database
from .kinds import TREES, choose_kind, suited
from .plans import Plan
from .scripts import make_script
from .shrink import Found
from .single import Mutate, Outcome, Player, no_mutation
from .tree_crowd import TreeCrowd
from .tree_single import TreePlayer
from .worlds import World, choose


@dataclass
class Rounds:
    """Where rounds run and how.

    Attributes:
        spare: gives another cluster to restore a dump in.
        mutate: breaks a rule of the engine.
        length: transactions of a single session; each of several sessions runs as many.
        crowds: share of rounds with several sessions.
        kind: of all rounds; else the seed chooses it.
    """

    server: PostgresServer
    version: int
    spare: Callable[[], PostgresServer] | None = None
    mutate: Mutate = no_mutation
    length: int = 60
    crowds: float = 0.3
    kind: str = ""
    chaos: Chaos = field(default_factory=Chaos)

    def run(self, seed: int) -> Found:
        """Run one round; its items are empty when several sessions ran."""
        rng = random.Random(seed)
        kind = choose_kind(rng)
        kind = self.kind or kind
        if kind in TREES:
            return Found(World(), (), self._tree(kind, rng))
        world = choose(rng, self.version)
        crowd = rng.random() < self.crowds
        world = suited(world, kind, crowd=crowd)
        if not crowd:
            items = make_script(rng, world, self.version, self.length, kind)
            return Found(world, tuple(items), self.play(world, items))
        with world_database(self.server, world, self.spare) as place:
            several = Crowd(
                place,
                world,
                rng,
                version=self.version,
                mutate=self.mutate,
                kind=kind,
                chaos=self.chaos,
                transactions=self.length,
            )
            return Found(world, (), several.run())

    def _tree(self, kind: str, rng: random.Random) -> Outcome:
        with text_database(self.server, tree.create_sql(kind), self.spare) as place:
            if rng.random() < self.crowds:
                return TreeCrowd(place, kind, rng, self.mutate, self.chaos).run()
            return TreePlayer(place, kind, rng, self.mutate).play(self.length)

    def play(self, world: World, items: Sequence[Plan], unwatched: int = 0) -> Outcome:
        """Play a script in a fresh database."""
        with world_database(self.server, world, self.spare) as place:
            return Player(place, world, self.mutate).play(items, unwatched=unwatched)


class Replays:
    """Plays variants of one script; what they begin with, which takes longest, is kept."""

    def __init__(self, rounds: Rounds) -> None:
        self._rounds = rounds
        self._stack = contextlib.ExitStack()
        self._begun: tuple[World, tuple[Plan, ...]] | None = None
        self._place: Place | None = None
        self._log: list[str] = []

    def __enter__(self) -> Replays:
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def play(self, world: World, items: Sequence[Plan], unwatched: int = 0) -> Outcome:
        """Play a script in a fresh database; look at the tables from an item on."""
        engine = [item.engine for item in items]
        count = engine.index("register") + 1 if "register" in engine else 0
        if unwatched < count:
            return self._rounds.play(world, items, unwatched)
        self._begin(world, tuple(items[:count]))
        assert self._place is not None
        with copied_database(self._place) as place:
            player = Player(place, world, self._rounds.mutate)
            outcome = player.play(items[count:], unwatched=unwatched - count)
        outcome.played += count
        outcome.log[:0] = self._log
        return outcome

    def _begin(self, world: World, items: tuple[Plan, ...]) -> None:
        if self._begun == (world, items):
            return
        self._stack.close()
        rounds = self._rounds
        self._place = self._stack.enter_context(world_database(rounds.server, world, rounds.spare))
        begun = Player(self._place, world, rounds.mutate).play(items, unwatched=len(items))
        self._begun, self._log = (world, items), begun.log
