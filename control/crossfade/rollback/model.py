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
class Touched:
    """A pair or flag that a rollback changes besides what it was asked for."""

    object: str
    effect: str


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
    touches: tuple[Touched, ...] = ()

    @property
    def also(self) -> tuple[str, ...]:
        """What else it touches, a line each."""
        return tuple(f"also {item.object}: {item.effect}" for item in self.touches)


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
    touches: tuple[Touched, ...] = ()

    @property
    def touched(self) -> tuple[str, ...]:
        """Names of what else it touched."""
        return tuple(item.object for item in self.touches)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Saved control state, without the state itself."""

    id: int
    at: datetime
    reason: str | None = None
    actor: str | None = None
