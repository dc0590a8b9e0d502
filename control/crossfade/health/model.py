"""What the rules look at, read in one statement.

Times are aware UTC datetimes, rates 0.0 to 1.0, percentages 0 to 100 with three decimals.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from crossfade.core.contract import (
    RolloutState,
    Stage,
)
from crossfade.core.values import Names
from crossfade.runs.model import Run


@dataclass(frozen=True, slots=True)
class BackendWindow:
    """Requests one backend served within a window. Errors include fallbacks."""

    requests: int = 0
    errors: int = 0
    error_rate: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None


@dataclass(frozen=True, slots=True)
class BackendSample(BackendWindow):
    """The rule window of one backend, its last five minutes, and the counts of the whole step."""

    recent: BackendWindow = BackendWindow()
    whole: BackendWindow = BackendWindow()


NOTHING_SERVED = BackendSample()


@dataclass(frozen=True, slots=True)
class ShadowReads:
    """Answers of both tables compared in stage ``shadow``."""

    compared: int = 0
    mismatched: int = 0


@dataclass(frozen=True, slots=True)
class Baseline:
    """How backend 1 answered before the pair was mirrored."""

    requests: int
    p50_ms: float
    p95_ms: float
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RolloutBrief:
    """The rollout under way, as a health sample has it."""

    id: int
    plan: str
    state: RolloutState
    reason: str | None = None
    changed_by: str | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """Which monitor decides now. ``held``: this one does. ``generation`` grows with each change."""

    held: bool
    generation: int = 0
    holder: str | None = None
    heartbeat_at: datetime | None = None
    lease_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class MonitorDriven:
    """Whether pg_cron watches while no monitor lives."""

    driven: bool
    job: str
    schedule: str | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of version 2 in a whole step.

    ``kind``: requests that functions recorded, or, where none has ever reported, writes of V2 by
    users. ``failed``: of the writes, those that did not reach V1; None for requests.
    """

    kind: str = "requests"
    v2: int = 0
    failed: int | None = None


@dataclass(frozen=True, slots=True)
class HealthSample:
    """Everything the rules look at, read in one statement.

    ``runs`` are the active ones, ``checked`` the last verify run. ``memory_bytes``: reports of the
    last minute, newest first. ``engaged``: kill switches that keep V2 from serving.
    """

    pair: str
    at: datetime
    stage: Stage
    percentage: Decimal
    step: int
    step_started_at: datetime | None = None
    latched: bool = False
    window_from: datetime | None = None
    backends: Mapping[int, BackendSample] = field(default_factory=dict)
    streak: int = 0
    open_failures: int = 0
    open_mismatches: int = 0
    drift_count: int = 0
    shadow: ShadowReads = ShadowReads()
    evidence: Evidence = Evidence()
    newest_request_at: datetime | None = None
    runs: tuple[Run, ...] = ()
    flags_version: int = 0
    checked: Run | None = None
    lost_rows: int = 0
    memory_bytes: tuple[int, ...] = ()
    baseline: Baseline | None = None
    heartbeat_at: datetime | None = None
    engaged: Names = ()
    rollout: RolloutBrief | None = None

    def backend(self, version: int) -> BackendSample:
        """The window of backend 1 or 2; an empty one when it served nothing."""
        return self.backends.get(version, NOTHING_SERVED)
