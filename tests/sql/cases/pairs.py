"""Pairs of any shape for these cases, the way through the stages, and what must hold at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import psycopg
import pytest

from tests.sql.control import Connection, call
from tests.sql.notes_pair import rows
from tests.sql.things_pair import failures, verify

STAGES = ["dualwrite", "shadow", "live", "rampdown", "complete", "retired"]


def only_since(db: Connection, version: int, what: str) -> None:
    """End the test where PostgreSQL cannot do what it is about."""
    if db.info.server_version < version * 10_000:
        pytest.skip(f"{what} came with PostgreSQL {version}")


@dataclass(frozen=True)
class Shape:
    """Two tables and two converters; a and b are the rows to convert, o is the counterpart."""

    v1: str = "id bigint primary key, body text"
    v2: str = "id bigint primary key, body text, pinned boolean"
    to_v2: str = "a.id, a.body, o.pinned"
    to_v1: str = "b.id, b.body"
    before: str = ""
    """Types, parents and functions that the tables need."""
    after: str = ""
    """The owner's triggers and constraints, made before the pair is registered."""

    def but(self, **changes: str) -> Shape:
        return replace(self, **changes)


PLAIN = Shape()
"""V2 knows one thing more than V1."""
TWO_SIDED = Shape(
    v1="id bigint primary key, body text, draft text",
    to_v1="b.id, b.body, o.draft",
    to_v2="a.id, a.body, o.pinned",
)
"""Each table knows one thing that the other does not."""


def like(columns: str, **more: str) -> Shape:
    """Two tables of the same columns, copied as they are."""
    return Shape(v1=columns, v2=columns, to_v2="a.*", to_v1="b.*", **more)


def create(db: Connection, shape: Shape, name: str = "things") -> None:
    """Make the tables NAME and NAME_v2 and their converters, as a migration would."""
    db.execute(f"""
        {shape.before};
        create table public.{name} ({shape.v1});
        create table public.{name}_v2 ({shape.v2});
        create function public.{name}_to_v2(a public.{name}, o public.{name}_v2)
        returns setof public.{name}_v2 language sql stable parallel safe set search_path = ''
        begin atomic select {shape.to_v2}; end;
        create function public.{name}_to_v1(b public.{name}_v2, o public.{name})
        returns setof public.{name} language sql stable parallel safe set search_path = ''
        begin atomic select {shape.to_v1}; end;
        grant all on public.{name}, public.{name}_v2 to authenticated, service_role;
        {shape.after}
    """)


def register(db: Connection, name: str = "things", **options: Any) -> dict[str, Any]:
    """Register the pair; return the whole answer."""
    names = [f"public.{name}{part}" for part in ("", "_v2", "_to_v2", "_to_v1")]
    answer: dict[str, Any] = call(db, "register_pair", name, *names, options=options)
    return answer


def objection(db: Connection, name: str = "things", **options: Any) -> str:
    """Register the pair; give what is said against it, empty when nothing is."""
    try:
        with db.transaction():
            register(db, name, **options)
    except psycopg.Error as error:
        return f"{error} {error.diag.message_detail} {error.diag.message_hint}"
    return ""


def problems(db: Connection, shape: Shape, name: str = "things") -> str:
    """Give what registration says against the pair, all sentences together."""
    create(db, shape, name)
    with pytest.raises(psycopg.Error) as caught:
        register(db, name)
    assert caught.value.sqlstate == "PT400", caught.value
    assert '"CF008"' in (caught.value.diag.message_detail or "")
    return caught.value.diag.message_detail or ""


def warnings(db: Connection, name: str = "things", **options: Any) -> str:
    """Register the pair and give its warnings, all together."""
    return "\n".join(str(warning) for warning in register(db, name, **options)["warnings"])


def dualwrite(db: Connection, shape: Shape = PLAIN, name: str = "things", **options: Any) -> None:
    """Make, register and switch on; the backfill is done, so V2 is open to everybody."""
    create(db, shape, name)
    register(db, name, **options)
    to_stage(db, "dualwrite", name)
    backfill(db, name)


def backfill(db: Connection, name: str = "things", direction: str = "v1_to_v2") -> dict[str, Any]:
    """Run a whole backfill; return its run."""
    run = call(db, "start_backfill", name, direction)["run"]["id"]
    for _ in range(200):
        answer: dict[str, Any] = call(db, "backfill_batch", run)
        if answer["state"] == "finished":
            found: dict[str, Any] = answer["run"]
            return found
    raise AssertionError(answer)


