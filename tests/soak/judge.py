"""Compare both tables with the model and with each other. Pure."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from .columns import LISTS, NUMBERS, Image, shared_values
from .model import Entry, Key, Known, is_tag_of, key_of
from .worlds import TENANTS, World

KINDS = ("lost row", "lost edit", "foreign row", "silent difference", "other problem")
_OWN = {1: ("log1", "hits1"), 2: ("log2", "hits2", "log_x", "reads")}  # edited on one side only
_LETTERS = {uuid: letter for letter, uuid in TENANTS.items()}


@dataclass(frozen=True)
class Problem:
    """What is wrong.

    Attributes:
        kind: one of KINDS.
        sort: tells other problems apart, such as an SQLSTATE.
    """

    kind: str
    text: str
    sort: str = ""


@dataclass(frozen=True)
class Tables:
    """What there is.

    Attributes:
        v1, v2: rows by birth.
        clips: rows of soak.clips by id.
        problems: rows that stand twice.
    """

    v1: dict[str, Image]
    v2: dict[str, Image]
    clips: dict[int, Image] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class Excuses:
    """What may differ, and why.

    Attributes:
        open: keys with an open failure: the tables may differ.
        sides: keys that ever had a failure of a write to V1, and to V2: columns that both sides
            edited may be lost. With failures of both, the other side's may be as well.
        copied: the backfill has ended, so no row of V1 may be missing in V2.
        mirrored: mirroring has begun.
        archived: V1 is an archive: only V2 counts.
        attached: births of rows that an attached partition brought along, not copied yet.
        alone: stage off, and until what V2 kept is cleared away: only V1 counts.
        retired: V1's name is a view over V2, and must show what is there.
        late: a new partition mirrors only at COMMIT what is written by its name.
    """

    open: frozenset[Key] = frozenset()
    sides: tuple[frozenset[Key], frozenset[Key]] = (frozenset(), frozenset())
    copied: bool = True
    mirrored: bool = True
    archived: bool = False
    attached: frozenset[str] = frozenset()
    alone: bool = False
    retired: bool = False
    late: bool = False


def read_tables(v1: Sequence[Image], v2: Sequence[Image], clips: Sequence[Image]) -> Tables:
    """Sort rows by birth."""
    problems = []
    for name, rows in (("notes", v1), ("cards", v2)):
        births = collections.Counter(row["birth"] for row in rows)
        problems += [
            Problem("other problem", f"{birth} stands {count} times in {name}", f"twice in {name}")
            for birth, count in births.items()
            if count > 1
        ]
    return Tables(
        {row["birth"]: row for row in v1},
        {row["birth"]: row for row in v2},
        {int(row["id"]): row for row in clips},
        tuple(problems),
    )


def judge(
    world: World, state: Mapping[str, Known], tables: Tables, excuses: Excuses
) -> list[Problem]:
    """Return everything that is wrong with the rows."""
    # A row that has moved or was replaced in V2 still stands in the archive as it was.
    kept = excuses.archived and not excuses.retired
    left = {"twice in notes": kept, "twice in cards": excuses.alone}
    found = [p for p in tables.problems if not left.get(p.sort)]
    if excuses.alone:
        tables, excuses = replace(tables, v2={}), replace(excuses, copied=False)
    for birth in sorted(state.keys() | tables.v1.keys() | tables.v2.keys()):
        known = state.get(birth)
        r1, r2 = tables.v1.get(birth), tables.v2.get(birth)
        if known is None:
            found.append(Problem("other problem", f"{birth}: nobody made it: {r1 or r2}"))
            continue
        keys = known.keys | {key_of(world, s, r) for s, r in ((1, r1), (2, r2)) if r is not None}
        failed = tuple(side for side in (1, 2) if keys & excuses.sides[side - 1])
        view = _Row(world, birth, known, r1, r2, bool(keys & excuses.open), failed)
        found += view.tags() + view.judge(excuses)
        if known.alive and r2 is not None:
            found += view.clips(tables.clips)
    return found


def foreign(entries: Iterable[Entry], dead: Iterable[str] = ()) -> list[Problem]:
    """Return writes, by whomever, in a tenant's session to a row that is not the tenant's.

    Args:
        entries: what was written, in its order.
        dead: births of rows that were deleted before: whoever takes the key of one that was only
            noted as deleted, or that the archive still has, lets the engine take its counterpart
            away.
    """
    found = []
    gone = set(dead)
    for entry in entries:
        if entry.side == 3:
            continue
        rows = [row for row in (entry.old, entry.new) if row]
        if entry.source == "engine":
            rows = rows[_is_left(entry, gone) :]
        owners = {row.get("owner_id") or row.get("org") for row in rows}
        birth = str((entry.new or entry.old or {}).get("birth"))
        if entry.who in _LETTERS and not owners <= {None, entry.who}:
            by = f"{_LETTERS[entry.who]} wrote ({entry.source}, audit {entry.seq})"
            text = f"{birth}: {by} side {entry.side}: {entry.old} -> {entry.new}"
            found.append(Problem("foreign row", text))
        if entry.source != "engine":
            (gone.add if entry.op == "D" else gone.discard)(birth)
    return found


def _is_left(entry: Entry, gone: set[str]) -> bool:
    """Whether the engine removed or replaced what was left of a row that its owner deleted."""
    old, new = entry.old or {}, entry.new or {}
    other = any(old.get(name) != new.get(name) for name in ("birth", "space", "id"))
    return (entry.op == "D" or (entry.archived and other)) and str(old.get("birth")) in gone


@dataclass(frozen=True)
class _Row:
    """One row in both tables, and what is known of it."""

    world: World
    birth: str
    known: Known
    r1: Image | None
    r2: Image | None
    open: bool
    failed: tuple[int, ...]

    def tags(self) -> list[Problem]:
        """What a user wrote, in a row that the user may not see: changed or read through it."""
        found = []
        for side, row in ((1, self.r1), (2, self.r2)):
            if row is None:
                continue
            owner = _LETTERS[str(row["owner_id" if side == 1 else "org"])]
            strange = [t for n in LISTS[side] for t in row[n] if not is_tag_of(t, owner)]
            if strange:
                text = f"{self.birth}: side {side} of {owner} holds {strange}"
                found.append(Problem("foreign row", text))
        return found

    def judge(self, excuses: Excuses) -> list[Problem]:
        if excuses.archived:
            return self._judge_archived() + (self._judge_view() if excuses.retired else [])
        return self._judge_alive(excuses) if self.known.alive else self._judge_dead()

    def _judge_archived(self) -> list[Problem]:
        if (self.r2 is not None) != self.known.alive and not self.open:
            return [self._problem("silent difference", f"alive is {self.known.alive}")]
        return [] if self.r2 is None else self._edits(2, self.r2)

    def _judge_view(self) -> list[Problem]:
        if self.r1 is None or self.r2 is None:
            same = self.r1 is self.r2
            return [] if same else [self._problem("silent difference", "the view is wrong")]
        return self._compare(self.r1, self.r2)

    def _judge_dead(self) -> list[Problem]:
        if (self.r1 is None and self.r2 is None) or self.open:
            return []
        if self.r1 is not None and self.r2 is not None:
            return [] if self.failed else [self._problem("other problem", "was deleted")]
        return [self._problem("silent difference", "was deleted in one table")]

    def _judge_alive(self, excuses: Excuses) -> list[Problem]:
        found = []
        if self.r1 is None and self.r2 is None:
            return [self._problem("lost row", "is in neither table")]
        for side, row in ((1, self.r1), (2, self.r2)):
            if row is not None:
                found += self._edits(side, row)
        expected = excuses.mirrored and not self.open
        if self.r1 is None:
            missing = expected and self.birth not in excuses.attached
            return found + ([self._problem("silent difference", "V1 lacks it")] if missing else [])
        if self.r2 is None:
            missing = expected and excuses.copied
            return found + ([self._problem("silent difference", "V2 lacks it")] if missing else [])
        if expected:
            found += self._compare(self.r1, self.r2)
        return found

    def clips(self, clips: Mapping[int, Image]) -> list[Problem]:
        assert self.r2 is not None
        wanted = key_of(self.world, 2, self.r2)
        found = []
        for number in self.known.clips:
            clip = clips.get(number)
            key = clip and tuple(int(clip[f"card_{name}"]) for name in self.world.keys(2))
            if key != wanted:
                found.append(self._problem("lost row", f"clip {number} refers to {key}"))
        return found

    def _problem(self, kind: str, text: str) -> Problem:
        rows = " ".join(f"v{n}={_short(row)}" for n, row in ((1, self.r1), (2, self.r2)))
        return Problem(kind, f"{self.birth}: {text}: {rows}")

    def _edits(self, side: int, row: Image) -> list[Problem]:
        """Look for acknowledged edits: a table always holds those that were made through it."""
        found = []
        for name in (*LISTS[side], *NUMBERS[side]):
            own = name in _OWN[side]
            if own and self.known.put_back == 3 - side:
                continue
            if (not own and (self.open or self.failed)) or len(self.failed) == 2:
                continue
            if name in LISTS[side]:
                wanted: object = sorted(self.known.lists[name].elements())
                held: object = sorted(row[name])
            else:
                wanted, held = self.known.numbers[name], int(row[name])
            if wanted != held:
                text = f"side {side}: {name} holds {held}, not {wanted}"
                found.append(self._problem("lost edit", text))
        return found

    def _compare(self, r1: Image, r2: Image) -> list[Problem]:
        a, b = shared_values(1, r1), shared_values(2, r2)
        a["key"], b["key"] = key_of(self.world, 1, r1), key_of(self.world, 2, r2)
        different = {name: (a[name], b[name]) for name in a if a[name] != b[name]}
        if different:
            return [self._problem("silent difference", f"{different}")]
        late = {} if self.failed else {
            name: (a[name], value) for name, value in self.known.last.items() if a[name] != value
        }  # fmt: skip
        if late:
            return [self._problem("lost edit", f"not the last values {late}")]
        return []


def _short(row: Image | None) -> Image | None:
    return row and {name: value for name, value in row.items() if value not in (None, [], 0)}
