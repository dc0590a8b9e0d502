"""Rollout plans: a TOML file -> a checked plan, and where a pair stands in one. Pure.

The database checks a plan again, follows it, and is the only one that widens
(``crossfade.advance_rollout``); the step a pair is at follows from its stage and percentage.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, TypeAdapter, ValidationError

from crossfade.core.contract import RolloutState, Stage
from crossfade.core.errors import InvalidValueError
from crossfade.flags.bucketing import parse_percentage
from crossfade.flags.share import BackendShare

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_RULE: Final = re.compile(r"R([1-9]|1[0-3])[sk]?")


def parse_duration_s(value: object) -> float:
    """Seconds of ``90``, ``"90s"``, ``"30m"``, ``"2h"``, ``"7d"`` or ``"1w"``.

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return float(value)
    found = _DURATION.fullmatch(str(value).strip())
    if found is None:
        raise ValueError(f'"{value}" is no duration such as "30m", "2h" or "7d"')
    return float(found[1]) * _UNITS[found[2]]


Seconds = Annotated[float, BeforeValidator(parse_duration_s)]
Percentage = Annotated[Decimal, BeforeValidator(parse_percentage)]
Flags = Mapping[str, bool | float]


@dataclass(frozen=True, slots=True)
class PlanStep:
    """One step. ``min_s`` is its shortest time; without ``max_extension_s`` it waits for ever."""

    name: str
    stage: Stage
    percentage: Percentage = Decimal(0)
    flags: Flags = field(default_factory=dict)
    min_s: Seconds = 0.0
    min_requests: int = 0
    max_extension_s: Seconds | None = None
    gates: tuple[str, ...] = ()
    approval: Literal["auto", "manual"] = "auto"

    @property
    def order(self) -> tuple[int, Decimal]:
        """Grows from step to step."""
        everybody = self.stage.rank > Stage.LIVE.rank
        return self.stage.rank, Decimal(100) if everybody else self.percentage

    @property
    def share(self) -> float:
        """The part of the users on V2, 0 to 1."""
        return float(self.order[1]) / 100


@dataclass(frozen=True, slots=True)
class RolloutPlan:
    """Steps in order, each further than the one before."""

    name: str
    steps: tuple[PlanStep, ...]
    about: str = ""

    def as_row(self) -> dict[str, object]:
        """As ``start_rollout`` takes it."""
        return {
            "name": self.name,
            "about": self.about,
            "steps": [_step_row(step) for step in self.steps],
        }

    @property
    def min_s(self) -> float:
        """The shortest time it takes."""
        return sum(step.min_s for step in self.steps)


def _step_row(step: PlanStep) -> dict[str, object]:
    row: dict[str, object] = {
        "name": step.name,
        "stage": step.stage.value,
        "percentage": _number(float(step.percentage)),
        "flags": {name: _number(value) for name, value in step.flags.items()},
        "min_s": _number(step.min_s),
        "min_requests": step.min_requests,
        "gates": list(step.gates),
        "approval": step.approval,
    }
    if step.max_extension_s is not None:
        row["max_extension_s"] = _number(step.max_extension_s)
    return row


def _number(value: bool | float) -> bool | int | float:
    if isinstance(value, bool):
        return value
    return int(value) if value == int(value) else value


