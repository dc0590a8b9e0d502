"""One round of several sessions on threads and posts; then quiet and judgement."""

from __future__ import annotations

import random
import threading
import time

import psycopg

from .client import Client, ConnectionLostError
from .columns import load
from .crowd import Chaos
from .databases import Place, crash
from .engine import Operator, RefusedError, kill
from .errors import RETRIED
from .judge import Problem
from .shared import Shared
from .single import Mutate, Outcome
from .tree import NAMES, PAIRS, register_sql, write
from .tree_judge import Terms, judge, replay
from .tree_single import TO_RAMPDOWN, WAY_BACK, WORKS, is_expected
from .worlds import World

_TRANSACTIONS = 60
_HISTORY = """
select concat_ws(' ', '--', a.seq, a.transaction, a.source, a.tab, a.op, a.old, '->', a.new, 'by',
  a.statement)
from tree.audit a where coalesce(a.new, a.old) ->> 'birth' = any (%s)
  or coalesce(a.new, a.old) ->> 'id' in (
    select o ->> 'thread_id' from tree.audit p cross join unnest(array[p.old, p.new]) o
    where o ->> 'birth' = any (%s))
order by a.seq
"""
_OPERATED = """
select concat_ws(' ', '--', a.at, a.action, a.object, a.after ->> 'stage') from crossfade.audit a
where a.action not like 'cohort%%' order by a.at
"""


class _Session(threading.Thread):
    """Runs random transactions by both sides; each is whole or was not."""

    def __init__(self, name: str, shared: Shared, kind: str, rng: random.Random) -> None:
        super().__init__(name=f"session {name}", daemon=True)
        self.client = Client(shared.place.connect, returning=False)
        self.acknowledged: set[str] = set()
        self._name, self._shared, self._kind, self._rng = name, shared, kind, rng

    def run(self) -> None:
        try:
            for number in range(_TRANSACTIONS):
                if self._shared.stop.is_set():
                    break
                self._transact(f"{self._name}.{number}")
        except Exception as error:  # a bug of the test itself must not look like a quiet session
            self._shared.problems.append(f"{self.name}: {error!r}")
            raise
        finally:
            self.client.close()

    def _transact(self, token: str) -> None:
        rng, form, side = self._rng, "commit", 1
        try:
            self.client.send("begin")
            for place in range(rng.choice((1, 1, 2, 3))):
                statement = write(rng, self._kind, rng.choice((1, 2)), f"{token}.{place}")
                form, side = statement.form, statement.side
                self._shared.count("statements")
                self.client.send(statement.sql)
            self.client.send(f"insert into tree.txns values ('{token}')")
            self.client.send("commit")
            self.acknowledged.add(token)
            self._shared.count("commits")
        except ConnectionLostError:
            self._shared.count("lost connections")
        except psycopg.Error as error:
            self.client.roll_back()
            self._shared.count(RETRIED.get(error.sqlstate or "", f"told {error.sqlstate}"))
            if not is_expected(form, side, error, retired=True):
                self._shared.problems.append(f"{form}: {error.sqlstate} {error}")


