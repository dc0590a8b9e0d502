"""Change sets: the part of the gateway that applies several changes as one."""

from collections.abc import Sequence
from datetime import datetime

from crossfade.flags.change_sets import Applied, Scheduled
from crossfade.flags.flags_file import Change
from crossfade.gateway.api import DataApi
from crossfade.gateway.rows import Json, parse, plain


class ChangeCalls:
    """Implements ``ChangeSets``."""

    _api: DataApi

    def apply_changes(
        self, changes: Sequence[Change], *, reason: str, expected_version: int | None
    ) -> Applied:
        """Apply all of them in one transaction, or none."""
        return self._api.ask(
            Applied,
            "apply_changes",
            changes=[_row(change) for change in changes],
            reason=reason,
            expected_version=expected_version,
        )

    def schedule_changes(
        self, changes: Sequence[Change], *, due_at: datetime, reason: str
    ) -> Scheduled:
        """Have them applied at a time."""
        answer = self._api.rpc(
            "schedule_changes",
            changes=[_row(change) for change in changes],
            due_at=due_at.isoformat(),
            reason=reason,
        )
        return parse(Scheduled, answer["scheduled"])

    def cancel_changes(self, number: int, *, reason: str) -> Scheduled:
        """Take scheduled changes back."""
        answer = self._api.rpc("cancel_changes", id=number, reason=reason)
        return parse(Scheduled, answer["scheduled"])

    def apply_due_changes(self) -> tuple[Scheduled, ...]:
        """Apply what is due, exactly once however many ask; return what was done."""
        answer = self._api.rpc("apply_due_changes")
        return tuple(parse(Scheduled, row) for row in answer["done"])

    def list_schedules(self, *, limit: int = 50) -> tuple[Scheduled, ...]:
        """Return scheduled changes, newest first."""
        rows = self._api.select("scheduled_changes", limit=limit, order="id")
        return tuple(parse(Scheduled, row) for row in rows)


def _row(change: Change) -> Json:
    return {
        "kind": change.kind,
        "name": change.name,
        "action": change.action,
        "changes": plain(change.values()),
    }
