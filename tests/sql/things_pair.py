"""A pair of any two tables for engine tests, and what its tests ask about failures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.sql.control import Connection, call, force
from tests.sql.notes_pair import rows

ADA = "00000000-0000-4000-8000-0000000000a1"
LONG = "x" * 30
"""A tag that a constraint of the notes pair's V2 refuses."""


@contextmanager
def acting_as(db: Connection, role: str, sub: str = ADA) -> Iterator[None]:
    db.execute(
        "select set_config('request.jwt.claims', %s, true)",
        [json.dumps({"sub": sub, "role": role})],
    )
    db.execute(f"set local role {role}")
    yield
    db.execute("reset role")


def failures(db: Connection) -> list[tuple[Any, ...]]:
    return rows(
        db,
        "select key, operation, error_code from crossfade.mirror_failures "
        "where resolved_at is null order by id",
    )


def pair_of(db: Connection, v1: str, v2: str, to_v2: str, to_v1: str, **options: Any) -> None:
    """Make and register pair things(V1) and things_v2(V2), mirrored both ways."""
    db.execute(f"""
        create table public.things ({v1});
        create table public.things_v2 ({v2});
        create function public.things_to_v2(a public.things, o public.things_v2)
        returns setof public.things_v2 language sql stable as $$ select {to_v2} $$;
        create function public.things_to_v1(b public.things_v2, o public.things)
        returns setof public.things language sql stable as $$ select {to_v1} $$;
    """)
    names = [f"public.things{part}" for part in ("", "_v2", "_to_v2", "_to_v1")]
    call(db, "register_pair", "things", *names, options=options)
    call(db, "set_stage", "things", "dualwrite", "test")


def create_ignore_case(db: Connection) -> None:
    """Make a collation by which abc and ABC are equal; for tests that are on_debian_15."""
    db.execute(
        "create collation public.ignore_case ("
        "provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
    )


def backfill(db: Connection, pair: str) -> None:
    """Run a whole backfill from V1."""
    # A test in one transaction would wait for itself: it is older than the switch to dualwrite.
    force(db, "update crossfade.pairs set stage_xid = 1, stage_server_started_at = "
          "pg_postmaster_start_time() where name = %s", pair)  # fmt: skip
    run = call(db, "start_backfill", pair)["run"]["id"]
    for _ in range(20):
        answer = call(db, "backfill_batch", run)
        if answer["state"] == "finished":
            return
    raise AssertionError(answer)


def verify(db: Connection, pair: str) -> int:
    """Run a full verify pass; return the number of mismatches."""
    run = call(db, "start_verify", pair)["run"]["id"]
    for _ in range(2000):
        answer = call(db, "verify_batch", run)
        if answer["state"] == "finished":
            return int(answer["run"]["mismatches"])
    raise AssertionError(answer)