class TreeCrowd:
    """Runs one round of several sessions, with the stages of the group beside them."""

    def __init__(
        self, place: Place, kind: str, rng: random.Random, mutate: Mutate, chaos: Chaos
    ) -> None:
        self._shared = Shared(place, World(), merges=False)
        self._operator = Operator(self._shared)
        self._kind, self._rng, self._mutate, self._chaos = kind, rng, mutate, chaos
        self._sessions: list[_Session] = []
        self._log: list[str] = []

    def run(self) -> Outcome:
        shared, rng = self._shared, self._rng
        self._register()
        self._sessions = [
            _Session(f"s{n}", shared, self._kind, random.Random(rng.random())) for n in range(4)
        ]
        havoc = threading.Thread(target=self._wreak_havoc, daemon=True)
        for thread in (*self._sessions, havoc):
            thread.start()
        # Rows of V2 that have no thread in V1 yet are refused: so V2 opens with the backfill.
        while any(session.is_alive() for session in self._sessions):
            self._climb()
        shared.stop.set()
        havoc.join()
        problems = self._settle()
        problems += [Problem("other problem", text) for text in shared.problems]
        self._operator.close()
        return Outcome(problems, shared.counts, self._log)

    def _register(self) -> None:
        with self._shared.place.connect() as connection:
            self._mutate(connection, "before")
            connection.execute(register_sql(self._kind, "record").encode())
            self._mutate(connection, "after")
            for text in (WORKS["dualwrite"], *WORKS["backfill"].split(";")):
                connection.execute(text.encode())

    def _wreak_havoc(self) -> None:
        shared, rng = self._shared, self._rng
        while not shared.stop.wait(0.05):
            if rng.random() < self._chaos.kills * 0.05:
                pids = [*(s.client.pid for s in self._sessions), self._operator.pid]
                kill(shared, rng.choice(pids), "kills")
            if not shared.counts["restarts"] and rng.random() < self._chaos.crashes * 0.02:
                crash(shared.place.server)
                shared.place.server.start()
                shared.count("restarts")

    def _work(self, work: str) -> bool:
        """Do a work until no kill or lock was in its way; False where it is refused."""
        for text in WORKS[work].split(";"):
            for _ in range(20):
                try:
                    answer = self._operator.call(text)
                except RefusedError:
                    self._shared.count(f"refused {work}")
                    return False
                if answer is not None or text.startswith("select crossfade.ignore"):
                    break
        self._shared.count(f"done {work}")
        return True

    def _climb(self) -> None:
        """Up the stages as far as they let the group go under its writers, and down again."""
        top = self._rng.choice((*TO_RAMPDOWN, "complete", "retired", "retired"))
        for work in (*TO_RAMPDOWN, "complete", "retired"):
            self._work("repair")
            if not self._work(work):
                break
            time.sleep(self._rng.uniform(0.02, 0.2))
            if work == top:
                break
        self._descend()

    def _descend(self) -> None:
        stage = self._operator.call("select min(stage) from crossfade.pairs")
        if stage == "retired":
            self._work("swap back")
        works = WAY_BACK if stage in ("complete", "retired") else ("dualwrite",)
        for work in works:
            self._work(work)

    def _settle(self) -> list[Problem]:
        """Bring the group back to dualwrite, drain what is open, and look."""
        for _ in range(5):
            if self._operator.call("select min(stage) from crossfade.pairs") == "dualwrite":
                break
            self._descend()
        else:
            self._shared.problems.append("no way back to dualwrite")
        for _ in range(5):
            for work in ("repair", "verify"):
                self._work(work)
        client = Client(self._shared.place.connect, returning=False)
        found = load(client.send("select tree.peek(0, %s)", (list(NAMES),))[0][0])
        kept = {row[0] for row in client.send("select token from tree.txns")}
        state = replay([{**entry, "mirrored": True} for entry in found["audit"]], {})
        problems = judge(self._kind, state, found, Terms(copied=True))
        problems += [
            Problem("other problem", f"stays open: {f['pair']} {f['error_code']} {f['message']}")
            for f in found["failures"]
        ]
        for session in self._sessions:
            problems += [
                Problem("lost edit", f"commit {token} is gone")
                for token in session.acknowledged - kept
            ]
        for pair in PAIRS:
            left = self._operator.call(f"select tree.verify('{pair}')")
            if left and not problems:
                problems.append(Problem("other problem", f"verify of {pair} finds {left}"))
        births = [problem.text.split()[1].rstrip(":") for problem in problems[:3]]
        if births:
            lines = [*client.send(_HISTORY, (births, births)), *client.send(_OPERATED, ())]
            self._log = [line for (line,) in lines]
        client.close()
        return problems
