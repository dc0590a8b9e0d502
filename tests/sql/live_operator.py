"""An operator who takes pairs through their stages while others write them."""

from __future__ import annotations

import time
from typing import Any

import psycopg

from .control import Connection

IN_THE_WAY = (
    psycopg.errors.DeadlockDetected,
    psycopg.errors.LockNotAvailable,
    psycopg.errors.SerializationFailure,
)


class Operator:
    """Calls of the engine for the pairs of one group, parents first.

    Each is repeated when it lost a conflict with a writer.
    """

    def __init__(self, db: Connection, *pairs: str, dwell_s: float = 0) -> None:
        self.db = db
        self.pairs = pairs
        self.steps: list[str] = []
        self._dwell_s = dwell_s

    def call(self, text: str) -> Any:
        for _ in range(50):
            try:
                row = self.db.execute(text.encode()).fetchone()
            except IN_THE_WAY:
                continue
            assert row is not None
            return row[0]
        raise AssertionError(f"always in the way of writers: {text}")

    def run(self, kind: str, arguments: str = "") -> int:
        """Run a whole backfill or verify of each; return the mismatches."""
        return sum(self._run_one(pair, kind, arguments) for pair in self.pairs)

    def _run_one(self, pair: str, kind: str, arguments: str) -> int:
        run = self.call(f"select crossfade.start_{kind}('{pair}'{arguments})")["run"]["id"]
        for _ in range(5000):
            answer = self.call(f"select crossfade.{kind}_batch({run}, 100)")
            if answer["state"] == "finished":
                return int(answer["run"]["mismatches"])
        raise AssertionError(f"{kind} of {pair} does not end: {answer}")

    def make_clean(self) -> None:
        """Repair and verify until a pass is clean and nothing has failed since."""
        # What version 2 deleted while version 1 was an archive is in version 1 only.
        gone = "delete" if self.steps[-1:] == ["complete"] else "keep"
        for _ in range(50):
            for pair in self.pairs:
                self.call(f"select crossfade.repair('{pair}', 5000, null, '{gone}')")
            if self.run("verify") == 0 and not self.call(
                "select count(*) from crossfade.pairs p, crossfade_private.data_blockers(p) "
                f"where p.name = any ('{{{','.join(self.pairs)}}}')"
            ):
                return
        raise AssertionError("never clean")

    def stage(self, stage: str, *, clean: bool = False) -> None:
        """Go to a stage, with whatever it asks for first, and stay for a while."""
        for attempt in range(20):
            if clean:
                self.make_clean()
            if stage == "rampdown":
                for pair in self.pairs:
                    everybody = """'{"percentage": 100}'"""
                    self.call(f"select crossfade.set_cohort('{pair}', {everybody}, 'test')")
            try:
                self.call(
                    f"select crossfade.set_group_stage('{self.pairs[0]}', '{stage}', 'test', true)"
                )
                break
            except psycopg.Error as error:
                # A writer's deadlock came between the clean pass and the change of stage.
                if error.sqlstate != "PT409" or attempt == 19:
                    raise
        self.steps.append(stage)
        time.sleep(self._dwell_s)
