"""Change sets that wait for their time."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from re import fullmatch

from crossfade.core.errors import InvalidValueError
from crossfade.core.values import JsonText


@dataclass(frozen=True, slots=True)
class Scheduled:
    """One change set and what became of it. ``changes`` and ``outcome`` are JSON text."""

    id: int
    due_at: datetime
    reason: str
    created_by: str
    state: str
    changes: JsonText = "[]"
    done_at: datetime | None = None
    outcome: JsonText = ""


@dataclass(frozen=True, slots=True)
class Applied:
    """How many changes were applied, and the version since then."""

    applied: int
    flags_version: int


_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_time(text: str, *, now: datetime) -> datetime:
    """Read when something is to happen: ISO 8601 with a zone, or ``+30m``, ``+2h``, ``+1d``.

    Raises:
        InvalidValueError: anything else, or a time without a zone, which would be a guess.
    """
    later = fullmatch(r"\+(\d{1,6})([smhd])", text.strip())
    if later:
        return now + timedelta(**{_UNITS[later[2]]: int(later[1])})
    hint = "Give a time with its zone, as 2026-12-01T08:00:00+01:00, or +30m, +2h, +1d"
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InvalidValueError(f'"{text}" is no time', hint=hint) from None
    if found.tzinfo is None:
        raise InvalidValueError(f'"{text}" has no time zone', hint=hint)
    return found.astimezone(UTC)
