"""One of several client sessions: runs random transactions."""

from __future__ import annotations

import random
import threading
import time

import psycopg

from .client import Client, ConnectionLostError
from .errors import RETRIED, is_expected
from .plans import Habits, Plan, make_plan
from .shared import Shared
from .statements import Statement

TRIES = 3


class Session(threading.Thread):
    """A thread with one connection.

    Attributes:
        acknowledged: tokens of transactions whose COMMIT was answered.
        undone: tokens of transactions that were rolled back.
        sides: what the transaction under way may write; none between two.
    """

    def __init__(self, name: str, shared: Shared, rng: random.Random, transactions: int) -> None:
        super().__init__(name=f"session {name}", daemon=True)
        self.client = Client(shared.place.connect, returning=not shared.world.audited)
        self.acknowledged: list[str] = []
        self.undone: list[str] = []
        self.sides: tuple[int, ...] = ()
        self._shared = shared
        self._rng = rng
        self._transactions = transactions
        self._habits = Habits(name, returning=not shared.world.audited, merges=shared.merges)

    def run(self) -> None:
        try:
            for number in range(self._transactions):
                if self._shared.stop.is_set():
                    break
                with self._shared.gate:
                    self.sides = self._shared.sides
                habits = Habits(
                    self._habits.name, self.sides, self._habits.returning, self._habits.merges
                )
                plan = make_plan(self._rng, self._shared.world, habits, number)
                self._run_with_retries(plan, number)
                self.sides = ()
        except Exception as error:  # a bug of the test itself must not look like a quiet session
            self._shared.problems.append(f"{self.name}: {error!r}")
            raise
        finally:
            self.sides = ()
            self.client.close()

    def _run_with_retries(self, plan: Plan, number: int) -> None:
        for attempt in range(TRIES):
            token = f"{self.name}.{number}.{attempt}"
            try:
                self._transact(plan, token)
            except ConnectionLostError:
                self._shared.count("lost connections")
            except psycopg.Error as error:
                self.client.roll_back()
                self.undone.append(token)
                kind = RETRIED.get(error.sqlstate or "")
                if kind is not None:
                    self._shared.count(kind)
                    continue
                self._shared.count(f"told {error.sqlstate}")
            return

    def _transact(self, plan: Plan, token: str) -> None:
        client = self.client
        client.begin(plan)
        for step in plan.steps:
            if step.statement is None:
                client.send(step.command)
            else:
                self._write(step.statement)
        if not plan.commit:
            client.roll_back()
            self.undone.append(token)
            self._shared.count("rollbacks")
            return
        client.send(f"insert into soak.txns values ('{token}')")
        try:
            client.send("commit")
        except psycopg.Error as error:
            self._look_at(None, error)
            raise
        self.acknowledged.append(token)
        self._shared.count("commits")

    def _write(self, statement: Statement) -> None:
        self._shared.count("statements")
        try:
            self.client.execute(statement)
        except psycopg.Error as error:
            self._look_at(statement, error)
            raise
        if self._rng.random() < 0.1:  # clients think, and others write meanwhile
            time.sleep(self._rng.choice((0.001, 0.005, 0.02)))

    def _look_at(self, statement: Statement | None, error: psycopg.Error) -> None:
        if not is_expected(self._shared.world, statement, error, retired=self._shared.retired):
            text = statement.text(returning=False) if statement else "commit"
            self._shared.problems.append(
                f"{self.name}: {error.sqlstate} {error} {error.diag.context or ''}: {text[:2000]}"
            )
