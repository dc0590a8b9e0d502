"""Who writes, and the pieces of random statements: values, key lists, returning lists. Pure."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass

from .rows import Key
from .shape import COLUMNS, Shape, select_list

# Stands for the statement's own token, which makes every written row name its writer.
TOKEN = "%TOKEN%"
OWNERS = tuple(f"00000000-0000-4000-8000-00000000000{digit}" for digit in (1, 2, 3))
_TYPES = {"owner_id": "uuid", "token": "text", "body": "text", "cents": "bigint",
          "parts": "jsonb", "amount": "numeric", "pinned": "boolean", "note": "text"}  # fmt: skip
_TEXTS = (
    None,
    "",
    "a",
    "b",
    "it's",
    'back\\slash "q"',
    "tab\tnewline\n",
    "ünïcode 漢字 🎈",
    "null",
)


@dataclass(frozen=True)
class Writer:
    """Who writes: a side of a shape, for an owner (None: the table owner, who writes for all)."""

    shape: Shape
    side: int
    owner: str | None
    rng: random.Random
    bad_amounts: bool = True

    @property
    def table(self) -> str:
        return self.shape.table(self.side)


def literal(value: object, kind: str) -> str:
    """Return a typed SQL literal."""
    if value is None:
        return f"null::{kind}"
    if isinstance(value, bool | int):
        return f"{str(value).lower()}::{kind}"
    return "'" + str(value).replace("'", "''") + f"'::{kind}"


def values(writer: Writer) -> dict[str, object]:
    """Return random values for every column but the key."""
    rng = writer.rng
    cents = rng.choice((None, 0, -5, rng.randrange(0, 99_999)))
    if writer.bad_amounts and rng.random() < 0.01:
        cents = 100_000 + rng.randrange(10)
    found: dict[str, object] = {
        "owner_id": writer.owner or rng.choice((*OWNERS, None)),
        "token": TOKEN,
    }
    if writer.side == 1:
        body = "x" * 3000 + str(rng.random()) if rng.random() < 0.02 else rng.choice(_TEXTS)
        return found | {"body": body, "cents": cents}
    parts = [rng.choice((*_TEXTS, 7)) for _ in range(rng.choice((0, 1, 1, 2, 3)))]
    return found | {
        "parts": json.dumps(parts),
        "amount": None if cents is None else f"{cents / 100:.2f}",
        "pinned": rng.random() < 0.5,
        "note": rng.choice(_TEXTS),
    }


def is_refused(rows: Sequence[dict[str, object]]) -> bool:
    """Return whether V2 refuses the amount of a row."""
    return any(
        int(str(r.get("cents") or 0)) >= 100_000 or float(str(r.get("amount") or 0)) >= 1000
        for r in rows
    )


def row_text(writer: Writer, key: Key, row: dict[str, object]) -> str:
    """Return a row for VALUES."""
    parts = [literal(part, "bigint") for part in writer.shape.parts(key)]
    return f"({', '.join(parts + [literal(value, _TYPES[name]) for name, value in row.items()])})"


def column_list(writer: Writer) -> str:
    """Return all writable columns."""
    return ", ".join((*writer.shape.keys(writer.side), *COLUMNS[writer.side]))


def key_values(writer: Writer, keys: Sequence[Key]) -> str:
    """Return the keys as a table v, in their order."""
    names = ", ".join(f"k{number}" for number, _ in enumerate(writer.shape.keys(1)))
    rows = ", ".join(
        "(" + ", ".join(literal(p, "bigint") for p in writer.shape.parts(key)) + ")" for key in keys
    )
    return f"(values {rows}) v ({names})"


def key_join(writer: Writer, alias: str = "k") -> str:
    """Return the condition that row t has a key of v."""
    return " and ".join(
        f"t.{name} = v.{alias}{number}"
        for number, name in enumerate(writer.shape.keys(writer.side))
    )


def returning(writer: Writer) -> str:
    """Return what tells the rows a statement touched."""
    return f"returning {select_list(writer.shape, writer.side)}"


def some_columns(writer: Writer) -> list[str]:
    """Return token and a random part of the other columns; the owner stays with API users."""
    names = [name for name in COLUMNS[writer.side] if name not in ("token", "owner_id")]
    chosen = [name for name in names if writer.rng.random() < 0.6]
    if writer.owner is None and writer.rng.random() < 0.2:
        chosen.append("owner_id")
    return ["token", *chosen]


def assignments(writer: Writer) -> tuple[str, bool]:
    """Return a SET list, and whether V2 refuses it."""
    row = values(writer)
    chosen = {name: row[name] for name in some_columns(writer)}
    text = ", ".join(f"{name} = {literal(value, _TYPES[name])}" for name, value in chosen.items())
    return text, is_refused([chosen])
