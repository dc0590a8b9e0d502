"""Data on stdout, talk on stderr."""

import json
import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import TypeVar

import typer

from crossfade.core.errors import NotConfirmedError
from crossfade.core.escaping import EscapingFormatter, escaped, escaped_lines

T = TypeVar("T")


def say(text: str) -> None:
    """Talk on one line: progress, plans, errors."""
    typer.echo(escaped(text), err=True)


def say_lines(text: str) -> None:
    """Talk of several lines, whose values were escaped before."""
    typer.echo(escaped_lines(text), err=True)


def show(text: str, *, clear: bool = False) -> None:
    """Data for people; ``clear`` the screen before it."""
    typer.echo(f"\x1b[H\x1b[2J{escaped_lines(text)}" if clear else escaped_lines(text))


class TalkHandler(logging.Handler):
    """Sends the log where the talk goes."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(EscapingFormatter("%(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Say it."""
        say_lines(self.format(record))


def emit(value: object, *, as_json: bool, render: Callable[[], str]) -> None:
    """Print data: JSON with ``--json``, else what ``render`` makes of it."""
    show(to_json(value) if as_json else render())


def to_json(value: object, *, indent: int | None = 2) -> str:
    """A record, or a list of them, as JSON; times are ISO 8601, percentages numbers."""
    return escaped_lines(json.dumps(_plain(value), indent=indent, ensure_ascii=False))


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, Path) else value


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns for people, never cut to the width of a terminal that may not be there."""
    cells = [[cell(item) for item in row] for row in rows]
    if not cells:
        return "(none)"
    widths = [
        max(len(line[column]) for line in [list(headers), *cells]) for column in range(len(headers))
    ]
    lines = [list(headers), *cells]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def cell(value: object) -> str:
    """One value for people."""
    if value is None or value == ():
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%SZ")
    if isinstance(value, list | tuple):
        return escaped(", ".join(str(item) for item in value))
    return escaped(str(value))


def confirm(plan: Iterable[str], *, yes: bool, command: str) -> None:
    """Print what will change, and ask unless ``yes``.

    Raises:
        NotConfirmedError: nobody can be asked.
        typer.Abort: the answer was no.
    """
    for line in plan:
        say(f"  {escaped(line)}")
    if yes:
        return
    if not sys.stdin.isatty():
        raise NotConfirmedError(
            "Nothing was changed: this needs a confirmation and there is no terminal to ask",
            hint=f"Add --yes: {command} ... --yes",
        )
    typer.confirm("Continue?", abort=True, err=True)


def seconds(value: float) -> str:
    """A duration for people."""
    whole = round(value)
    if whole < 90:
        return f"{whole} s"
    if whole >= 2 * 86_400:
        return f"{whole / 86_400:.1f} d"
    return f"{whole // 60} min" if whole < 5400 else f"{whole / 3600:.1f} h"
