"""The monitor, watching on its own beside the story."""

import threading
from collections import Counter

from crossfade.contract import Outcome
from crossfade.models import RollbackDone
from crossfade.monitor import Monitor, MonitorGateway, Tick


class Watchman:
    """Run the monitor in a thread with a short interval, exactly as an operator would."""

    def __init__(self, gateway: MonitorGateway, pair: str, *, interval_s: float) -> None:
        self._monitor = Monitor(gateway)
        self._pair = pair
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="monitor", daemon=True)
        self._failure: BaseException | None = None
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
            RuntimeError: The loop ended by an error.
        """
        if self._failure is not None:
            raise RuntimeError("The monitor stopped") from self._failure

    def _run(self) -> None:
        try:
            self._monitor.run(
                (self._pair,),
                interval_s=self._interval_s,
                on_tick=self._note,
                sleep=self._sleep,
                stop=self._stop.is_set,
            )
        except BaseException as error:
            self._failure = error
            raise

    def _sleep(self, seconds: float) -> None:
        self._stop.wait(seconds)

    def _note(self, tick: Tick) -> None:
        self.outcomes[tick.outcome] += 1
        if tick.rolled_back is not None:
            self.rollbacks.append(tick.rolled_back)
