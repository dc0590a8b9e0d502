"""What the tests of the control part share: a bare pair, one value, one refusal."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

Connection = psycopg.Connection[tuple[Any, ...]]
VECTORS = Path(__file__).parents[1] / "vectors"

PAIR = """
create table public.{0}_v1 (id bigint primary key, body text not null);
create table public.{0}_v2 (id bigint primary key, body jsonb not null);
create function public.{0}_to_v2(new_v1 public.{0}_v1, old_v2 public.{0}_v2)
returns setof public.{0}_v2 language sql stable as $$ select new_v1.id, to_jsonb(new_v1.body) $$;
create function public.{0}_to_v1(new_v2 public.{0}_v2, old_v1 public.{0}_v1)
returns setof public.{0}_v1 language sql stable as $$ select new_v2.id, new_v2.body #>> '{{}}' $$;
grant all on public.{0}_v1, public.{0}_v2 to service_role;
"""


def force(db: Connection, query: str, *args: Any) -> None:
    """Write control rows past the guards against hand edits, to arrange a test."""
    with db.transaction():
        db.execute("select set_config('crossfade.engine', 'on', true)")
        db.execute(query.encode(), args or None)
        db.execute("select set_config('crossfade.engine', '', true)")


def one(db: Connection, query: str, *args: Any) -> Any:
    """Return the first column of the only row. An error leaves the transaction around it usable."""
    with db.transaction():
        row = db.execute(query, args or None).fetchone()
    assert row is not None
    return row[0]


def rows_of(db: Connection, query: str) -> list[Any]:
    """Return the first column of every row."""
    return [row[0] for row in db.execute(query.encode()).fetchall()]


def call(db: Connection, function: str, *args: Any, **named: Any) -> Any:
    """Call an RPC of schema crossfade; dicts and lists travel as jsonb."""

    def value(arg: Any) -> Any:
        return json.dumps(arg) if isinstance(arg, (dict, list)) else arg

    places = ["%s"] * len(args) + [f"{name} => %s" for name in named]
    values = [value(arg) for arg in (*args, *named.values())]
    query = f"select crossfade.{function}({', '.join(places)})"
    return one(db, query, *values)


@contextmanager
def unmirrored(db: Connection) -> Iterator[None]:
    """Write one table of a pair only, as the restore of a dump does: no trigger of ours fires."""
    with db.transaction():
        db.execute("set local session_replication_role = replica")
        yield
        db.execute("set local session_replication_role = origin")


def backfill(db: Connection, pair: str, direction: str = "v1_to_v2") -> None:
    """Run a backfill to its end; the first one opens V2 to API roles."""
    run = call(db, "start_backfill", pair, direction)["run"]["id"]
    for _ in range(1000):
        answer = call(db, "backfill_batch", run)
        if answer["state"] == "finished":
            return
    pytest.fail(f"the backfill does not end: {answer}")


def open_v2(db: Connection, pair: str) -> None:
    """Open V2 to API roles where the test is one transaction, for which a backfill would wait.

    Its tables are empty or mirrored since they were: nothing is left to copy.
    """
    db.execute("update crossfade_private.mirror_state set opened = true where pair = %s", [pair])


def create_pair(
    db: Connection,
    name: str = "orders",
    *,
    stage: str = "off",
    percentage: float = 0,
    opened: bool = False,
    **options: Any,
) -> str:
    """Register a pair of two empty tables and put it where the test needs it.

    opened: with a backfill, after which API roles may write V2.
    """
    db.execute(PAIR.format(name))
    tables = [f"public.{name}_{part}" for part in ("v1", "v2", "to_v2", "to_v1")]
    call(db, "register_pair", name, *tables, options=options)
    # Straight to the stage: how a pair gets there is what the tests of stages prove.
    if stage != "off":
        call(db, "set_stage", name, "dualwrite", "test")
        force(db, "update crossfade.pairs set stage = %s where name = %s", stage, name)
    if opened:
        backfill(db, name)
    if percentage:
        call(db, "set_cohort", name, {"percentage": percentage}, "test")
    return name


def ready_for_live(db: Connection, name: str) -> None:
    """Write down what set_stage asks for before live and rampdown, as if it had been done."""
    db.execute(
        """
        update crossfade.pairs set last_backfill_at = clock_timestamp() - interval '2 minutes',
          last_clean_verify_at = clock_timestamp() - interval '1 minute',
          verified_converter_hash = crossfade_private.converter_hash(to_v2, to_v1)
        where name = %s
        """,
        [name],
    )
    call(db, "set_setting", "shadow_min_reads", "0", "test")


@dataclass
class Refusal:
    """The error of a refused call: our code, the HTTP status, the values that matter."""

    code: str = ""
    status: str = ""
    message: str = ""
    detail: dict[str, Any] = field(default_factory=dict)


@contextmanager
def refused(code: str, status: int) -> Iterator[Refusal]:
    """Expect that the block is refused with our code and HTTP status."""
    refusal = Refusal()
    with pytest.raises(psycopg.Error) as caught:
        yield refusal
    error = caught.value
    assert error.sqlstate == f"PT{status}", error
    refusal.detail = json.loads(error.diag.message_detail or "{}")
    refusal.code = refusal.detail["code"]
    refusal.message = error.diag.message_primary or ""
    assert refusal.code == code, error


def cases(topic: str) -> list[Any]:
    """Vectors of one topic as pytest parameters, without those of other languages."""
    document = json.loads((VECTORS / f"{topic}.json").read_text(encoding="utf-8"))
    return [
        pytest.param(case, document, id=case["name"])
        for case in document["cases"]
        if "sql" in case.get("applies_to", ["sql"])
    ]


@contextmanager
def in_background(work: Callable[[], Any]) -> Iterator[list[Any]]:
    """Run work in a thread; its result is in the list after the block."""
    result: list[Any] = []
    thread = threading.Thread(target=lambda: result.append(work()))
    thread.start()
    yield result
    thread.join(timeout=20)
    assert not thread.is_alive()


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something is so that other threads bring about."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


def together(work: list[Callable[[], None]]) -> None:
    """Run in threads; what one of them raises is raised."""
    failed: list[BaseException] = []

    def run(one: Callable[[], None]) -> None:
        try:
            one()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    if failed:
        raise failed[0]


ADMIN = """
create or replace function public.held_ms() returns numeric language sql volatile
security definer as $$
  -- The time in which the machine ran others is not this session's: it counts what a free one took.
  select extract(epoch from clock_timestamp()) * 1000
    - split_part(pg_read_file('/proc/self/schedstat'), ' ', 2)::numeric / 1000000
