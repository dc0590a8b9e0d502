"""Pairs whose tables have keys of two types: which column holds which, and what refers to them.

V1 carries V2's key in a column of its own, V2 keeps V1's. Pure.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from crossfade.pairs.catalog import Column, Constraint, Parent, ParentPair, TableInfo
from crossfade.pairs.columns import ColumnFill, literal, quoted

_LEGACY: Final = "legacy_"


@dataclass(frozen=True, slots=True)
class LookUp:
    """A column that points to a parent whose tables have keys of two types.

    Attributes:
        column_1: of V1, holds ``own`` of the parent's V1 table.
        column_2: of V2, holds the key of the parent's V2 table.
        legacy: V2's column of the parent that holds ``own``; None without one.
    """

    column_1: str
    column_2: str
    pair: ParentPair
    own: str
    legacy: str | None

    def sql(self, side: int) -> str:
        """Return the value for the row of a side.

        The row's own side knows its parent already, also one that the same statement has written.
        The other side is asked where that says nothing: when a converter is proved on rows whose
        parents are not copied yet.
        """
        given = f"new_v{3 - side}.{quoted(self.column_1 if side == 2 else self.column_2)}"
        pair = self.pair
        sides = [(pair.v1_table, self.own, pair.key[0])]
        if self.legacy:
            sides.insert(side - 1, (pair.v2_table, self.legacy, pair.v2_key[0]))
        found = []
        for table, key_1, key_2 in sides:
            asked, answer = (key_1, key_2) if side == 2 else (key_2, key_1)
            found.append(
                f"(select p.{quoted(answer)} from {table} as p where p.{quoted(asked)} = {given})"  # noqa: S608
            )
        if len(found) == 1:
            return found[0]
        return "coalesce(\n      " + ",\n      ".join(found) + "\n    )"


@dataclass(frozen=True, slots=True)
class Keys:
    """How the keys of a pair relate.

    Attributes:
        own: V1's primary key, where the pair is keyed by other columns; else empty.
        kept: V2's column of each column of ``own``.
        look_ups: columns that refer to a parent with keys of two types.
    """

    own: tuple[str, ...] = ()
    kept: Mapping[str, str] = field(default_factory=dict)
    look_ups: tuple[LookUp, ...] = ()

    @property
    def known(self) -> dict[str, str]:
        """V2's column of each V1 column that needs no guess."""
        return dict(self.kept) | {item.column_1: item.column_2 for item in self.look_ups}


def carried_key(one: TableInfo, two: TableInfo | None) -> tuple[str, ...]:
    """Return the column that V1 carries for the key of ``two``; empty when nothing says it."""
    if two is None or len(one.key) != 1 or len(two.key) != 1:
        return ()
    wanted, mine = two.column(two.key[0]), one.column(one.key[0])
    if not wanted or not mine or wanted.base_type != "uuid" or mine.base_type == "uuid":
        return ()
    found = [
        key
        for key in one.keys
        if len(key) == 1 and (column := one.column(key[0])) and column.base_type == "uuid"
    ]
    return found[0] if len(found) == 1 else ()


def v2_names(one: TableInfo, own: tuple[str, ...]) -> dict[str, str]:
    """Return the names that a proposed V2 gives to its key and to V1's own key."""
    if len(own) != 1 or len(one.key) != 1:
        return {}
    return {one.key[0]: own[0], own[0]: f"{_LEGACY}{own[0]}"}


def relate(one: TableInfo, two: TableInfo, own: tuple[str, ...]) -> Keys:
    """Return how the keys of two tables relate; ``own`` as in Keys."""
    kept = {name: place for name in own if (place := _kept(one, two, name))}
    look_ups = (_look_up(one, two, parent, kept) for parent in one.parents)
    return Keys(own, kept, tuple(item for item in look_ups if item))


def _kept(one: TableInfo, two: TableInfo, name: str) -> str | None:
    mine = one.column(name)
    for column in two.columns:
        shares = mine and mine.sequence and column.sequence == mine.sequence
        if column.name not in two.key and (shares or column.name == f"{_LEGACY}{name}"):
            return column.name
    same = two.column(name)
    return name if same and name not in two.key and mine and _alike(same, mine) else None


def _alike(one: Column, two: Column) -> bool:
    return one.base_type == two.base_type


def _look_up(
    one: TableInfo, two: TableInfo, parent: Parent, kept: Mapping[str, str]
) -> LookUp | None:
    pair = parent.pair
    if pair is None and parent.table == one.table and kept:
        # A tree: rows of this table refer to each other.
        columns = tuple(column.name for column in two.columns)
        pair = ParentPair("", one.table, two.table, one.key, two.key, v2_columns=columns)
    if pair is None or parent.table != pair.v1_table or parent.parent_columns == pair.key:
        return None
    if len(parent.columns) != 1 or len(pair.key) != 1:
        return None
    column_2 = _refers(two, parent, pair)
    if column_2 is None:
        return None
    own = parent.parent_columns[0]
    legacy = next((n for n in (f"{_LEGACY}{own}", "legacy_id") if n in pair.v2_columns), None)
    return LookUp(parent.columns[0], column_2, pair, own, kept.get(own, legacy) or legacy)


