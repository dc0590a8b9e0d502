"""The loop that drives a run, whatever kind: batch after batch until it is over.

Nothing that matters is kept here: the cursor moves in each batch's transaction, so the loop may
be interrupted or killed anywhere, and another one continues.
"""

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

from crossfade.core.contract import RunState
from crossfade.core.errors import CrossfadeError, StalledError, is_transient
from crossfade.runs.model import Batch, Run
from crossfade.runs.progress import Meter, Progress

FIRST_WAIT_S: Final = 0.25
LONGEST_WAIT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class DriveOptions:
    """How to drive.

    ``target_ms``: time a batch aims at; None leaves it to the settings and the load. How long to
    wait after a batch, the database says each time.
    ``patience_s``: how long errors of network or server may last. ``stall_s``: how long a run may
    stay without a row done, for whatever reason, before the loop gives up. ``workers``: threads.
    """

    target_ms: int | None = None
    patience_s: float = 180.0
    stall_s: float = 1800.0
    workers: int = 1
    on_progress: Callable[[Progress], None] | None = None
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] | None = None


class Driver:
    """Drives one run to its end. Use once.

    Args:
        run: as it was started.
        step: does one batch of it.
        options: how to drive.
    """

    def __init__(self, run: Run, step: Callable[[], Batch], options: DriveOptions) -> None:
        self._step = step
        self._options = options
        self._meter = Meter(now=options.clock(), rows_done=run.rows_done)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._last = Batch(run, run.state)
        self._best = run.rows_done
        self._moved_at = options.clock()

    def drive(self) -> Batch:
        """Work until the run is over, paused or cancelled; return the last batch.

        Raises:
            StalledError: no progress for ``stall_s``; the run stays and can be continued.
            CrossfadeError: what a batch raised, transient errors only after ``patience_s``.
        """
        try:
            if self._options.workers <= 1:
                self._work()
            else:
                self._work_in_threads(self._options.workers)
        finally:
            self._stop.set()
        return self._last

    def _work_in_threads(self, workers: int) -> None:
        with ThreadPoolExecutor(workers, thread_name_prefix="crossfade") as pool:
            futures = [pool.submit(self._work) for _ in range(workers)]
            try:
                for future in futures:
                    future.result()
            finally:
                # Also on Ctrl-C: let each thread end its batch, start no other.
                self._stop.set()

    def _work(self) -> None:
        wait, failing_since = FIRST_WAIT_S, None
        while not self._stop.is_set():
            try:
                batch = self._step()
            except CrossfadeError as error:
                now = self._options.clock()
                failing_since = now if failing_since is None else failing_since
                if not is_transient(error) or now - failing_since > self._options.patience_s:
                    self._stop.set()
                    raise
                self._report(replace(self._last, state=RunState.WAITING, reason=error.line()))
                wait = self._pause(wait)
                continue
            failing_since = None
            self._report(batch)
            if batch.state is RunState.SHRUNK:
                wait = self._pause(FIRST_WAIT_S)  # the next batch is smaller, and no use waiting
            elif batch.state is not RunState.RUNNING:
                if batch.state.is_over or batch.state is RunState.PAUSED:
                    return
                wait = self._pause(wait)
            elif batch.rows_read == 0 and batch.run.rows_done == self._best:
                wait = self._pause(wait)  # nothing to claim: other workers hold the ranges
            else:
                wait = FIRST_WAIT_S
                self._sleep(batch.wait_ms / 1000)

    def _report(self, batch: Batch) -> None:
        with self._lock:
            now = self._options.clock()
            if batch.run.rows_done > self._best or batch.rows_written or batch.state.is_over:
                self._best, self._moved_at = max(self._best, batch.run.rows_done), now
            if not self._last.state.is_over:
                self._last = batch
            if self._options.on_progress:
                self._options.on_progress(self._meter.report(batch, now=now))
            stalled_s = now - self._moved_at
        if stalled_s > self._options.stall_s and not batch.state.is_over:
            self._stop.set()
            raise StalledError(
                f"Run {batch.run.id} of {batch.run.pair} made no progress for {stalled_s:.0f} s"
                f" ({batch.reason or batch.state})",
                hint="It can be continued with the same command once the cause is gone",
            )

    def _pause(self, wait: float) -> float:
        """Wait, interruptibly; return the next, longer wait."""
        # Jitter, so that several workers do not come back at the same moment.
        self._sleep(wait * random.uniform(0.8, 1.2))  # noqa: S311 - not a secret
        return min(wait * 2, LONGEST_WAIT_S)

    def _sleep(self, seconds: float) -> None:
        if seconds <= 0:
            return
        if self._options.sleep:
            self._options.sleep(seconds)
        else:
            self._stop.wait(seconds)
