"""Compare both tables with the model. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .journal import Expected
from .rows import Key, Row, RowV1, RowV2, to_v1


@dataclass
class Verdict:
    """What is wrong: keys with a reason.

    Attributes:
        lost: a committed write is not there.
        wrong: a row is there that should not be, or holds something else.
        exact: keys of which every column of both tables was compared.
    """

    lost: dict[Key, str] = field(default_factory=dict)
    wrong: dict[Key, str] = field(default_factory=dict)
    exact: int = 0


def judge(
    expected: Mapping[Key, Expected],
    v1: Mapping[Key, Row],
    v2: Mapping[Key, Row],
    failed: set[Key],
) -> Verdict:
    """Compare the tables with what must be in them.

    Args:
        expected: the model, see ``expect``.
        v1: all rows of V1.
        v2: all rows of V2.
        failed: keys that ever had a mirror failure: V2-only data of theirs may be older.
    """
    verdict = Verdict()
    for key in expected.keys() | v1.keys() | v2.keys():
        _judge_key(verdict, key, expected.get(key, Expected()), (v1.get(key), v2.get(key), failed))
    return verdict


def _judge_key(
    verdict: Verdict, key: Key, known: Expected, found: tuple[Row | None, Row | None, set[Key]]
) -> None:
    v1, v2, failed = found
    if known.unsure and v1 is None and v2 is None:
        return
    if known.v1 is None:
        if v1 is not None or v2 is not None:
            verdict.wrong[key] = f"deleted, but v1={v1} v2={v2}; last {known.last}"
        return
    if v1 is None or v2 is None:
        verdict.lost[key] = f"expected {known.last}, found v1={v1} v2={v2}"
        return
    # Two commits of one microsecond: either may be the last one.
    if any(rival.row in (v1, v2) for rival in known.rivals):
        return
    if known.vague or known.lineage & failed:
        problem = _last_write_problem(known, v1, v2)
    else:
        verdict.exact += 1
        problem = "" if (v1, v2) == (known.v1, known.v2) else "every column counts"
    if problem:
        wanted = known.v1.token
        stale = isinstance(v1, RowV1) and v1.token != wanted
        (verdict.lost if stale else verdict.wrong)[key] = (
            f"{problem}: expected v1={known.v1} v2={known.v2}, found v1={v1} v2={v2}; "
            f"last {known.last}"
        )


def _last_write_problem(known: Expected, v1: Row, v2: Row) -> str:
    assert known.last is not None
    if isinstance(known.last.row, RowV1) and v1 != known.last.row:
        return "last write of V1"
    if isinstance(known.last.row, RowV2) and v2 != known.last.row:
        return "last write of V2"
    if isinstance(v2, RowV2) and to_v1(v2) != v1:
        return "the tables disagree"
    return ""
