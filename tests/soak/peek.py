"""Read both tables, the audit and the failures, from within a transaction or without."""

from __future__ import annotations

from dataclasses import dataclass

from .client import Client
from .columns import Image, load
from .judge import Tables, read_tables
from .model import Entry, Key
from .worlds import World

TRANSIENT = ("40", "53", "55", "57", "58")


@dataclass(frozen=True)
class View:
    """What there is now; of the audit only what is new."""

    tables: Tables
    entries: list[Entry]
    failures: list[Image]

    def keys(self, world: World, *, only_open: bool) -> frozenset[Key]:
        """Return the keys of failures, as V1 spells them."""
        return frozenset(
            tuple(int(failure["key"][name]) for name in world.keys(1))
            for failure in self.failures
            if failure["resolved_at"] is None or not only_open
        )

    def transient(self) -> list[str]:
        """Return failures that should have been the writer's: who waits and tries again is safe."""
        return [
            f"recorded: {failure['error_code']} {failure['message']} {failure['key']}"
            for failure in self.failures
            if failure["error_code"].startswith(TRANSIENT)
        ]


def peek(client: Client, after: int = 0) -> View:
    """Look with the client's own eyes; the audit after the entry ``after``."""
    found = load(client.send(f"select soak.peek({after})")[0][0])
    return View(
        read_tables(found["v1"], found["v2"], found["clips"]),
        [Entry(**entry) for entry in found["audit"]],
        found["failures"],
    )
