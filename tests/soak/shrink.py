"""Look for the smallest script, in the plainest world, that goes wrong in the same way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from .plans import Plan
from .single import Outcome
from .worlds import World

Play = Callable[[World, Sequence[Plan]], Outcome]


@dataclass(frozen=True)
class Found:
    """A script that goes wrong, and how."""

    world: World
    items: tuple[Plan, ...]
    outcome: Outcome

    @property
    def kind(self) -> str:
        return kind_of(self.outcome)


def kind_of(outcome: Outcome) -> str:
    """Return what went wrong, without the names that change when a script gets smaller."""
    first = outcome.problems[0]
    return (
        f"{first.kind} {first.text.split(':')[0]}" if first.kind == "other problem" else first.kind
    )


def shrink(play: Play, found: Found, *, seconds: float) -> Found:
    """Return the smallest that was found in this time."""
    end = time.monotonic() + seconds
    found = replace(found, items=found.items[: found.outcome.played])
    progress = True
    while progress and time.monotonic() < end:
        progress = False
        for world, items in _smaller(found):
            if time.monotonic() > end:
                break
            outcome = play(world, items)
            if outcome.problems and kind_of(outcome) == found.kind:
                found = Found(world, tuple(items[: outcome.played]), outcome)
                progress = True
                break
    return found


def _smaller(found: Found) -> Iterator[tuple[World, Sequence[Plan]]]:
    items = found.items
    size = len(items) // 2
    while size:  # large pieces first
        for start in range(0, len(items), size):
            left = (*items[:start], *items[start + size :])
            if any(item.engine == "register" for item in left):
                yield found.world, left
        size //= 2
    for number, item in enumerate(items):
        for less in _less(item):
            yield found.world, (*items[:number], less, *items[number + 1 :])
    for world in found.world.simpler():
        yield world, items


def _less(item: Plan) -> Iterator[Plan]:
    steps = item.steps
    for number, step in enumerate(steps):
        if step.statement is not None and step.command == "" and len(steps) > 1:
            yield replace(item, steps=(*steps[:number], *steps[number + 1 :]))
    if any(step.command for step in steps):
        yield replace(item, steps=tuple(step for step in steps if step.statement))
    plain = (
        replace(item, isolation="read committed"),
        replace(item, lock_timeout_ms=0),
        replace(item, tenant="O"),
    )
    yield from (found for found in plain if found != item)
