"""Flags, kill switches and cohorts of a fake project."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from crossfade import __version__
from crossfade.core.contract import SCHEMA_VERSION, ErrorCode, Event, Stage
from crossfade.core.errors import refusal
from crossfade.flags.evaluation import evaluate
from crossfade.flags.model import (
    CohortChanged,
    Context,
    Engaged,
    Evaluation,
    Flag,
    FlagState,
    KillSwitch,
    PairRouting,
)
from crossfade.flags.port import Changes
from crossfade.testing.state import NOW, FakeState, unknown


class FakeControls(FakeState):
    """Implements ``Controls``."""

    def check_schema(self) -> int:
        """Always current."""
        self._called("check_schema")
        return SCHEMA_VERSION

    def installed_release(self) -> str:
        """Always that of this package."""
        self._called("installed_release")
        return __version__

    def read_flags(self) -> FlagState:
        """The state as arranged."""
        self._called("read_flags")
        routes = {
            pair.name: PairRouting(pair.name, pair.stage, self.cohorts[pair.name], pair.gate_flag)
            for pair in self.pairs.values()
        }
        switches = tuple(self.kill_switches.values())
        return FlagState(self.version, dict(self.flags), switches, routes, dict(self.settings))

    def set_flag(self, name: str, changes: Changes, *, reason: str | None) -> Flag:
        """Change columns."""
        self._called("set_flag", name, changes, reason)
        given = dict(changes)
        if name not in self.flags and not given.pop("create", False):
            raise unknown(ErrorCode.UNKNOWN_FLAG, "flag", name)
        flag = self.flags.get(name, Flag(name))
        self.flags[name] = replace(flag, **given)  # type: ignore[arg-type]
        self.version += 1
        return self.flags[name]

    def explain_flag(self, name: str, context: Mapping[str, str]) -> Evaluation:
        """Evaluate here."""
        self._called("explain_flag", name, context)
        return evaluate(self.read_flags(), name, Context(**context))

    def set_cohort(
        self, pair: str, changes: Changes, *, reason: str | None, anyway: bool = False
    ) -> CohortChanged:
        """Change columns; going up needs stage live, no latch and no engaged switch."""
        self._called("set_cohort", pair, changes, reason)
        found, before = self._pair(pair), self.cohorts[pair]
        after = replace(before, **changes)  # type: ignore[arg-type]
        if after.percentage > before.percentage and found.latched_at:
            raise refusal(ErrorCode.LATCHED, f'Cannot raise "{pair}": latched')
        if after.percentage > before.percentage and not anyway:
            self._check_stops(pair)
        if after.percentage > before.percentage and found.stage is not Stage.LIVE:
            raise refusal(ErrorCode.STAGE_PRECONDITION, f'Cannot raise "{pair}": not live')
        self.cohorts[pair] = after
        self.pairs[pair] = replace(found, percentage=after.percentage, step=found.step + 1)
        self.version += 1
        return CohortChanged(after, self.version, found.step + 1, self._backend(self.pairs[pair]))

    def set_setting(self, name: str, value: str, *, reason: str) -> None:
        """Store the text."""
        self._called("set_setting", name, value, reason)
        self.settings[name] = value

    def engage_kill_switch(self, name: str, *, reason: str | None) -> Engaged:
        """Engage."""
        self._called("engage_kill_switch", name, reason)
        before = self._switch(name)
        after = replace(before, engaged=True, engaged_at=NOW, engaged_by="fake", reason=reason)
        self.kill_switches[name] = after
        self.version += not before.engaged
        return Engaged(after, not before.engaged, NOW, self.version)

    def last_served(self, backend: int, *, pair: str | None, since: datetime) -> datetime | None:
        """As arranged in ``served``."""
        self._called("last_served", backend, pair, since)
        return self.served.get(backend)

    def release_kill_switch(self, name: str, *, reason: str) -> KillSwitch:
        """Release."""
        self._called("release_kill_switch", name, reason)
        self.kill_switches[name] = replace(self._switch(name), engaged=False, reason=reason)
        self.version += 1
        return self.kill_switches[name]

    def _switch(self, name: str) -> KillSwitch:
        if name not in self.kill_switches:
            raise unknown(ErrorCode.UNKNOWN_KILL_SWITCH, "kill switch", name)
        return self.kill_switches[name]

    def broadcast(self, event: Event, payload: Mapping[str, str | int | bool]) -> None:
        """Keep it."""
        self._called("broadcast", event, payload)
        self.broadcasts.append((event, payload))
