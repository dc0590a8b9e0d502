"""Flags: what they are and how they are evaluated. Pure; the same in SQL and TypeScript.

Order, the first that applies wins: kill switch, disabled, prerequisite, deny, allow, percentage,
default. ``tests/vectors/flag_evaluation.json`` and ``backend_choice.json`` pin it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Final

from crossfade.bucketing import bucket, threshold
from crossfade.contract import Reason, Stage
from crossfade.models import Cohort, Names


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
class Step:
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
    steps: tuple[Step, ...] = ()

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


def evaluate(state: FlagState, name: str, context: Context, *, stale: bool = False) -> Evaluation:
    """Return the value of flag ``name``; an unknown flag is off with ``FLAG_NOT_FOUND``.

    ``stale`` means that ``state`` is past its hard age: a flag that can be killed may have been
    killed since, so it is off.
    """
    flag = state.flags.get(name)
    if flag is None:
        return Evaluation(
            flag=name,
            value=False,
            reason=Reason.ERROR,
            rule="unknown",
            flags_version=state.flags_version,
            error_code="FLAG_NOT_FOUND",
        )
    steps = tuple(_steps(state, flag, context))
    last = next(step for step in steps if step.matched)
    fresh = Evaluation(
        flag=name,
        value=last.value,
        reason=last.reason,
        rule=last.rule,
        flags_version=state.flags_version,
        bucket=last.bucket,
        threshold=last.threshold,
        kill_switch=last.kill_switch,
        prerequisite=last.prerequisite,
        steps=tuple(replace(step, decides=step is last) for step in steps),
    )
    if not stale or last.rule == "kill_switch":
        return fresh
    if flag.killed_by:
        version = state.flags_version
        return Evaluation(name, False, Reason.STALE, "stale", version, steps=fresh.steps)
    return replace(fresh, reason=Reason.STALE)


def _steps(state: FlagState, flag: Flag, context: Context, *, depth: int = 0) -> Iterator[Step]:
    off = Reason.DISABLED
    killer = next(
        (s.name for s in state.engaged() if s.overrides_all or s.name in flag.killed_by), None
    )
    yield Step("kill_switch", killer is not None, reason=off, kill_switch=killer)
    yield Step("disabled", not flag.enabled, reason=off)
    unmet = _unmet_prerequisite(state, flag, context) if depth == 0 else None
    yield Step("prerequisite", unmet is not None, reason=off, prerequisite=unmet)
    target = Reason.TARGETING_MATCH
    denied = context.is_in(flag.deny_user_ids, flag.deny_agent_ids)
    yield Step("deny", denied, reason=target)
    allowed = context.is_in(flag.allow_user_ids, flag.allow_agent_ids)
    yield Step("allow", allowed, True, reason=target)
    if flag.percentage is None:
        yield Step("percentage", False)
    else:
        yield percentage_step(flag.percentage, flag.cohort_key or flag.name, context)
    yield Step("default", True, flag.default_value)


def _unmet_prerequisite(state: FlagState, flag: Flag, context: Context) -> str | None:
    # One level only: a prerequisite's own prerequisites are not looked at, so no cycle can hang.
    for name in flag.prerequisites:
        other = state.flags.get(name)
        if other is None:
            return name
        steps = _steps(state, other, context, depth=1)
        if not next(step for step in steps if step.matched).value:
            return name
    return None


def percentage_step(percentage: Decimal, cohort_key: str, context: Context) -> Step:
    """The percentage rule: matches at 100 for everybody, else only when there is a unit."""
    limit = threshold(percentage)
    if context.unit is None:
        full = percentage == 100
        return Step("percentage", full, full, reason=Reason.SPLIT, threshold=limit)
    place = bucket(cohort_key, context.unit)
    inside = place < limit
    return Step("percentage", True, inside, reason=Reason.SPLIT, bucket=place, threshold=limit)


def choose_backend(state: FlagState, pair: PairRouting, context: Context) -> BackendChoice:
    """Decide which backend serves ``pair`` for ``context``."""

    def choice(backend: int, reason: Reason, rule: str) -> BackendChoice:
        return BackendChoice(backend, reason, rule, state.flags_version)

    if pair.stage.is_over:
        return choice(2, Reason.STATIC, "stage")
    if any(stops(switch, pair.name) for switch in state.engaged()):
        return choice(1, Reason.DISABLED, "kill_switch")
    if pair.stage.rank < Stage.LIVE.rank:
        return choice(1, Reason.STATIC, "stage")
    if pair.gate_flag:
        gate = evaluate(state, pair.gate_flag, context)
        if not gate.value:
            return choice(1, gate.reason, "gate_flag")
    if pair.stage is Stage.RAMPDOWN:
        return choice(2, Reason.STATIC, "stage")
    return _by_cohort(state, pair, context)


def stops(switch: KillSwitch, pair: str) -> bool:
    """True when this engaged switch keeps ``pair`` on backend 1."""
    return switch.overrides_all or (switch.fences and switch.pair in (None, pair))


def _by_cohort(state: FlagState, pair: PairRouting, context: Context) -> BackendChoice:
    version, cohort = state.flags_version, pair.cohort
    if cohort is None:
        return BackendChoice(1, Reason.DEFAULT, "default", version)
    target = Reason.TARGETING_MATCH
    if context.is_in(cohort.denied_user_ids, cohort.denied_agent_ids):
        return BackendChoice(1, target, "deny", version)
    if context.is_in(cohort.enabled_user_ids, cohort.enabled_agent_ids):
        return BackendChoice(2, target, "allow", version)
    step = percentage_step(cohort.percentage, cohort.cohort_key, context)
    if not step.matched:
        return BackendChoice(1, Reason.DEFAULT, "default", version)
    backend = 2 if step.value else 1
    return BackendChoice(backend, step.reason, step.rule, version, step.bucket, step.threshold)
