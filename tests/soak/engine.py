"""The engine's side of a round: calls that survive kills, workers, whole passes."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from typing import Any

import psycopg

from .client import Connection, is_dead
from .databases import admin
from .shared import Shared

RETRIED = {"40P01": "engine deadlocks", "40001": "engine conflicts", "55P03": "engine timeouts"}


class RefusedError(Exception):
    """The engine refused a call with one of its own codes."""


class Operator:
    """A connection of somebody who operates the engine; survives kills and crashes."""

    def __init__(self, shared: Shared) -> None:
        self.pid = 0
        self._shared = shared
        self._connection: Connection | None = None

    def call(self, sql: str, allowed: Sequence[str] = ()) -> Any:
        """Return the first column of the first row; None when the call must be repeated.

        Args:
            allowed: SQLSTATEs of errors that are as well as None.

        Raises:
            RefusedError: the engine said no.
        """
        if self._connection is None or self._connection.closed:
            self._connection = self._shared.place.connect()
            self.pid = self._connection.info.backend_pid
        try:
            cursor = self._connection.execute(sql.encode())
            row = cursor.fetchone() if cursor.description else None
        except psycopg.Error as error:
            if is_dead(error, self._connection):
                self._connection = None
                self._shared.count("lost connections")
                return None
            if (error.sqlstate or "").startswith("PT4"):
                raise RefusedError(str(error)) from error
            if error.sqlstate in allowed:
                return None
            if error.sqlstate not in RETRIED:
                self._shared.problems.append(f"engine: {sql}: {error.sqlstate} {error}")
                return None
            self._shared.count(RETRIED[error.sqlstate])
            return None
        return None if row is None else row[0]

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


def kill(shared: Shared, pid: int, name: str) -> None:
    """End a session as an administrator does, and count it under a name."""
    with contextlib.suppress(psycopg.Error), admin(shared.place.server) as connection:
        done = connection.execute("select pg_terminate_backend(%s)", [pid]).fetchone()
        shared.count(name, bool(done and done[0]))


def active_run(operator: Operator, kind: str) -> int | None:
    """Return the id of the running run of a kind."""
    found = operator.call(
        f"select id from crossfade.runs where kind = '{kind}' and state = 'running'"
    )
    return None if found is None else int(found)


def batch(operator: Operator, kind: str) -> bool:
    """Run one batch of the active run; False when there is none or it must wait."""
    run = active_run(operator, kind)
    if run is None:
        return False
    answer = operator.call(f"select crossfade.{kind}_batch({run}, 20)")
    return answer is not None and answer["state"] == "running"


class Worker(threading.Thread):
    """Repeats one kind of work until the round stops."""

    def __init__(self, shared: Shared, kind: str, pause_s: float) -> None:
        super().__init__(name=kind, daemon=True)
        self.operator = Operator(shared)
        self._shared = shared
        self._kind = kind
        self._pause_s = pause_s

    def run(self) -> None:
        try:
            while not self._shared.stop.wait(self._pause_s):
                self._try()
        except RefusedError as error:
            self._shared.problems.append(f"{self._kind} worker: {error}")
        finally:
            self.operator.close()

    def _try(self) -> None:
        try:
            self._work()
        except RefusedError:
            # Of a view, and of a new partition before a refresh, no run begins.
            if not (self._shared.retired or self._shared.world.parted):
                raise
            self._shared.count("refused")

    def _work(self) -> None:
        if self._kind == "repair":
            answer = self.operator.call(
                "select case when stage <> 'off' then crossfade.repair(name, 40, 'soak') end "
                "from crossfade.pairs"
            )
            self._shared.count("repaired", answer["repaired"] if answer else 0)
            return
        if self._kind == "verify" and active_run(self.operator, "verify") is None:
            self.operator.call("select crossfade.start_verify('notes', 3)")
        self._shared.count(f"{self._kind} batches", batch(self.operator, self._kind))


def verify_pass(operator: Operator, shared: Shared) -> int:
    """Run one whole verify pass; return its mismatches, -1 when it was cut short."""
    operator.call("select crossfade.start_verify('notes', 2)")
    run = active_run(operator, "verify")
    for _ in range(3000):
        if run is None:
            return -1
        batch(operator, "verify")
        answer = operator.call(f"select crossfade.run_status({run})")
        if answer and answer["run"]["state"] == "finished":
            return int(answer["run"]["mismatches"])
        if answer and answer["run"]["state"] != "running":
            return -1
    return -1


def swap_back(operator: Operator) -> bool:
    """Try to go from retired back to complete; True when the pair is not retired."""
    operator.call(
        "select crossfade.set_stage('notes', 'complete', 'soak') from crossfade.pairs "
        "where stage = 'retired'"
    )
    return bool(operator.call("select stage <> 'retired' from crossfade.pairs"))


def way_back(operator: Operator, shared: Shared) -> bool:
    """Try to go from complete back to rampdown; True when it is done."""
    try:
        operator.call("select crossfade.start_backfill('notes', 'v2_to_v1', 2)")
        for _ in range(3000):
            if active_run(operator, "backfill") is None:
                break
            if not batch(operator, "backfill"):
                time.sleep(0.005)
        for _ in range(5):
            operator.call("select crossfade.repair('notes', 5000, 'soak', 'delete')")
            if verify_pass(operator, shared) == 0:
                break
        operator.call("select crossfade.set_stage('notes', 'rampdown', 'soak')")
    except RefusedError:
        shared.count("refused")
    return bool(operator.call("select stage = 'rampdown' from crossfade.pairs"))
