"""What an edge function would report: real routing, any volume, and a backend 2 that can break.

It chooses the backend of each user as the function does, from the database's own flags, and reports
counts; so a step of a plan gets its thousands of requests in a moment.
"""

import threading
from collections import Counter

from crossfade.core.contract import Stage
from crossfade.flags.evaluation import choose_backend
from crossfade.flags.model import Context
from crossfade.gateway import SupabaseGateway

USERS = 200


class EdgeDouble:
    """Report requests of one pair until stopped. ``broken``: every request of backend 2 fails."""

    def __init__(self, gateway: SupabaseGateway, pair: str, *, each: int = 20) -> None:
        self.broken = False
        self.served: Counter[tuple[int, str]] = Counter()
        self.error: BaseException | None = None
        self._gateway = gateway
        self._pair = pair
        self._each = each
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="edge double", daemon=True)

    def __enter__(self) -> "EdgeDouble":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(20)
        assert self.error is None, self.error

    def _run(self) -> None:
        try:
            while not self._stop.wait(0.05):
                self._gateway._api.rpc("record_requests", batch=self._batch())
        except BaseException as error:
            self.error = error

    def _batch(self) -> list[dict[str, object]]:
        state = self._gateway.read_flags()
        routing = state.pairs[self._pair]
        users = Counter(
            choose_backend(state, routing, Context(user_id=f"user-{number}")).backend
            for number in range(USERS)
        )
        bad = {2: "error" if self.broken else "ok", 1: "ok"}
        rows = [(backend, bad[backend], count) for backend, count in users.items()]
        if routing.stage is Stage.SHADOW:
            rows.append((1, "shadow_match", USERS))
        for backend, outcome, count in rows:
            self.served[backend, outcome] += count
        return [
            {
                "pair": self._pair,
                "backend_version": backend,
                "wire_version": 1,
                "outcome": outcome,
                "latency_ms": 20,
                "flags_version": state.flags_version,
                "count": count * self._each,
            }
            for backend, outcome, count in rows
        ]
