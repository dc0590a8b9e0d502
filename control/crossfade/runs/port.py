"""What backfill, verification and repair need of the database."""

from typing import Protocol

from crossfade.core.contract import Direction, FollowerOnly
from crossfade.runs.model import Batch, Driven, Repaired, RepairPlan, Run, Started


class Runs(Protocol):
    """Backfill, verification and repair."""

    def start_backfill(self, pair: str, *, direction: Direction, ranges: int) -> Started:
        """Start, or find the one that is not over."""

    def backfill_batch(self, run: int, *, target_ms: int | None) -> Batch:
        """Copy one batch in one transaction."""

    def start_verify(self, pair: str, *, ranges: int) -> Started:
        """Start, or find the one that is not over."""

    def verify_batch(self, run: int, *, target_ms: int | None) -> Batch:
        """Compare one batch."""

    def control_run(self, run: int, action: str, *, reason: str | None) -> Run:
        """Pause, resume or cancel."""

    def run_status(self, run: int) -> Run:
        """Return the run as it stands."""

    def drive_run(self, run: int, *, enabled: bool) -> Driven:
        """Let pg_cron do the batches of a run inside the database, or no longer."""

    def repair(
        self,
        pair: str,
        *,
        max_rows: int,
        reason: str | None,
        follower_only: FollowerOnly = FollowerOnly.KEEP,
    ) -> Repaired:
        """Make both rows of some keys agree; what only the follower has is the caller's choice."""

    def plan_repair(self, pair: str, *, max_rows: int) -> RepairPlan:
        """Return what ``repair`` would do to the first rows, by key. Reads only."""

    def list_runs(self, pair: str | None = None, *, kind: str | None = None) -> tuple[Run, ...]:
        """Return active runs and the last one of each kind, newest first."""

    def carry_batch(
        self, table: str, *, column: str, fires_triggers: bool, target_ms: int | None = None
    ) -> Batch:
        """Fill the next rows of that column in one transaction."""
