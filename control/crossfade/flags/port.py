"""What flags, cohorts and kill switches need of the database."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from crossfade.core.contract import (
    Event,
)
from crossfade.flags.change_sets import Applied, Scheduled
from crossfade.flags.flags_file import Change
from crossfade.flags.model import (
    CohortChanged,
    Engaged,
    Evaluation,
    Flag,
    FlagState,
    KillSwitch,
)

Changes = Mapping[str, str | bool | Decimal | Sequence[str] | None]
"""Columns to change; the rest stays."""


class Controls(Protocol):
    """Flags, kill switches and cohorts."""

    def read_flags(self) -> FlagState:
        """Return all control rows at one version."""

    def set_flag(self, name: str, changes: Changes, *, reason: str | None) -> Flag:
        """Change some columns of a flag; ``create=True`` among them makes a new one."""

    def explain_flag(self, name: str, context: Mapping[str, str]) -> Evaluation:
        """Evaluate in the database, with the steps."""

    def set_cohort(
        self, pair: str, changes: Changes, *, reason: str | None, anyway: bool = False
    ) -> CohortChanged:
        """Change some columns of a pair's cohort; ``anyway``: also up while V2 is stopped."""

    def set_setting(self, name: str, value: str, *, reason: str) -> None:
        """Change one number or choice; ``value`` is text of the type the setting has."""

    def engage_kill_switch(self, name: str, *, reason: str | None) -> Engaged:
        """Engage; when this returns, the database refuses what the switch forbids."""

    def last_served(self, backend: int, *, pair: str | None, since: datetime) -> datetime | None:
        """When this backend last served a request (database's clock); None: not since then."""

    def release_kill_switch(self, name: str, *, reason: str) -> KillSwitch:
        """Release; a reason is required."""

    def broadcast(self, event: Event, payload: Mapping[str, str | int | bool]) -> None:
        """Send a hint to edge functions over HTTP. Best effort for the caller to catch."""


class ChangeSets(Protocol):
    """Several changes as one, now or later."""

    def apply_changes(
        self, changes: Sequence[Change], *, reason: str, expected_version: int | None
    ) -> Applied:
        """Apply all of them in one transaction, or none."""

    def schedule_changes(
        self, changes: Sequence[Change], *, due_at: datetime, reason: str
    ) -> Scheduled:
        """Have them applied at a time."""

    def cancel_changes(self, number: int, *, reason: str) -> Scheduled:
        """Take scheduled changes back."""

    def apply_due_changes(self) -> tuple[Scheduled, ...]:
        """Apply what is due, exactly once however many ask; return what was done."""

    def list_schedules(self, *, limit: int = 50) -> tuple[Scheduled, ...]:
        """Return scheduled changes, newest first."""
