"""Random statements as text. Pure: everything comes from the random generator and the arguments.

``TOKEN`` in a text stands for the statement's own token, which makes every written row name its
writer.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from .rows import Key
from .shape import COLUMNS, Shape, select_list

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

# What a statement returns: rows it wrote, rows it deleted, both (first column w or d), or nothing;
# then what it did is found by its token (and, for MERGE, by the rows that are gone).
Returns = Literal["rows", "gone", "both", "token", "merge", "all"]


@dataclass(frozen=True)
class Statement:
    """One random statement.

    Attributes:
        sql: its text; with COPY data in ``lines`` after it.
        moves: old keys by new key, when it changes keys.
        keys: the keys it names, in order; the whole table when empty.
        shared: it may meet rows of other sessions.
        breaks_check: it writes an amount that V2 refuses.
    """

    side: int
    form: str
    sql: str
    returns: Returns
    keys: tuple[Key, ...] = ()
    moves: dict[Key, Key] = field(default_factory=dict)
    lines: tuple[tuple[str | None, ...], ...] = ()
    shared: bool = False
    breaks_check: bool = False


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


def _breaks(rows: Sequence[dict[str, object]]) -> bool:
    return any(
        int(str(r.get("cents") or 0)) >= 100_000 or float(str(r.get("amount") or 0)) >= 1000
        for r in rows
    )


def _tuple(writer: Writer, key: Key, row: dict[str, object]) -> str:
    parts = [literal(part, "bigint") for part in writer.shape.parts(key)]
    return f"({', '.join(parts + [literal(value, _TYPES[name]) for name, value in row.items()])})"


def _columns(writer: Writer) -> str:
    return ", ".join((*writer.shape.keys(writer.side), *COLUMNS[writer.side]))


def _key_values(writer: Writer, keys: Sequence[Key]) -> str:
    names = ", ".join(f"k{number}" for number, _ in enumerate(writer.shape.keys(1)))
    rows = ", ".join(
        "(" + ", ".join(literal(p, "bigint") for p in writer.shape.parts(key)) + ")" for key in keys
    )
    return f"(values {rows}) v ({names})"


def _key_join(writer: Writer, alias: str = "k") -> str:
    return " and ".join(
        f"t.{name} = v.{alias}{number}"
        for number, name in enumerate(writer.shape.keys(writer.side))
    )


def _returning(writer: Writer) -> str:
    return f"returning {select_list(writer.shape, writer.side)}"


def insert(writer: Writer, keys: Sequence[Key], conflict: str = "") -> Statement:
    """Insert one row or several; conflict is empty, ``nothing`` or ``update``."""
    rows = [values(writer) for _ in keys]
    tuples = ", ".join(_tuple(writer, key, row) for key, row in zip(keys, rows, strict=True))
    tail = ""
    if conflict:
        target = ", ".join(writer.shape.keys(writer.side))
        update = ", ".join(f"{name} = excluded.{name}" for name in _some_columns(writer))
        tail = f"on conflict ({target}) do " + (
            "nothing" if conflict == "nothing" else f"update set {update}"
        )
        if conflict == "update" and writer.rng.random() < 0.2:
            tail += " where t.token <> excluded.token"
    return Statement(
        writer.side,
        f"insert {conflict}".strip(),
        f"insert into {writer.table} as t ({_columns(writer)}) values {tuples} {tail} "
        + _returning(writer),
        "rows",
        tuple(keys),
        breaks_check=_breaks(rows),
    )


def _some_columns(writer: Writer) -> list[str]:
    """Return token and a random part of the other columns; the owner stays with API users."""
    names = [name for name in COLUMNS[writer.side] if name not in ("token", "owner_id")]
    chosen = [name for name in names if writer.rng.random() < 0.6]
    if writer.owner is None and writer.rng.random() < 0.2:
        chosen.append("owner_id")
    return ["token", *chosen]


def _assignments(writer: Writer) -> tuple[str, bool]:
    row = values(writer)
    chosen = {name: row[name] for name in _some_columns(writer)}
    text = ", ".join(f"{name} = {literal(value, _TYPES[name])}" for name, value in chosen.items())
    return text, _breaks([chosen])


def update(writer: Writer, keys: Sequence[Key]) -> Statement:
    """Update rows in the order of the keys."""
    text, breaks = _assignments(writer)
    return Statement(
        writer.side,
        "update",
        f"update {writer.table} t set {text} from {_key_values(writer, keys)} "
        f"where {_key_join(writer)} {_returning(writer)}",
        "rows",
        tuple(keys),
        breaks_check=breaks,
    )


def delete(writer: Writer, keys: Sequence[Key]) -> Statement:
    """Delete rows in the order of the keys."""
    return Statement(
        writer.side,
        "delete",
        f"delete from {writer.table} t using {_key_values(writer, keys)} "
        f"where {_key_join(writer)} {_returning(writer)}",
        "gone",
        tuple(keys),
    )


def whole_space(writer: Writer, space: int, *, remove: bool) -> Statement:
    """Update or delete everything in a key space: what a scan finds, in its order."""
    name = writer.shape.keys(writer.side)[0]
    if len(writer.shape.keys_v1) == 2:
        where = f"t.{name} = {space}"
    else:
        low, high = writer.shape.parts((space, 0))[0], writer.shape.parts((space + 1, 0))[0]
        where = f"t.{name} >= {low} and t.{name} < {high}"
    text, breaks = _assignments(writer)
    start = f"delete from {writer.table} t" if remove else f"update {writer.table} t set {text}"
    return Statement(
        writer.side,
        "delete space" if remove else "update space",
        f"{start} where {where} {_returning(writer)}",
        "gone" if remove else "rows",
        breaks_check=breaks and not remove,
    )


def move(writer: Writer, moves: dict[Key, Key]) -> Statement:
    """Change keys, from old to new."""
    shape = writer.shape
    pairs = ", ".join(
        "(" + ", ".join(literal(p, "bigint") for p in (*shape.parts(a), *shape.parts(b))) + ")"
        for a, b in moves.items()
    )
    names = [f"{kind}{number}" for kind in "kn" for number, _ in enumerate(shape.keys(1))]
    setting = ", ".join(
        f"{name} = v.n{number}" for number, name in enumerate(shape.keys(writer.side))
    )
    return Statement(
        writer.side,
        "move",
        f"update {writer.table} t set {setting}, token = '{TOKEN}' "
        f"from (values {pairs}) v ({', '.join(names)}) where {_key_join(writer)} "
        + _returning(writer),
        "rows",
        tuple(moves),
        moves={new: old for old, new in moves.items()},
    )


def merge(writer: Writer, keys: Sequence[Key], *, remove: float = 0.3) -> Statement:
    """Merge: matched rows are updated or (with probability remove) deleted, others inserted."""
    rows = [values(writer) for _ in keys]
    names = [f"k{number}" for number, _ in enumerate(writer.shape.keys(1))]
    tuples = ", ".join(
        _tuple(writer, key, row)[:-1] + f", {str(writer.rng.random() < remove).lower()})"
        for key, row in zip(keys, rows, strict=True)
    )
    update = ", ".join(f"{name} = v.{name}" for name in _some_columns(writer))
    new = ", ".join(f"v.{name}" for name in (*names, *COLUMNS[writer.side]))
    return Statement(
        writer.side,
        "merge",
        f"merge into {writer.table} t using (values {tuples}) "
        f"v ({', '.join((*names, *COLUMNS[writer.side], 'remove'))}) on {_key_join(writer)} "
        f"when matched and v.remove then delete when matched then update set {update} "
        f"when not matched and not v.remove then insert ({_columns(writer)}) values ({new})",
        "merge",
        tuple(keys),
        breaks_check=_breaks(rows),
    )


def copy(writer: Writer, keys: Sequence[Key]) -> Statement:
    """COPY new rows in."""
    rows = [values(writer) for _ in keys]
    lines = tuple(
        (
            *(str(part) for part in writer.shape.parts(key)),
            *(None if v is None else str(v).lower() if isinstance(v, bool) else str(v)
              for v in row.values()),
        )
        for key, row in zip(keys, rows, strict=True)
    )  # fmt: skip
    return Statement(
        writer.side,
        "copy",
        f"copy {writer.table} ({_columns(writer)}) from stdin",
        "token",
        tuple(keys),
        lines=lines,
        breaks_check=_breaks(rows),
    )


def replace(writer: Writer, old: Sequence[Key], new: Sequence[Key]) -> Statement:
    """Delete and insert in one statement, with a data-modifying CTE."""
    rows = [values(writer) for _ in new]
    tuples = ", ".join(_tuple(writer, key, row) for key, row in zip(new, rows, strict=True))
    returned = _returning(writer)
    columns = ", ".join(
        f"w.{name}" for name in (*writer.shape.keys(writer.side), *COLUMNS[writer.side])
    )
    columns = columns.replace("w.owner_id", "w.owner_id::text")
    return Statement(
        writer.side,
        "replace",
        f"with gone as (delete from {writer.table} t using {_key_values(writer, old)} "
        f"where {_key_join(writer)} {returned}), "
        f"made as (insert into {writer.table} as t ({_columns(writer)}) "
        f"select w.* from (values {tuples}) w, (select count(*) from gone) c {returned}) "
        f"select 'd', {columns} from gone w union all select 'w', {columns} from made w",
        "both",
        (*old, *new),
        breaks_check=_breaks(rows),
    )


def truncate(writer: Writer) -> Statement:
    """Empty the table."""
    return Statement(writer.side, "truncate", f"truncate {writer.table}", "all")
