"""Change sets of a fake project."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from crossfade.core.contract import ErrorCode
from crossfade.core.errors import refusal
from crossfade.flags.change_sets import Applied, Scheduled
from crossfade.flags.flags_file import Change
from crossfade.flags.model import Flag, KillSwitch
from crossfade.testing.state import NOW, FakeState


class FakeChangeSets(FakeState):
    """Implements ``ChangeSets``."""

    def apply_changes(
        self, changes: Sequence[Change], *, reason: str, expected_version: int | None
    ) -> Applied:
        """All of them."""
        self._called("apply_changes", changes, reason, expected_version)
        if expected_version not in (None, self.version):
            raise refusal(ErrorCode.FLAGS_CHANGED, "flags have changed")
        for change in changes:
            self._apply(change)
        return Applied(len(changes), self.version)

    def _apply(self, change: Change) -> None:
        values: dict[str, Any] = change.values()
        self.version += 1
        if change.kind == "cohort":
            self.cohorts[change.name] = replace(self.cohorts[change.name], **values)
        elif change.kind == "flag":
            if change.action == "delete":
                del self.flags[change.name]
            else:
                before = self.flags.get(change.name, Flag(change.name))
                self.flags[change.name] = replace(before, **values)
        elif change.action == "delete":
            del self.kill_switches[change.name]
        else:
            switch = self.kill_switches.get(change.name, KillSwitch(change.name))
            self.kill_switches[change.name] = replace(switch, **values)

    def schedule_changes(
        self, changes: Sequence[Change], *, due_at: datetime, reason: str
    ) -> Scheduled:
        """Keep them in ``schedules``."""
        self._called("schedule_changes", changes, due_at, reason)
        text = json.dumps([{"kind": c.kind, "name": c.name} for c in changes])
        number = len(self.schedules) + 1
        self.schedules[number] = Scheduled(number, due_at, reason, "fake", "pending", text)
        return self.schedules[number]

    def cancel_changes(self, number: int, *, reason: str) -> Scheduled:
        """Mark it."""
        self._called("cancel_changes", number, reason)
        if number not in self.schedules:
            raise refusal(ErrorCode.UNKNOWN_SCHEDULE, f"Unknown scheduled changes {number}")
        self.schedules[number] = replace(self.schedules[number], state="cancelled")
        return self.schedules[number]

    def apply_due_changes(self) -> tuple[Scheduled, ...]:
        """Mark what is due at NOW; nothing is changed."""
        self._called("apply_due_changes")
        due = [s for s in self.schedules.values() if s.state == "pending" and s.due_at <= NOW]
        for item in due:
            self.schedules[item.id] = replace(item, state="applied", done_at=NOW)
        return tuple(self.schedules[item.id] for item in due)

    def list_schedules(self, *, limit: int = 50) -> tuple[Scheduled, ...]:
        """Newest first."""
        self._called("list_schedules", limit)
        return tuple(reversed(self.schedules.values()))[:limit]
