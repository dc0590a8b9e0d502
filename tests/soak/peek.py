"""Read both tables, the audit and the failures, from within a transaction or without."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .client import Client
from .columns import Image, load
from .judge import Excuses, Problem, Tables, read_tables
from .model import Entry, Key
from .worlds import TABLES, World

# What a row may be refused for, what log_only notes, a row that an old snapshot does not show, and
# the archive, which refuses triggers of its own table on the way back. Anything else is a mistake
# of the engine's, or passing trouble that must reach the writer.
_RECORDED = ("22", "23", "LOGGED", "CF017")
# Or what a repair said of such a row later.
_BY_THE_ARCHIVE = ("Cannot write version 1 of", "another session holds a row of this key")


@dataclass(frozen=True)
class View:
    """What there is now; of the audit only what is new."""

    tables: Tables
    entries: list[Entry]
    failures: list[Image]

    def excuses(self, world: World, before: Excuses) -> Excuses:
        """Return what may differ because of failures, now and since then."""
        sides: dict[int, set[Key]] = {1: set(before.sides[0]), 2: set(before.sides[1])}
        now = set()
        for failure in self.failures:
            key = tuple(world.part(failure["key"][name]) for name in world.keys(1))
            sides[failure["written_side"]].add(key)
            if failure["resolved_at"] is None:
                now.add(key)
        return replace(
            before, open=frozenset(now), sides=(frozenset(sides[1]), frozenset(sides[2]))
        )

    def wrong_failures(self) -> list[Problem]:
        """Return failures that should never have been recorded."""
        return [
            Problem(
                "other problem",
                f"recorded: {failure['error_code']} {failure['message']} {failure['key']}",
                failure["error_code"],
            )
            for failure in self.failures
            if not failure["error_code"].startswith(_RECORDED)
            and not failure["message"].startswith(_BY_THE_ARCHIVE)
        ]


def peek(client: Client, after: int = 0) -> View:
    """Look with the client's own eyes; the audit after the entry ``after``."""
    found = load(client.send(f"select soak.peek({after}, '{TABLES[1]}', '{TABLES[2]}')")[0][0])
    return View(
        read_tables(found["v1"], found["v2"], found["clips"]),
        [Entry(**entry) for entry in found["audit"]],
        found["failures"],
    )
