"""Which column becomes which, and the expression for it. Pure; what it cannot know it says."""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from crossfade.pairs.catalog import Column, TableInfo

_WIDENS: Final = {
    ("smallint", "integer"),
    ("smallint", "bigint"),
    ("smallint", "numeric"),
    ("integer", "bigint"),
    ("integer", "numeric"),
    ("bigint", "numeric"),
    ("character varying", "text"),
    ("character", "text"),
    ("json", "jsonb"),
}
_VOLATILE: Final = re.compile(r"\b(nextval|now|clock_timestamp|random|gen_random_uuid|uuid_\w+)\(")
_NUMBERS: Final = {"smallint", "integer", "bigint", "numeric", "real", "double precision"}

_WORDS: Final = """
all analyse analyze and any array as asc asymmetric authorization binary both case cast check
collate collation column concurrently constraint create cross current_catalog current_date
current_role current_schema current_time current_timestamp current_user default deferrable desc
distinct do else end except false fetch for foreign freeze from full grant group having ilike in
initially inner intersect into is isnull join lateral leading left like limit localtime
localtimestamp natural not notnull null offset on only or order outer overlaps placing primary
references returning right select session_user similar some symmetric system_user table
tablesample then to trailing true union unique user using variadic verbose when where window
with
"""
_RESERVED: Final = frozenset(_WORDS.split())


@dataclass(frozen=True, slots=True)
class ColumnFill:
    """How one column of the made row is filled.

    Attributes:
        column: the column to fill.
        source: the other table's column it comes from, if one does.
        sql: expression over ``new_`` and ``old_``.
        typescript: the same; None when a person must write it.
        note: comment for the file.
        undecided: what a person must decide; None when nothing.
        looked_up: another table is asked for it, so that only SQL can give it.
    """

    column: Column
    source: Column | None
    sql: str
    typescript: str | None
    note: str = ""
    undecided: str | None = None
    looked_up: bool = False


def match_columns(one: TableInfo, two: TableInfo, known: Mapping[str, str]) -> dict[str, str]:
    """Return the V2 column of each V1 column that has one: known, of the same name or key."""
    matched = dict(known)
    for mine, other in zip(one.key, two.key, strict=False):
        matched[mine] = mine if mine in two.key else other
    taken = set(matched.values())
    for column in one.columns:
        if two.column(column.name) and column.name not in taken:
            matched.setdefault(column.name, column.name)
    free = [c for c in two.columns if c.name not in matched.values() and not c.generated]
    for column in one.columns:
        if column.name in matched or column.generated:
            continue
        similar = [
            c for c in free if c.base_type == column.base_type and _alike(c.name, column.name)
        ]
        if len(similar) == 1:
            matched[column.name] = similar[0].name
            free.remove(similar[0])
    return matched


def _alike(one: str, two: str) -> bool:
    parts = [set(name.split("_")) - {"id", "is", "at"} for name in (one, two)]
    return bool(parts[0] & parts[1])


def choose(
    source: TableInfo,
    target: TableInfo,
    matched: Mapping[str, str],
    *,
    side: int,
    known: Collection[str] = (),
) -> tuple[ColumnFill, ...]:
    """Return how each column of ``target`` is filled from a row of ``source``.

    Args:
        source: table of the row that is converted.
        target: table of the row that is made.
        matched: target column of each source column.
        side: of the source, 1 or 2.
        known: target columns that are matched for sure, whatever their names.
    """
    back = {mine: other for other, mine in matched.items()}
    choices = []
    for column in target.columns:
        name = back.get(column.name)
        found = source.column(name) if name else None
        if column.generated:
            choices.append(
                ColumnFill(column, None, f"null::{column.type}", "null", "computed by the table")
            )
        elif found is None:
            choices.append(_without_source(column, side))
        else:
            sure = column.name in known or column.name in target.key
            choices.append(_from_source(found, column, side, sure=sure))
    return tuple(choices)


