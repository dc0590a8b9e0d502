"""Flags, cohorts and kill switches as a file: written, read, and compared. Pure.

TOML or JSON, three sections by name. A field that is left out stays as it is; what the project has
and the file has not stays too, unless it is to be pruned. Whether a switch is engaged and where a
pair stands is no part of it.
"""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Final, Literal

from crossfade.core.errors import InvalidValueError
from crossfade.core.escaping import escaped
from crossfade.flags.bucketing import parse_percentage
from crossfade.flags.model import Cohort, Flag, FlagState, KillSwitch

Kind = Literal["flag", "cohort", "kill_switch"]
Value = str | bool | Decimal | tuple[str, ...] | None
Fields = Mapping[str, Value]

SECTIONS: Final[Mapping[str, Kind]] = {
    "flags": "flag",
    "cohorts": "cohort",
    "kill_switches": "kill_switch",
}
NO_PERCENTAGE: Final = "none"
"""TOML has no null."""
_OF_THE_ROW: Final = frozenset(
    {"name", "updated_at", "updated_by", "engaged", "engaged_at", "engaged_by", "reason"}
)
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Document:
    """What a file says: kind -> name -> field -> value."""

    flags: Mapping[str, Fields]
    cohorts: Mapping[str, Fields]
    kill_switches: Mapping[str, Fields]

    def sections(self) -> Iterator[tuple[Kind, Mapping[str, Fields]]]:
        """The three sections with their kinds."""
        yield "flag", self.flags
        yield "cohort", self.cohorts
        yield "kill_switch", self.kill_switches


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that differs. ``fields``: field -> (now, then)."""

    kind: Kind
    name: str
    action: Literal["create", "change", "delete"]
    fields: Mapping[str, tuple[Value, Value]]

    def values(self) -> dict[str, Value]:
        """Field -> what it becomes."""
        return {name: then for name, (_, then) in self.fields.items()}


def _columns(kind: Kind) -> dict[str, object]:
    """Fields a file may hold, with what stands for "not there"."""
    record = {"flag": Flag, "cohort": Cohort, "kill_switch": KillSwitch}[kind]
    own = _OF_THE_ROW | ({"pair"} if kind == "cohort" else set())
    return {item.name: item.default for item in fields(record) if item.name not in own}


def document_of(state: FlagState) -> Document:
    """What a project says, as a file would."""
    return Document(
        {name: _fields("flag", flag) for name, flag in sorted(state.flags.items())},
        {
            name: _fields("cohort", pair.cohort)
            for name, pair in sorted(state.pairs.items())
            if pair.cohort is not None
        },
        {
            switch.name: _fields("kill_switch", switch)
            for switch in sorted(state.kill_switches, key=lambda item: item.name)
        },
    )


def _fields(kind: Kind, record: Flag | Cohort | KillSwitch) -> Fields:
    found: dict[str, Value] = {name: getattr(record, name) for name in _columns(kind)}
    for name, value in found.items():
        if isinstance(value, list):
            found[name] = tuple(value)
        elif isinstance(value, Decimal):
            found[name] = value.normalize() + 0
        elif value is None and name == "description":
            found[name] = ""
        elif value is None and name == "cohort_key" and isinstance(record, Flag):
            found[name] = record.name
    return found


# Reading -----------------------------------------------------------------------------------------


def parse_document(text: str, *, source: str) -> Document:
    """Read a file; JSON when it begins with a brace, else TOML.

    Raises:
        InvalidValueError: names the section, the entry and the field.
    """
    try:
        if text.lstrip().startswith("{"):
            found = json.loads(text, parse_float=Decimal)
        else:
            found = tomllib.loads(text, parse_float=Decimal)
    except ValueError as error:
        raise InvalidValueError(f"{source} is neither TOML nor JSON: {error}") from None
    unknown = sorted(set(found) - set(SECTIONS))
    if unknown:
        raise InvalidValueError(
            f'{source}: unknown section "{unknown[0]}"', hint=f"There are: {', '.join(SECTIONS)}"
        )
    read = {
        section: _section(kind, found.get(section, {}), f"{source}: {section}")
        for section, kind in SECTIONS.items()
    }
    return Document(**read)


def _section(kind: Kind, found: object, where: str) -> dict[str, Fields]:
    if not isinstance(found, dict):
        raise InvalidValueError(f"{where} is no table")
    return {name: _entry(kind, entry, f"{where}.{name}") for name, entry in found.items()}


def _entry(kind: Kind, found: object, where: str) -> Fields:
    if not isinstance(found, dict):
        raise InvalidValueError(f"{where} is no table")
    known = _columns(kind)
    for name in found:
        if name not in known:
            raise InvalidValueError(
                f'{where}: unknown field "{name}"', hint=f"There are: {', '.join(sorted(known))}"
            )
    return {name: _value(name, value, f"{where}.{name}") for name, value in found.items()}


def _value(name: str, value: object, where: str) -> Value:
    if name == "percentage":
        if value in (None, NO_PERCENTAGE):
            return None
        if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
            raise InvalidValueError(f"{where} is not a percentage")
        return parse_percentage(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    if isinstance(value, str | bool) or (value is None and name == "pair"):
        return value
    raise InvalidValueError(f"{where}: {value!r} is no text, no list of texts, not true or false")


# Writing -----------------------------------------------------------------------------------------


def to_toml(document: Document, *, about: str) -> str:
    """The document as TOML, with one comment line at its top."""
    lines = [f"# {' '.join(about.split())}"]
    for section, (_, entries) in zip(SECTIONS, document.sections(), strict=True):
        for name, values in entries.items():
            lines += ["", f"[{section}.{_key(name)}]"]
            lines += [f"{field} = {text}" for field, text in _toml_values(values)]
    return "\n".join(lines) + "\n"


def _toml_values(values: Fields) -> Iterator[tuple[str, str]]:
    for field, value in values.items():
        if value is None:
            if field == "percentage":
                yield field, json.dumps(NO_PERCENTAGE)
        elif isinstance(value, bool):
            yield field, "true" if value else "false"
        elif isinstance(value, Decimal):
            yield field, f"{value:f}"
        elif isinstance(value, tuple):
            yield field, "[" + ", ".join(_text(item) for item in value) + "]"
        else:
            yield field, _text(value)


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _text(name)


def _text(value: str) -> str:
    # A JSON string is a TOML basic string, but for surrogate pairs and DEL.
    return escaped(json.dumps(value, ensure_ascii=False))


def to_plain(document: Document) -> dict[str, dict[str, Fields]]:
    """The document as objects for JSON."""
    return {
        section: {name: dict(values) for name, values in entries.items()}
        for section, (_, entries) in zip(SECTIONS, document.sections(), strict=True)
    }


# Comparing ---------------------------------------------------------------------------------------


def compare(wanted: Document, state: FlagState, *, prune: bool = False) -> tuple[Change, ...]:
    """What has to change so that the project says what the file says, in a safe order.

    Args:
        wanted: the file.
        state: the project.
        prune: delete flags and kill switches that the file does not have.

    Raises:
        InvalidValueError: a cohort of a pair that does not exist.
    """
    changes: list[Change] = []
    now = dict(document_of(state).sections())
    for kind, entries in wanted.sections():
        for name, values in entries.items():
            if kind == "cohort" and name not in now[kind]:
                raise InvalidValueError(
                    f'There is no pair "{name}" for cohorts.{name}',
                    hint="A file does not register pairs: crossfade pair register",
                )
            change = _change(kind, name, values, now[kind].get(name))
            if change:
                changes.append(change)
    if prune:
        for kind, entries in wanted.sections():
            changes += [
                Change(kind, name, "delete", {})
                for name in now[kind]
                if kind != "cohort" and name not in entries
            ]
    # New switches first: a flag may be killed by one. Deletions last: a flag may still name one.
    order = {"create": 0, "change": 1, "delete": 2}
    kinds = {"kill_switch": 0, "flag": 1, "cohort": 2}
    return tuple(sorted(changes, key=lambda c: (order[c.action], kinds[c.kind], c.name)))


def _change(kind: Kind, name: str, values: Fields, before: Fields | None) -> Change | None:
    if before is None:
        return Change(kind, name, "create", {field: (None, then) for field, then in values.items()})
    differing = {
        field: (before[field], then) for field, then in values.items() if before[field] != then
    }
    return Change(kind, name, "change", differing) if differing else None
