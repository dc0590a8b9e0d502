"""Random scripts of one session: transactions, and what the engine's operator does in between."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

from . import statements, wide
from .plans import KEYS, MORE, Habits, Plan, Step, make_plan
from .works import CRASH, PARTITION_WORKS, RESTORE
from .worlds import World
from .writer import Writer

TO_RAMPDOWN = (
    "dualwrite", "backfill", "shadow", "repair", "verify", "live", "everybody", "rampdown",
)  # fmt: skip
_LADDER = (*TO_RAMPDOWN[2:], "complete")
_WAY_BACK = ("back", "verify", "clear", "verify", "rampdown", "dualwrite")
_END = ("both", "release", "backfill", "repair", "repair", "verify")


def preload(rng: random.Random, world: World, more: Sequence[int] = ()) -> Plan:
    """Insert rows that are there before mirroring begins."""
    steps = []
    for key in (*rng.sample(KEYS, 9), *more):
        writer = Writer(world, 1, "O", f"O:init.{key}", rng)
        steps.append(Step(statements.insert(writer, [key])))
    savepoints = [
        found
        for step in steps
        for found in (Step(command="savepoint s"), step, Step(command="release s"))
    ]
    return Plan(steps=tuple(savepoints))


def make_script(
    rng: random.Random, world: World, version: int, length: int, kind: str = "mirror"
) -> list[Plan]:
    """Return a script of about ``length`` transactions."""
    script = _Script(rng, world, version)
    items = {
        "mirror": lambda: script.items(length),
        "off": script.off_and_on,
        "retired": script.to_the_end,
        "partitions": script.with_partitions,
    }[kind]
    return [preload(rng, world), engine("register"), *items()]


def engine(work: str) -> Plan:
    return Plan(engine=work)


class _Script:
    def __init__(self, rng: random.Random, world: World, version: int) -> None:
        self._rng = rng
        self._world = world
        self._habits = Habits("s", returning=not world.audited, merges=version >= 17)
        self._number = 0

    def items(self, length: int) -> Iterator[Plan]:
        rng = self._rng
        yield engine("dualwrite")
        yield from self._plans(rng.choice((0, 4, 12)), rng.choice(((1,), (1, 2))))
        yield engine("backfill")
        while self._number < length:
            yield from self._plans(rng.randint(4, 20), (1, 2))
            yield from rng.choices(
                (self._look, self._pause, self._switch, self._ladder, self._jolt),
                (4, 2, 1, 1, 1),
            )[0]()
        for work in _END:
            yield engine(work)

    def to_the_end(self) -> Iterator[Plan]:
        """Two times to stage retired and back, by the shortest way."""
        yield engine("dualwrite")
        yield from self._plans(4, (1, 2))
        yield engine("backfill")
        for _ in range(2):
            yield from self._plans(self._rng.randint(2, 5), (1, 2))
            for work in _LADDER:
                yield engine(work)
            yield from self._plans(self._rng.randint(0, 3), (1, 2))
            yield from self._retire()
            for work in _WAY_BACK:
                yield engine(work)
        for work in _END:
            yield engine(work)

    def off_and_on(self) -> Iterator[Plan]:
        """Mirroring ends, V1 goes on alone, and V2 is made its equal again."""
        yield engine("dualwrite")
        yield from self._plans(self._rng.choice((0, 4)), (1, 2))
        yield engine("backfill")
        for _ in range(3):
            yield from self._plans(self._rng.randint(3, 8), (1, 2))
            yield engine("off")
            yield from self._plans(self._rng.randint(3, 8), (1,))
            if self._rng.random() < 0.3:
                yield from self._jolt()
            yield engine("dualwrite")
            yield from self._plans(self._rng.randint(0, 4), (1,))
            for work in ("backfill", "repair", "verify", "clear", "verify", "verify"):
                yield engine(work)
        for work in _END:
            yield engine(work)

    def with_partitions(self) -> Iterator[Plan]:
        """Partitions come and go between the writes."""
        rng = self._rng
        yield engine("dualwrite")
        yield from self._plans(6, (1, 2))
        yield engine("backfill")
        works = [*PARTITION_WORKS, rng.choice(("attach", "attach rows"))]
        rng.shuffle(works)
        others = rng.sample((self._look, self._pause, self._switch, self._ladder, self._jolt), 3)
        for number, work in enumerate(works):
            yield from self._partition(work)
            if number % 3 == 2:
                yield from others.pop()()
        for work in _END:
            yield engine(work)

    def _plans(self, count: int, sides: tuple[int, ...]) -> Iterator[Plan]:
        for _ in range(count):
            self._number += 1
            plan = make_plan(
                self._rng, self._world, replace(self._habits, sides=sides), self._number
            )
            yield replace(plan, killed=self._rng.random() < 0.02)

    def _look(self) -> Iterator[Plan]:
        yield engine(self._rng.choice(("repair", "verify", "backfill")))

    def _pause(self) -> Iterator[Plan]:
        """Only note for a while what is written, on one side: which one won could not be told."""
        yield engine("log_only")
        yield from self._plans(self._rng.randint(2, 8), (self._rng.choice((1, 1, 2)),))
        for work in ("both", "repair", "repair"):
            yield engine(work)

    def _switch(self) -> Iterator[Plan]:
        yield engine("engage")
        yield from self._plans(5, (1, 2))
        yield engine("release")

    def _ladder(self) -> Iterator[Plan]:
        """Up to some stage and back, also through the archive."""
        for work in _LADDER[: self._rng.choice((1, 4, 6, 7, 7))]:
            yield engine(work)
            if work == "complete" and {"signup", "hidden"} & set(self._world.triggers):
                # Its trigger still writes what is an archive now; some of the keys will be free.
                for key in self._rng.sample((*KEYS, *MORE), 4):
                    yield self._signup(key)
            yield from self._plans(self._rng.randint(1, 6), (1, 2))
            if self._rng.random() < 0.7:
                yield from (engine("repair"), engine("verify"))
            if work == "complete" and self._rng.random() < 0.7:
                yield from self._retire()
        for work in _WAY_BACK:
            yield engine(work)

    def _retire(self) -> Iterator[Plan]:
        """V1's name is a view for a while; clients write by both names."""
        for _ in range(self._rng.choice((1, 1, 2))):
            yield engine("retired")
            yield from self._plans(self._rng.randint(3, 10), (1, 2))
            if self._rng.random() < 0.4:
                yield from self._jolt()
                yield from self._plans(self._rng.randint(1, 6), (1, 2))
            yield engine("swap back")
            yield from self._plans(self._rng.randint(0, 3), (1, 2))

    def _signup(self, key: int) -> Plan:
        self._number += 1
        writer = Writer(self._world, 1, "O", f"O:s.{self._number}.0", self._rng)
        return Plan(steps=(Step(wide.signup(writer, key)),))

    def _partition(self, work: str) -> Iterator[Plan]:
        yield engine(work)
        self._habits = replace(self._habits, partition="m5" if "attach" in work else "")
        yield from self._plans(self._rng.randint(2, 5), (1, 2))
        self._habits = replace(self._habits, partition="")
        if work == "attach rows" or self._rng.random() < 0.5:
            # Until now the late triggers have mirrored the new one.
            yield engine("refresh")
        if work == "attach rows":
            yield engine("back")

    def _jolt(self) -> Iterator[Plan]:
        yield engine(self._rng.choice((CRASH, RESTORE, RESTORE)))