def _from_source(found: Column, column: Column, side: int, *, sure: bool) -> ColumnFill:
    new = f"new_v{side}.{quoted(found.name)}"
    script = f"newV{side}{property_of(found.name)}"
    renamed = found.name != column.name and not sure
    doubt = f"is {found.name} really {column.name}?" if renamed else None
    if found.base_type == column.base_type:
        nullable = column.not_null and not found.not_null
        empty = f"what {column.name} is where {found.name} is null" if nullable else None
        return ColumnFill(column, found, new, script, "", doubt or empty)
    widens = (found.base_type, column.base_type) in _WIDENS
    to_text = column.base_type == "text" and (found.labels or found.base_type in _NUMBERS)
    cast = f"{new}::{column.type}"
    script = f"String({script})" if to_text and not found.labels else script
    if widens or (to_text and found.labels and not column.checked):
        return ColumnFill(column, found, cast, script, "", doubt)
    return ColumnFill(
        column,
        found,
        cast,
        None,
        "",
        f"{found.name} is {found.type} and {column.name} is {column.type}: convert so that every "
        "value comes back the same",
    )


def _without_source(column: Column, side: int) -> ColumnFill:
    other = 3 - side
    old = f"old_v{other}.{quoted(column.name)}"
    script = f"oldV{other}?{property_of(column.name, optional=True)}"
    if column.default and not _VOLATILE.search(column.default):
        note = f"only V{other} has it: kept, else its default"
        literal = _literal(column)
        return ColumnFill(
            column,
            None,
            f"coalesce({old}, {column.default})",
            f"{script} ?? {literal}" if literal else None,
            note,
            None if side == 1 else _lost(column, side),
        )
    if not column.not_null:
        lost = None if side == 1 else _lost(column, side)
        return ColumnFill(
            column, None, old, f"{script} ?? null", f"only V{other} has it: kept", lost
        )
    return ColumnFill(column, None, old, None, "", f"what {column.name} is for a row of V{side}")


def _lost(column: Column, side: int) -> str:
    return (
        f"V{side} has no place for {column.name}: a row goes there and comes back without it; "
        f"give V{side} a column for it"
    )


def _literal(column: Column) -> str | None:
    """A default as TypeScript, where that is plain."""
    text = re.sub(r"::[\w\s.\[\]\"]+$", "", column.default or "")
    if text in ("true", "false") or re.fullmatch(r"-?\d+(\.\d+)?", text):
        return text
    if column.base_type in ("json", "jsonb") and text in ("'{}'", "'[]'"):
        return text.strip("'")
    match = re.fullmatch(r"'([^'\\]*)'", text)
    return f'"{match[1]}"' if match and '"' not in match[1] else None


def typescript_type(column: Column) -> str:
    """Return the type of a column in a row of the Data API."""
    base = column.base_type
    if base.endswith("[]"):
        kind = "unknown[]"
    elif base in ("json", "jsonb"):
        return "unknown"
    elif base in _NUMBERS:
        kind = "number"
    elif base == "boolean":
        kind = "boolean"
    else:
        kind = (
            " | ".join(json.dumps(label, ensure_ascii=False) for label in column.labels) or "string"
        )
    return kind if column.not_null and not column.generated else f"{kind} | null"


def quoted(name: str) -> str:
    """Return an identifier as SQL needs it."""
    plain = re.fullmatch(r"[a-z_][a-z0-9_]*", name) and name not in _RESERVED
    return name if plain else '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def comment(text: str) -> str:
    """Return a text that ends no comment, in SQL or TypeScript."""
    lines = text.replace("\\", "\\\\").replace("\r", "\\r").replace("\n", "\\n")
    return lines.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").replace("*/", "* /")


def property_of(name: str, *, optional: bool = False) -> str:
    """Return the access to a property of that name; ``optional`` follows a question mark."""
    if re.fullmatch(r"[A-Za-z_]\w*", name):
        return f".{name}"
    escaped = json.dumps(name, ensure_ascii=False)
    return f".[{escaped}]" if optional else f"[{escaped}]"


def undecided(choices: Iterable[ColumnFill]) -> list[str]:
    """Return what a person must decide."""
    return [f"{c.column.name}: {c.undecided}" for c in choices if c.undecided]
