"""Flags, cohorts and kill switches as the database has them.

Times are aware UTC datetimes, rates 0.0 to 1.0, percentages 0 to 100 with three decimals.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Final

from crossfade.core.contract import (
    Reason,
    Stage,
)
from crossfade.core.values import Names
from crossfade.flags.share import BackendShare

LARGEST_EXACT: Final = 2**53 - 1


def _id_of(value: object) -> str | None:
    """Text that is not empty, or an integer's decimal text; nothing else is an id anywhere."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    is_exact = abs(value) <= LARGEST_EXACT and value == int(value)
    return str(int(value)) if is_exact else None


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
    backend: BackendShare | None = None


@dataclass(frozen=True, slots=True)
class Flag:
    """A named feature. ``percentage`` None means: lists and the default decide."""

    name: str
    enabled: bool = False
    percentage: Decimal | None = None
    default_value: bool = False
    cohort_key: str | None = None
    description: str | None = None
    allow_user_ids: Names = ()
    allow_agent_ids: Names = ()
    deny_user_ids: Names = ()
    deny_agent_ids: Names = ()
    prerequisites: Names = ()
    killed_by: Names = ()
    updated_at: datetime | None = None
    updated_by: str | None = None


@dataclass(frozen=True, slots=True)
class KillSwitch:
    """A named emergency stop. ``pair`` None means every pair."""

    name: str
    engaged: bool = False
    fences: bool = False
    overrides_all: bool = False
    pair: str | None = None
    description: str | None = None
    engaged_at: datetime | None = None
    engaged_by: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class PairRouting:
    """What decides which backend serves a pair."""

    name: str
    stage: Stage
    cohort: Cohort | None
    gate_flag: str | None = None
    step: int = 0


@dataclass(frozen=True, slots=True)
class FlagState:
    """All control rows at one ``flags_version``."""

    flags_version: int
    flags: Mapping[str, Flag] = field(default_factory=dict)
    kill_switches: tuple[KillSwitch, ...] = ()
    pairs: Mapping[str, PairRouting] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)

    def engaged(self) -> tuple[KillSwitch, ...]:
        """Engaged switches in order of their names."""
        return tuple(sorted((s for s in self.kill_switches if s.engaged), key=lambda s: s.name))


@dataclass(frozen=True, slots=True)
class Context:
    """Who asks. Empty and missing ids are the same, and so is what is no id: see ``_id_of``."""

    user_id: str | None = None
    agent_id: str | None = None
    conversation_id: str | None = None

    def __post_init__(self) -> None:
        """Read ids that come out of JSON and are no text."""
        for name in ("user_id", "agent_id", "conversation_id"):
            object.__setattr__(self, name, _id_of(getattr(self, name)))

    @property
    def unit(self) -> str | None:
        """The id a percentage is taken over: the user, else the agent, else the conversation."""
        return self.user_id or self.agent_id or self.conversation_id or None

    def is_in(self, user_ids: Names, agent_ids: Names) -> bool:
        """True when the user or the agent is in its list."""
        return (bool(self.user_id) and self.user_id in user_ids) or (
            bool(self.agent_id) and self.agent_id in agent_ids
        )


@dataclass(frozen=True, slots=True)
class RuleStep:
    """One rule of an evaluation, in order."""

    rule: str
    matched: bool
    value: bool = False
    decides: bool = False
    reason: Reason = Reason.DEFAULT
    bucket: int | None = None
    threshold: int | None = None
    kill_switch: str | None = None
    prerequisite: str | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A flag's value and why."""

    flag: str
    value: bool
    reason: Reason
    rule: str
    flags_version: int
    bucket: int | None = None
    threshold: int | None = None
    kill_switch: str | None = None
    prerequisite: str | None = None
    error_code: str | None = None
    steps: tuple[RuleStep, ...] = ()

    @property
    def variant(self) -> str:
        """``on`` or ``off``."""
        return "on" if self.value else "off"


@dataclass(frozen=True, slots=True)
class Exposure:
    """How often a flag answered one way for one reason: feature adoption."""

    flag: str
    variant: str
    reason: Reason
    count: int


@dataclass(frozen=True, slots=True)
class BackendChoice:
    """Which backend serves, and why."""

    backend: int
    reason: Reason
    rule: str
    flags_version: int
    bucket: int | None = None
    threshold: int | None = None


@dataclass(frozen=True, slots=True)
class Engaged:
    """A kill switch after engaging, and how long that took.

    ``in_flight`` is true when a V2 write that began before the kill may still have committed after
    it: the wait for such writers ended first. ``commit_ms`` is the time from the call to the
    committed answer as seen here; ``broadcast_ms`` None means that the HTTP hint was not sent.
    """

    kill_switch: KillSwitch
    changed: bool
    committed_at: datetime
    flags_version: int
    waited_ms: float = 0.0
    in_flight: bool = False
    commit_ms: float = 0.0
    broadcast_ms: float | None = None
    broadcast_error: str | None = None
