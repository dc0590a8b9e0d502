"""Writers that keep a ledger of what they were told is stored, and the crowd that they make."""

from __future__ import annotations

import collections
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.sql.control import Connection, wait_for
from tests.sql.notes_pair import rows

from .live_callers import Caller, RefusedError, Values

RETRIED = ("40001", "40P01")
ARCHIVED = "PT409"
STALE = "42P10"
"""An upsert by the Data API, which has not read yet that its table is a view, or one again."""


@dataclass(frozen=True)
class Table:
    """A table of both versions. What a row says is unique, but for ``single``.

    Attributes:
        names: the table by side.
        say: the columns by side that hold what a row says.
        read: a query by side of (what its parent says or null, what it says) of all rows.
        heard: what a row that was read says, by side.
        key: columns that name a row, by side.
        also: by side and from what was returned, the key at the other side; the same if None.
        parent: name of the parent's entry.
        link: by side, the columns that hold the parent's key, in its order.
        single: one row a parent, and it says true or false.
        cascades: a parent takes its rows along.
        given: more columns of a new row.
        upserts: a client may send a key.
    """

    names: dict[int, str]
    say: dict[int, Callable[[str], Values]]
    read: dict[int, str]
    heard: dict[int, Callable[[Values], str]]
    key: dict[int, tuple[str, ...]] = field(default_factory=lambda: {1: ("id",), 2: ("id",)})
    also: Callable[[int, Values], Values | None] | None = None
    parent: str | None = None
    link: dict[int, tuple[str, ...]] = field(default_factory=dict)
    single: bool = False
    cascades: bool = True
    given: Callable[[int, random.Random], Values] = lambda _side, _random: {}
    upserts: bool = True


World = dict[str, Table]


@dataclass(eq=False)
class Row:
    """A row that is stored, as its writer was told. ``keys``: None where that side has none."""

    table: str
    keys: dict[int, Values | None]
    says: str
    parent: Row | None

    def sides(self) -> set[int]:
        return {side for side, key in self.keys.items() if key is not None}


class Writer:
    """One client in a thread of its own; ``crowd`` says which sides are open."""

    def __init__(self, name: str, caller: Caller, crowd: Crowd) -> None:
        self.name = name
        self.caller = caller
        self.crowd = crowd
        self.counts: collections.Counter[str] = collections.Counter()
        self.longest_s = 0.0
        self.seen = 0
        self.failed: BaseException | None = None
        self.stored: list[Row] = []
        self._random = random.Random(name)
        self._number = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()
        self.caller.close()

    def _run(self) -> None:
        try:
            while not self.crowd.done.is_set():
                self.seen, sides = self.crowd.open
                if sides:
                    self._step(sides)
                else:
                    time.sleep(0.01)
        except BaseException as error:
            self.failed = error
        self.seen = 1_000_000

    def _call(self, do: str, table: str, *given: Values | None) -> list[Values] | None:
        """Call until it is not in the way of somebody; None when the table is an archive."""
        for _ in range(50):
            before = time.monotonic()
            try:
                answer = self.caller.call(do, table, *given)
            except RefusedError as error:
                if error.code == ARCHIVED and self.crowd.may_be_archived:
                    self.counts["archived"] += 1
                    return None
                is_stale = error.code == STALE and self.crowd.may_be_archived
                if error.code not in RETRIED and not is_stale:
                    raise
                if is_stale:
                    time.sleep(0.05)
                self.counts["stale" if is_stale else "retried"] += 1
                continue
            finally:
                self.longest_s = max(self.longest_s, time.monotonic() - before)
            self.counts[do] += 1
            return answer
        raise AssertionError(f"{self.name} is always in the way: {do} {table}")

    def _says(self, table: Table) -> str:
        self._number += 1
        if table.single:
            return self._random.choice(("true", "false"))
        return f"{self.name} {self._number}"

    def _step(self, sides: tuple[int, ...]) -> None:
        side = self._random.choice(sides)
        row = self._random.choice(self.stored) if self.stored else None
        what = self._random.choices(
            (self._insert, self._edit, self._look, self._remove), (40, 35, 15, 10)
        )[0]
        if row is None or what == self._insert:
            self._insert(side)
        elif side in row.sides():
            what(side, row)

    def _parent(self, name: str, side: int) -> Row | None:
        table = self.crowd.world[name]
        has = {r.parent for r in self.stored if r.table == name} if table.single else set()
        found = [
            r for r in self.stored if r.table == table.parent and side in r.sides() and r not in has
        ]
        return self._random.choice(found) if found else None

    def _insert(self, side: int, _: Row | None = None) -> None:
        name = self._random.choice(list(self.crowd.world))
        table = self.crowd.world[name]
        parent = self._parent(name, side) if table.parent else None
        if table.parent and parent is None:
            return
        says = self._says(table)
        row = Row(name, {}, says, parent)
        values = table.given(side, self._random) | self._link(row, side) | table.say[side](says)
        told = self._call("insert", table.names[side], values)
        if told is None:
            return
        row.keys[side] = {k: told[0][k] for k in table.key[side]}
        row.keys[3 - side] = table.also(side, told[0]) if table.also else row.keys[side]
        self.stored.append(row)

    def _link(self, row: Row, side: int) -> Values:
        key = (row.parent.keys[side] or {}) if row.parent else {}
        columns = self.crowd.world[row.table].link.get(side, ())
        return dict(zip(columns, key.values(), strict=True))

    def _edit(self, side: int, row: Row) -> None:
        table = self.crowd.world[row.table]
        says = self._says(table)
        values = table.say[side](says)
        if table.upserts and self.caller.upserts and self._random.random() < 0.3:
            whole = table.given(side, self._random) | self._link(row, side)
            told = self._call("upsert", table.names[side], whole | (row.keys[side] or {}) | values)
        else:
            told = self._call("update", table.names[side], values, row.keys[side])
        if told is None:
            return
        heard = [table.heard[side](each) for each in told]
        assert heard == [says], f"{self.name} is told {heard} by side {side} of {row}"
        row.says = says

    def _look(self, side: int, row: Row) -> None:
        if self.crowd.may_be_archived:
            side = max(self.crowd.open[1], default=side)  # the archive shows what it was
        table = self.crowd.world[row.table]
        told = self._call("select", table.names[side], None, row.keys[side])
        heard = [table.heard[side](each) for each in told or ()]
        assert heard == [row.says], f"{self.name} reads {heard} in side {side} of {row}"

    def _remove(self, side: int, row: Row) -> None:
        children = [child for child in self.stored if child.parent is row]
        for child in children:
            if not self.crowd.world[child.table].cascades:
                self._remove(side, child)
        if any(side not in child.sides() for child in children):
            return
        told = self._call("delete", self.crowd.world[row.table].names[side], None, row.keys[side])
        if told is None:
            return
        assert len(told) == 1, f"{self.name} cannot delete {row} of side {side}"
        self._forget(row)

    def _forget(self, row: Row) -> None:
        self.stored.remove(row)
        for child in [child for child in self.stored if child.parent is row]:
            self._forget(child)


