"""Ratios of the engine against what a careful developer would write by hand, measured side by side.

Not part of `make test`: `make bench` runs it and writes build/bench.json. Rounds of both sides
alternate, so that a slow minute of the machine hits both; medians are compared.
"""

import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from crossfade.local.postgres import PostgresServer

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 5
BULK_ROWS = 40_000
HISTORY_ROWS = int(os.environ.get("BENCH_ROWS", "250000"))
CHAT = "00000000-0000-4000-8000-000000000001"

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True)
class Row:
    """One line of the report. ``value`` is ours over the other's; ``limit`` says which way."""

    name: str
    value: float
    against: str
    limit: str
    holds: bool
    spread: str


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A server as durable as a real one, except where a row says otherwise."""
    with PostgresServer(tmp_path_factory.mktemp("bench") / "data") as server:
        server.bootstrap()
        yield server


@pytest.fixture
def db(server: PostgresServer, request: pytest.FixtureRequest) -> Iterator[Connection]:
    """A fresh database with the migrations and the chat pair, mirrored."""
    name = request.node.name
    url = server.create_database(name)
    server.bootstrap(name)
    files = sorted((ROOT / "supabase" / "migrations").glob("*.sql"))
    with psycopg.connect(url, autocommit=True) as connection:
        for file in [*files, ROOT / "sql" / "pairs" / "chat_messages.sql"]:
            connection.execute(file.read_bytes())
        connection.execute("insert into public.chats (id, user_id) values (%s, %s)", [CHAT, CHAT])
        yield connection


@pytest.fixture(scope="module")
def report() -> Iterator[list[Row]]:
    """Collect the rows; print and write them at the end, also when one does not hold."""
    rows: list[Row] = []
    yield rows
    target = ROOT / "build" / "bench.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    for row in rows:
        verdict = "holds" if row.holds else "DOES NOT HOLD"
        print(f"\n{row.name}: {row.value:.2f} ({row.limit}, {verdict}; {row.spread})")
        print(f"  against {row.against}")


def seconds(work: Callable[[], object]) -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def alternate(ours: Callable[[], float], theirs: Callable[[], float]) -> tuple[float, str]:
    """Measure both sides in turn; return the ratio of the medians and the range of the ratios."""
    pairs = [(ours(), theirs()) for _ in range(ROUNDS)]
    ratios = [own / other for own, other in pairs]
    own, other = (statistics.median(side) for side in zip(*pairs, strict=True))
    return own / other, f"{min(ratios):.2f} to {max(ratios):.2f} in {ROUNDS} rounds"


def columns(db: Connection, table: str) -> str:
    """Return a table's stored columns, in order."""
    names = db.execute(
        "select quote_ident(attname) from pg_attribute where attrelid = %s::regclass"
        " and attnum > 0 and not attisdropped and attgenerated = '' order by attnum",
        [table],
    ).fetchall()
    return ", ".join(name for (name,) in names)


def mirror(db: Connection, stage: str) -> None:
    """Move the pair to a stage; off stops the mirror."""
    db.execute("select crossfade.set_stage('chat_messages', %s, 'bench')", [stage])


def fill(db: Connection, rows: int, table: str = "public.chat_messages") -> None:
    """Insert plain messages of 40 to 400 characters."""
    db.execute(
        f"""
        insert into {table} (id, chat_id, role, content, metadata, created_at)
        select gen_random_uuid(), %s, case n %% 2 when 0 then 'user' else 'assistant' end,
          repeat('a few words of chat ', 2 + (n * 7 %% 19)::int),
          '{{"model": "m-1", "tokens": {{"prompt": 210, "completion": 31}}}}',
          timestamptz '2026-01-01 00:00+00' + n * interval '1 second'
        from generate_series(1, %s) n
        """.encode(),
        [CHAT, rows],
    )


def drain(db: Connection, step: str, run: int) -> None:
    """Call a batch function until its run has finished."""
    while True:
        (answer,) = db.execute(f"select crossfade.{step}(%s)".encode(), [run]).fetchone() or ({},)
        if answer["state"] == "finished":
            return
        assert answer["state"] == "running", answer


def start(db: Connection, function: str) -> int:
    """Start a run; return its id."""
    (answer,) = db.execute(f"select crossfade.{function}('chat_messages')".encode()).fetchone() or (
        {},
    )
    return int(answer["run"]["id"])


def pgbench_ms(server: PostgresServer, database: str, script: Path) -> float:
    """Return the average time of a transaction of one client over three seconds."""
    arguments = ["-n", "-T", "3", "-c", "1", "-M", "prepared", "-f", str(script)]
    out = server.run("pgbench", *arguments, database=database).stdout
    (line,) = [line for line in out.splitlines() if line.startswith("latency average")]
    return float(line.split("=")[1].split()[0])


