"""What the clients felt, second by second: requests by backend, latency, errors by class."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

MAX_SAMPLES = 25


@dataclass(frozen=True, slots=True)
class Second:
    """One second of traffic.

    Attributes:
        at_s: Seconds since the meter was made.
        by_backend: Requests by the backend that served them (0: no answer that named one).
        p50_ms: Median latency by backend.
        p95_ms: 95th percentile by backend.
        errors: Requests that broke a promise.
    """

    at_s: int
    by_backend: dict[int, int]
    p50_ms: dict[int, float]
    p95_ms: dict[int, float]
    errors: int


@dataclass(slots=True)
class _Open:
    at_s: int
    latencies: dict[int, list[float]] = field(default_factory=dict)
    errors: int = 0


@dataclass(frozen=True, slots=True)
class Problem:
    """One answer that broke a promise."""

    at_s: float
    wire: int
    kind: str
    text: str


class RequestMeter:
    """Count requests and problems; only finished seconds and a few samples stay in memory."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start = clock()
        self._lock = threading.Lock()
        self._open = _Open(0)
        self._seconds: list[Second] = []
        self.requests: Counter[tuple[int, int]] = Counter()
        self.fallbacks = 0
        self.errors: Counter[tuple[int, str]] = Counter()
        self.samples: list[Problem] = []

    def now_s(self) -> float:
        """Return the seconds since the meter was made."""
        return self._clock() - self._start

    def request(self, *, wire: int, backend: int | None, latency_ms: float) -> None:
        """Count one request that was answered (or given up)."""
        with self._lock:
            self._roll()
            served_by = backend or 0
            self._open.latencies.setdefault(served_by, []).append(latency_ms)
            self.requests[wire, served_by] += 1

    def problem(self, *, wire: int, kind: str, text: str) -> None:
        """Count one broken promise; the first ones are kept as samples."""
        with self._lock:
            self._roll()
            self._open.errors += 1
            self.errors[wire, kind] += 1
            if len(self.samples) < MAX_SAMPLES:
                self.samples.append(Problem(round(self.now_s(), 3), wire, kind, text))

    def fallback(self) -> None:
        """Count one request backend 2 could not serve and backend 1 did."""
        with self._lock:
            self.fallbacks += 1

    def errors_of(self, wire: int) -> int:
        """Return the broken promises clients of this wire version have seen."""
        with self._lock:
            return sum(count for (w, _), count in self.errors.items() if w == wire)

    def total(self) -> int:
        """Return the requests counted so far."""
        with self._lock:
            return self.requests.total()

    def seconds(self) -> list[Second]:
        """Return the finished seconds, oldest first."""
        with self._lock:
            self._roll()
            return list(self._seconds)

    def _roll(self) -> None:
        at_s = int(self.now_s())
        if at_s == self._open.at_s:
            return
        done = self._open
        if done.latencies or done.errors:
            self._seconds.append(
                Second(
                    at_s=done.at_s,
                    by_backend={b: len(values) for b, values in done.latencies.items()},
                    p50_ms={b: percentile(values, 0.50) for b, values in done.latencies.items()},
                    p95_ms={b: percentile(values, 0.95) for b, values in done.latencies.items()},
                    errors=done.errors,
                )
            )
        self._open = _Open(at_s)


def percentile(values: list[float], share: float) -> float:
    """Return the nearest-rank percentile; `values` must not be empty.

    Nearest rank and not interpolated: every number shown was really measured.
    """
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * round(share * 1000) // 1000))
    return ordered[rank - 1]
