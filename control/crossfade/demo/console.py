"""What a person sees while the demo runs. Talk goes to stderr; the report goes to stdout."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from crossfade.demo.report import TimedStep

LINE_EVERY_S = 5.0  # without a terminal there are no bars, but lines now and then


class Showing:
    """The step that is being shown.

    Attributes:
        outcome: Set by the step; shown and kept when it is over.
    """

    def __init__(self, progress: Progress, clock: Callable[[], float]) -> None:
        self.outcome = ""
        self._progress = progress
        self._clock = clock
        self._bars: dict[str, TaskID] = {}
        self._said_at = clock()

    def bar(self, name: str, done: float, total: float | None = None) -> None:
        """Move a bar; its total may be given later."""
        if name not in self._bars:
            self._bars[name] = self._progress.add_task(name, total=total, rate="")
        task = self._bars[name]
        speed = next((one.speed for one in self._progress.tasks if one.id == task), None)
        rate = f"{speed:,.0f}/s" if speed and speed >= 10 else ""
        self._progress.update(task, completed=done, total=total, rate=rate)
        if not self._progress.console.is_terminal:
            self._say(name, done, total)

    def note(self, text: str) -> None:
        """Say something above the bars."""
        self._progress.console.print(f"    {text}", highlight=False, soft_wrap=True)

    def _say(self, name: str, done: float, total: float | None) -> None:
        if self._clock() - self._said_at < LINE_EVERY_S:
            return
        self._said_at = self._clock()
        speed = next((one.speed for one in self._progress.tasks if one.description == name), None)
        left = f", {(total - done) / speed:.0f} s left" if total and speed and total > done else ""
        self.note(f"{name}: {done:,.0f} of {total or 0:,.0f}{left}")


class DemoConsole:
    """Show steps one after the other and keep how long each took."""

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._start = clock()
        self.steps: list[TimedStep] = []

    def elapsed_s(self) -> float:
        """Return the seconds since the demo began."""
        return self._clock() - self._start

    def say(self, text: str) -> None:
        """Print one line."""
        self._console.print(text, highlight=False, soft_wrap=True)

    @contextmanager
    def step(self, name: str, title: str) -> Iterator[Showing]:
        """Show one step; its line stays, its bars go."""
        started = self.elapsed_s()
        self._console.print(f"[bold]{title}[/bold]", highlight=False, soft_wrap=True)
        progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        showing = Showing(progress, self._clock)
        mark = "[red]stopped[/red]"
        try:
            with progress:
                yield showing
            mark = "[green]done[/green]"
        finally:
            duration = self.elapsed_s() - started
            self.steps.append(
                TimedStep(name, round(started, 1), round(duration, 1), showing.outcome)
            )
            text = f" {showing.outcome}" if showing.outcome else ""
            self._console.print(
                f"  {mark}{text} [dim]({duration:.1f} s)[/dim]", highlight=False, soft_wrap=True
            )
