"""What a round is mostly about, which its seed chooses. Pure."""

from __future__ import annotations

import dataclasses
import random

from .worlds import World

# Each with its share of the rounds.
KINDS = {"mirror": 6, "retired": 2}


def choose_kind(rng: random.Random) -> str:
    """Return a random kind."""
    return rng.choices(list(KINDS), list(KINDS.values()))[0]


def suited(world: World, kind: str, *, crowd: bool) -> World:
    """Return the world without what would keep a round of this kind from what it is about."""
    if kind == "retired":
        # Cascades into an archive are not mirrored: several sessions cannot tell what is left.
        world = dataclasses.replace(world, parents="none") if crowd else world
        # A view needs a converter that PostgreSQL can inline; what V2 refuses bars the way.
        return dataclasses.replace(world, called=False, deferrable_key=False, small=False)
    return world