class Crowd:
    """Writers of a world. ``may_be_archived``: side 1 may be told so, which is no error."""

    def __init__(self, world: World, *, may_be_archived: bool = False) -> None:
        self.world = world
        self.may_be_archived = may_be_archived
        self.done = threading.Event()
        self.open: tuple[int, tuple[int, ...]] = (0, (1,))
        self.writers: list[Writer] = []
        self.seeds: list[tuple[str, str | None, str]] = []

    def join(self, name: str, caller: Caller) -> Writer:
        self.writers.append(Writer(name, caller, self))
        return self.writers[-1]

    def start(self) -> None:
        for writer in self.writers:
            writer.start()

    def healthy(self) -> None:
        for writer in self.writers:
            if writer.failed:
                raise AssertionError(f"{writer.name} failed: {writer.failed}") from writer.failed

    def write(self, *sides: int) -> None:
        """Let all write these sides only, or none, from when this returns on."""
        self.open = (self.open[0] + 1, sides)
        wait_for(lambda: all(writer.seen >= self.open[0] for writer in self.writers))
        self.healthy()

    def go_on(self, times: int = 4) -> None:
        """Wait until each has been told of some writes more."""
        before = {w.name: w.counts["insert"] + w.counts["update"] for w in self.writers}

        def gone_on(writer: Writer) -> bool:
            now = writer.counts["insert"] + writer.counts["update"]
            return now >= before[writer.name] + times or writer.failed is not None

        wait_for(lambda: all(map(gone_on, self.writers)))
        self.healthy()

    def stop(self) -> None:
        self.done.set()
        for writer in self.writers:
            writer.join()

    def ledger(self, side: int) -> collections.Counter[tuple[str, str | None, str]]:
        """What must be stored on a side."""
        told = [
            (row.table, row.parent.says if row.parent else None, row.says)
            for writer in self.writers
            for row in writer.stored
            if side in row.sides()
        ]
        return collections.Counter(self.seeds + told)

    def stored(self, db: Connection, side: int) -> collections.Counter[tuple[str, str | None, str]]:
        return collections.Counter(
            (name, parent, says)
            for name, table in self.world.items()
            for parent, says in rows(db, table.read[side])
        )

    def settled(self, db: Connection, *sides: int) -> None:
        """Both sides hold what the writers were told, no row more; nobody writes."""
        for side in sides:
            expected, found = self.ledger(side), self.stored(db, side)
            lost, unknown = expected - found, found - expected
            assert not lost, f"lost in side {side}: {list(lost)[:5]}"
            assert not unknown, f"unknown in side {side}: {list(unknown)[:5]}"

    def told(self) -> str:
        counts = sum((writer.counts for writer in self.writers), collections.Counter())
        longest = max(writer.longest_s for writer in self.writers)
        return f"{dict(counts)}, longest {longest * 1000:.0f} ms"
