"""The pair that the benches measure: its tables, converters of three kinds, stages and runs."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

from .measure import Connection

FOLDER = Path(__file__).parent
PAIR = "entries"
V1, V2 = "public.entries", "public.entries_v2"
HAND_V1, HAND_V2 = "public.by_hand", "public.by_hand_v2"
ONE_TABLE = "public.one_table"

# How converters are written decides how fast they are; what is promised is promised for a list.
KINDS = {
    "list": "",
    "opaque": ", converters with a FROM",
    "called": ", converters in PL/pgSQL",
}

# A part of the sizes is enough to see that a bench runs. Figures are those of the whole sizes.
SCALE = float(os.environ.get("BENCH_SCALE", "1"))


def scaled(size: int) -> int:
    """Return how many rows, rounds or statements stand for so many."""
    return max(3, int(size * SCALE))


BULK_ROWS = scaled(40_000)
REFUSED_OF = CASCADE_ROWS = scaled(20_000)
HISTORY_ROWS = scaled(250_000)


def promised(kind: str, limit: str) -> str:
    """Return the limit of a row, which only the first kind of converters has."""
    return limit if kind == "list" else ""


def create(db: Connection, kind: str) -> None:
    """Create the tables, the pair with converters of this kind, and the other hands' converters.

    The others are the same without the clause that keeps PostgreSQL from inlining them: the engine
    puts their text into its statements and nobody else can, so that would be unfair.
    """
    db.execute((FOLDER / "pair.sql").read_bytes())
    db.execute((FOLDER / f"converters_{kind}.sql").read_bytes())
    for name in ("to_v2", "to_v1"):
        db.execute(
            f"""
            do $$ begin execute replace(
              pg_get_functiondef('public.{kind}_{name}'::regproc), '{kind}_{name}', 'free_{name}');
            end $$;
            alter function public.free_{name} reset search_path;
            """.encode()
        )
    db.execute(
        "select crossfade.register_pair(%s, %s, %s, %s, %s)",
        [PAIR, V1, V2, f"public.{kind}_to_v2", f"public.{kind}_to_v1"],
    )


def mirror(db: Connection, stage: str) -> None:
    """Move the pair to a stage; off stops the mirror."""
    db.execute("select crossfade.set_stage(%s, %s, 'bench')", [PAIR, stage])


def rows_v1(
    table: str, rows: int, *, person: str = "1 + n % 1000", body: str = "'note ' || n"
) -> str:
    """Return the statement that inserts rows of version 1; n is a row's number."""
    return f"""
        insert into {table} (id, person_id, body, created_at)
        select n, {person}, {body}, timestamptz '2026-01-01 00:00+00' + n * interval '1 second'
        from generate_series(1, {rows}) n"""


def rows_v2(table: str, rows: int, *, person: str = "1 + n % 1000") -> str:
    """Return the statement that inserts the same rows in version 2."""
    return f"""
        insert into {table} (id, person_id, parts, created_at)
        select n, {person}, jsonb_build_array('note ' || n),
          timestamptz '2026-01-01 00:00+00' + n * interval '1 second'
        from generate_series(1, {rows}) n"""


def empty(db: Connection) -> None:
    """Empty all tables, with nothing left to write for the round before."""
    db.execute(f"truncate {V1}, {V2}, {HAND_V1}, {HAND_V2}, {ONE_TABLE}".encode())
    db.execute("delete from crossfade.mirror_failures")
    db.execute("checkpoint")


def refuse_empty_bodies(db: Connection) -> None:
    """Let V2 refuse what V1 allows; the table by hand has the same constraint to check."""
    for table in (V2, HAND_V2):
        db.execute(f"alter table {table} add check (parts ->> 0 <> '')".encode())


def failures(db: Connection) -> int:
    """Return how many rows the mirror left out."""
    (found,) = db.execute("select count(*) from crossfade.mirror_failures").fetchone() or (0,)
    return int(found)


def calls(db: Connection, statement: str) -> set[str]:
    """Run a statement, undo it and return which of the engine's functions it called.

    A mirror has a fast path and slow ones with the same result. Only this tells them apart. Not
    while it is measured: counting is not free.
    """
    for _ in range(2):  # the first time in a session also plans
        with db.transaction(force_rollback=True):
            db.execute("set local track_functions = 'all'")
            before = _counted(db)
            db.execute(statement.encode())
            found = _counted(db) - before
    # The fence on V2 looks at every statement.
    return {name.removeprefix(f"mirror_{PAIR}_") for name in found} - {"refuse_fenced_write"}


def _counted(db: Connection) -> Counter[str]:
    query = (
        "select funcname, calls from pg_stat_xact_user_functions"
        " where schemaname = 'crossfade_private' and calls > 0"
    )
    return Counter(dict(db.execute(query).fetchall()))


def start(db: Connection, function: str) -> int:
    """Start a run; return its id."""
    answer: Any = db.execute(f"select crossfade.{function}(%s)".encode(), [PAIR]).fetchone()
    return int(answer[0]["run"]["id"])


def drain(db: Connection, step: str, run: int) -> None:
    """Call a batch function until its run has finished with all rows."""
    while True:
        answer: Any = db.execute(f"select crossfade.{step}(%s)".encode(), [run]).fetchone()
        if answer[0]["state"] == "finished":
            assert answer[0]["run"]["rows_done"] == HISTORY_ROWS, answer[0]
            return
        assert answer[0]["state"] == "running", answer[0]


def touch_all(db: Connection, *, batch_rows: int = 1000) -> None:
    """Convert every waiting row by touching it, one transaction a batch, in key order."""
    after = 0
    query = f"""
        with batch as (
          select id from {ONE_TABLE} where waits and id > %s order by id limit {batch_rows}
          for no key update
        ), touched as (
          update {ONE_TABLE} t set id = t.id from batch where t.id = batch.id returning t.id
        )
        select max(id) from touched"""
    while True:
        (last,) = db.execute(query.encode(), [after]).fetchone() or (None,)
        if last is None:
            return
        after = int(last)
