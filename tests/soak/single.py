"""Play one session's script and look at both tables after every statement."""

from __future__ import annotations

import collections
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import psycopg

from . import restore
from .client import Client, Connection, ConnectionLostError
from .databases import Place, admin, crash
from .errors import is_expected
from .judge import Excuses, Problem, foreign, judge
from .model import Entry, Known, replay
from .peek import peek
from .plans import Plan, begin_sql
from .statements import Statement, psql_text
from .works import CRASH, PARTITION_WORKS, RESTORE, TWICE, WORKS, after
from .worlds import World, register_sql

Counts = collections.Counter[str]
Mutate = Callable[[Connection, str], None]


def no_mutation(_connection: Connection, _when: str) -> None:
    """Leave the engine as it is."""


class FoundError(Exception):
    """Something is wrong; no need to go on."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(problems[0].text)
        self.problems = list(problems)


class RefusedWorldError(Exception):
    """Registration may refuse a key that is not unique at every moment."""


@dataclass
class Outcome:
    """How far a script came.

    Attributes:
        log: what was sent, so that psql can send it again.
        played: how many items it came to.
    """

    problems: list[Problem] = field(default_factory=list)
    counts: Counts = field(default_factory=collections.Counter)
    log: list[str] = field(default_factory=list)
    played: int = 0


class Player:
    """Plays items against one database; the answers decide nothing but rollbacks."""

    def __init__(self, place: Place, world: World, mutate: Mutate) -> None:
        self.outcome = Outcome()
        self._place = place
        self._world = world
        self._mutate = mutate
        self._rng = random.Random(0)
        self._client = Client(place.connect, returning=not world.audited)
        self._excuses = Excuses(copied=False, mirrored=False)
        self._entries: list[Entry] = []
        self._state: dict[str, Known] = {}
        self._seen = 0
        self._watches = True

    def play(self, items: Sequence[Plan], *, unwatched: int = 0) -> Outcome:
        """Play the items; look at the tables from item number ``unwatched`` on."""
        try:
            for item in items:
                self._watches = self.outcome.played >= unwatched
                self.outcome.played += 1
                if item.engine:
                    self._work(item.engine)
                else:
                    self._transact(item)
        except FoundError as found:
            self.outcome.problems = found.problems
        except RefusedWorldError:
            self.outcome.counts["worlds refused"] += 1
        except ConnectionLostError as error:
            self.outcome.problems = [
                Problem("other problem", f"connection lost: {error.__cause__}")
            ]
        finally:
            self._client.close()
        return self.outcome

    def _send(self, text: str) -> None:
        self.outcome.log.append(f"{text};")
        self._client.send(text)

    def _transact(self, plan: Plan) -> None:
        self._client.begin(plan)
        self.outcome.log += [f"{text};" for text in begin_sql(plan)]
        before = len(self._entries)
        if not self._steps(plan):
            self._end("rollback", before)
        elif plan.killed:
            with admin(self._place.server) as connection:
                connection.execute("select pg_terminate_backend(%s)", [self._client.pid])
            self.outcome.counts["kills"] += 1
            self._client.close()
            self.outcome.log.append("rollback; -- it was killed")
            self._forget(before)
        elif not plan.commit:
            self._end("rollback", before)
        else:
            self._commit(before)
        self._check()

    def _commit(self, before: int) -> None:
        try:
            self._send("commit")
            self.outcome.counts["commits"] += 1
        except psycopg.Error as error:
            self._told(None, error)
            self._forget(before)

    def _end(self, command: str, before: int) -> None:
        self._send(command)
        self._forget(before)

    def _forget(self, count: int) -> None:
        """Take back what was rolled back."""
        del self._entries[count:]
        self._state = replay(self._world, self._entries, {})

    def _steps(self, plan: Plan) -> bool:
        """Run the steps; False when the transaction must be rolled back."""
        marks: dict[str, int] = {}
        for step in plan.steps:
            kind, _, name = step.command.rpartition(" ")
            if step.statement is not None:
                if self._write(step.statement):
                    continue
                if not marks:
                    return False
                kind, name = "rollback to", list(marks)[-1]
            if kind == "savepoint":
                marks[name] = len(self._entries)
            if kind == "rollback to":
                self._end(f"rollback to {name}", marks[name])
            else:
                self._send(step.command)
            if kind == "release" or (kind == "rollback to" and step.statement is None):
                marks.pop(name)
        return True

    def _write(self, statement: Statement) -> bool:
        self.outcome.counts["statements"] += 1
        self.outcome.log.append(psql_text(statement))
        try:
            self._client.execute(statement)
        except psycopg.Error as error:
            self._told(statement, error)
            return False
        self._check(at_end=False)
        return True

    def _told(self, statement: Statement | None, error: psycopg.Error) -> None:
        self.outcome.log[-1] += f" -- {error.sqlstate}"
        self.outcome.counts[f"told {error.sqlstate}"] += 1
        if not is_expected(self._world, statement, error, retired=self._excuses.retired):
            form = statement.form if statement else "commit"
            text = f"{form}: {error.sqlstate} {error} {error.diag.context or ''}"
            raise FoundError([Problem("other problem", text, error.sqlstate or "")])

    def _check(self, *, at_end: bool = True) -> None:
        if not self._watches:
            return
        view = peek(self._client, self._seen)
        self._seen = max((entry.seq for entry in view.entries), default=self._seen)
        self._entries += view.entries
        dead = [b for b, known in self._state.items() if not (known.alive or known.early)]
        problems = foreign(view.entries, dead)
        self._state = replay(self._world, view.entries, self._state)
        self._excuses = view.excuses(self._world, self._excuses)
        if at_end or not self._excuses.late:
            problems += judge(self._world, self._state, view.tables, self._excuses)
        problems += view.wrong_failures()
        self.outcome.counts["failures recorded"] = len(view.failures)
        if problems:
            raise FoundError(problems)

    def _work(self, work: str) -> None:
        if work == CRASH:
            self._client.close()
            crash(self._place.server)
            self._place.server.start()
            self.outcome.counts["restarts"] += 1
            # Numbers that only a transaction without a commit had taken are given out again.
            self._seen = max((entry.seq for entry in self._entries), default=0)
        elif work == RESTORE:
            self._client.close()
            problems = restore.move(self._place, self._rng)
            self.outcome.counts["restores"] += 1
            self.outcome.log.append("-- dumped and restored")
            if problems:
                raise FoundError([Problem("other problem", text, "restore") for text in problems])
        else:
            self._call(work)
        self._check()

    def _call(self, work: str) -> None:
        text = register_sql(self._world) if work == "register" else (WORKS | PARTITION_WORKS)[work]
        if work == "register":
            self._mutate(self._client.open(), "before")
        self.outcome.log.append(f"{text};")
        try:
            rows = self._client.send(text)
        except psycopg.Error as error:
            if work == "register" and self._world.deferrable_key:
                raise RefusedWorldError from error
            twice = work in PARTITION_WORKS and error.sqlstate in TWICE
            refused = (error.sqlstate or "").startswith("PT4") or twice
            if not refused or work == "register":
                text = f"{work}: {error.sqlstate} {error} {error.diag.message_detail}"
                raise FoundError([Problem("other problem", text, error.sqlstate or "")]) from error
            self.outcome.counts["refused"] += 1
            self.outcome.log[-1] += f" -- {error.diag.message_primary}"
            return
        self.outcome.counts[f"done {work}"] += 1
        answer = rows[0][0] if rows else None
        if work == "register":
            self._mutate(self._client.open(), "after")
        self._excuses = after(work, answer, self._excuses)
        if work == "verify":
            self._compare_verify(answer)

    def _compare_verify(self, found: object) -> None:
        """The engine must see nothing where the soak sees nothing."""
        view = peek(self._client, self._seen)
        if self._excuses.archived or self._excuses.attached or self._excuses.alone:
            return  # V1 lacks some on purpose
        if found and not view.excuses(self._world, Excuses()).open and self._excuses.copied:
            raise FoundError(
                [Problem("other problem", f"verify finds {found} mismatches", "verify")]
            )
