"""The files of a new pair: its SQL, its registration, and tests of its converters. Pure."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from crossfade.core.errors import InvalidValueError
from crossfade.pairs.catalog import Row, TableInfo
from crossfade.pairs.columns import (
    ColumnFill,
    choose,
    comment,
    literal,
    match_columns,
    quoted,
    typescript_type,
    undecided,
)
from crossfade.pairs.keys import Keys, relate, with_look_ups, with_own_key
from crossfade.pairs.table import create_table, propose
from crossfade.pairs.tests import sql_test, typescript_test
from crossfade.project.folder import later

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")


@dataclass(frozen=True, slots=True)
class PairFiles:
    """What ``pair new`` writes: path in the project -> text, and what is left to a person."""

    files: Mapping[str, str]
    undecided: tuple[str, ...]
    v2: str
    edge: tuple[str, ...] = ()
    """Columns that SQL looks up, and the edge has to."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A pair in the making."""

    name: str
    one: TableInfo
    two: TableInfo
    is_new: bool
    to_v2: tuple[ColumnFill, ...]
    to_v1: tuple[ColumnFill, ...]
    keys: Keys
    left: tuple[str, ...] = ()

    @property
    def open(self) -> list[str]:
        """What a person must decide, with the converter it is in."""
        forward = [f"to_v2, {text}" for text in undecided(self.to_v2)]
        back = [f"to_v1, {text}" for text in undecided(self.to_v1)]
        return forward + back + [f"{self.two.table}, {text}" for text in self.left]

    @property
    def edge(self) -> tuple[str, ...]:
        """What SQL looks up and convert.ts cannot."""
        both = ((2, self.to_v2), (1, self.to_v1))
        return tuple(f"toV{side}, {c.column.name}" for side, cs in both for c in cs if c.looked_up)

    @property
    def v2_key(self) -> tuple[str, ...] | None:
        """V2's names of the key, when they differ."""
        return self.two.key if self.two.key != self.one.key else None

    def function(self, side: int) -> str:
        """Name of the converter that makes rows of a side."""
        return f"{quoted(self.one.schema)}.{self.name}_to_v{side}"


def new_pair(
    name: str,
    one: TableInfo,
    two: TableInfo | None,
    *,
    stamp: str,
    problems: Sequence[str] = (),
    key: Sequence[str] = (),
) -> PairFiles:
    """Write down a pair as far as the catalog says it.

    Args:
        name: of the pair.
        one: the V1 table, with sample rows for the tests.
        two: the V2 table; None proposes one.
        stamp: timestamp of the first migration.
        problems: what registration would refuse.
        key: V1's columns of the key, where not its primary key.

    Raises:
        InvalidValueError: these cannot be a pair.
    """
    if not _NAME.fullmatch(name):
        raise InvalidValueError(
            f'Invalid pair name "{name}"',
            hint="Use 1 to 40 of a-z, 0-9 and _, starting with a letter",
        )
    for table in (one, two) if two else (one,):
        _refuse_taken(table)
    own = () if not key or tuple(key) == one.key else one.key
    one = replace(one, key=tuple(key)) if own else one
    if two and len(one.key) != len(two.key):
        raise InvalidValueError(
            f"Cannot pair {one.table} with {two.table}: their keys have {len(one.key)} and "
            f"{len(two.key)} columns",
            hint="Both tables need the same key; the columns may have other names",
        )
    refuse_problems(name, problems)
    draft = _draft(name, one, two, own)
    pair_file = f"supabase/migrations/{stamp}_{name}_pair.sql"
    folder = f"supabase/functions/_shared/{name}"
    samples = json.dumps(
        {"v1": list(one.sample), "v2": list(draft.two.sample)}, indent=2, ensure_ascii=False
    )
    files = {
        pair_file: _pair_sql(draft, pair_file),
        f"supabase/migrations/{later(stamp)}_{name}_register.sql": _register_sql(draft),
        f"supabase/tests/{name}_converters.test.sql": sql_test(
            name, one, draft.two, (draft.function(2), draft.function(1)), draft.keys
        ),
        f"{folder}/convert.ts": _convert_ts(draft),
        f"{folder}/convert_test.ts": typescript_test(name, one, draft.two, draft.keys),
        f"{folder}/samples.json": samples + "\n",
    }
    return PairFiles(files, tuple(draft.open), draft.two.table, draft.edge)


