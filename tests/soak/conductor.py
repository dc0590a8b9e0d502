"""Changes of stage during a round."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence

from .engine import (
    Operator,
    RefusedError,
    active_run,
    batch,
    kill,
    swap_back,
    verify_pass,
    way_back,
)
from .session import Session
from .shared import Shared
from .works import IGNORE_BOUND_SQL, IGNORE_SQL, PARTITION_WORKS, TWICE

STAGES = ("off", "dualwrite", "shadow", "live", "rampdown", "complete")


class Conductor(threading.Thread):
    """Switches mirroring on, then moves the pair through its stages, back and forth.

    Attributes:
        finished: the round has seen what it is about, and may end.
    """

    def __init__(
        self,
        shared: Shared,
        sessions: Sequence[Session],
        rng: random.Random,
        *,
        complete: bool,
        retire: bool,
        pause: bool,
    ) -> None:
        super().__init__(name="conductor", daemon=True)
        self._pause = pause
        self._sessions = sessions
        self.operator = Operator(shared)
        self._shared = shared
        self._rng = rng
        self._complete = complete or retire
        self._retires = retire
        self.finished = threading.Event()

    def run(self) -> None:
        try:
            self._begin()
            while not self._shared.stop.wait(self._rng.uniform(0.05, 0.4)):
                self._act()
        except RefusedError as error:
            self._shared.problems.append(f"conductor: {error}")
        finally:
            self.operator.close()

    def _begin(self) -> None:
        stage = self._stage()
        if stage in ("complete", "retired") or (self._retires and stage == "rampdown"):
            self._allow((1, 2))
            if stage != "rampdown":  # in a restored dump
                self._leave()
            return
        self._until(lambda: self._set_stage("dualwrite"))
        self._allow((1, 2))
        self._until(self._start_backfill)

    def _until(self, action: Callable[[], bool]) -> None:
        while not self._shared.stop.is_set() and not action():
            time.sleep(0.01)

    def _stage(self) -> str:
        return str(self.operator.call("select stage from crossfade.pairs") or "")

    def _set_stage(self, stage: str) -> bool:
        self.operator.call(f"select crossfade.set_stage('notes', '{stage}', 'soak', true)")
        done = self._stage() == stage
        self._shared.count(f"done {stage}", done)
        return done

    def _start_backfill(self, direction: str = "v1_to_v2") -> bool:
        ranges = self._rng.choice((1, 3, 5))
        self.operator.call(f"select crossfade.start_backfill('notes', '{direction}', {ranges})")
        return active_run(self.operator, "backfill") is not None

    def _act(self) -> None:
        moves = [self._forward] * (9 if self._retires else 3) + [self._back]
        actions = [*moves, self._backfill, self._control_run, self._pause_mirror]
        actions += [self._partition] * (4 * self._shared.world.parted)
        try:
            self._rng.choice(actions)()
        except RefusedError:
            self._shared.count("refused")

    def _backfill(self) -> None:
        self._start_backfill(self._rng.choice(("v1_to_v2", "v1_to_v2", "v2_to_v1")))

    def _partition(self) -> None:
        """Let a partition come or go, but for one with rows, which only a backfill brings over."""
        work = self._rng.choice([name for name in PARTITION_WORKS if name != "attach rows"])
        done = self.operator.call(f"{PARTITION_WORKS[work]} is not null", TWICE)
        self._shared.count(f"done {work}", done is not None)

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
        # One side only: of two edits that are just noted, nobody could tell which one wins.
        self._allow((1,))
        self.operator.call("select crossfade.set_mirror('notes', 'log_only', 'soak')")
        self._shared.count("mirror pauses")
        self._shared.stop.wait(self._rng.uniform(0.05, 0.3))
        self._until(self._resume_mirror)
        # What V2 refuses stays open; rows with one column for each side do not mind.
        any(self._is_drained() for _ in range(10))
        self._allow((1, 2))

    def _allow(self, sides: tuple[int, ...]) -> None:
        """Let transactions write these sides; wait until those that write others have ended."""
        with self._shared.gate:
            self._shared.sides = sides
        while any(set(session.sides) - set(sides) for session in self._sessions):
            time.sleep(0.005)

    def _is_drained(self) -> bool:
        answer = self.operator.call("select crossfade.repair('notes', 500, 'soak')")
        return answer is not None and answer["remaining"] == 0

    def _resume_mirror(self) -> bool:
        self.operator.call("select crossfade.set_mirror('notes', 'both', 'soak')")
        state = "select mirror = 'both' from crossfade_private.mirror_state"
        return bool(self.operator.call(state))

    def _back(self) -> None:
        stage = self._stage()
        if stage in ("shadow", "live", "rampdown"):
            to = self._rng.choice(STAGES[1 : STAGES.index(stage)])
            self._set_stage(to)

    def _forward(self) -> None:
        stage = self._stage()
        if stage not in STAGES[1:-1]:
            return
        wanted = STAGES[STAGES.index(stage) + 1]
        if wanted == "complete" and not self._completes():
            return
        self._make_clean(20)
        if wanted == "rampdown":
            self.operator.call(
                """select crossfade.set_cohort('notes', '{"percentage": 100}', 'soak')"""
            )
        if wanted == "complete":
            self.operator.call(IGNORE_SQL)
        self._shared.archived |= wanted == "complete"
        if self._set_stage(wanted) and wanted == "complete":
            self._shared.stop.wait(self._rng.uniform(0.1, 0.6))
            try:
                self._retire(self._rng.choice((1, 1, 2)) if self._retires else 0)
            finally:
                self._leave()
            if self._retires:
                self.finished.set()

    def _completes(self) -> bool:
        return self._retires or (self._complete and self._rng.random() < 0.5)

    def _leave(self) -> None:
        self._until(lambda: self._swapping(lambda: swap_back(self.operator)))
        self._until(lambda: way_back(self.operator, self._shared))

    def _retire(self, times: int) -> None:
        """Let V1's name be a view for a while, and a table again."""
        for _ in range(times):
            # What a verification has found of the archive, which falls behind, would bar it.
            any(self._is_drained() for _ in range(10))
            self.operator.call(IGNORE_BOUND_SQL)
            self._shared.retired = True
            self._until(lambda: self._swapping(lambda: self._set_stage("retired")))
            if self._rng.random() < 0.2:
                self.finished.set()  # and the stage stays, also in a dump
                self._shared.stop.wait()
            if self._shared.stop.wait(self._rng.uniform(1, 3)):
                return
            self._until(lambda: self._swapping(lambda: swap_back(self.operator)))
            self._shared.count("done swap back", self._stage() == "complete")

    def _swapping(self, swap: Callable[[], bool]) -> bool:
        """Swap; at times the operator's session is killed in the middle of it."""
        if self._rng.random() > 0.3:
            return swap()
        killer = threading.Timer(
            self._rng.uniform(0, 0.1), kill, (self._shared, self.operator.pid, "kills in a swap")
        )
        killer.start()
        try:
            return swap()
        finally:
            killer.join()

    def _make_clean(self, tries: int) -> None:
        for _ in range(tries):
            if self._shared.stop.is_set() or self._pass() == 0:
                return

    def _pass(self) -> int:
        """Finish a backfill, repair, verify once; return what the verify pass found."""
        operator = self.operator
        while batch(operator, "backfill") and not self._shared.stop.is_set():
            pass
        operator.call("select crossfade.repair('notes', 500, 'soak')")
        return verify_pass(operator, self._shared)
