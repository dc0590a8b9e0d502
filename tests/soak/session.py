"""One client session: runs random transactions and writes down what they did."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable

import psycopg

from .client import Client, ConnectionLostError, Shared
from .execution import execute
from .journal import Effect, Transaction
from .plans import Habits, Known, Plan, Step, copy_known, make_plan
from .rows import Key
from .statements import Statement

TRIES = 3
_RETRIED = {"40P01": "deadlocks", "40001": "serialization failures", "55P03": "lock timeouts"}


class ExpectedError(Exception):
    """A statement failed as it must: a conflict with another session's row, a refused value."""


class Session:
    """A thread with one connection; ``journal`` holds every transaction it began."""

    def __init__(self, number: int, shared: Shared, rng: random.Random, habits: Habits) -> None:
        self.number = number
        self.known = Known(space=number)
        self.journal: list[Transaction] = []
        self.client = Client(shared, habits.owner)
        self._shared = shared
        self._rng = rng
        self._habits = habits

    def run(self, transactions: int) -> None:
        """Run that many random transactions, or fewer when told to stop."""
        try:
            for _ in range(transactions):
                if self._shared.stop.is_set():
                    break
                plan = make_plan(self._rng, self._shared.shape, self.known, self._habits_now())
                self._run_with_retries(plan)
        except Exception as error:  # a bug of the test itself must not look like a quiet session
            self._shared.problems.append(f"session {self.number}: {error!r}")
            raise
        finally:
            self.client.close()

    def _habits_now(self) -> Habits:
        sides = (1, 2) if self._shared.v2_open else (1,)
        return Habits(self._habits.owner, sides, self._shared.calm, self._habits.truncate)

    def _run_with_retries(self, plan: Plan) -> None:
        for attempt in range(TRIES):
            token = f"{self.number}.{len(self.journal)}.{attempt}"
            transaction = Transaction(token, self.number, plan.isolation)
            self.journal.append(transaction)
            self.client.script = transaction.script
            if not self._try(plan, transaction):
                return
            self._shared.counts["retries"] += attempt + 1 < TRIES

    def _try(self, plan: Plan, transaction: Transaction) -> bool:
        """Run a plan once; True when it lost a conflict and is worth another try."""
        known = copy_known(self.known)
        try:
            self._transact(plan, transaction, known)
        except ConnectionLostError:
            transaction.outcome = "unknown"
            self._shared.counts["lost connections"] += 1
            self.known.absent.clear()  # it may have committed, and put them back
        except ExpectedError:
            self._roll_back(transaction)
        except psycopg.Error as error:
            self._roll_back(transaction)
            kind = _RETRIED.get(error.sqlstate or "")
            if kind is not None:
                self._shared.counts[kind] += 1
                return True
            self._problem(transaction, error)
        else:
            if transaction.outcome == "committed":
                self.known = known
        return False

    def _roll_back(self, transaction: Transaction) -> None:
        transaction.outcome = "rolled_back"
        self._shared.counts["rollbacks"] += 1
        self.client.roll_back()

    def _problem(self, transaction: Transaction, error: psycopg.Error) -> None:
        script = "\n  ".join(transaction.script[-12:])
        self._shared.problems.append(
            f"session {self.number}, {transaction.isolation}: {error.sqlstate} {error}\n  {script}"
        )

    def _transact(self, plan: Plan, transaction: Transaction, known: Known) -> None:
        send = self.client.send
        send(f"begin isolation level {plan.isolation}")
        if plan.lock_timeout_ms:
            send(f"set local lock_timeout = '{plan.lock_timeout_ms}ms'")
        marks: dict[str, tuple[int, Known]] = {}
        for number, step in enumerate(plan.steps):
            if step.statement is None:
                self._control(step, transaction, known, marks)
            else:
                self._write(step.statement, f"{transaction.token}.{number}", transaction, known)
        if not plan.commit:
            self._roll_back(transaction)
            return
        send(f"insert into soak.txns values ('{transaction.token}')")
        send("commit")
        transaction.outcome = "committed"
        self._shared.counts["commits"] += 1

    def _control(
        self,
        step: Step,
        transaction: Transaction,
        known: Known,
        marks: dict[str, tuple[int, Known]],
    ) -> None:
        """Run a savepoint command; after ROLLBACK TO what was done since is undone here too."""
        self.client.send(step.command)
        kind, _, name = step.command.rpartition(" ")
        if kind == "savepoint":
            marks[name] = (len(transaction.effects), copy_known(known))
        elif kind == "rollback to":
            count, before = marks[name]
            del transaction.effects[count:]
            known.present, known.absent = set(before.present), set(before.absent)

    def _write(
        self, statement: Statement, token: str, transaction: Transaction, known: Known
    ) -> None:
        self._shared.counts["statements"] += 1
        try:
            effects = execute(self.client, self._shared.shape, statement, token)
        except psycopg.Error as error:
            self._explain(statement, error)
            raise
        transaction.effects += effects
        for effect in effects:
            _remember(known, effect)
        if self._rng.random() < 0.1:  # clients think, and others write meanwhile
            time.sleep(self._rng.choice((0.001, 0.005, 0.02)))

    def _explain(self, statement: Statement, error: psycopg.Error) -> None:
        """Raise ExpectedError when the statement had to fail."""
        state = error.sqlstate or ""
        expected = (
            # With policy raise also a row that V1 held before mirroring began.
            (state == "23514" and (statement.breaks_check or self._shared.policy == "raise"))
            # A copy made by backfill or repair may be younger than the snapshot that looked.
            or (state == "23505" and (statement.shared or statement.form in ("merge", "replace")))
            or (state == "42501" and statement.shared and self._habits.owner is not None)
            # The archive holds rows that V2 has deleted since, and takes no writes.
            or (state in ("PT409", "23505") and self._shared.archived and statement.side == 1)
        )
        if state == "23514" and statement.side == 1 and self._shared.policy == "record":
            expected = False
        if state == "23505" and not expected and self._deleted_unseen(statement.keys):
            self._shared.counts["expected 23505, unswept"] += 1
            raise ExpectedError from error
        if state == "23505" and not expected:
            # Right only when a recorded mirror failure left the row behind; the judge looks.
            self._shared.excuses.append((statement.keys, statement.sql[:500]))
            expected = True
        if expected:
            self._shared.counts[f"expected {state}"] += 1
            raise ExpectedError from error

    def _deleted_unseen(self, keys: Iterable[Key]) -> bool:
        """Whether a key was last deleted by a snapshot that may be older than the backfill's copy.

        Such a delete cannot see the copy, which stays until the backfill's sweep.
        """
        wanted = set(keys)
        for transaction in reversed(self.journal):
            if transaction.outcome == "rolled_back":
                continue
            for effect in reversed(transaction.effects):
                gone = effect.moved_from or (effect.key if effect.row is None else None)
                if gone in wanted:
                    if transaction.isolation != "read committed":
                        return True
                    wanted.discard(gone)
                if effect.row is not None:
                    wanted.discard(effect.key)
        return False


def _remember(known: Known, effect: Effect) -> None:
    if effect.moved_from is not None and effect.moved_from[0] == known.space:
        known.present.discard(effect.moved_from)
        known.absent.add(effect.moved_from)
    if effect.key is None or effect.key[0] != known.space:
        return
    gone = effect.row is None
    (known.absent if gone else known.present).add(effect.key)
    (known.present if gone else known.absent).discard(effect.key)
