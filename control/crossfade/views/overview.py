"""What RPC ``overview`` answers: the one source of numbers of status, dashboard and metrics."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from crossfade.core.contract import Level
from crossfade.core.values import JsonText, Key, Names
from crossfade.flags.model import KillSwitch
from crossfade.health.model import Baseline, ShadowReads
from crossfade.health.verdicts import Verdict
from crossfade.pairs.model import PairStatus
from crossfade.rollouts.plan import RolloutView
from crossfade.runs.model import Run


@dataclass(frozen=True, slots=True)
class BackendTraffic:
    """Requests of one backend in a window. ``requests``: ok, errors, fallbacks; no client errors.

    ``errors`` includes ``fallbacks``: V2 failed and V1 answered. Rate and latencies are None
    without requests.
    """

    requests: int = 0
    errors: int = 0
    fallbacks: int = 0
    client_errors: int = 0
    error_rate: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Traffic:
    """Both backends over one window, whatever the rollout step."""

    since: datetime | None = None
    upto: datetime | None = None
    backends: Mapping[int, BackendTraffic] = field(default_factory=dict)

    def backend(self, version: int) -> BackendTraffic:
        """Backend 1 or 2; an empty one when it served nothing."""
        return self.backends.get(version, BackendTraffic())

    @property
    def v2_share(self) -> float | None:
        """Share of the requests that went to backend 2, fallbacks among them; None without any."""
        both = self.backend(1).requests + self.backend(2).requests
        return self.backend(2).requests / both if both else None


@dataclass(frozen=True, slots=True)
class BackendSeries:
    """One backend over time, oldest point first."""

    requests: tuple[int, ...] = ()
    errors: tuple[int, ...] = ()
    fallbacks: tuple[int, ...] = ()
    client_errors: tuple[int, ...] = ()
    p50_ms: tuple[float | None, ...] = ()
    p95_ms: tuple[float | None, ...] = ()
    p99_ms: tuple[float | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Series:
    """A pair over time in points of ``width_s`` seconds; the last one is still filling."""

    pair: str
    since: datetime
    upto: datetime
    width_s: int
    points: int
    backends: Mapping[int, BackendSeries] = field(default_factory=dict)
    wires: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    total: Traffic = Traffic()


@dataclass(frozen=True, slots=True)
class RunProgress(Run):
    """A run with its rate since it began; ``left_s`` is None when nobody can honestly say."""

    rows_per_s: float | None = None
    left_s: float | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """A write that reached one table only. ``written_side`` is the table that is right."""

    id: int
    key: Key
    written_side: int
    operation: str
    error_code: str
    message: str
    at: datetime
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A row that differs; ``columns`` of V1, and of V2 as ``v2.NAME``."""

    id: int
    key: Key
    kind: str
    found_at: datetime
    columns: Names = ()
    run: int | None = None


@dataclass(frozen=True, slots=True)
class PairOverview(PairStatus):
    """A pair and what is measured of it now.

    ``progress``: the newest run of each kind. ``problem`` says why the rest of the status could not
    be read. ``failures`` and ``mismatches`` are the newest 20 open ones.
    """

    traffic: Traffic = Traffic()
    progress: tuple[RunProgress, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    failures: tuple[Failure, ...] = ()
    mismatches: tuple[Mismatch, ...] = ()
    shadow: ShadowReads = field(default_factory=ShadowReads)
    streak: int = 0
    newest_request_at: datetime | None = None
    full_since: datetime | None = None
    baseline: Baseline | None = None
    rollout: RolloutView | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class FlagUse:
    """A flag and how often it was answered ``on`` and ``off`` in the window, at most a day."""

    name: str
    description: str = ""
    enabled: bool = False
    percentage: Decimal | None = None
    killed_by: Names = ()
    on: int = 0
    off: int = 0

    @property
    def share(self) -> float | None:
        """Share of answers that were on; None without answers."""
        return self.on / (self.on + self.off) if self.on + self.off else None


@dataclass(frozen=True, slots=True)
class MonitorLife:
    """The monitor that decides. ``heartbeat_at`` None: none has run yet, or it has said goodbye."""

    heartbeat_at: datetime | None = None
    holder: str | None = None


@dataclass(frozen=True, slots=True)
class RollbackNote:
    """One rollback of the log."""

    id: int
    at: datetime
    actor: str
    level: Level
    scope: str
    reason: str
    automatic: bool = False
    snapshot: int | None = None


@dataclass(frozen=True, slots=True)
class RollbackLog:
    """How many rollbacks there ever were, and the newest ones."""

    count: int = 0
    newest: tuple[RollbackNote, ...] = ()


@dataclass(frozen=True, slots=True)
class Happening:
    """One row of the timeline. ``changes``: which values changed, each as JSON [before, after]."""

    id: int
    at: datetime
    actor: str
    action: str
    object: str
    reason: str | None = None
    changes: Mapping[str, JsonText] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Total:
    """A counter since the beginning. ``histogram``: latency bucket -> requests."""

    pair: str
    backend_version: int
    wire_version: int
    outcome: str
    requests: int
    histogram: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Overview:
    """The whole project at one moment of the database's clock, ``at``."""

    at: datetime
    flags_version: int = 0
    minutes: int = 60
    pairs: tuple[PairOverview, ...] = ()
    series: Series | None = None
    kill_switches: tuple[KillSwitch, ...] = ()
    flags: tuple[FlagUse, ...] = ()
    settings: Mapping[str, object] = field(default_factory=dict)
    throttle: str | None = None
    monitor: MonitorLife = MonitorLife()
    rollbacks: RollbackLog = RollbackLog()
    timeline: tuple[Happening, ...] = ()
    rolled_up_to: datetime | None = None
    totals: tuple[Total, ...] = ()

    def pair(self, name: str) -> PairOverview | None:
        """The pair of that name, if there is one."""
        return next((pair for pair in self.pairs if pair.name == name), None)
