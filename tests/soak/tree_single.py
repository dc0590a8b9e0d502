"""Play one session's random script on threads and posts, and look after every statement."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg

from . import restore
from .client import Client
from .columns import load
from .databases import Place, admin, crash
from .errors import RETRIED
from .judge import Problem
from .single import FoundError, Mutate, Outcome
from .tree import NAMES, PAIRS, Write, register_sql, write
from .tree_judge import State, Terms, judge, replay

# What tables like these answer without an engine too; a view has no key to name in ON CONFLICT.
_ORDINARY = ("23505", "23503", "21000")
_OF_VIEWS = {"upsert": "42P10", "truncate": "42809"}


def group_stage(stage: str) -> str:
    return f"select crossfade.set_group_stage('threads', '{stage}', 'soak', true)"


def of_both(call: str) -> str:
    """Return a call for the parent and then the child; {} is the pair."""
    return "; ".join(call.format(f"'{pair}'") for pair in PAIRS)


_IGNORE = """select crossfade.ignore_dependents(p.name, n.names, 'soak')
from crossfade.pairs p
cross join lateral (
  select array(select d.object from crossfade_private.v1_dependents(p) d
    union select t.name from crossfade_private.own_triggers(p) t where t.is_after)
) n(names)
where cardinality(n.names) > 0"""
WORKS = {
    **{stage: group_stage(stage) for stage in ("off", "dualwrite", "shadow", "live", "rampdown")},
    "complete": f"{_IGNORE}; {group_stage('complete')}",
    "retired": group_stage("retired"),
    "swap back": group_stage("complete"),
    "child first": "select tree.backfill('posts', 'v1_to_v2')",
    "backfill": of_both("select tree.backfill({}, 'v1_to_v2')"),
    "back": of_both("select tree.backfill({}, 'v2_to_v1')"),
    "repair": of_both("select crossfade.repair({}, 500, 'soak')"),
    # Twice: what such a row stood in the way of comes after it.
    "clear": "; ".join([of_both("select crossfade.repair({}, 500, 'soak', 'delete')")] * 2),
    "verify": of_both("select tree.verify({})"),
    "everybody": of_both("""select crossfade.set_cohort({}, '{{"percentage": 100}}', 'soak')"""),
}
TO_RAMPDOWN = ("shadow", "verify", "live", "everybody", "rampdown")
WAY_BACK = ("back", "repair", "verify", "clear", "verify", "verify", "rampdown", "dualwrite")


def is_expected(form: str, side: int, error: psycopg.Error, *, retired: bool) -> bool:
    """Return whether a client must expect this answer."""
    state = error.sqlstate or ""
    if state == "PT409":
        return True
    if retired and side == 1 and state == _OF_VIEWS.get(form):
        return True
    return state in _ORDINARY or state in RETRIED


class TreePlayer:
    """Plays a script of both pairs against one database."""

    def __init__(self, place: Place, kind: str, rng: random.Random, mutate: Mutate) -> None:
        self.outcome = Outcome()
        self._place, self._kind, self._rng, self._mutate = place, kind, rng, mutate
        self._client = Client(place.connect, returning=False)
        self._terms = Terms(copied=False)
        self._entries: list[dict[str, Any]] = []
        self._state: State = {}
        self._number = 0

    def play(self, length: int) -> Outcome:
        try:
            self.begin()
            for item in self._script(length):
                self._work(item)
        except FoundError as found:
            self.outcome.problems = found.problems
        finally:
            self._client.close()
        return self.outcome

    def begin(self) -> None:
        """Write rows that are there before the pairs, and register these."""
        self._transactions(6, (1,))
        self._mutate(self._client.open(), "before")
        self._work("register")
        self._mutate(self._client.open(), "after")

    def _script(self, length: int) -> Iterator[str]:
        rng = self._rng
        yield "dualwrite"
        self._transactions(rng.choice((0, 4)), (1,))
        if rng.random() < 0.5:
            yield "child first"
        yield "backfill"
        while self._number < length:
            self._transactions(rng.randint(4, 10), (1, 2))
            kinds = (self._look, self._jolt, self._ladder, self._off)
            yield from rng.choices(kinds, (3, 1, 3, 1))[0]()
        yield from ("repair", "repair", "verify")

    def _look(self) -> Iterator[str]:
        yield self._rng.choice(("repair", "verify", "backfill"))

    def _jolt(self) -> Iterator[str]:
        yield self._rng.choice(("crash", "restore"))

    def _off(self) -> Iterator[str]:
        """Nothing is mirrored for a while, in which V1 alone is written; then all over again."""
        yield "off"
        self._transactions(self._rng.randint(1, 6), (1,))
        yield from ("dualwrite", "backfill")
        self._transactions(self._rng.randint(0, 3), (1,))
        yield from ("repair", "verify", "clear", "verify")

    def _ladder(self) -> Iterator[str]:
        """Up to some stage and back, also through the archive and the view."""
        works = (*TO_RAMPDOWN, "complete")
        for work in works[: self._rng.choice((1, 3, 5, 6, 6))]:
            yield work
            self._transactions(self._rng.randint(1, 4), (1, 2))
            yield "repair"
            if work == "complete" and self._rng.random() < 0.7:
                yield "retired"
                self._transactions(self._rng.randint(3, 8), (1, 2))
                if self._rng.random() < 0.3:
                    yield from self._jolt()
                yield "swap back"
        yield from WAY_BACK

    def _transactions(self, count: int, sides: tuple[int, ...]) -> None:
        for _ in range(count):
            self._number += 1
            self._transact(sides)

    def _transact(self, sides: tuple[int, ...]) -> None:
        rng, before = self._rng, len(self._entries)
        self._send("begin")
        for place in range(rng.choice((1, 1, 2, 3))):
            side = rng.choice(sides)
            if not self._write(write(rng, self._kind, side, f"s.{self._number}.{place}")):
                return self._forget("rollback", before)
        if rng.random() < 0.04:
            with admin(self._place.server) as connection:
                connection.execute("select pg_terminate_backend(%s)", [self._client.pid])
            self.outcome.counts["kills"] += 1
            self._client.close()
            return self._forget("", before)
        if rng.random() < 0.1:
            return self._forget("rollback", before)
        self._send("commit")
        self.outcome.counts["commits"] += 1
        self.check()
        return None

    def _forget(self, command: str, count: int) -> None:
        if command:
            self._send(command)
        del self._entries[count:]
        self._state = replay(self._entries, {})
        self.check()

    def _send(self, text: str) -> list[tuple[Any, ...]]:
        self.outcome.log.append(f"{text};")
        return self._client.send(text)

    def _write(self, statement: Write) -> bool:
        self.outcome.counts["statements"] += 1
        try:
            self._send(statement.sql)
        except psycopg.Error as error:
            self.outcome.log[-1] += f" -- {error.sqlstate}"
            self.outcome.counts[f"told {error.sqlstate}"] += 1
            retired = self._terms.retired
            if not is_expected(statement.form, statement.side, error, retired=retired):
                text = f"{statement.form}: {error.sqlstate} {error}"
                raise FoundError([Problem("other problem", text)]) from error
            return False
        self.check()
        return True

    def check(self) -> None:
        """Compare the tables with what is known."""
        seen = self._entries[-1]["seq"] if self._entries else 0
        found = load(self._client.send("select tree.peek(%s, %s)", (seen, list(NAMES)))[0][0])
        news = [{**entry, "mirrored": self._terms.mirrored} for entry in found["audit"]]
        self._entries += news
        self._state = replay(news, self._state)
        problems = judge(self._kind, self._state, found, self._terms)
        problems += [
            Problem("other problem", f"recorded: {f['error_code']} {f['message']} {f['key']}")
            for f in found["failures"]
            # Nothing in this world is refused, but for a number that a row of the other table still
            # has, which was deleted while nothing was mirrored; "clear" takes it away.
            if self._kind != "carried" or (self._terms.mirrored and not self._terms.archived)
        ]
        if problems:
            raise FoundError(problems)

    def _work(self, work: str) -> None:
        if work == "crash":
            self._client.close()
            crash(self._place.server)
            self._place.server.start()
            self.outcome.counts["restarts"] += 1
        elif work == "restore":
            self._client.close()
            problems = restore.move(self._place, self._rng, [f"public.{n}" for n in NAMES])
            self.outcome.counts["restores"] += 1
            if problems:
                raise FoundError([Problem("other problem", text) for text in problems])
        else:
            self._call(work)
        self.check()

    def _call(self, work: str) -> None:
        text = register_sql(self._kind, "record") if work == "register" else WORKS[work]
        answers = []
        for part in text.split(";"):
            try:
                rows = self._send(part)
            except psycopg.Error as error:
                if not (error.sqlstate or "").startswith("PT4") or work == "register":
                    text = f"{work}: {error.sqlstate} {error} {error.diag.message_detail}"
                    raise FoundError([Problem("other problem", text)]) from error
                self.outcome.log[-1] += f" -- {error.diag.message_primary}"
                self.outcome.counts["refused"] += 1
                self.outcome.counts[f"refused {work}"] += 1
                return
            answers += [row[0] for row in rows]
        self.outcome.counts[f"done {work}"] += 1
        self._terms = after(work, answers, self._terms)


def after(work: str, answers: list[Any], now: Terms) -> Terms:
    """Return what may differ after a work that was done."""
    if work == "backfill" and set(answers) == {"finished"}:
        return replace(now, copied=now.mirrored)
    if work == "off":
        return replace(now, copied=False, mirrored=False)
    if work == "clear":
        return replace(now, mirrored=True, copied=True)
    if work in ("complete", "swap back"):
        return replace(now, archived=True, retired=False)
    if work == "retired":
        return replace(now, retired=True)
    if work == "rampdown":
        return replace(now, archived=False)
    return now
