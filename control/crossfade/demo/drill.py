"""The kill drill: engage, see how long backend 2 still has an effect, release, and again.

Probes go through the gateway, whose isolates listen to Realtime. One more isolate is cut off from
Realtime and from every refresh: it goes on believing its old snapshot, and only the fence in the
database keeps it from writing version 2.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import psycopg

from crossfade.demo.failures import StoryError
from crossfade.demo.meter import percentile
from crossfade.demo.probes import Prober, settle
from crossfade.flags import kill_switches
from crossfade.flags.port import Controls

SWITCH = "disable_v2_messages"
LEAST_CYCLES = 20
IN_A_ROW = 6  # per prober; more than there are isolates behind the gateway
STALE_ANSWERS = 6


@dataclass(frozen=True, slots=True)
class Cycle:
    """One engage and release.

    Attributes:
        commit_ms: From the operator's call to the commit.
        effect_ms: From the commit to the last answer of backend 2; 0 when none came after it.
    """

    commit_ms: float
    effect_ms: float


@dataclass(slots=True)
class DrillResult:
    """All cycles, and what the isolate that was cut off did after the first commit."""

    cycles: list[Cycle] = field(default_factory=list)
    stale_reads_on_2: int = 0
    stale_writes_on_1: int = 0
    stale_writes_on_2: int = 0

    def effect_ms(self, share: float) -> float:
        """Return a percentile of the time to effect."""
        return round(percentile([cycle.effect_ms for cycle in self.cycles], share), 1)

    def commit_ms(self, share: float) -> float:
        """Return a percentile of the time to the commit."""
        return round(percentile([cycle.commit_ms for cycle in self.cycles], share), 1)


@dataclass(frozen=True, slots=True)
class Drill:
    """What a drill works with.

    Attributes:
        conn: Plain connection, to read commit times.
        probers: Through the gateway; `stale` straight to the isolate that was cut off.
        idle: Called while waiting; raises when something else broke.
    """

    gateway: Controls
    conn: psycopg.Connection
    probers: Sequence[Prober]
    stale: Prober
    idle: Callable[[], None]
    timeout_s: float = 20.0

    def run(self, cycles: int, *, limit_s: float, progress: Callable[[int], None]) -> DrillResult:
        """Engage and release so many times, or fewer on a slow machine: at least `LEAST_CYCLES`.

        Raises:
            StoryError: Backend 2 did not stop, or did not come back, in bounded time.
        """
        result = DrillResult()
        self._wait([*self.probers, self.stale], 2, "backend 2 serves the probes")
        self._keep_from_writing()
        started = time.monotonic()
        for number in range(cycles):
            if number >= LEAST_CYCLES and time.monotonic() - started > limit_s:
                break
            result.cycles.append(self._cycle(number, result))
            progress(number + 1)
        return result

    def _keep_from_writing(self) -> None:
        """A write under way at the first kill would be refused: the isolate would hear of it."""
        self.stale.writes = False
        stopped_s = time.time()
        self._enough(
            lambda: any(p.sent_s > stopped_s for p in self.stale.since(stopped_s)), "reads"
        )

    def _cycle(self, number: int, result: DrillResult) -> Cycle:
        called_s = time.time()
        kill_switches.engage(self.gateway, SWITCH, reason=f"demo: kill drill {number + 1}")
        commit_s = self._commit_s()
        self._wait(self.probers, 1, "backend 1 serves after the kill")
        effects = [
            probe.received_s - commit_s
            for prober in self.probers
            for probe in prober.since(commit_s)
            if probe.backend == 2
        ]
        if number == 0:
            self._watch_stale(commit_s, result)
        self.gateway.release_kill_switch(SWITCH, reason=f"demo: kill drill {number + 1} is over")
        self._wait(self.probers, 2, "backend 2 serves again after the release")
        return Cycle((commit_s - called_s) * 1000, max(effects, default=0.0) * 1000)

    def _watch_stale(self, commit_s: float, result: DrillResult) -> None:
        """Let the cut-off isolate read, which shows what it believes, and then write."""
        self._enough(lambda: len(self.stale.since(commit_s)) >= STALE_ANSWERS, "reads")
        self.stale.writes = True
        self._enough(lambda: len(_writes(self.stale, commit_s)) >= STALE_ANSWERS, "writes")
        answers = self.stale.since(commit_s)
        self.stale.reads = self.stale.writes = False
        result.stale_reads_on_2 = sum(p.backend == 2 for p in answers if not p.writes)
        result.stale_writes_on_1 = sum(p.backend == 1 for p in answers if p.writes)
        result.stale_writes_on_2 = sum(
            p.backend == 2 and p.sent_s > commit_s for p in answers if p.writes
        )

    def _commit_s(self) -> float:
        """Return when the change of the switch was committed, by the database's own record."""
        row = self.conn.execute(
            "select extract(epoch from pg_xact_commit_timestamp(a.xmin))::float8"
            " from crossfade.audit as a where a.action = 'kill_switch.update' and a.object = %s"
            " order by a.id desc limit 1",
            (SWITCH,),
        ).fetchone()
        if row is None or row[0] is None:
            raise StoryError(f"The audit has no committed change of {SWITCH}")
        return float(row[0])

    def _wait(self, probers: Sequence[Prober], backend: int, what: str) -> None:
        waited = settle(
            list(probers), backend, answers=IN_A_ROW, timeout_s=self.timeout_s, idle=self.idle
        )
        if waited is None:
            raise StoryError(f"Waited {self.timeout_s:.0f} s in vain until {what}")

    def _enough(self, met: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + self.timeout_s
        while not met():
            self.idle()
            if time.monotonic() > until:
                raise StoryError(f"The isolate that was cut off answered too few {what}")
            time.sleep(0.01)


def _writes(prober: Prober, since_s: float) -> list[float]:
    return [probe.sent_s for probe in prober.since(since_s) if probe.writes]