def refuse_problems(name: str, problems: Sequence[str]) -> None:
    """Refuse what registration would refuse, in its words.

    Raises:
        InvalidValueError: there are problems.
    """
    if problems:
        raise InvalidValueError(
            f'Cannot register pair "{name}": {"; ".join(problems)}',
            hint="Change what is named, then run it again",
        )


def _refuse_taken(table: TableInfo) -> None:
    if table.pair:
        raise InvalidValueError(
            f'{table.table} already belongs to pair "{table.pair}"',
            hint=f"See: crossfade pair show {table.pair}",
        )


def _draft(name: str, one: TableInfo, two: TableInfo | None, own: tuple[str, ...]) -> Draft:
    target, left = (two, []) if two else propose(one, own)
    keys = relate(one, target, own)
    matched = match_columns(one, target, keys.known)
    back = {mine: other for other, mine in matched.items()}
    to_v2 = choose(one, target, matched, side=1, known=set(keys.known.values()))
    to_v1 = choose(target, one, back, side=2, known=keys.known.keys())
    return Draft(
        name,
        one,
        target,
        two is None,
        with_look_ups(to_v2, keys, side=2),
        with_own_key(with_look_ups(to_v1, keys, side=1), keys, target),
        keys,
        tuple(left),
    )


def _pair_sql(draft: Draft, file: str) -> str:
    parts = [
        f"-- Pair {draft.name}: {comment(draft.one.table)} (V1), {comment(draft.two.table)} (V2).\n"
        "-- Written by: crossfade pair new. Yours from now on."
    ]
    if draft.open:
        parts.append(_guard(draft, file))
    if draft.is_new:
        parts.append(
            "-- A proposal: V1's columns. Change what V2 is to be, and the converters with it.\n"
            + create_table(draft.two, draft.one, draft.left)
        )
    parts.append(_CONVERTERS)
    parts.append(_converter(draft, 2))
    parts.append(_converter(draft, 1))
    functions = f"{draft.function(2)}, {draft.function(1)}"
    parts.append(
        "-- The mirror runs converters as its owner, batches as service_role; nobody else does.\n"
        f"revoke execute on function {functions}\nfrom public, anon, authenticated;\n"
        f"grant execute on function {functions} to service_role;"
    )
    return "\n\n".join(parts) + "\n"


_CONVERTERS: Final = """\
-- Converters. The second argument is the counterpart that exists, or null: what only the other
-- table can hold comes from there, so that an edit keeps it. Laws, for every row: there and back
-- gives the same row, both ways; an edit wins; nothing raises; the same row, the same result.
-- begin atomic: PostgreSQL binds every name when the function is made. With this search_path
-- as the only setting, crossfade puts the text of a converter into its statements: apply this file
-- again, with register_pair at its end, when you change one."""


def _guard(draft: Draft, file: str) -> str:
    todo = "\n".join(f"--   {comment(text)}" for text in draft.open)
    count = len(draft.open)
    return (
        f"-- {count} to decide; look for DECIDE below:\n{todo}\n"
        "-- Delete this block when you have.\n"
        "do $$\nbegin\n"
        f"  raise exception 'Pair {draft.name} is not finished: {count} to decide'\n"
        f"    using hint = 'Look for DECIDE in {file}, then delete the block at its top.';\n"
        "end $$;"
    )


def _converter(draft: Draft, side: int) -> str:
    source, target = (draft.one, draft.two) if side == 2 else (draft.two, draft.one)
    choices = draft.to_v2 if side == 2 else draft.to_v1
    lines = []
    for number, choice in enumerate(choices):
        # Before the note: a comment would swallow what ends the statement.
        comma = "," if number < len(choices) - 1 else ";"
        if choice.undecided:
            lines.append(f"    -- DECIDE {comment(f'{choice.column.name}: {choice.undecided}')}")
        note = f" -- {comment(choice.column.name)}: {choice.note}" if choice.note else ""
        lines.append(f"    {choice.sql}{comma}{note}")
    body = "\n".join(lines)
    other = 3 - side
    return (
        f"create or replace function {draft.function(side)}(\n"
        f"  new_v{other} {source.table}, old_v{side} {target.table}\n)\n"
        f"returns setof {target.table}\nlanguage sql stable parallel safe\n"
        f"set search_path = pg_catalog, pg_temp\nbegin atomic\n"
        f"  select\n{body}\nend;\n\n"
        f"comment on function {draft.function(side)} is\n"
        f"  'The V{side} row for a V{other} row of pair {draft.name}. Never raises.';"
    )


