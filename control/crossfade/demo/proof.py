"""The independent check at the end: SQL over a plain connection, not the engine's own verify.

It believes the journal (what clients got an answer for) and the data set (what the history was),
and looks at the two tables. Of crossfade it uses the pair's two converters and nothing else.
"""

import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import LiteralString

import psycopg
from psycopg import sql

from crossfade.demo.history import MESSAGE_COLUMNS, HistoryChat, message_row

JOURNAL_TABLE = """
create temporary table journal (
  n bigint primary key, op text not null, id uuid not null, chat_id uuid not null,
  wire smallint not null, ok boolean not null, plain text, blocks jsonb
)
"""
HISTORY_TABLE = """
create temporary table history (
  id uuid primary key, chat_id uuid, user_id uuid, role text, content text,
  created_at timestamptz, sequence_number bigint
)
"""


@dataclass(frozen=True, slots=True)
class BrokenPromise:
    """One kind of broken promise.

    Attributes:
        promise: The question that found it: lost, history, duplicated, mismatches or fenced.
        problem: What is wrong, in words.
        count: Rows.
        sample: Ids of up to five of them.
    """

    promise: str
    problem: str
    count: int
    sample: tuple[uuid.UUID, ...]


@dataclass(frozen=True, slots=True)
class Proof:
    """What the check found.

    Attributes:
        history_rows: Messages of the data set that were loaded.
        v1_rows: Rows of the V1 table; `v2_rows` of the V2 table.
        direct_v2_writes: Writes of V2 that were not mirrored: proof that backend 2 was really used.
    """

    history_rows: int
    v1_rows: int
    v2_rows: int
    direct_v2_writes: int
    findings: tuple[BrokenPromise, ...] = field(default=())

    def count(self, promise: str) -> int:
        """Return the rows that break one promise."""
        return sum(finding.count for finding in self.findings if finding.promise == promise)


def prove(
    conn: psycopg.Connection, *, journal: Path, history: Iterable[HistoryChat], pair: str
) -> Proof:
    """Check every row of both tables. Clients must have stopped; both tables are only read."""
    # The parameters of a bulk comparison: a sort or hash that spills would double the time.
    conn.execute("set work_mem = '128MB'")
    conn.execute("analyze public.chat_messages, public.chat_messages_v2")
    rows = _copy_history(conn, history)
    _copy_journal(conn, journal)
    conn.execute(_text("expected.sql"))
    findings = [
        *_ask(conn, "lost", _text("lost.sql")),
        *_ask(conn, "history", _text("history.sql")),
        *_ask(conn, "duplicated", _text("duplicated.sql")),
        *_ask(conn, "mismatches", _with_converters(conn, pair)),
        *_ask(conn, "fenced", _text("fenced.sql")),
    ]
    return Proof(
        history_rows=rows,
        v1_rows=_number(conn, "select count(*) from public.chat_messages"),
        v2_rows=_number(conn, "select count(*) from public.chat_messages_v2"),
        direct_v2_writes=_number(conn, "select count(*) from crossfade_demo.direct_writes"),
        findings=tuple(findings),
    )


def _copy_history(conn: psycopg.Connection, history: Iterable[HistoryChat]) -> int:
    rows = 0
    with conn.cursor() as cur:
        cur.execute(HISTORY_TABLE)
        with cur.copy(f"copy history ({MESSAGE_COLUMNS}) from stdin") as copy:
            for chat in history:
                for message in chat.messages:
                    copy.write_row(message_row(message))
                    rows += 1
        cur.execute("analyze history")
    return rows


def _copy_journal(conn: psycopg.Connection, path: Path) -> None:
    with conn.cursor() as cur, path.open(encoding="utf-8") as lines:
        cur.execute(JOURNAL_TABLE)
        with cur.copy(
            "copy journal (n, op, id, chat_id, wire, ok, plain, blocks) from stdin"
        ) as copy:
            for line in lines:
                entry = json.loads(line)
                blocks = entry["blocks"]
                copy.write_row(
                    (
                        entry["n"],
                        entry["op"],
                        entry["id"],
                        entry["chat_id"],
                        entry["wire"],
                        entry["ok"],
                        entry["plain"],
                        None if blocks is None else json.dumps(blocks),
                    )
                )
        cur.execute("create index on journal (id)")
        cur.execute("analyze journal")


def _ask(
    conn: psycopg.Connection, promise: str, question: sql.SQL | sql.Composed
) -> list[BrokenPromise]:
    rows: Sequence[tuple[str, int, list[uuid.UUID]]] = conn.execute(question).fetchall()
    return [
        BrokenPromise(promise, problem, count, tuple(sample)) for problem, count, sample in rows
    ]


def _with_converters(conn: psycopg.Connection, pair: str) -> sql.Composed:
    row = conn.execute(
        "select to_v2::regproc::text, to_v1::regproc::text from crossfade.pairs where name = %s",
        (pair,),
    ).fetchone()
    if row is None:
        raise LookupError(f"There is no pair {pair!r}")
    # SAFETY: regproc::text is a quoted, existing function name, never text of a user.
    to_v2, to_v1 = (sql.SQL(name) for name in row)
    return _text("mismatches.sql").format(to_v2=to_v2, to_v1=to_v1)


def _text(name: str) -> sql.SQL:
    text = resources.files("crossfade.demo").joinpath("sql", name).read_text(encoding="utf-8")
    return sql.SQL(text)


def _number(conn: psycopg.Connection, query: LiteralString) -> int:
    row = conn.execute(query).fetchone()
    return int(row[0]) if row else 0
