"""The engine's side of a round: workers of backfill, verify and repair, and changes of stage."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg

from .session import Connection, Shared, is_dead

RETRIED = {"40P01": "engine deadlocks", "40001": "engine conflicts", "55P03": "engine timeouts"}
STAGES = ("off", "dualwrite", "shadow", "live", "rampdown", "complete")


class RefusedError(Exception):
    """The engine refused a call with one of its own codes."""


class Operator:
    """A connection of somebody who operates the engine; survives kills and crashes."""

    def __init__(self, shared: Shared) -> None:
        self.pid = 0
        self._shared = shared
        self._connection: Connection | None = None

    def call(self, sql: str) -> Any:
        """Return the first column of the first row; None when the call must be repeated.

        Raises:
            RefusedError: the engine said no.
        """
        if self._connection is None or self._connection.closed:
            self._connection = self._shared.connect()
            self._connection.execute("set statement_timeout = '60s'")
            self.pid = self._connection.info.backend_pid
        try:
            row = self._connection.execute(sql.encode()).fetchone()
        except psycopg.Error as error:
            if is_dead(error, self._connection):
                self._connection = None
                self._shared.counts["lost connections"] += 1
                return None
            if (error.sqlstate or "").startswith("PT4"):
                raise RefusedError(str(error)) from error
            if error.sqlstate not in RETRIED:
                self._shared.problems.append(f"engine: {sql}: {error.sqlstate} {error}")
                return None
            self._shared.counts[RETRIED[error.sqlstate]] += 1
            return None
        return None if row is None else row[0]

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


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
                self._work()
        except RefusedError as error:
            self._shared.problems.append(f"{self._kind} worker: {error}")
        finally:
            self.operator.close()

    def _work(self) -> None:
        counts = self._shared.counts
        if self._kind == "repair":
            answer = self.operator.call("select crossfade.repair('box', 40, 'soak')")
            counts["repaired"] += answer["repaired"] if answer else 0
            return
        if self._kind == "verify" and active_run(self.operator, "verify") is None:
            self.operator.call("select crossfade.start_verify('box', 3)")
        counts[f"{self._kind} batches"] += batch(self.operator, self._kind)


class Conductor(threading.Thread):
    """Switches mirroring on, then moves the pair through its stages, back and forth."""

    def __init__(self, shared: Shared, rng: random.Random, *, complete: bool, pause: bool) -> None:
        super().__init__(name="conductor", daemon=True)
        self._pause = pause
        self.operator = Operator(shared)
        self._shared = shared
        self._rng = rng
        self._complete = complete

    def run(self) -> None:
        try:
            self._until(lambda: self._set_stage("dualwrite"))
            self._shared.v2_open = True
            self._until(self._start_backfill)
            while not self._shared.stop.wait(self._rng.uniform(0.05, 0.4)):
                self._act()
        except RefusedError as error:
            self._shared.problems.append(f"conductor: {error}")
        finally:
            self.operator.close()

    def _until(self, action: Callable[[], bool]) -> None:
        while not action() and not self._shared.stop.is_set():
            time.sleep(0.01)

    def _stage(self) -> str:
        return str(self.operator.call("select stage from crossfade.pairs") or "")

    def _set_stage(self, stage: str) -> bool:
        self.operator.call(f"select crossfade.set_stage('box', '{stage}', 'soak', true)")
        return self._stage() == stage

    def _start_backfill(self, direction: str = "v1_to_v2") -> bool:
        ranges = self._rng.choice((1, 3, 5))
        self.operator.call(f"select crossfade.start_backfill('box', '{direction}', {ranges})")
        return active_run(self.operator, "backfill") is not None

    def _act(self) -> None:
        actions = [self._forward, self._forward, self._forward, self._back, self._backfill, self._control_run,
                   self._pause_mirror]  # fmt: skip
        try:
            self._rng.choice(actions)()
        except RefusedError:
            self._shared.counts["refused"] += 1

    def _backfill(self) -> None:
        self._start_backfill(self._rng.choice(("v1_to_v2", "v1_to_v2", "v2_to_v1")))

    def _control_run(self) -> None:
        kind = self._rng.choice(("backfill", "verify"))
        run = active_run(self.operator, kind)
        if run is None:
            return
        action = self._rng.choice(("pause", "pause", "cancel"))
        self.operator.call(f"select crossfade.control_run({run}, '{action}', 'soak')")
        if action == "pause":
            self._shared.stop.wait(0.05)
            self._until(lambda: bool(self.operator.call(
                f"select crossfade.control_run({run}, 'resume', 'soak')")))  # fmt: skip

    def _pause_mirror(self) -> None:
        if not self._pause or self._stage() not in ("dualwrite", "shadow"):
            return
        self.operator.call("select crossfade.set_mirror('box', 'log_only', 'soak')")
        self._shared.counts["mirror pauses"] += 1
        self._shared.stop.wait(self._rng.uniform(0.05, 0.3))
        self._until(self._resume_mirror)

    def _resume_mirror(self) -> bool:
        self.operator.call("select crossfade.set_mirror('box', 'both', 'soak')")
        state = "select mirror = 'both' from crossfade_private.mirror_state"
        return bool(self.operator.call(state))

    def _back(self) -> None:
        stage = self._stage()
        if stage in ("shadow", "live", "rampdown"):
            to = self._rng.choice(STAGES[1 : STAGES.index(stage)])
            self._shared.counts["stage changes"] += self._set_stage(to)

    def _forward(self) -> None:
        stage = self._stage()
        if stage not in STAGES[1:-1]:
            return
        wanted = STAGES[STAGES.index(stage) + 1]
        if wanted == "complete" and (not self._complete or self._rng.random() < 0.5):
            return
        self._shared.calm = True
        try:
            self._make_clean(20)
            if wanted == "rampdown":
                self.operator.call(
                    """select crossfade.set_cohort('box', '{"percentage": 100}', 'soak')"""
                )
            self._shared.archived |= wanted == "complete"
            self._shared.counts["stage changes"] += self._set_stage(wanted)
        finally:
            self._shared.calm = False
        if wanted == "complete":
            self._shared.stop.wait(self._rng.uniform(0.1, 0.6))
            self._until(lambda: way_back(self.operator, self._shared))

    def _make_clean(self, tries: int) -> None:
        for _ in range(tries):
            if self._shared.stop.is_set() or self._pass() == 0:
                return

    def _pass(self) -> int:
        """Finish a backfill, repair, verify once; return what the verify pass found."""
        operator = self.operator
        while batch(operator, "backfill") and not self._shared.stop.is_set():
            pass
        operator.call("select crossfade.repair('box', 500, 'soak')")
        return verify_pass(operator, self._shared)


def verify_pass(operator: Operator, shared: Shared) -> int:
    """Run one whole verify pass; return its mismatches, -1 when it was cut short."""
    operator.call("select crossfade.start_verify('box', 2)")
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


def way_back(operator: Operator, shared: Shared) -> bool:
    """Try to go from complete back to rampdown; True when it is done."""
    try:
        operator.call("select crossfade.start_backfill('box', 'v2_to_v1', 2)")
        for _ in range(3000):
            if active_run(operator, "backfill") is None:
                break
            if not batch(operator, "backfill"):
                time.sleep(0.005)
        for _ in range(5):
            operator.call("select crossfade.repair('box', 5000, 'soak')")
            if verify_pass(operator, shared) == 0:
                break
        operator.call("select crossfade.set_stage('box', 'rampdown', 'soak')")
    except RefusedError:
        shared.counts["refused"] += 1
    return bool(operator.call("select stage = 'rampdown' from crossfade.pairs"))
