"""What crosses module boundaries: frozen records, built only by ``gateway``.

Times are aware UTC datetimes, rates 0.0 to 1.0, percentages 0 to 100 with three decimals.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator

from crossfade.contract import (
    Direction,
    FailurePolicy,
    Level,
    PartitionRemoval,
    RepairAction,
    RolloutState,
    RunState,
    Stage,
)
from crossfade.errors import Blocker

Names = Annotated[tuple[str, ...], BeforeValidator(lambda value: value or ())]
"""Names in order; null reads as none."""
JsonText = Annotated[
    str, BeforeValidator(lambda value: value if isinstance(value, str) else json.dumps(value))
]
"""Any JSON value as text, for people."""
Values = Annotated[dict[str, object], BeforeValidator(lambda value: value or {})]
"""Values by column; null reads as none."""
Key = Mapping[str, str | int | float | bool | None]
"""Key columns of one row."""


@dataclass(frozen=True, slots=True)
class Cohort:
    """The units for which backend 2 serves while a pair is ``live``."""

    percentage: Decimal
    cohort_key: str
    enabled_user_ids: Names = ()
    enabled_agent_ids: Names = ()
    denied_user_ids: Names = ()
    denied_agent_ids: Names = ()
    pair: str = ""


@dataclass(frozen=True, slots=True)
class CohortChanged:
    """A cohort after a change. ``step`` counts the traffic steps of the pair."""

    cohort: Cohort
    flags_version: int
    step: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """A backfill or verification, as the database has it."""

    id: int
    kind: str
    pair: str
    direction: Direction | None = None
    state: RunState = RunState.RUNNING
    rows_total: int | None = None
    rows_done: int = 0
    rows_written: int = 0
    mismatches: int = 0
    batches: int = 0
    batch_rows: int | None = None
    started_at: datetime | None = None
    progress_at: datetime | None = None
    finished_at: datetime | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Blocking:
    """A session that a batch waits for; what the database does not show is None.

    ``transaction_s`` is the age of its transaction. A prepared transaction has no ``pid`` but the
    name to commit or roll back, ``prepared``.
    """

    pid: int | None = None
    user: str | None = None
    application: str | None = None
    state: str | None = None
    transaction_s: float | None = None
    query_started_at: datetime | None = None
    prepared: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """What one batch did. ``reason`` says why nothing happened when it waited, and for whom.

    ``wait_ms``: how long its worker should wait before the next one.
    """

    run: Run
    state: RunState
    rows_read: int = 0
    rows_written: int = 0
    mismatches: int = 0
    batch_ms: float = 0.0
    wait_ms: float = 0.0
    reason: str | None = None
    blocking: tuple[Blocking, ...] = ()


@dataclass(frozen=True, slots=True)
class Started:
    """A run; ``already`` is true when it existed before."""

    run: Run
    already: bool = False


@dataclass(frozen=True, slots=True)
class Driven:
    """A run that pg_cron drives, or no longer does. ``schedule`` is None when no job is left."""

    run: Run
    driven: bool
    job: str
    schedule: str | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """What one call of ``verify_some`` saw. ``passes``: how often it has come to the end.

    ``state`` is running, waiting (no backfill has ended yet) or busy (another one looks).
    """

    pair: str
    state: str
    mismatches: int = 0
    passes: int = 0
    rows_checked: int = 0


@dataclass(frozen=True, slots=True)
class PairStatus:
    """Where one pair stands. ``blockers``: what keeps it from ``next_stage``, None at the end.

    ``runs`` are those not over, ``last_runs`` the newest of each kind.

    ``drift_count`` is every write ever recorded as not mirrored, repaired ones included.
    """

    name: str
    v1_table: str
    v2_table: str
    stage: Stage
    mirror: str = "off"
    key_columns: Names = ()
    failure_policy: FailurePolicy = FailurePolicy.RECORD
    gate_flag: str | None = None
    latched_at: datetime | None = None
    latch_reason: str | None = None
    step: int = 0
    step_started_at: datetime | None = None
    percentage: Decimal = Decimal(0)
    open_failures: int = 0
    open_mismatches: int = 0
    drift_count: int = 0
    last_backfill_at: datetime | None = None
    last_clean_verify_at: datetime | None = None
    runs: tuple[Run, ...] = ()
    last_runs: tuple[Run, ...] = ()
    next_stage: Stage | None = None
    blockers: tuple[Blocker, ...] = ()
    group: str | None = None


@dataclass(frozen=True, slots=True)
class GroupPair:
    """Where one pair of a group stands."""

    pair: str
    stage: Stage
    mirror: str
    percentage: Decimal = Decimal(0)
    last_backfill_at: datetime | None = None
    last_clean_verify_at: datetime | None = None
    needs_reverse_backfill: bool = False


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """Pairs that change stage together, parents first.

    ``stage`` is the lowest of theirs; ``blockers`` keep them from ``next_stage``, None at the end.
    """

    group: str
    pairs: tuple[GroupPair, ...]
    stage: Stage
    next_stage: Stage | None = None
    blockers: tuple[Blocker, ...] = ()


@dataclass(frozen=True, slots=True)
class Judged:
    """What registration would refuse about a pair, and what its owner should know."""

    pair: str
    problems: Names = ()
    warnings: Names = ()


@dataclass(frozen=True, slots=True)
class Ignored:
    """Objects that may depend on V1 when a pair becomes complete, before and after."""

    pair: str
    before: Names = ()
    after: Names = ()


@dataclass(frozen=True, slots=True)
class Registered:
    """A pair after registration, and what its owner should know."""

    name: str
    v1_table: str
    v2_table: str
    key_columns: Names = ()
    warnings: Names = ()


@dataclass(frozen=True, slots=True)
class Violation:
    """A live row that breaks a law.

    Attributes:
        law: 1 round trip of V1, 2 round trip of V2, 3 an edit wins, 4 what an edit did not touch
            survives, 5 a converter raised, 6 settings, the time or a call make a difference, 7 a
            constraint of the other table (``columns`` holds its name).
        stored: the values of the differing columns.
        converted: what came back instead; of law 7 the row that would be written.
        edit: the columns of the row that were given the values of another row, for laws about
            edits.
    """

    key: Key
    law: int
    columns: Names = ()
    error: str | None = None
    stored: Values = field(default_factory=dict)
    converted: Values = field(default_factory=dict)
    edit: Values = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ConversionCheck:
    """One batch of ``pair check``.

    Attributes:
        violations: the first ones; ``violated`` counts all, by law.
        no_counterpart: rows of which the converter makes none, which is no violation.
        last_key: where the next batch begins.
    """

    rows_checked: int
    violations: tuple[Violation, ...] = ()
    last_key: Key | None = None
    done: bool = True
    rows_total: int | None = None
    violated: Mapping[int, int] = field(default_factory=dict)
    no_counterpart: int = 0

    @property
    def by_law(self) -> Mapping[int, int]:
        """How many rows break each law; a database of an older release counts none."""
        return self.violated or Counter(item.law for item in self.violations)


@dataclass(frozen=True, slots=True)
class StageChanged:
    """A stage before and after."""

    pair: str
    before: Stage
    after: Stage
    flags_version: int
    step: int = 0


@dataclass(frozen=True, slots=True)
class PairMoved:
    """The stage of one pair of a group before and after."""

    pair: str
    before: Stage
    after: Stage
    step: int = 0


@dataclass(frozen=True, slots=True)
class GroupMoved:
    """The stages of a group before and after, parents first."""

    pairs: tuple[PairMoved, ...]
    flags_version: int


@dataclass(frozen=True, slots=True)
class MirrorChanged:
    """The mirror of a pair before and after."""

    pair: str
    before: str
    after: str
    flags_version: int


@dataclass(frozen=True, slots=True)
class Refreshed:
    """A pair whose mirror was made anew. ``before`` and ``after``: the releases that made it."""

    pair: str
    before: str
    after: str
    flags_version: int


@dataclass(frozen=True, slots=True)
class PartitionRemoved:
    """A partition that has gone. ``rows``: counterparts deleted in the other table."""

    pair: str
    partition: str
    how: PartitionRemoval
    rows: int
    flags_version: int


@dataclass(frozen=True, slots=True)
class VisibleToOne:
    """A row that a user may see or write in one table only, 1 or 2.

    Attributes:
        user_id: of the user; ``anon`` for whoever has not signed in.
        command: select, insert, update, delete, or "update to": may leave the row so.
    """

    user_id: str
    key: Key
    visible_in: int
    command: str = "select"


@dataclass(frozen=True, slots=True)
class RlsCheck:
    """What some users may see and write in both tables. ``differences``: some hundred at most."""

    pair: str
    users: int
    differences: tuple[VisibleToOne, ...] = ()


@dataclass(frozen=True, slots=True)
class RowPair:
    """Both rows of a key as JSON text; None where there is no row."""

    pair: str
    key: Key
    v1: JsonText | None = None
    v2: JsonText | None = None


@dataclass(frozen=True, slots=True)
class Repaired:
    """What one call of ``repair`` did.

    ``remaining`` is what is open now; ``undecided`` of it are rows that only the follower has.
    """

    repaired: int
    remaining: int
    failed: int = 0
    undecided: int = 0


@dataclass(frozen=True, slots=True)
class PlannedRow:
    """What a repair would do to one row of ``table``, the one that is written."""

    key: Key
    table: str
    action: RepairAction
    why: str


@dataclass(frozen=True, slots=True)
class RepairPlan:
    """The first rows of a repair; ``remaining`` counts all that are open."""

    rows: tuple[PlannedRow, ...] = ()
    remaining: int = 0


@dataclass(frozen=True, slots=True)
class Change:
    """One line of a rollback plan. ``before`` and ``after`` are JSON text, for people."""

    action: str
    object: str
    before: JsonText = ""
    after: JsonText = ""


@dataclass(frozen=True, slots=True)
class RollbackDone:
    """A rollback that happened, or would (``dry_run``)."""

    level: Level
    scope: str
    plan: tuple[Change, ...]
    dry_run: bool = False
    snapshot: int | None = None
    rollback: int | None = None
    flags_version: int = 0
    committed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RollbackEntry:
    """One row of the rollback log."""

    id: int
    at: datetime
    actor: str
    level: Level
    scope: str
    reason: str
    automatic: bool
    snapshot: int | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Saved control state, without the state itself."""

    id: int
    at: datetime
    reason: str | None = None
    actor: str | None = None


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Who changed what, when and why. ``before`` and ``after`` are JSON text."""

    id: int
    at: datetime
    actor: str
    action: str
    object: str
    reason: str | None = None
    flags_version: int = 0
    before: JsonText = ""
    after: JsonText = ""
    actor_id: str | None = None


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
class WriteMinute:
    """Statements of one source that wrote one side; ``minute``: when their counter was read."""

    minute: datetime
    side: int
    source: str
    statements: int


@dataclass(frozen=True, slots=True)
class PairWrites:
    """Statements that clients sent to either table since a moment, by side and source.

    Sources: user (anon and authenticated), service (service_role), direct (everybody else).
    """

    pair: str
    stage: Stage
    since: datetime
    sides: Mapping[int, Mapping[str, int]]
    minutes: tuple[WriteMinute, ...] = ()
    flags_version: int = 0


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
