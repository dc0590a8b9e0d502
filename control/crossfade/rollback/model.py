"""Rollbacks and snapshots as the database has them.

Times are aware UTC datetimes, rates 0.0 to 1.0, percentages 0 to 100 with three decimals.
"""

from dataclasses import dataclass
from datetime import datetime

from crossfade.core.contract import (
    Level,
)
from crossfade.core.values import JsonText


@dataclass(frozen=True, slots=True)
class PlannedChange:
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
    plan: tuple[PlannedChange, ...]
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