def test_one_mirrored_insert_is_cheaper_than_two_inserts(
    server: PostgresServer, db: Connection, report: list[Row], tmp_path: Path
) -> None:
    name = db.info.dbname
    db.execute(f'alter database "{name}" set synchronous_commit = off'.encode())
    message = f"gen_random_uuid(), '{CHAT}', 'user', 'a few words of chat'"
    one = tmp_path / "one.sql"
    one.write_text(
        f"insert into public.chat_messages (id, chat_id, role, content) values ({message});\n"
    )
    two = tmp_path / "two.sql"
    blocks = '\'[{"type": "text", "text": "a few words of chat"}]\''
    two.write_text(
        "begin;\n"
        + one.read_text()
        + "insert into public.chat_messages_v2 (id, chat_id, role, content) values"
        f" (gen_random_uuid(), '{CHAT}', 'user', {blocks});\ncommit;\n"
    )

    def ours() -> float:
        mirror(db, "dualwrite")
        return pgbench_ms(server, name, one)

    def theirs() -> float:
        mirror(db, "off")
        return pgbench_ms(server, name, two)

    value, spread = alternate(ours, theirs)
    against = "the two INSERTs a careful developer sends in one transaction"
    report.append(Row("single insert, time", value, against, "<= 0.75", value <= 0.75, spread))
    assert value <= 0.75


def test_bulk_insert_is_as_fast_as_a_before_trigger(db: Connection, report: list[Row]) -> None:
    names = columns(db, "public.chat_messages")
    values = ", ".join(f"new.{name.strip()}" for name in names.split(","))
    db.execute(
        f"""
        create table public.one_table (like public.chat_messages including all);
        alter table public.one_table add column v2 public.chat_messages_v2;
        create function public.convert_in_place() returns trigger language plpgsql as $$
        begin
          select c into new.v2 from public.chat_messages_to_v2(
            row({values})::public.chat_messages, null::public.chat_messages_v2) c;
          return new;
        end $$;
        create trigger convert before insert on public.one_table
        for each row execute function public.convert_in_place();
    """.encode()
    )
    mirror(db, "dualwrite")

    def ours() -> float:
        db.execute("truncate public.chat_messages, public.chat_messages_v2")
        return BULK_ROWS / seconds(lambda: fill(db, BULK_ROWS))

    def theirs() -> float:
        db.execute("truncate public.one_table")
        return BULK_ROWS / seconds(lambda: fill(db, BULK_ROWS, "public.one_table"))

    value, spread = alternate(ours, theirs)
    against = "a same-row BEFORE trigger with the same conversion"
    report.append(Row("bulk insert, rows/s", value, against, ">= 1.0", value >= 1.0, spread))
    assert value >= 1.0


def test_backfill_is_nearly_as_fast_as_one_statement(db: Connection, report: list[Row]) -> None:
    mirror(db, "off")
    fill(db, HISTORY_ROWS)
    db.execute("vacuum analyze public.chat_messages")
    names = columns(db, "public.chat_messages_v2")

    def ours() -> float:
        mirror(db, "off")
        db.execute("truncate public.chat_messages_v2")
        mirror(db, "dualwrite")
        run = start(db, "start_backfill")
        return HISTORY_ROWS / seconds(lambda: drain(db, "backfill_batch", run))

    def theirs() -> float:
        mirror(db, "off")
        db.execute("truncate public.chat_messages_v2")
        statement = (
            f"insert into public.chat_messages_v2 ({names}) select c.* from public.chat_messages a"
            " cross join lateral public.chat_messages_to_v2(a, null) c"
        )
        return HISTORY_ROWS / seconds(lambda: db.execute(statement.encode()))

    value, spread = alternate(ours, theirs)
    against = "one INSERT ... SELECT with the same conversion"
    report.append(Row("backfill, rows/s", value, against, ">= 0.85", value >= 0.85, spread))
    assert value >= 0.85


def test_verify_is_nearly_as_fast_as_one_full_join(db: Connection, report: list[Row]) -> None:
    mirror(db, "dualwrite")
    fill(db, HISTORY_ROWS)
    db.execute("vacuum analyze public.chat_messages")
    db.execute("vacuum analyze public.chat_messages_v2")

    def ours() -> float:
        run = start(db, "start_verify")
        return HISTORY_ROWS / seconds(lambda: drain(db, "verify_batch", run))

    def theirs() -> float:
        statement = b"""
            select count(*) from public.chat_messages a
            full join public.chat_messages_v2 b on a.id = b.id
            left join lateral public.chat_messages_to_v1(b, a) x on true
            left join lateral public.chat_messages_to_v2(a, b) y on true
            where a.id is null or b.id is null or a is distinct from x or b is distinct from y
        """
        return HISTORY_ROWS / seconds(lambda: db.execute(statement))

    value, spread = alternate(ours, theirs)
    against = "one FULL JOIN that compares through the same converters"
    report.append(Row("verify, rows/s", value, against, ">= 0.8", value >= 0.8, spread))
    assert value >= 0.8
