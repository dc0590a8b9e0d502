"""What going back needs of the database."""

from typing import Protocol

from crossfade.core.contract import Level
from crossfade.rollback.model import RollbackDone, RollbackEntry, Snapshot


class Rollbacks(Protocol):
    """Going back."""

    def rollback(
        self,
        level: Level,
        scope: str,
        *,
        reason: str,
        automatic: bool,
        dry_run: bool,
        expected_step: int | None = None,
    ) -> RollbackDone:
        """Go back, or say what would happen; nothing when the pair has left ``expected_step``."""

    def list_rollbacks(self, *, limit: int = 20) -> tuple[RollbackEntry, ...]:
        """Return the rollback log, newest first."""


class Snapshots(Protocol):
    """Saved control state."""

    def take_snapshot(self, *, reason: str | None) -> Snapshot:
        """Save the control state."""

    def restore_snapshot(self, snapshot: int, *, reason: str) -> Snapshot:
        """Bring a saved control state back."""

    def list_snapshots(self, *, limit: int = 20) -> tuple[Snapshot, ...]:
        """Return snapshots, newest first."""