def parse_plan(text: str, *, source: str = "the plan") -> RolloutPlan:
    """Read a plan from TOML.

    Raises:
        InvalidValueError: not TOML, an unknown or wrong field, or a step that is not further than
            the one before; the message names step and field.
    """
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidValueError(f"{source} is not TOML: {error}") from error
    steps = given.get("steps")
    if isinstance(steps, list):
        given["steps"] = [_renamed(step) for step in steps]
    _forbid_unknown(given, source)
    try:
        plan = TypeAdapter(RolloutPlan).validate_python(given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidValueError(f"{source}: {where}: {first['msg']}") from error
    _check(plan, source)
    return plan


def _renamed(step: object) -> object:
    """Files say ``min_time = "7d"``, records and rows ``min_s``."""
    if not isinstance(step, dict):
        return step
    names = {"min_time": "min_s", "max_extension": "max_extension_s"}
    return {names.get(key, key): value for key, value in step.items()}


def _forbid_unknown(given: Mapping[str, Any], source: str) -> None:
    """A misspelt field must not be ignored: it could be the gate that somebody relies on."""
    steps = given.get("steps")
    rows = [step for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []
    for kind, row in ((RolloutPlan, given), *((PlanStep, row) for row in rows)):
        known = {item.name for item in fields(kind)}
        for name in row:
            if name not in known:
                hint = f"Known are: {', '.join(sorted(known))}"
                raise InvalidValueError(f'{source}: unknown field "{name}"', hint=hint)


def _check(plan: RolloutPlan, source: str) -> None:
    """What the database would refuse as well, said before anything is sent."""
    if not plan.steps:
        raise InvalidValueError(f"{source} has no steps")
    if len({step.name for step in plan.steps}) < len(plan.steps):
        raise InvalidValueError(f"{source} has two steps of the same name")
    for number, step in enumerate(plan.steps):
        problem = _problem(step, plan.steps[number - 1] if number else None)
        if problem:
            raise InvalidValueError(f'{source}: step "{step.name}" {problem}')


def _problem(step: PlanStep, before: PlanStep | None) -> str:
    if step.stage in (Stage.OFF, Stage.RETIRED):
        return f"cannot be stage {step.stage}"
    if step.stage.rank < Stage.LIVE.rank and step.percentage:
        return f"has {step.percentage} %, but stage {step.stage} serves V1 only"
    if step.stage.rank > Stage.LIVE.rank and step.percentage != 100:
        return f"has {step.percentage} %, but stage {step.stage} is for everybody: 100"
    if before is not None and step.order <= before.order:
        return f'is not further than "{before.name}"'
    if step.stage is Stage.COMPLETE and step.approval != "manual":
        return 'makes V1 an archive and needs approval = "manual"'
    unknown = [gate for gate in step.gates if not _RULE.fullmatch(gate)]
    return f"has the unknown gate {unknown[0]}" if unknown else ""


# Where a pair stands -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wait:
    """One thing the next step waits for; ``pair``: whose stage, of the pairs of a group."""

    code: str
    message: str
    blocker: str | None = None
    hint: str | None = None
    pair: str | None = None


@dataclass(frozen=True, slots=True)
class Rollout:
    """One pair following a plan, as the database has it."""

    id: int
    state: RolloutState
    speed: float = 1.0
    reason: str | None = None
    approved: tuple[str, ...] = ()
    started_at: datetime | None = None
    started_by: str | None = None
    changed_at: datetime | None = None
    changed_by: str | None = None
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RolloutView:
    """The newest rollout of a pair and where it stands. ``rollout`` None: there never was one.

    ``reached`` counts steps from 1, 0 before the first. ``step`` is the pair's own counter, which
    every change of stage or percentage raises: the token that ``advance_rollout`` compares.
    """

    pair: str
    stage: Stage
    percentage: Decimal
    step: int
    latched: bool = False
    rollout: Rollout | None = None
    plan: RolloutPlan | None = None
    steps: int = 0
    reached: int = 0
    current: PlanStep | None = None
    next: PlanStep | None = None
    elapsed_s: float = 0.0
    requests: int = 0
    waits: tuple[Wait, ...] = ()
    already: bool = False
    backend: BackendShare | None = None

    @property
    def is_active(self) -> bool:
        """True while a plan is under way, held and rolled back ones included."""
        return self.rollout is not None and not self.rollout.state.is_over

    @property
    def rollout_is_over(self) -> bool:
        """True after the end of a plan."""
        return self.rollout is not None and self.rollout.state.is_over


@dataclass(frozen=True, slots=True)
class RolloutAdvanced(RolloutView):
    """After a try to take a step. ``stale``: somebody else had moved the pair."""

    advanced: bool = False
    stale: bool = False


@dataclass(frozen=True, slots=True)
class RolloutControlled(RolloutView):
    """After hold, resume, approve or abort."""

    changed: bool = False
