"""The monitor, watching on its own beside the story."""

import threading
from collections import Counter
from collections.abc import Callable

from crossfade.core.contract import Outcome
from crossfade.demo.failures import ThreadFailure
from crossfade.monitor.alerts import Alert, Alerts
from crossfade.monitor.loop import Monitor, MonitorGateway, Tick
from crossfade.rollback.model import RollbackDone


class _Shown:
    """An alert channel that shows alerts beside the story."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell

    def send(self, alert: Alert) -> None:
        colour = {"critical": "red", "warning": "yellow"}.get(alert.severity.value, "dim")
        self._tell(f"    [{colour}]monitor: {alert.title}: {alert.body}[/{colour}]")


class Watchman:
    """Run the monitor in a thread with a short interval, exactly as an operator would.

    Args:
        gateway: The project.
        pair: What to watch.
        interval_s: Between two evaluations.
        tell: Shows an alert to a person.
    """

    def __init__(
        self,
        gateway: MonitorGateway,
        pair: str,
        *,
        interval_s: float,
        tell: Callable[[str], None],
    ) -> None:
        self._monitor = Monitor(gateway, alerts=Alerts([_Shown(tell)]))
        self._pair = pair
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="monitor", daemon=True)
        self._failure = ThreadFailure("The monitor")
        self.outcomes: Counter[Outcome] = Counter()
        self.rollbacks: list[RollbackDone] = []

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(15)

    def check(self) -> None:
        """Raise when the monitor broke.

        Raises:
            StoryError: What broke it.
        """
        self._failure.check()

    def _run(self) -> None:
        try:
            self._monitor.run(
                (self._pair,),
                interval_s=self._interval_s,
                on_tick=self._note,
                sleep=self._sleep,
                stop=self._stop.is_set,
            )
        except Exception as error:
            self._failure.keep(error)

    def _sleep(self, seconds: float) -> None:
        self._stop.wait(seconds)

    def _note(self, tick: Tick) -> None:
        self.outcomes[tick.outcome] += 1
        if tick.rolled_back is not None:
            self.rollbacks.append(tick.rolled_back)
