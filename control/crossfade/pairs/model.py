"""Pairs and groups as the database has them, and what it answers about them.

Times are aware UTC datetimes, rates 0.0 to 1.0, percentages 0 to 100 with three decimals.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from crossfade.core.contract import (
    FailurePolicy,
    PartitionRemoval,
    Stage,
)
from crossfade.core.errors import Blocker
from crossfade.core.values import JsonText, Key, Names, Values
from crossfade.flags.share import BackendShare
from crossfade.runs.model import Run


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
    backend: BackendShare | None = None


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
    backend: BackendShare | None = None


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
    backend: BackendShare | None = None


@dataclass(frozen=True, slots=True)
class PairMoved:
    """The stage of one pair of a group before and after."""

    pair: str
    before: Stage
    after: Stage
    step: int = 0
    backend: BackendShare | None = None


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
class PairSpec:
    """Two tables and two converters. ``key`` empty means the primary key."""

    name: str
    v1: str
    v2: str
    to_v2: str
    to_v1: str
    key: tuple[str, ...] = ()
    failure_policy: FailurePolicy | None = None
    gate_flag: str | None = None
    cohort_key: str | None = None
    group: str | None = None
