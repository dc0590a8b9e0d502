"""A round of one seed: everything in it follows from the seed but what threads do to each other."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from crossfade.local.postgres import PostgresServer

from .crowd import Chaos, Crowd
from .databases import world_database
from .plans import Plan
from .scripts import make_script
from .shrink import Found
from .single import Mutate, Outcome, Player, no_mutation
from .worlds import World, choose


@dataclass
class Rounds:
    """Where rounds run and how.

    Attributes:
        spare: gives another cluster to restore a dump in.
        mutate: breaks a rule of the engine.
        length: transactions of a single session.
        crowds: share of rounds with several sessions.
    """

    server: PostgresServer
    version: int
    spare: Callable[[], PostgresServer] | None = None
    mutate: Mutate = no_mutation
    length: int = 60
    crowds: float = 0.3
    chaos: Chaos = field(default_factory=Chaos)

    def run(self, seed: int) -> Found:
        """Run one round; its items are empty when several sessions ran."""
        rng = random.Random(seed)
        world = choose(rng, self.version)
        if rng.random() >= self.crowds:
            items = make_script(rng, world, self.version, self.length)
            return Found(world, tuple(items), self.play(world, items))
        with world_database(self.server, world, self.spare) as place:
            crowd = Crowd(
                place, world, rng, version=self.version, mutate=self.mutate, chaos=self.chaos
            )
            return Found(world, (), crowd.run())

    def play(self, world: World, items: Sequence[Plan], unwatched: int = 0) -> Outcome:
        """Play a script in a fresh database."""
        with world_database(self.server, world, self.spare) as place:
            return Player(place, world, self.mutate).play(items, unwatched=unwatched)
