"""What mirroring costs a writer, against what a careful developer would write by hand.

Not part of `make test`: `make bench` runs it and writes build/bench.json.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from crossfade.local.postgres import PostgresServer

from .chat import BULK_ROWS, CHAT, ONE_TABLE, V1, V2, create_one_table, edit, fill, mirror
from .measure import Connection, Report, alternate, costs, seconds

BEFORE_TRIGGER = "a same-row BEFORE trigger with the same conversion"


def test_single_insert(server: PostgresServer, db: Connection, report: Report) -> None:
    name = db.info.dbname
    db.execute(f"alter database {name} set synchronous_commit = off".encode())
    message = f"gen_random_uuid(), '{CHAT}', 'user', 'a few words of chat'"
    insert = f"insert into {V1} (id, chat_id, role, content) values ({message});\n"
    blocks = '\'[{"type": "text", "text": "a few words of chat"}]\''
    by_hand = (
        f"begin;\n{insert}insert into {V2} (id, chat_id, role, content)"
        f" values (gen_random_uuid(), '{CHAT}', 'user', {blocks});\ncommit;\n"
    )

    def side(stage: str, script: str) -> float:
        mirror(db, stage)
        return pgbench_ms(server, name, script)

    found = alternate(
        lambda: side("dualwrite", insert), lambda: side("off", by_hand), rounds=25, smaller=True
    )
    mirror(db, "dualwrite")
    with costs(db, (V1, V2), 1000) as cost:
        for _ in range(1000):
            db.execute(insert.encode())
    found.beside.update(cost)
    report.add(
        "single insert, time",
        found,
        "<= 0.75",
        against="the two INSERTs a careful developer sends in one transaction (ms)",
    )


def pgbench_ms(server: PostgresServer, database: str, script: str) -> float:
    """Return the average time of a transaction of one client, of 1,500."""
    with tempfile.NamedTemporaryFile("w", prefix="crossfade-bench-", suffix=".sql") as file:
        file.write(script)
        file.flush()
        Path(file.name).chmod(0o644)
        arguments = ["-n", "-t", "1500", "-c", "1", "-M", "prepared", "-f", file.name]
        out = server.run("pgbench", *arguments, database=database).stdout
    (line,) = [line for line in out.splitlines() if line.startswith("latency average")]
    return float(line.split("=")[1].split()[0])


def test_bulk_insert(db: Connection, report: Report) -> None:
    create_one_table(db)
    mirror(db, "dualwrite")
    cost: dict[str, float] = {}

    def ours() -> float:
        empty(db)
        with costs(db, (V1, V2), BULK_ROWS) as found:
            speed = BULK_ROWS / seconds(lambda: fill(db, BULK_ROWS))
        cost.update(found)
        return speed

    def theirs() -> float:
        empty(db)
        return BULK_ROWS / seconds(lambda: fill(db, BULK_ROWS, ONE_TABLE))

    found = alternate(ours, theirs, rounds=11)
    found.beside.update(cost)
    report.add("bulk insert, rows/s", found, ">= 1.0", against=BEFORE_TRIGGER)


def test_bulk_update(db: Connection, report: Report) -> None:
    create_one_table(db)
    mirror(db, "dualwrite")
    cost: dict[str, float] = {}

    def ours() -> float:
        empty(db)
        fill(db, BULK_ROWS)
        db.execute(f"vacuum analyze {V1}, {V2}".encode())
        with costs(db, (V1, V2), BULK_ROWS) as found:
            speed = BULK_ROWS / seconds(lambda: edit(db, V1))
        cost.update(found)
        return speed

    def theirs() -> float:
        empty(db)
        fill(db, BULK_ROWS, ONE_TABLE)
        db.execute(f"vacuum analyze {ONE_TABLE}".encode())
        return BULK_ROWS / seconds(lambda: edit(db, ONE_TABLE))

    found = alternate(ours, theirs, rounds=11)
    found.beside.update(cost)
    report.add("bulk update, rows/s", found, ">= 0.7", against=BEFORE_TRIGGER)


def empty(db: Connection) -> None:
    """Begin a round with empty tables and nothing left to write for the one before."""
    db.execute(f"truncate {V1}, {V2}, {ONE_TABLE}".encode())
    db.execute("checkpoint")
