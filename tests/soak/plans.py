"""Random transactions: which statements, on which keys, in which order, and how they end. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from . import statements, wide
from .statements import Statement
from .worlds import TENANTS, World
from .writer import Writer

KEYS = tuple(range(1, 15))  # few, so that statements meet; all sessions share them
MORE = tuple(range(15, 60))
ISOLATION = ("read committed", "repeatable read", "serializable")
_FORGED = (
    "'crossfade.mark_notes', 'engine'", "'crossfade.engine', 'on'",
    "'crossfade.echo_notes_v1', '1'", "'crossfade.echo_notes_v2', '1'",
)  # fmt: skip
_PARTITIONS = {
    "m1": (4, 8, 12), "m2": (1, 5, 9, 13), "m2a": (1, 5), "m2b": (9, 13), "m3": (2, 6, 10),
    "m5": (40, 41, 42), "rest": (3, 7, 11),
}  # fmt: skip
_MANY = 20  # more rows than the engine mirrors one by one


@dataclass(frozen=True)
class Step:
    """A statement, or a command such as ``savepoint s1`` or ``rollback to s1``."""

    statement: Statement | None = None
    command: str = ""


@dataclass(frozen=True)
class Plan:
    """A transaction to be, or a work of the engine (then only ``engine`` counts).

    Attributes:
        tenant: who runs it, see Writer.
        engine: a name of ``works.WORKS``.
        lock_timeout_ms: 0 means to wait for ever.
        killed: the session is killed when it is about to end the transaction.
    """

    tenant: str = "O"
    isolation: str = ISOLATION[0]
    steps: tuple[Step, ...] = ()
    commit: bool = True
    lock_timeout_ms: int = 0
    engine: str = ""
    killed: bool = False


@dataclass(frozen=True)
class Habits:
    """What a session may do now.

    Attributes:
        name: begins the tags of its statements.
        sides: sides it may write.
        returning: statements must tell what they did by RETURNING.
        merges: RETURNING works with MERGE too (PostgreSQL 17).
        partition: of V2, which many statements name.
    """

    name: str
    sides: tuple[int, ...] = (1, 2)
    returning: bool = False
    merges: bool = True
    partition: str = ""


def make_plan(rng: random.Random, world: World, habits: Habits, number: int) -> Plan:
    """Return a random transaction of one to five statements."""
    tenant = rng.choice("AABBSOO")
    isolation = rng.choices(ISOLATION, (6, 2, 1))[0]
    steps: list[Step] = []
    for place in range(rng.choice((1, 1, 1, 2, 3, 5))):
        tag = f"{tenant}:{habits.name}.{number}.{place}"
        writer = Writer(world, rng.choice(habits.sides), tenant, tag, rng)
        if world.parted and tenant in "OS" and rng.random() < (0.7 if habits.partition else 0.4):
            part = habits.partition or rng.choice([*_PARTITIONS])
            side = 2 if habits.partition else writer.side
            writer = replace(writer, side=side, partition=f"public.cards_{part}")
        step = Step(_statement(writer, habits))
        if rng.random() < 0.75:
            steps.append(step)
            continue
        end = "rollback to" if rng.random() < 0.5 else "release"
        steps += [Step(command=f"savepoint s{place}"), step, Step(command=f"{end} s{place}")]
    if (world.deferrable_key and rng.random() < 0.15) or rng.random() < 0.05:
        steps.insert(0, Step(command="set constraints all deferred"))
    if rng.random() < 0.06:  # any session may set what looks like the engine's own settings
        steps.insert(0, Step(command=f"select set_config({rng.choice(_FORGED)}, true)"))
    if isolation != ISOLATION[0] and rng.random() < 0.4:
        # Takes the snapshot, and lets it grow old.
        steps.insert(0, Step(command=f"select pg_sleep({rng.choice((0.005, 0.02, 0.05))})"))
    if any(step.statement and step.statement.form == "truncate" for step in steps):
        isolation = ISOLATION[0]  # an old snapshot does not show all rows that it removes
    return Plan(tenant, isolation, tuple(steps), rng.random() < 0.9, rng.choice((0, 0, 0, 40)))


def _statement(writer: Writer, habits: Habits) -> Statement:
    rng, world, owner = writer.rng, writer.world, writer.tenant == "O"
    keys = _some(rng)
    if writer.partition and rng.random() < 0.8:
        own = _PARTITIONS[writer.partition.removeprefix("public.cards_")]
        keys = rng.sample(own, rng.choice((1, 2)))
    forms: dict[str, tuple[float, Callable[[], Statement]]] = {
        "insert": (5, lambda: statements.insert(writer, _for_insert(writer, keys))),
        "update": (8, lambda: statements.update(writer, keys)),
        "update all": (1, lambda: statements.update_all(writer)),
        "delete": (2, lambda: statements.delete(writer, keys[:3])),
        "move": (2, lambda: statements.move(writer, _moves(writer, keys[:3]))),
        "places": (1.5, lambda: statements.swap_places(writer, _some(rng, 2, 4))),
        "replace": (1, lambda: wide.replace(writer, keys[:2])),
    }
    if not world.deferrable_key:  # such a key cannot be a target of ON CONFLICT
        forms["upsert"] = (5, lambda: statements.upsert(writer, keys))
    if habits.merges or not habits.returning:
        forms["merge"] = (4, lambda: statements.merge(writer, keys))
    if len(habits.sides) == 2:
        forms["same row"] = (2, lambda: wide.same_row(writer, keys[0]))
        forms["two rows"] = (2, lambda: wide.two_rows(writer, keys[:2], _others(rng, keys[:2])))
    if world.parents != "none":
        forms["parent"] = (2, lambda: wide.parent(writer))
    if {"signup", "hidden"} & set(world.triggers):
        forms["signup"] = (1.5, lambda: wide.signup(writer, rng.choice((*KEYS, *MORE))))
    if world.clips and 2 in habits.sides:
        forms["clip"] = (1, lambda: wide.clip(writer, keys))
    if owner:
        # PostgreSQL has no COPY FROM under row-level security, and API roles may not TRUNCATE.
        forms["copy"] = (2, lambda: statements.copy(writer, keys))
        forms["truncate"] = (0.25, lambda: wide.truncate(writer))
    names = list(forms)
    return forms[rng.choices(names, [forms[name][0] for name in names])[0]][1]()


def _some(rng: random.Random, least: int = 1, most: int = 3) -> list[int]:
    if least == 1 and rng.random() < 0.06:
        return rng.sample((*KEYS, *MORE), _MANY)
    return rng.sample(KEYS if rng.random() < 0.8 else (*KEYS, *MORE), rng.randint(least, most))


def _others(rng: random.Random, keys: list[int]) -> list[int]:
    return rng.sample([key for key in KEYS if key not in keys], 2)


def _for_insert(writer: Writer, keys: list[int]) -> list[int | None]:
    """Mostly keys of one's own, sometimes what the table makes."""
    world = writer.world
    made = world.identity[writer.side - 1] != "none" and not world.two_keys
    if made and writer.rng.random() < 0.3:
        return [None for _ in keys[:3]]
    if not writer.partition and writer.rng.random() < 0.5:
        return [*writer.rng.sample((*KEYS, *MORE), min(len(keys), 3))]
    return [*keys]


def _moves(writer: Writer, keys: list[int]) -> dict[int, int]:
    rng = writer.rng
    if writer.world.deferrable_key and len(keys) > 1 and rng.random() < 0.7:
        return dict(zip(keys, [*keys[1:], keys[0]], strict=True))  # they take each other's
    return dict(zip(keys, rng.sample((*KEYS, *MORE), len(keys)), strict=True))


def begin_sql(plan: Plan) -> list[str]:
    """Return what begins a transaction of the plan's tenant."""
    found = [f"begin isolation level {plan.isolation}"]
    if plan.lock_timeout_ms:
        found.append(f"set local lock_timeout = '{plan.lock_timeout_ms}ms'")
    if plan.tenant == "O":
        return found
    role = "authenticated" if plan.tenant in TENANTS else "service_role"
    user = f'"sub": "{TENANTS[plan.tenant]}", ' if plan.tenant in TENANTS else ""
    claims = f'{{{user}"role": "{role}"}}'
    found.append(f"select set_config('request.jwt.claims', '{claims}', true)")
    return [*found, f"set local role {role}"]
