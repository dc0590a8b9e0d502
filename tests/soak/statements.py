"""Random statements on one table, as text. Pure: all comes from the writer's generator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .worlds import TABLES
from .writer import (
    Writer,
    column_list,
    edits,
    key_join,
    key_values,
    new_row,
    row_text,
    upsert_edits,
)


@dataclass(frozen=True)
class Part:
    """What one table's share of a statement is, without RETURNING.

    Attributes:
        op: ``I``, ``U``, ``D``, or ``M`` for MERGE. An upsert is ``U``: a new row's birth tells it.
        sets: columns that an update assigns.
    """

    side: int
    op: str
    sql: str
    sets: tuple[str, ...] = ()

    def returning(self) -> str:
        """Return what makes the statement tell side, op and row."""
        op = "left(merge_action(), 1)" if self.op == "M" else f"'{self.op}'"
        return f" returning {self.side}, {op}, to_jsonb(t)::text"


@dataclass(frozen=True)
class Statement:
    """One statement: one part, or several as data-modifying CTEs.

    Attributes:
        form: its kind, for people.
        plain: the whole text of a statement that has no parts (parents, TRUNCATE).
        lines: data of a COPY.
    """

    form: str
    tag: str
    parts: tuple[Part, ...] = ()
    plain: str = ""
    lines: tuple[tuple[str | None, ...], ...] = field(default=())

    @property
    def sides(self) -> set[int]:
        """Return the tables of the pair that it names."""
        named = {side for side, table in TABLES.items() if table in self.plain}
        return named | {part.side for part in self.parts}

    def text(self, *, returning: bool) -> str:
        """Return the SQL; with RETURNING its rows are (side, op, row)."""
        if self.plain:
            return self.plain
        texts = [part.sql + (part.returning() if returning else "") for part in self.parts]
        if len(texts) == 1:
            return texts[0]
        names = [f"part{number}" for number, _ in enumerate(texts)]
        if not returning:
            texts = [f"{text} returning 1" for text in texts]
        ctes = ", ".join(f"{n} as ({text})" for n, text in zip(names, texts, strict=True))
        return f"with {ctes} " + " union all ".join(f"select * from {name}" for name in names)


def psql_text(statement: Statement) -> str:
    """Return the statement as psql takes it."""
    if not statement.lines:
        return f"{statement.text(returning=False)};"
    escaped = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n"})
    lines = [
        "\t".join("\\N" if value is None else value.translate(escaped) for value in line)
        for line in statement.lines
    ]
    return "\n".join([f"{statement.parts[0].sql};", *lines, "\\."])


def one(writer: Writer, form: str, part: Part) -> Statement:
    """Return a statement of one part."""
    return Statement(form, writer.tag, (part,))


def insert_part(writer: Writer, keys: Sequence[int | None], start: int = 1) -> Part:
    """Insert rows; a key of None is left to the table."""
    rows = [new_row(writer, number) for number, _ in enumerate(keys, start)]
    keyed = keys[0] is not None
    tuples = ", ".join(row_text(writer, row, key) for key, row in zip(keys, rows, strict=True))
    says = f" {writer.world.overriding(writer.side)}" if keyed else ""
    columns = column_list(writer, rows[0], keyed=keyed)
    return Part(
        writer.side,
        "I",
        f"insert into {writer.table} as t ({columns}){says} values {tuples}",
    )


def insert(writer: Writer, keys: Sequence[int | None]) -> Statement:
    return one(writer, "insert", insert_part(writer, keys))


def upsert(writer: Writer, keys: Sequence[int]) -> Statement:
    """Insert, and do nothing or update where the key is taken."""
    part = insert_part(writer, keys)
    target = ", ".join(writer.world.keys(writer.side))
    action, names = "nothing", []
    if writer.rng.random() < 0.75:
        changes = upsert_edits(writer)
        names = [change.split(" = ")[0] for change in changes]
        action = f"update set {', '.join(changes)}"
        if writer.rng.random() < 0.25:
            action += " where t.mark is distinct from excluded.mark"
    text = f"{part.sql} on conflict ({target}) do {action}"
    return one(writer, "upsert", Part(writer.side, "U", text, tuple(names)))


def update_part(writer: Writer, keys: Sequence[int]) -> Part:
    """Update rows by key."""
    changes = edits(writer)
    text = f"update {writer.table} as t set {', '.join(changes)}"
    if len(keys) == 1 and writer.rng.random() < 0.5:
        names = zip(writer.world.keys(writer.side), writer.world.texts(keys[0]), strict=True)
        text += " where " + " and ".join(f"t.{name} = {part}" for name, part in names)
    else:
        text += f" from {key_values(writer, keys)} where {key_join(writer)}"
    return Part(writer.side, "U", text, tuple(c.split(" = ")[0] for c in changes))


def update(writer: Writer, keys: Sequence[int]) -> Statement:
    return one(writer, "update", update_part(writer, keys))


def update_all(writer: Writer) -> Statement:
    """Update every row that a scan finds and the policies show."""
    changes = edits(writer)
    unique = ("pos = ", "place = ")  # one value for all would never do
    changes = [change for change in changes if not change.startswith(unique)]
    text = f"update {writer.table} as t set {', '.join(changes)} where t.hits % 2 = 0"
    return one(
        writer,
        "update all",
        Part(writer.side, "U", text, tuple(c.split(" = ")[0] for c in changes)),
    )


def delete_part(writer: Writer, keys: Sequence[int]) -> Part:
    text = f"delete from {writer.table} as t using {key_values(writer, keys)}"
    return Part(writer.side, "D", f"{text} where {key_join(writer)}")


def delete(writer: Writer, keys: Sequence[int]) -> Statement:
    return one(writer, "delete", delete_part(writer, keys))


def move(writer: Writer, moves: Mapping[int, int]) -> Statement:
    """Change keys from old to new, and something else or not."""
    world = writer.world
    pairs = ", ".join(
        "(" + ", ".join((*world.texts(a), *world.texts(b))) + ")" for a, b in moves.items()
    )
    keys = world.keys(writer.side)
    names = [f"{kind}{number}" for kind in "kn" for number, _ in enumerate(keys)]
    changes = [f"{name} = v.n{number}" for number, name in enumerate(keys)]
    if writer.rng.random() < 0.7:
        changes += edits(writer)
    text = (
        f"update {writer.table} as t set {', '.join(changes)} "
        f"from (values {pairs}) as v ({', '.join(names)}) where {key_join(writer)}"
    )
    return one(
        writer, "move", Part(writer.side, "U", text, tuple(c.split(" = ")[0] for c in changes))
    )


def swap_places(writer: Writer, keys: Sequence[int]) -> Statement:
    """Let rows exchange values of a unique column."""
    place = "pos" if writer.side == 1 else "place"
    changes = [*edits(writer)[:2], f"{place} = v.place"]
    numbers = [*range(1001, 1001 + len(keys))]
    writer.rng.shuffle(numbers)
    rows = key_values(writer, keys)
    for key, number in zip(keys, numbers, strict=True):
        text = ", ".join(writer.world.texts(key))
        rows = rows.replace(f"({text})", f"({text}, {number}::integer)", 1)
    rows = rows.removesuffix(")") + ", place)"
    text = (
        f"update {writer.table} as t set {', '.join(changes)} from {rows} where {key_join(writer)}"
    )
    return one(
        writer, "places", Part(writer.side, "U", text, tuple(c.split(" = ")[0] for c in changes))
    )


def merge(writer: Writer, keys: Sequence[int]) -> Statement:
    """Merge: matched rows are updated or deleted, others inserted, some of them not."""
    rng, world = writer.rng, writer.world
    rows = [new_row(writer, number) for number, _ in enumerate(keys, 1)]
    names = [f"k{number}" for number, _ in enumerate(world.keys(1))]
    tuples = ", ".join(
        row_text(writer, row, key)[:-1] + f", {str(rng.random() < 0.25).lower()})"
        for key, row in zip(keys, rows, strict=True)
    )
    changes = [change.replace("excluded.", "v.") for change in upsert_edits(writer)]
    new = ", ".join(f"v.{name}" for name in (*names, *rows[0]))
    branches = [
        "when matched and v.remove then delete",
        f"when matched then update set {', '.join(changes)}",
        f"when not matched and not v.remove then insert ({column_list(writer, rows[0])}) "
        f"{world.overriding(writer.side)} values ({new})",
    ]
    if rng.random() < 0.3:
        branches.pop(rng.randrange(3))
    text = (
        f"merge into {writer.table} as t using (values {tuples}) as "
        f"v ({', '.join((*names, *rows[0], 'remove'))}) on {key_join(writer)} {' '.join(branches)}"
    )
    sets = tuple(c.split(" = ")[0] for c in changes)
    return one(writer, "merge", Part(writer.side, "M", text, sets))


def copy(writer: Writer, keys: Sequence[int]) -> Statement:
    """COPY new rows in."""
    rows = [new_row(writer, number) for number, _ in enumerate(keys, 1)]
    lines = tuple(
        (
            *writer.world.texts(key, typed=False),
            *(None if v is None else str(v).lower() if isinstance(v, bool) else str(v)
              for v in row.values()),
        )
        for key, row in zip(keys, rows, strict=True)
    )  # fmt: skip
    part = Part(
        writer.side, "I", f"copy {writer.table} ({column_list(writer, rows[0])}) from stdin"
    )
    return Statement("copy", writer.tag, (part,), lines=lines)
