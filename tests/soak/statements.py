"""Random statements as text. Pure: all comes from the random generator and the arguments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from .rows import Key
from .shape import COLUMNS
from .writer import (
    TOKEN,
    Writer,
    assignments,
    column_list,
    is_refused,
    key_join,
    key_values,
    literal,
    returning,
    row_text,
    some_columns,
    values,
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


def insert(writer: Writer, keys: Sequence[Key], conflict: str = "") -> Statement:
    """Insert one row or several; conflict is empty, ``nothing`` or ``update``."""
    rows = [values(writer) for _ in keys]
    tuples = ", ".join(row_text(writer, key, row) for key, row in zip(keys, rows, strict=True))
    tail = ""
    if conflict:
        target = ", ".join(writer.shape.keys(writer.side))
        update = ", ".join(f"{name} = excluded.{name}" for name in some_columns(writer))
        tail = f"on conflict ({target}) do " + (
            "nothing" if conflict == "nothing" else f"update set {update}"
        )
        if conflict == "update" and writer.rng.random() < 0.2:
            tail += " where t.token <> excluded.token"
    return Statement(
        writer.side,
        f"insert {conflict}".strip(),
        f"insert into {writer.table} as t ({column_list(writer)}) values {tuples} {tail} "
        + returning(writer),
        "rows",
        tuple(keys),
        breaks_check=is_refused(rows),
    )


def update(writer: Writer, keys: Sequence[Key]) -> Statement:
    """Update rows in the order of the keys."""
    text, refused = assignments(writer)
    return Statement(
        writer.side,
        "update",
        f"update {writer.table} t set {text} from {key_values(writer, keys)} "
        f"where {key_join(writer)} {returning(writer)}",
        "rows",
        tuple(keys),
        breaks_check=refused,
    )


def delete(writer: Writer, keys: Sequence[Key]) -> Statement:
    """Delete rows in the order of the keys."""
    return Statement(
        writer.side,
        "delete",
        f"delete from {writer.table} t using {key_values(writer, keys)} "
        f"where {key_join(writer)} {returning(writer)}",
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
    text, refused = assignments(writer)
    start = f"delete from {writer.table} t" if remove else f"update {writer.table} t set {text}"
    return Statement(
        writer.side,
        "delete space" if remove else "update space",
        f"{start} where {where} {returning(writer)}",
        "gone" if remove else "rows",
        breaks_check=refused and not remove,
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
        f"from (values {pairs}) v ({', '.join(names)}) where {key_join(writer)} "
        + returning(writer),
        "rows",
        tuple(moves),
        moves={new: old for old, new in moves.items()},
    )


def merge(writer: Writer, keys: Sequence[Key], *, remove: float = 0.3) -> Statement:
    """Merge: matched rows are updated or (with probability remove) deleted, others inserted."""
    rows = [values(writer) for _ in keys]
    names = [f"k{number}" for number, _ in enumerate(writer.shape.keys(1))]
    tuples = ", ".join(
        row_text(writer, key, row)[:-1] + f", {str(writer.rng.random() < remove).lower()})"
        for key, row in zip(keys, rows, strict=True)
    )
    update = ", ".join(f"{name} = v.{name}" for name in some_columns(writer))
    new = ", ".join(f"v.{name}" for name in (*names, *COLUMNS[writer.side]))
    return Statement(
        writer.side,
        "merge",
        f"merge into {writer.table} t using (values {tuples}) "
        f"v ({', '.join((*names, *COLUMNS[writer.side], 'remove'))}) on {key_join(writer)} "
        f"when matched and v.remove then delete when matched then update set {update} "
        f"when not matched and not v.remove then insert ({column_list(writer)}) values ({new})",
        "merge",
        tuple(keys),
        breaks_check=is_refused(rows),
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
        f"copy {writer.table} ({column_list(writer)}) from stdin",
        "token",
        tuple(keys),
        lines=lines,
        breaks_check=is_refused(rows),
    )


def replace(writer: Writer, old: Sequence[Key], new: Sequence[Key]) -> Statement:
    """Delete and insert in one statement, with a data-modifying CTE."""
    rows = [values(writer) for _ in new]
    tuples = ", ".join(row_text(writer, key, row) for key, row in zip(new, rows, strict=True))
    returned = returning(writer)
    read = ", ".join(
        f"w.{name}" for name in (*writer.shape.keys(writer.side), *COLUMNS[writer.side])
    )
    read = read.replace("w.owner_id", "w.owner_id::text")
    return Statement(
        writer.side,
        "replace",
        f"with gone as (delete from {writer.table} t using {key_values(writer, old)} "
        f"where {key_join(writer)} {returned}), "
        f"made as (insert into {writer.table} as t ({column_list(writer)}) "
        f"select w.* from (values {tuples}) w, (select count(*) from gone) c {returned}) "
        f"select 'd', {read} from gone w union all select 'w', {read} from made w",
        "both",
        (*old, *new),
        breaks_check=is_refused(rows),
    )


def truncate(writer: Writer) -> Statement:
    """Empty the table."""
    return Statement(writer.side, "truncate", f"truncate {writer.table}", "all")