def _refers(two: TableInfo, parent: Parent, pair: ParentPair) -> str | None:
    """V2's column of a reference: the one of that name, else the only one that points there."""
    if two.column(parent.columns[0]) and parent.columns[0] not in two.key:
        return parent.columns[0]
    found = [p.columns[0] for p in two.parents if p.table == pair.v2_table and len(p.columns) == 1]
    return found[0] if len(found) == 1 else None


def with_look_ups(
    choices: tuple[ColumnFill, ...], keys: Keys, *, side: int
) -> tuple[ColumnFill, ...]:
    """Return the choices for the row of a side with what is looked up."""
    found = {(k.column_2 if side == 2 else k.column_1): k for k in keys.look_ups}
    return tuple(
        replace(
            choice,
            sql=found[choice.column.name].sql(side),
            typescript=None,
            undecided=None,
            looked_up=True,
        )
        if choice.column.name in found
        else choice
        for choice in choices
    )


def with_own_key(
    choices: tuple[ColumnFill, ...], keys: Keys, two: TableInfo
) -> tuple[ColumnFill, ...]:
    """Return to_v1's choices with what V1's own key is for a row of V2 clients."""
    return tuple(
        replace(choice, undecided=_no_number(choice.column, keys, two))
        if choice.column.name in keys.own
        else choice
        for choice in choices
    )


def _no_number(mine: Column, keys: Keys, two: TableInfo) -> str | None:
    """Why V1's own key is not known for a row that a V2 client makes; None when it is."""
    name = keys.kept.get(mine.name)
    kept = two.column(name) if name else None
    number = f"nextval({literal(mine.sequence)})" if mine.sequence else mine.default
    number = number or "(what V1's clients put there)"
    if kept is None:
        return (
            f"{two.table} has no place for it, so a row of V2 has none in V1; run: alter table "
            f"{two.table} add column {quoted(_LEGACY + mine.name)} {mine.type} unique default "
            f"{number}"
        )
    if not kept.default and not kept.identity:
        return (
            f"a row that V2 clients make has none; run: alter table {two.table} alter column "
            f"{quoted(kept.name)} set default {number}"
        )
    if mine.sequence and kept.sequence != mine.sequence:
        return f"{kept.name} does not take it from {mine.sequence}: both tables give the same ones"
    if not kept.not_null:
        return (
            f"what it is where {kept.name} is null; run: alter table {two.table} alter column "
            f"{quoted(kept.name)} set not null"
        )
    return None


def adapted(
    one: TableInfo,
    two: tuple[str, tuple[str, ...]],
    renamed: Mapping[str, str],
    look_ups: Collection[str],
) -> tuple[tuple[Constraint, ...], list[str]]:
    """Return the constraints of a proposed V2, and V1's that nobody can carry over for sure.

    Args:
        one: V1.
        two: V2's name and key.
        renamed: V2's name of V1's columns, where another one.
        look_ups: V1's columns that are of another type in V2, because they point to such a key.
    """
    kept, left = [], []
    for constraint in one.constraints:
        if constraint.kind not in ("c", "f"):
            continue
        text, doubtful = constraint.definition, {*renamed, *look_ups}
        parent = next((p for p in one.parents if p.reference in text), None)
        to = _v2_reference(two, one, parent, renamed) if parent and constraint.kind == "f" else None
        if parent and to:
            text = text.replace(parent.reference, to, 1)
            doubtful -= {*look_ups}
        if doubtful & {*constraint.columns}:
            left.append(f"constraint {constraint.name}: {constraint.definition}")
        else:
            kept.append(replace(constraint, definition=text))
    return tuple(kept), left


def _v2_reference(
    two: tuple[str, tuple[str, ...]], one: TableInfo, parent: Parent, renamed: Mapping[str, str]
) -> str | None:
    """Where a foreign key of V2 points to; None when nothing says so."""
    pair = parent.pair
    if pair and parent.table == pair.v1_table:
        table, names = pair.v2_table, pair.v2_key
    elif parent.table == one.table:
        table, key = two
        by_key = len(parent.parent_columns) == len(key) and {*parent.parent_columns} & {*renamed}
        names = key if by_key else parent.parent_columns
    else:
        return None
    return f"REFERENCES {table}({', '.join(quoted(name) for name in names)})"


def names_any(text: str | None, names: Collection[str]) -> bool:
    """Tell whether an expression holds one of the names as a word."""
    return any(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text or "") for name in names)
