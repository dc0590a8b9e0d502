"""What a round is mostly about, which its seed chooses. Pure."""

from __future__ import annotations

import dataclasses
import random

from .worlds import World

# Each with its share of the rounds.
KINDS = {"mirror": 6, "off": 1, "retired": 2, "partitions": 2, "group": 2, "carried": 2}
# Rounds of two pairs, in a world of their own.
TREES = ("group", "carried")


def choose_kind(rng: random.Random) -> str:
    """Return a random kind."""
    return rng.choices(list(KINDS), list(KINDS.values()))[0]


def suited(world: World, kind: str, *, crowd: bool) -> World:
    """Return the world without what would keep a round of this kind from what it is about."""
    if kind == "off":
        # A row that gets another key meanwhile is another row to V2.
        return dataclasses.replace(world, small=False, clips=False)
    if kind == "retired":
        # Cascades into an archive are not mirrored: several sessions cannot tell what is left.
        world = dataclasses.replace(world, parents="none") if crowd else world
        # A view needs a converter that PostgreSQL can inline; what V2 refuses bars the way.
        kind_1, kind_2 = world.identity  # nobody could change a key that V2 alone must make
        identity = (kind_1, "none" if kind_2 == "always" else kind_2)
        return dataclasses.replace(
            world, called=False, deferrable_key=False, small=False, identity=identity
        )
    if kind == "partitions":
        # What a partitioned table does not have, and a trigger that keeps rows of a partition.
        triggers = tuple(trigger for trigger in world.triggers if trigger != "keep")
        world = dataclasses.replace(world, parted=True, two_keys=True, audited=True, clips=False)
        world = dataclasses.replace(world, identity=(world.identity[0], "none"), small=False)
        return dataclasses.replace(world, deferrable_key=False, triggers=triggers)
    return world
