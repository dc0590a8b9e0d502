"""Random statements that reach beyond one table of the pair. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from .statements import Part, Statement, delete_part, insert_part, update_part
from .worlds import TENANTS
from .writer import Writer, key_join, key_values, literal

_NUMBERS = {"A": (1, 2, 11, 12), "B": (3, 4, 13, 14)}


def truncate(writer: Writer) -> Statement:
    more = ", soak.clips" if writer.world.clips and writer.side == 2 else ""
    return Statement("truncate", writer.tag, plain=f"truncate {writer.table}{more}")


def parent(writer: Writer) -> Statement:
    """Insert, renumber or delete a folder or label: its notes and cards follow."""
    rng = writer.rng
    letter = _letter(writer)
    table, owner = rng.choice(("folders", "labels")), literal(TENANTS[letter], "uuid")
    old, new = rng.choice(_NUMBERS[letter]), rng.choice(_NUMBERS[letter])
    texts = (
        f"insert into public.{table} values ({new}, {owner}, 'new') on conflict (id) do nothing",
        f"update public.{table} set id = {new} where id = {old} and owner_id = {owner}",
        f"delete from public.{table} where id = {old} and owner_id = {owner}",
    )
    return Statement(table, writer.tag, plain=rng.choices(texts, (2, 2, 1))[0])


def signup(writer: Writer, key: int) -> Statement:
    """Sign somebody up, which makes a note."""
    owner = literal(TENANTS[_letter(writer)], "uuid")
    text = f"insert into public.signups values ({key}, {owner}, '{writer.tag}/s')"
    return Statement("signup", writer.tag, plain=text)


def clip(writer: Writer, keys: Sequence[int]) -> Statement:
    """Refer to cards."""
    card = writer.with_side(2)
    names = card.world.keys(2)
    columns, read = (", ".join(f"{a}{n}" for n in names) for a in ("card_", "t."))
    text = (
        f"insert into soak.clips (birth, {columns}) select t.birth, {read} from public.cards as t, "
        f"{key_values(card, keys)} where {key_join(card)}"
    )
    return Statement("clip", writer.tag, plain=text)


def same_row(writer: Writer, key: int) -> Statement:
    """Edit one row in both tables, in other columns: both edits count."""
    rng, tag = writer.rng, writer.tag
    note, card = writer.with_side(1), writer.with_side(2)
    title = literal(rng.choice(("one", "two", None)), "text")
    sets = {1: [f"log1 = t.log1 || array['{tag}']", "hits1 = t.hits1 + 1", f"title = {title}"]}
    more = rng.choice(
        ("pinned = not t.pinned", "mood = 'wild'", "cents = coalesce(t.cents, 0) + 1")
    )
    one = f"""'["{tag}"]'::jsonb"""
    sets[2] = [f"log2 = t.log2 || {one}", "hits2 = t.hits2 + 1", more]
    if rng.random() < 0.5:
        sets[2] = [f"log_x = t.log_x || array['{tag}']", "pinned = not t.pinned"]
    parts = [
        Part(
            w.side,
            "U",
            f"update {w.table} as t set {', '.join(sets[w.side])} "
            f"from {key_values(w, [key])} where {key_join(w)}",
            tuple(change.split(" = ")[0] for change in sets[w.side]),
        )
        for w in (note, card)
    ]
    if rng.random() < 0.5:
        parts.reverse()
    return Statement("same row", tag, tuple(parts))


def two_rows(writer: Writer, first: Sequence[int], second: Sequence[int]) -> Statement:
    """Write some rows of one table and other rows of the other one, in one statement."""
    rng = writer.rng
    sides = rng.sample((1, 2), 2)
    parts: list[Part] = []
    for side, keys in zip(sides, (first, second), strict=True):
        make = rng.choice((_insert, update_part, delete_part))
        parts.append(make(writer.with_side(side), keys))
    if parts[0].op == parts[1].op == "I":  # births must differ
        parts[1] = insert_part(writer.with_side(sides[1]), second, start=50)
    return Statement("two rows", writer.tag, tuple(parts))


def replace(writer: Writer, keys: Sequence[int]) -> Statement:
    """Delete rows, and insert others after that under the same keys, as one function call may."""
    gone, made = delete_part(writer, keys), insert_part(writer, keys)
    return Statement("replace", writer.tag, (gone, made))


def _insert(writer: Writer, keys: Sequence[int]) -> Part:
    return insert_part(writer, keys)


def _letter(writer: Writer) -> str:
    return writer.tenant if writer.tenant in TENANTS else writer.rng.choice("AB")
