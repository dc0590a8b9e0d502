"""Who writes, and the pieces of random statements: values, key lists, assignments. Pure."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .worlds import TABLES, TENANTS, World

_TYPES = {
    1: {
        "birth": "text", "owner_id": "uuid", "folder_id": "bigint", "label_id": "bigint",
        "pos": "integer", "title": "public.short_text", "mood": "public.mood", "price": "numeric",
        "spot": "public.spot", "happens": "timestamptz", "meta": "jsonb", "mark": "text",
        "log1": "text[]", "hits1": "bigint",
    },
    2: {
        "birth": "text", "org": "text", "folder_id": "bigint", "label_id": "bigint",
        "place": "integer", "heading": "text", "loud": "text", "mood": "text", "cents": "bigint",
        "spot": "jsonb", "happens": "timestamptz", "meta": "jsonb", "mark": "text",
        "log2": "jsonb", "hits2": "numeric", "pinned": "boolean",
    },
}  # fmt: skip
_TITLES = (None, "", "a", "it's", "wall", 'back\\slash "q"', "tab\tend", "日本 🎈", "x" * 40)


@dataclass(frozen=True)
class Writer:
    """Who writes what where.

    Attributes:
        tenant: ``A`` or ``B`` writes through the API under RLS; ``S`` is the service role, ``O``
            the tables' owner.
        partition: of V2, named in place of V2; empty for the whole table.
        tag: names the statement; it begins with the tenant.
    """

    world: World
    side: int
    tenant: str
    tag: str
    rng: random.Random
    partition: str = ""

    @property
    def table(self) -> str:
        return self.partition if self.side == 2 and self.partition else TABLES[self.side]

    def with_side(self, side: int) -> Writer:
        return Writer(self.world, side, self.tenant, self.tag, self.rng)


def literal(value: object, kind: str) -> str:
    """Return a typed SQL literal."""
    if value is None:
        return f"null::{kind}"
    return "'" + str(value).replace("'", "''") + f"'::{kind}"


def values(writer: Writer) -> dict[str, object]:
    """Return random values of V1's columns of a new row, owner first."""
    rng = writer.rng
    tenant = writer.tenant if writer.tenant in TENANTS else rng.choice("AB")
    places = (1, 2) if tenant == "A" else (3, 4)
    found: dict[str, object] = {
        "owner_id": TENANTS[tenant],
        "folder_id": rng.choice((None, *places)),
        "label_id": rng.choice((None, *places)),
        "pos": rng.choice((None, rng.randrange(1, 30), rng.randrange(1, 999))),
        "title": rng.choice(_TITLES),
        "mood": rng.choice((None, "calm", "brisk", "wild")),
        "price": rng.choice((None, "0.00", "-1.05", f"{rng.randrange(99999) / 100:.2f}")),
        "spot": rng.choice((None, (f"{rng.randrange(999)}.50", "harbour"), ("0.00", "a \"b\", c"))),
        "happens": rng.choice((None, "2026-01-02 03:04:05.678901+00", "1999-12-31 23:59:59+05:30")),
        "meta": rng.choice((None, '{"a": [1, 2.50]}', '"text"', "[]")),
        "mark": writer.tag,
    }  # fmt: skip
    if rng.random() < 0.02:
        found["price"] = "5000.00"  # a small world's V2 refuses it
    return found


def for_side(writer: Writer, row: dict[str, object]) -> dict[str, object]:
    """Return values as the columns of the writer's side."""
    spot = row.get("spot")
    if writer.side == 1:
        if isinstance(spot, tuple):
            label = str(spot[1]).replace('"', '""')
            return {**row, "spot": f'({spot[0]},"{label}")'}
        return row
    names = {"owner_id": "org", "pos": "place", "title": "heading", "price": "cents"}
    found = {names.get(name, name): value for name, value in row.items()}
    if "price" in row and row["price"] is not None:
        found["cents"] = round(float(str(row["price"])) * 100)
    if isinstance(spot, tuple):
        x = spot[0]
        found["spot"] = f'{{"x": {x}, "label": {json.dumps(spot[1])}}}'
    if "mark" in row:  # V1 computes it
        found["loud"] = str(row["mark"]).upper()
    return found


def new_row(writer: Writer, number: int) -> dict[str, object]:
    """Return all values of a new row but its key; its birth says which statement made it."""
    side = writer.side
    log = f"{{{writer.tag}}}" if side == 1 else json.dumps([writer.tag])
    found = {"birth": f"{writer.tag}/{number}"} | for_side(writer, values(writer))
    found |= {f"log{side}": log, f"hits{side}": 1}
    return found if side == 1 else found | {"pinned": writer.rng.random() < 0.5}


def row_text(writer: Writer, row: dict[str, object], key: int | None) -> str:
    """Return a row for VALUES, with its key in front when there is one."""
    types = _TYPES[writer.side]
    parts = [] if key is None else [*writer.world.texts(key)]
    return f"({', '.join(parts + [literal(v, types[name]) for name, v in row.items()])})"


def column_list(writer: Writer, row: Iterable[str], *, keyed: bool = True) -> str:
    """Return the columns that ``row_text`` writes."""
    return ", ".join((*(writer.world.keys(writer.side) if keyed else ()), *row))


def key_values(writer: Writer, keys: Sequence[int]) -> str:
    """Return the keys as a table v, in their order."""
    names = ", ".join(f"k{number}" for number, _ in enumerate(writer.world.keys(1)))
    rows = ", ".join("(" + ", ".join(writer.world.texts(key)) + ")" for key in keys)
    return f"(values {rows}) as v ({names})"


def key_join(writer: Writer) -> str:
    """Return the condition that row t has a key of v."""
    names = enumerate(writer.world.keys(writer.side))
    return " and ".join(f"t.{name} = v.k{number}" for number, name in names)


def edits(writer: Writer) -> list[str]:
    """Return assignments of a random edit of row t: what is always added to, and some columns."""
    rng, side, tag = writer.rng, writer.side, writer.tag
    one = f"array['{tag}']" if side == 1 else f"""'["{tag}"]'::jsonb"""
    if side == 2 and rng.random() < 0.25:  # what V1 does not hold
        return [f"log_x = t.log_x || array['{tag}']", "pinned = not t.pinned"]
    found = [f"log{side} = t.log{side} || {one}", f"hits{side} = t.hits{side} + 1"]
    if rng.random() < 0.4:
        found += [f"logs = t.logs || {one}", "hits = t.hits + 1"]
    if side == 2 and rng.random() < 0.3:
        found += [f"log_x = t.log_x || array['{tag}']"]
    row = values(writer)
    ties = ("owner_id",) if writer.tenant in TENANTS else ("owner_id", "folder_id", "label_id")
    chosen = {n: v for n, v in row.items() if n not in ties and rng.random() < 0.25}
    types = _TYPES[side]
    return found + [
        f"{name} = {literal(value, types[name])}"
        for name, value in for_side(writer, chosen).items()
    ]


def upsert_edits(writer: Writer) -> list[str]:
    """Return assignments of DO UPDATE: additions as in an update, values from ``excluded``."""
    rng, side = writer.rng, writer.side
    log = f"log{side}"
    found = [f"{log} = t.{log} || excluded.{log}", f"hits{side} = t.hits{side} + 1"]
    names = ["title", "mood", "price", "happens", "meta", "mark"]
    chosen: dict[str, object] = {name: None for name in names if rng.random() < 0.3}
    return found + [f"{name} = excluded.{name}" for name in for_side(writer, chosen)]
