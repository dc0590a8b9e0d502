"""Progress of a run on stderr: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as RichProgress

from crossfade.cli.output import say, seconds
from crossfade.core.contract import RunState
from crossfade.core.escaping import escaped
from crossfade.runs.progress import Progress

LINE_EVERY_S: Final = 5.0


class Bar:
    """A context manager whose ``update`` takes progress reports."""

    def __init__(self, title: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._title = title
        self._clock = clock
        self._said_at: float | None = None
        self._said_state: RunState | None = None
        self._rich: RichProgress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._rich = RichProgress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.fields[text]}", markup=False),
                console=Console(stderr=True),
                transient=True,
            )
            self._rich.start()
            self._task = self._rich.add_task(self._title, total=None, text="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._rich:
            self._rich.stop()

    def update(self, progress: Progress) -> None:
        """Show one report; not on a terminal, a line at most every five seconds."""
        text = describe(progress)
        if self._rich and self._task is not None:
            total = progress.run.rows_total or None
            done = min(progress.run.rows_done, total or progress.run.rows_done)
            self._rich.update(self._task, total=total, completed=done, text=text)
            return
        now = self._clock()
        changed = progress.state is not self._said_state
        if self._said_at is None or changed or now - self._said_at >= LINE_EVERY_S:
            self._said_at, self._said_state = now, progress.state
            say(f"{self._title}: {text}")


def describe(progress: Progress) -> str:
    """Rows, rate, time left; the reason when it waits."""
    run = progress.run
    total = f" of about {run.rows_total}" if run.rows_total else ""
    text = f"{run.rows_done}{total} rows, {progress.rows_per_s:.0f}/s"
    if progress.state is RunState.RUNNING:
        left = (
            "time left unknown" if progress.left_s is None else f"{seconds(progress.left_s)} left"
        )
        return f"{text}, {left}"
    why = f": {progress.reason}" if progress.reason else ""
    return escaped(f"{text}, {progress.state}{why}")
