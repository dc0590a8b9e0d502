"""Probes: one user who asks without a pause, so that a change of backend is seen at once."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from crossfade.demo.answers import Answer
from crossfade.demo.client import Dialect
from crossfade.demo.failures import ThreadFailure
from crossfade.demo.session import Visit

V2 = Dialect(2, "header")


@dataclass(frozen=True, slots=True)
class Probe:
    """One answer: which backend served it, and when it was received (epoch seconds)."""

    backend: int | None
    writes: bool
    sent_s: float
    received_s: float


class Prober:
    """Send requests of one user in a thread of its own.

    Args:
        session: The user, checked and journalled like every other client.
        reads: Whether to read; `writes` whether to write. Both can be changed while it runs.
        pause_s: Between two requests.
    """

    def __init__(
        self, session: Visit, *, name: str, reads: bool, writes: bool, pause_s: float
    ) -> None:
        self.reads = reads
        self.writes = writes
        self._session = session
        self._pause_s = pause_s
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._probes: deque[Probe] = deque(maxlen=2000)
        self._failure = ThreadFailure("A prober of the demo")
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the request under way."""
        self._stop.set()
        self._thread.join(25)

    def since(self, moment_s: float) -> list[Probe]:
        """Return the answers received after a moment, oldest first.

        Raises:
            StoryError: The prober itself broke.
        """
        self._failure.check()
        with self._lock:
            return [probe for probe in self._probes if probe.received_s > moment_s]

    def _run(self) -> None:
        try:
            turn = 0
            while not self._stop.wait(self._pause_s):
                turn += 1
                writes = self.writes and (turn % 2 == 0 or not self.reads)
                if writes or self.reads:
                    self._keep(writes, self._session.probe(V2, writes=writes))
        except Exception as error:
            self._failure.keep(error)

    def _keep(self, writes: bool, answer: Answer | None) -> None:
        if answer is None or answer.status == 0:
            return
        with self._lock:
            self._probes.append(Probe(answer.backend, writes, answer.sent_s, answer.received_s))


def settle(
    probers: list[Prober], backend: int, *, answers: int, timeout_s: float, idle: Callable[[], None]
) -> float | None:
    """Wait until every prober got so many answers in a row from one backend.

    Returns:
        The time waited in seconds, None when it took longer than `timeout_s`.
    """
    started = time.time()
    while time.time() - started < timeout_s:
        idle()
        if all(_in_a_row(prober.since(started), backend) >= answers for prober in probers):
            return time.time() - started
        time.sleep(0.005)
    return None


def _in_a_row(probes: list[Probe], backend: int) -> int:
    count = 0
    for probe in reversed(probes):
        if probe.backend != backend:
            break
        count += 1
    return count
