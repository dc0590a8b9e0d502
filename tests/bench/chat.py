"""The chat pair as the benches use it: rows, stages, runs, and the same tables in other hands."""

from __future__ import annotations

import os
from typing import Any

from .measure import Connection

V1, V2 = "public.chat_messages", "public.chat_messages_v2"
ONE_TABLE = "public.one_table"
CHAT = "00000000-0000-4000-8000-000000000001"
BULK_ROWS = 40_000
HISTORY_ROWS = int(os.environ.get("BENCH_ROWS", "250000"))


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


def fill(db: Connection, rows: int, table: str = V1) -> None:
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


def edit(db: Connection, table: str) -> None:
    """Change the text of every row."""
    db.execute(f"update {table} set content = content || '.'".encode())


def start(db: Connection, function: str) -> int:
    """Start a run; return its id."""
    answer: Any = db.execute(f"select crossfade.{function}('chat_messages')".encode()).fetchone()
    return int(answer[0]["run"]["id"])


def drain(db: Connection, step: str, run: int) -> None:
    """Call a batch function until its run has finished."""
    while True:
        answer: Any = db.execute(f"select crossfade.{step}(%s)".encode(), [run]).fetchone()
        if answer[0]["state"] == "finished":
            return
        assert answer[0]["state"] == "running", answer[0]


def copy_converters(db: Connection) -> None:
    """Give the other side the converters without the clause that keeps PostgreSQL from inlining.

    The engine puts their text into its statements; nobody else can, so that would be unfair.
    """
    for name in ("to_v2", "to_v1"):
        db.execute(
            f"""
            do $$ begin execute replace(
              pg_get_functiondef('public.chat_messages_{name}'::regproc),
              'FUNCTION public.chat_messages_{name}', 'FUNCTION public.inlined_{name}'); end $$;
            alter function public.inlined_{name} reset search_path;
            """.encode()
        )


def create_one_table(db: Connection) -> None:
    """Create V1, foreign key and all, with the V2 row in a column that a BEFORE trigger fills.

    The flag says which rows still wait for the backfill; a touched row loses it.
    """
    copy_converters(db)
    values = ", ".join(f"new.{name.strip()}" for name in columns(db, V1).split(","))
    db.execute(
        f"""
        create table {ONE_TABLE} (like {V1} including all);
        alter table {ONE_TABLE} add foreign key (chat_id) references public.chats,
          add column v2 {V2}, add column waits boolean default true;
        create function public.convert_in_place() returns trigger language plpgsql as $$
        begin
          select c into new.v2 from public.inlined_to_v2(
            row({values})::{V1}, new.v2) c;
          new.waits := false;
          return new;
        end $$;
        create trigger convert before insert or update on {ONE_TABLE}
        for each row execute function public.convert_in_place();
    """.encode()
    )


def touch_all(db: Connection, *, batch_rows: int = 1000) -> None:
    """Convert every waiting row by touching it, one transaction a batch, in key order."""
    after, query = (
        "",
        f"""
        with batch as (
          select id from {ONE_TABLE} where waits {{after}} order by id limit {batch_rows}
          for no key update
        ), touched as (
          update {ONE_TABLE} t set id = t.id from batch where t.id = batch.id returning t.id
        )
        select last_value(id) over () from touched limit 1""",
    )
    while True:
        found = db.execute(query.format(after=after).encode()).fetchone()
        if found is None:
            return
        after = f"and id > '{found[0]}'"