def blockers(db: Connection, stage: str, name: str = "things") -> dict[str, str]:
    """Give what stands before a stage: code and message."""
    found = rows(
        db,
        "select b ->> 'code', string_agg(b ->> 'message', '; ') from crossfade.pairs p, "
        f"crossfade_private.stage_blockers(p, '{stage}') b where p.name = '{name}' group by 1",
    )
    return dict(found)


def grant(db: Connection, name: str = "things") -> None:
    """Give the callers of V1 the rights on V2 that the blocker of stage retired names."""
    for (commands,) in rows(
        db,
        "select b ->> 'hint' from crossfade.pairs p, crossfade_private.stage_blockers(p, 'retired')"
        f" b where b ->> 'code' = 'rights' and p.name = '{name}'",
    ):
        db.execute(commands.encode())


def to_stage(db: Connection, stage: str, name: str = "things") -> None:
    """Walk from where the pair is to a stage by its own rules; only the waiting is left out."""
    for setting in ("shadow_min_reads", "stage_bake_s"):
        call(db, "set_setting", setting, "0", "test")
    ((now,),) = rows(db, f"select stage from crossfade.pairs where name = '{name}'")
    since = STAGES.index(now) + 1 if now in STAGES else 0
    for step in STAGES[since : STAGES.index(stage) + 1]:
        if step == "shadow":
            backfill(db, name)
        if step == "live":
            verify(db, name)
        if step == "rampdown":
            call(db, "set_cohort", name, {"percentage": 100}, "test")
        if step == "retired":
            grant(db, name)
        call(db, "set_stage", name, step, "test", True)


def group_to_stage(db: Connection, stage: str, *names: str) -> None:
    """As to_stage, for pairs of one group; parents first."""
    for setting in ("shadow_min_reads", "stage_bake_s"):
        call(db, "set_setting", setting, "0", "test")
    for step in STAGES[: STAGES.index(stage) + 1]:
        for name in names:
            if step == "shadow":
                backfill(db, name)
            if step == "live":
                verify(db, name)
            if step == "rampdown":
                call(db, "set_cohort", name, {"percentage": 100}, "test")
        call(db, "set_group_stage", names[0], step, "test", True)


def mirror(db: Connection, mode: str, name: str = "things") -> None:
    call(db, "set_mirror", name, mode, "test")


def repair(db: Connection, name: str = "things", **options: Any) -> dict[str, Any]:
    answer: dict[str, Any] = call(db, "repair", name, reason="test", **options)
    return answer


@contextmanager
def unseen(db: Connection) -> Iterator[None]:
    """Write as if no trigger had been there, as a restore or a careless owner does."""
    states = rows(
        db,
        "select format('alter table %s enable %s trigger %I', tgrelid::regclass, case tgenabled "
        "when 'A' then 'always' else '' end, tgname) from pg_trigger where not tgisinternal "
        "and tgenabled <> 'D' and tgrelid in ('public.things'::regclass, "
        "'public.things_v2'::regclass)",
    )
    for table in ("things", "things_v2"):
        db.execute(f"alter table public.{table} disable trigger user")
    yield
    for (statement,) in states:
        db.execute(statement)


def both(db: Connection, v1: str = "id, body", v2: str | None = None) -> list[tuple[Any, ...]]:
    """Both tables hold the same, told by plain SQL; give it."""
    left = rows(db, f"select {v1} from public.things order by 1, 2")
    right = rows(db, f"select {v2 or v1} from public.things_v2 order by 1, 2")
    assert left == right, (left[:9], right[:9], failures(db)[:3])
    return left


def agreed(db: Connection, v1: str = "id, body", v2: str | None = None) -> list[tuple[Any, ...]]:
    """As both, and no failure is open: after each of many statements, and settled at their end."""
    found = both(db, v1, v2)
    assert failures(db) == []
    return found


def settled(db: Connection, v1: str = "id, body", v2: str | None = None) -> list[tuple[Any, ...]]:
    """As agreed, and a verification of the engine finds nothing either."""
    found = agreed(db, v1, v2)
    assert verify(db, "things") == 0
    return found