def _register_sql(draft: Draft) -> str:
    options = {"v2_key": list(draft.v2_key)} if draft.v2_key else {}
    tail = f",\n  options => {literal(json.dumps(options))}" if options else ""
    if draft.keys.own:
        names = ", ".join(literal(name) for name in draft.one.key)
        tail = f",\n  key => array[{names}]{tail}"
    return (
        f"-- Registers pair {draft.name}: triggers on both tables, switched off (stage off). Locks "
        "both tables\n-- SHARE ROW EXCLUSIVE for milliseconds; a long transaction makes it wait at "
        "most 2 s, then fail.\n"
        f"select crossfade.register_pair('{draft.name}',\n"
        f"  {literal(draft.one.table)}, {literal(draft.two.table)},\n"
        f"  {literal(draft.function(2))}, {literal(draft.function(1))}{tail});\n"
    )


def _convert_ts(draft: Draft) -> str:
    parts = [
        f"/** Pair {draft.name} at the edge: rows as the Data API shows them, both ways.\n"
        " * Written by: crossfade pair new. Keep it equal to the SQL converters, which the mirror\n"
        " * runs. */"
    ]
    for side, table in ((1, draft.one), (2, draft.two)):
        fields = "\n".join(
            f"  {_field(column.name)}: {typescript_type(column)};" for column in table.columns
        )
        parts.append(
            f"/** A row of {comment(table.table)}. */\nexport interface V{side}Row {{\n{fields}\n}}"
        )
    parts.append(_function_ts(2, draft.to_v2))
    parts.append(_function_ts(1, draft.to_v1))
    if draft.open or any(c.typescript is None for c in (*draft.to_v2, *draft.to_v1)):
        parts.append(
            "function decide(column: string): never {\n"
            "  throw new Error(`Decide how ${column} is converted, here and in SQL`);\n}"
        )
    return "\n\n".join(parts) + "\n"


def _function_ts(side: int, choices: Sequence[ColumnFill]) -> str:
    other = 3 - side
    lines = []
    for choice in choices:
        if choice.undecided:
            lines.append(f"    // DECIDE {comment(f'{choice.column.name}: {choice.undecided}')}")
        if choice.looked_up:
            lines.append("    // Its parent's other key: fetch it with the row, and pass it in.")
        value = choice.typescript if choice.typescript and not choice.undecided else None
        if value is None and choice.typescript and choice.source:
            value = choice.typescript
        value = value or f"decide({json.dumps(choice.column.name, ensure_ascii=False)})"
        lines.append(f"    {_field(choice.column.name)}: {value},")
    body = "\n".join(lines)
    uses_old = any(f"oldV{side}" in line for line in lines)
    old = f"oldV{side}" if uses_old else f"_oldV{side}"
    return (
        f"/** The V{side} row for a V{other} row; `oldV{side}` is the stored one, if any. */\n"
        f"export function toV{side}(newV{other}: V{other}Row, {old}: V{side}Row | null): "
        f"V{side}Row {{\n  return {{\n{body}\n  }};\n}}"
    )


def _field(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_]\w*", name) else json.dumps(name)


def masked(rows: Sequence[Row], table: TableInfo) -> tuple[Row, ...]:
    """Return the rows with the letters and digits of free text replaced; they go into files."""
    free = {
        column.name
        for column in table.columns
        if not column.checked
        and column.name not in table.key
        and column.base_type in ("text", "character varying", "character", "json", "jsonb")
    }
    return tuple(
        {name: _mask(value) if name in free else value for name, value in row.items()}
        for row in rows
    )


def _mask(value: object) -> object:
    if isinstance(value, str):
        letters = re.sub(r"[^\W\d_]", lambda m: "X" if m[0].isupper() else "x", value)
        return re.sub(r"\d", "0", letters)[:200]
    if isinstance(value, list):
        return [_mask(item) for item in value]
    if isinstance(value, dict):
        return {key: _mask(item) for key, item in value.items()}
    return value
