"""Results as text. Pure."""

from __future__ import annotations

import collections
from collections.abc import Iterable

from .judge import KINDS, Problem
from .plans import Plan
from .shrink import Found
from .works import WORKS
from .worlds import create_sql

_SHOWN = (
    "rounds", "statements", "commits", "rollbacks", "deadlocks", "serialization failures",
    "lock timeouts", "kills", "restarts", "restores", "lost connections", "failures recorded",
    "repaired", "backfill batches", "verify batches", "engine deadlocks", "engine conflicts",
    "engine timeouts",
)  # fmt: skip
_MANY_ROUNDS = 60
_NAMES = {
    "lost row": "lost rows", "lost edit": "lost edits", "foreign row": "foreign rows",
    "silent difference": "silent differences", "other problem": "other problems",
}  # fmt: skip


def summary(counts: collections.Counter[str], problems: Iterable[Problem]) -> str:
    """Return the counts, one a line, what is wrong at the end."""
    names = [*_SHOWN, *sorted(name for name in counts if name not in _SHOWN)]
    kinds = collections.Counter(problem.kind for problem in problems)
    lines = [f"{name:24} {counts[name]}" for name in names]
    return "\n".join([*lines, *(f"{_NAMES[kind]:24} {kinds[kind]}" for kind in KINDS)])


def never_done(counts: collections.Counter[str]) -> list[str]:
    """Return the works of the engine that many rounds should have seen done and have not."""
    few = counts["rounds"] < _MANY_ROUNDS
    return [] if few else [work for work in WORKS if not counts[f"done {work}"]]


def explain(found: Found, seed: int) -> str:
    """Return what went wrong in a round."""
    lines = [f"FAILED: --seed {seed} --rounds 1", str(found.world)]
    return "\n".join([*lines, *(f"{p.kind}: {p.text}" for p in found.outcome.problems[:8])])


def script(found: Found, seed: int) -> str:
    """Return the round as a script for psql, in a database that has the migrations."""
    wrong = found.outcome.problems[0]
    return "\n".join((
        f"-- Seed {seed}. {found.world}",
        f"-- {wrong.kind}: {wrong.text}".replace("\n", "\n-- "),
        create_sql(found.world),
        *found.outcome.log,
        "table public.notes; table public.cards;",
        "select key, operation, error_code, message from crossfade.mirror_failures",
        "where resolved_at is null;",
    ))  # fmt: skip


def size(items: Iterable[Plan]) -> str:
    """Return how long a script is."""
    plans = list(items)
    return f"{len(plans)} items, {sum(len(plan.steps) for plan in plans)} steps"
