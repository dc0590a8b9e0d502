"""JSON objects -> records, and back."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from crossfade.core.errors import UnexpectedAnswerError
from crossfade.flags.port import Changes
from crossfade.health.verdicts import Verdict

T = TypeVar("T")
Json = dict[str, Any]


_adapters: dict[type, TypeAdapter[Any]] = {}


def _adapter(kind: type[T]) -> TypeAdapter[T]:
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]


def parse(kind: type[T], value: Mapping[str, object]) -> T:
    """Build a record; unknown keys are ignored, so that a newer schema does not break us.

    Raises:
        UnexpectedAnswerError: a key is missing or of another type.
    """
    # null means "not known": the record's own default says it better.
    given = {name: item for name, item in value.items() if item is not None}
    try:
        return _adapter(kind).validate_python(given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UnexpectedAnswerError(
            f"{kind.__name__} in the answer: {where}: {first['msg']}",
            hint="The schema and this command may be of different versions",
        ) from error


def plain(changes: Changes) -> Json:
    """Columns to change as JSON values."""
    return {name: _json(value) for name, value in changes.items()}


def _json(value: object) -> object:
    if isinstance(value, Decimal):
        # A float keeps three decimals exactly enough: its shortest form is what was meant.
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, tuple | list):
        return list(value)
    return value


def verdict_row(verdict: Verdict) -> Json:
    """A verdict as ``record_verdicts`` takes it."""
    return {
        "rule": verdict.rule,
        "verdict": verdict.verdict.value,
        "mode": verdict.mode.value,
        "value": verdict.value,
        "n": verdict.n,
        "bound": verdict.bound,
        "threshold": verdict.threshold,
        "window_s": verdict.window_s,
        "rule_version": verdict.rule_version,
        "details": {**verdict.details, "message": verdict.message},
    }
