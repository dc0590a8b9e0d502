"""Random transactions: which statements, on which keys, in which order, and how they end. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from . import statements
from .rows import Key
from .shape import Shape
from .statements import Statement
from .writer import Writer

SHARED_SPACE = 0
SHARED_KEYS = tuple((SHARED_SPACE, number) for number in range(1, 13))
ISOLATION = ("read committed", "repeatable read", "serializable")
_MANY = 20  # more rows than the engine mirrors one by one


@dataclass(frozen=True)
class Step:
    """A statement, or ``savepoint s1``, ``rollback to s1``, ``release s1``, or a pause."""

    statement: Statement | None = None
    command: str = ""


@dataclass(frozen=True)
class Plan:
    """A transaction to be. ``lock_timeout_ms`` 0 means to wait for ever."""

    isolation: str
    steps: tuple[Step, ...]
    commit: bool
    lock_timeout_ms: int = 0


@dataclass
class Known:
    """What a session knows of the key space that only it writes."""

    space: int
    present: set[Key] = field(default_factory=set)
    absent: set[Key] = field(default_factory=set)
    last_number: int = 0

    def fresh(self, count: int) -> list[Key]:
        """Return keys that were never used."""
        numbers = range(self.last_number + 1, self.last_number + count + 1)
        self.last_number += count
        return [(self.space, number) for number in numbers]


@dataclass(frozen=True)
class Habits:
    """How a session behaves, as the driver sets it for a round or a phase.

    Attributes:
        owner: None writes as the table owner, else as this API user under RLS.
        sides: sides the session may write.
        calm: only its own keys, nothing that V2 refuses, no TRUNCATE: so that a stage may advance.
        truncate: share of transactions with a TRUNCATE.
    """

    owner: str | None
    sides: tuple[int, ...] = (1, 2)
    calm: bool = False
    truncate: float = 0.01


def make_plan(rng: random.Random, shape: Shape, known: Known, habits: Habits) -> Plan:
    """Return a random transaction of one to six statements."""
    mind = copy_known(known)
    steps: list[Step] = []
    for number in range(rng.choice((1, 1, 2, 3, 4, 6))):
        writer = Writer(shape, rng.choice(habits.sides), habits.owner, rng, not habits.calm)
        if rng.random() < 0.75:
            steps.append(Step(_statement(writer, mind, habits)))
            continue
        undone = rng.random() < 0.5
        inner = copy_known(mind)
        steps += [Step(command=f"savepoint s{number}"), Step(_statement(writer, inner, habits))]
        steps.append(Step(command=f"rollback to s{number}" if undone else f"release s{number}"))
        mind = replace(mind if undone else inner, last_number=inner.last_number)
    known.last_number = mind.last_number
    isolation = rng.choices(ISOLATION, (6, 3, 2))[0]
    if isolation != ISOLATION[0] and rng.random() < 0.4:
        # Takes the snapshot, and lets it grow old.
        steps.insert(0, Step(command=f"select pg_sleep({rng.choice((0.01, 0.03, 0.1))})"))
    return Plan(
        isolation,
        tuple(steps),
        rng.random() < 0.9,
        rng.choice((0, 0, 0, 0, 0, 30)),
    )


def copy_known(known: Known) -> Known:
    """Return a copy to plan with: later statements of a plan see what earlier ones will do.

    But a key that the plan deletes does not become absent: V2 may lack a row that V1 still holds.
    """
    return Known(known.space, set(known.present), set(known.absent), known.last_number)


def _statement(writer: Writer, known: Known, habits: Habits) -> Statement:
    rng = writer.rng
    if not habits.calm and habits.owner is None and rng.random() < habits.truncate:
        return statements.truncate(writer)
    if habits.calm or rng.random() < 0.6:
        return _private(writer, known)
    return _shared(writer, known)


def _pick(rng: random.Random, keys: Sequence[Key] | set[Key], most: int) -> list[Key]:
    pool = sorted(keys)
    return rng.sample(pool, min(len(pool), rng.randint(1, most)))


def _private(writer: Writer, known: Known) -> Statement:
    rng = writer.rng
    chosen = _pick(rng, known.present, _MANY if rng.random() < 0.25 else 3)
    form = rng.choices(
        ("insert", "copy", "upsert", "update", "space", "delete", "move", "merge", "replace"),
        (5, 2, 4, 8, 1, 2, 2, 3, 1),
    )[0]
    if not chosen and form in ("update", "delete", "move", "replace", "space"):
        form = "insert"
    if form in ("insert", "copy"):
        new = known.fresh(rng.choice((1, 1, 2, 12)))
        new += _pick(rng, known.absent, 2) if known.absent and rng.random() < 0.5 else []
        known.present |= set(new)
        known.absent -= set(new)
        # PostgreSQL has no COPY FROM under row-level security.
        if form == "insert" or writer.owner is not None:
            return statements.insert(writer, new)
        return statements.copy(writer, new)
    if form == "space":
        remove = rng.random() < 0.15
        if remove:
            known.present.clear()
        return statements.whole_space(writer, known.space, remove=remove)
    if form == "delete":
        known.present -= set(chosen)
        return statements.delete(writer, chosen)
    if form == "move":
        moves = dict(zip(chosen, known.fresh(len(chosen)), strict=True))
        known.present = (known.present - moves.keys()) | set(moves.values())
        return statements.move(writer, moves)
    if form == "replace":
        new = [*known.fresh(1), *chosen[:1]]
        known.present = (known.present - set(chosen)) | set(new)
        return statements.replace(writer, chosen, new)
    return _tolerant(writer, form, chosen + known.fresh(rng.choice((0, 1, 2))) or known.fresh(1))


def _tolerant(writer: Writer, form: str, keys: list[Key]) -> Statement:
    """Return a statement that does not mind whether the rows are there."""
    writer.rng.shuffle(keys)
    if form == "merge":
        return statements.merge(writer, keys)
    if form == "update":
        return statements.update(writer, keys)
    return statements.insert(writer, keys, writer.rng.choice(("nothing", "update", "update")))


def _shared(writer: Writer, known: Known) -> Statement:
    rng = writer.rng
    keys = _pick(rng, SHARED_KEYS, 12 if rng.random() < 0.2 else 2)
    rng.shuffle(keys)
    forms: dict[str, tuple[int, Callable[[], Statement]]] = {
        "update": (8, lambda: statements.update(writer, keys)),
        "delete": (2, lambda: statements.delete(writer, keys[:3])),
        "insert": (1, lambda: statements.insert(writer, keys[:1])),
        "upsert": (5, lambda: _tolerant(writer, "upsert", keys)),
        # Without deleting: nobody could tell which rows it was that a MERGE deleted.
        "merge": (2, lambda: statements.merge(writer, keys, remove=0)),
        "move": (1, lambda: _shared_move(writer, keys)),
        "move out": (1, lambda: _own_move(writer, known, keys)),
        "space": (1, lambda: statements.whole_space(writer, SHARED_SPACE, remove=False)),
    }
    names = list(forms)
    name = rng.choices(names, [forms[name][0] for name in names])[0]
    return replace(forms[name][1](), shared=True)


def _shared_move(writer: Writer, keys: list[Key]) -> Statement:
    others = [key for key in SHARED_KEYS if key not in keys]
    return statements.move(writer, {keys[0]: writer.rng.choice(others or [(SHARED_SPACE, 99)])})


def _own_move(writer: Writer, known: Known, keys: list[Key]) -> Statement:
    moves = dict(zip(keys[:2], known.fresh(len(keys[:2])), strict=True))
    return statements.move(writer, moves)