$$
"""
TIMED = """
alter function crossfade_private.await_turn(text[]) rename to await_turn_itself;
create function crossfade_private.await_turn(statements text[]) returns void language plpgsql as $$
begin
  perform crossfade_private.await_turn_itself(statements);
  perform set_config('test.locked_at', public.held_ms()::text, true);
end $$
"""


def longest_wait_ms(db: Connection, statement: str) -> tuple[float, float]:
    """How long others can wait for a swap: for an attempt that gives way, and for the swap itself.

    The second from the locks on, the best of five, each undone.
    """
    with psycopg.connect(
        make_conninfo(db.info.dsn, user="supabase_admin"), autocommit=True
    ) as admin:
        admin.execute(ADMIN)
    attempt = one(
        db,
        "select substring(c from '^lock_timeout=(.*)ms$')::float from pg_proc, unnest(proconfig) c "
        "where proname = 'await_turn' and c like 'lock_timeout=%'",
    )
    held = []
    for _ in range(5):
        with db.transaction(force_rollback=True):
            db.execute(TIMED)
            db.execute(statement.encode(), prepare=False)
            since = "select public.held_ms() - current_setting('test.locked_at')::numeric"
            held.append(one(db, since))
    return float(attempt), float(min(held))


def wait_for_waiters(db: Connection, number: int) -> None:
    """Wait until so many sessions of this database wait for a lock."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        waiting = one(
            db,
            "select count(*) from pg_stat_activity"
            " where wait_event_type = 'Lock' and datname = current_database()",
        )
        if waiting >= number:
            return
        time.sleep(0.01)
    pytest.fail(f"never {number} sessions waiting")


def wait_until_gone(db: Connection, pid: int) -> None:
    """Wait until the server process of a closed connection has ended, and with it its locks."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not one(db, f"select count(*) from pg_stat_activity where pid = {pid}"):
            return
        time.sleep(0.01)
    pytest.fail(f"process {pid} is still there")
