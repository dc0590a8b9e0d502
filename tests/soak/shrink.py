"""Look for the smallest script, in the plainest world, that goes wrong in the same way."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from .plans import Plan, Step
from .single import Outcome
from .worlds import World


class Play(Protocol):
    """Plays a script; looks at the tables from item number ``unwatched`` on."""

    def __call__(self, world: World, items: tuple[Plan, ...], unwatched: int, /) -> Outcome: ...


@dataclass(frozen=True)
class Found:
    """A script that goes wrong, and how."""

    world: World
    items: tuple[Plan, ...]
    outcome: Outcome

    @property
    def kind(self) -> str:
        """Return what went wrong, without the names that change when a script gets smaller."""
        return f"{self.outcome.problems[0].kind} {self.outcome.problems[0].sort}"


def shrink(play: Play, found: Found, *, seconds: float) -> Found:
    """Return the smallest that was found in this time."""
    hunt = _Hunt(play, replace(found, items=found.items[: found.outcome.played]), seconds)
    size = -1
    while size != hunt.size() and not hunt.is_late():
        size = hunt.size()
        hunt.without_items()
        hunt.without_steps()
        hunt.in_simpler_worlds()
        for number in range(len(hunt.found.items)):
            hunt.plainer(number)
    return hunt.found


class _Hunt:
    def __init__(self, play: Play, found: Found, seconds: float) -> None:
        self.found = found
        self._play = play
        self._end = time.monotonic() + seconds

    def is_late(self) -> bool:
        return time.monotonic() > self._end

    def size(self) -> int:
        items = self.found.items
        return len(items) + sum(len(item.steps) for item in items)

    def _fails(self, world: World, items: tuple[Plan, ...]) -> bool:
        """Whether this goes wrong as well, in its last item; then it is what was found."""
        if self.is_late() or not items:
            return False
        outcome = self._play(world, items, len(items) - 1)
        again = Found(world, items[: outcome.played], outcome)
        if not outcome.problems or again.kind != self.found.kind:
            return False
        self.found = again
        return True

    def without_items(self) -> None:
        size = len(self.found.items) // 2
        while size:
            start = 0
            while start < len(self.found.items):
                items = self.found.items
                if not self._fails(self.found.world, (*items[:start], *items[start + size :])):
                    start += size
            size //= 2

    def without_steps(self) -> None:
        for number in range(len(self.found.items)):
            self._replace(number, _without_commands)
            for place in reversed(range(len(self._steps(number)))):
                self._replace(number, functools.partial(_without_step, place=place))

    def _steps(self, number: int) -> tuple[Step, ...]:
        return self.found.items[number].steps if number < len(self.found.items) else ()

    def plainer(self, number: int) -> None:
        self._replace(number, lambda item: replace(item, isolation="read committed"))
        self._replace(number, lambda item: replace(item, lock_timeout_ms=0))
        self._replace(number, lambda item: replace(item, tenant="O"))

    def in_simpler_worlds(self) -> None:
        progress = True
        while progress:
            worlds = self.found.world.simpler()
            progress = any(self._fails(world, self.found.items) for world in worlds)

    def _replace(self, number: int, change: Callable[[Plan], Plan]) -> None:
        items = self.found.items
        if number < len(items) and (changed := change(items[number])) != items[number]:
            self._fails(self.found.world, (*items[:number], changed, *items[number + 1 :]))


def _without_commands(item: Plan) -> Plan:
    return replace(item, steps=tuple(step for step in item.steps if step.statement))


def _without_step(item: Plan, place: int) -> Plan:
    return replace(item, steps=(*item.steps[:place], *item.steps[place + 1 :]))
