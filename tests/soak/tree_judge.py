"""What threads and posts must be there, from what clients wrote. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .columns import Image
from .judge import Problem
from .tree import BEYOND, PAIRS

_LOGS = ("log1", "log2", "log_x")


@dataclass
class Known:
    """One row, by its birth.

    Attributes:
        logs: the tags that each list must hold.
        inherits: made while nothing was mirrored: what V2 alone holds may be an older row's.
    """

    alive: bool = False
    logs: dict[str, Counter[str]] = field(default_factory=lambda: {n: Counter() for n in _LOGS})
    title: str | None = None
    inherits: bool = False


State = dict[tuple[str, str], Known]


@dataclass(frozen=True)
class Terms:
    """What may differ.

    Attributes:
        mirrored: false from stage off until what V1 did meanwhile is cleared away: V1 counts.
        copied: the backfills have ended, so that V2 has all rows.
        archived: V1 is an archive: only V2 counts.
        retired: V1's names are views, and must show what is there.
    """

    copied: bool = False
    mirrored: bool = True
    archived: bool = False
    retired: bool = False


def replay(entries: Iterable[Mapping[str, Any]], state: State) -> State:
    """Add what was written to what is known."""
    deleted = set()
    for entry in entries:
        old, new = entry["old"], entry["new"]
        pair = entry["tab"].removesuffix("_v2")
        row = (pair, (new or old)["birth"])
        known = state.setdefault(row, Known())
        if entry["source"] == "engine" or entry["archived"]:
            # What another session wrote of the counterpart before the delete reached that, in a
            # column that is not mirrored, came before the delete.
            known.alive &= new is not None or (entry["transaction"], row) not in deleted
            continue
        if new is None:
            deleted.add((entry["transaction"], row))
        known.alive = new is not None
        moved = old is None or (new is not None and old["id"] != new["id"])
        known.inherits |= moved and not entry["mirrored"]
        if new is not None:
            for name in _LOGS:
                before = Counter((old or {}).get(name, ())) if old else Counter()
                known.logs[name] += Counter(new.get(name, ())) - before
            if old is None or old["title"] != new["title"]:
                known.title = new["title"]
    return state


def judge(kind: str, state: State, found: Mapping[str, Any], terms: Terms) -> list[Problem]:
    """Return everything that is wrong with the rows."""
    problems: list[Problem] = []
    open_keys = {(f["pair"], str(next(iter(f["key"].values())))) for f in found["failures"]}
    numbers = {row["id"]: row.get("legacy_id", row["id"]) for row in found["threads_v2"]}
    for pair in PAIRS:
        v1 = _by_birth(pair, found[pair], problems if not terms.archived else [])
        v2 = _by_birth(f"{pair}_v2", found[f"{pair}_v2"], problems)
        births = {birth for name, birth in state if name == pair} | v1.keys() | v2.keys()
        for birth in sorted(births):
            known = state.get((pair, birth), Known())
            r1, r2 = v1.get(birth), v2.get(birth)
            beyond = r2 is not None and _number(kind, pair, r2) > BEYOND
            r2 = r2 if terms.mirrored or beyond else None  # else only V1 counts
            keys = {str(row.get("uid", row["id"])) for row in (r1, r2) if row}
            if any((pair, key) in open_keys for key in keys):
                continue
            wrong = _row(known, r1, r2, beyond, terms)
            if not wrong and r1 and r2 and (terms.retired or not terms.archived):
                wrong = _compare(pair, r1, r2, numbers)
            if wrong:
                name = wrong[0] if known.alive else "silent difference"
                problems.append(Problem(name, f"{pair} {birth}: {wrong[1]}: v1={r1} v2={r2}"))
    return problems


def _number(kind: str, pair: str, row: Image) -> int:
    if kind == "carried":
        return 0
    return int(row["id" if pair == "threads" else "thread_id"])


def _by_birth(name: str, rows: Sequence[Image], problems: list[Problem]) -> dict[str, Image]:
    births = Counter(row["birth"] for row in rows)
    problems += [
        Problem("other problem", f"{birth} stands {count} times in {name}", f"twice in {name}")
        for birth, count in births.items()
        if count > 1
    ]
    return {row["birth"]: row for row in rows}


def _row(
    known: Known, r1: Image | None, r2: Image | None, beyond: bool, terms: Terms
) -> tuple[str, str] | None:
    seen_1 = r1 is not None and (terms.retired or not terms.archived)
    if not known.alive:
        return ("silent difference", "was deleted") if seen_1 or r2 is not None else None
    if r1 is None and r2 is None:
        return ("lost row", "is in neither table")
    if r2 is None and (terms.copied or terms.archived):
        return ("silent difference", "V2 lacks it")
    if not terms.archived or terms.retired:
        if r1 is None and not beyond:
            return ("silent difference", "V1 lacks it")
        if r1 is not None and beyond:
            return ("silent difference", "V1 has what it cannot have")
    for side, row in ((1, r1 if seen_1 else None), (2, r2)):
        for name in _LOGS[: 1 + side] if row is not None else ():
            assert row is not None
            if name == "log_x" and known.inherits:
                continue
            if Counter(row[name]) != known.logs[name]:
                wanted = sorted(known.logs[name].elements())
                return ("lost edit", f"side {side}: {name} is not {wanted}")
        if row is not None and row["title"] != known.title:
            return ("lost edit", f"side {side}: the title is not {known.title}")
    return None


def _compare(pair: str, r1: Image, r2: Image, numbers: Mapping[Any, Any]) -> tuple[str, str] | None:
    a = {name: r1[name] for name in ("title", "log1", "log2")}
    b = {name: r2[name] for name in a}
    a["key"], b["key"] = r1.get("uid", r1["id"]), r2["id"]
    if pair == "threads":
        a["number"], b["number"] = r1["id"], numbers.get(r2["id"])
    else:
        a["parent"], b["parent"] = r1["thread_id"], numbers.get(r2["thread_id"])
    different = {name: (a[name], b[name]) for name in a if a[name] != b[name]}
    return ("silent difference", f"{different}") if different else None
