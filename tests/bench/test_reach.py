"""What the shapes of real projects cost: a retired V1, partitions, a group."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import psycopg

from crossfade.local.postgres import PostgresServer
from tests.sql.cases.pairs import Shape, create, group_to_stage, register, to_stage
from tests.sql.control import call

from .measure import ROOT, Backend, Connection, Cost, Report, compare, take_turns
from .pair import BULK_ROWS, scaled

STATEMENTS = 50  # of one side in a round
ROUNDS = scaled(60)
BULK_ROUNDS = scaled(7)
ENTRY = "id bigint, person_id bigint not null, {} not null, created_at timestamptz not null, "
ENTRIES = Shape(
    v1=ENTRY.format("body text") + "primary key (id)",
    v2=ENTRY.format("parts jsonb") + "pinned boolean, primary key (id)",
    to_v2="a.id, a.person_id, jsonb_build_array(a.body), a.created_at, o.pinned",
    to_v1="b.id, b.person_id, b.parts ->> 0, b.created_at",
)
BY_TIME = ENTRIES.but(
    v1=ENTRY.format("body text") + "primary key (id, created_at)",
    v2=ENTRY.format("parts jsonb") + "pinned boolean, primary key (id, created_at)",
)
MONTHS = BY_TIME.but(
    v2=f"{BY_TIME.v2}) partition by range (created_at",
    after="; ".join(
        f"create table public.parted_v2_{month} partition of public.parted_v2 "
        f"for values from ('2026-{month:02}-01 00:00+00') to ('2026-{month + 1:02}-01 00:00+00')"
        for month in range(1, 12)
    ),
)
V1_ROW = "n, 1 + n % 1000, 'note ' || n, {at}"
V2_ROW = "n, 1 + n % 1000, jsonb_build_array('note ' || n), {at}, null"
AT = "timestamptz '2026-01-01 00:00+00' + n % 300 * interval '1 day'"

GROUP = f"""
insert into public.threads select n, 't' || n from generate_series(1, 1000) n;
insert into public.posts select n, 1 + n % 1000, 'p' || n from generate_series(1, {BULK_ROWS}) n;
create table public.by_hand (like public.threads_v2 including all);
create table public.by_hand_posts (like public.posts_v2 including all);
alter table public.by_hand_posts add foreign key (thread) references public.by_hand
"""


@contextmanager
def migrated(server: PostgresServer, name: str) -> Iterator[Connection]:
    """A fresh database with the engine and nothing else."""
    url = server.create_database(name)
    server.bootstrap(name)
    try:
        with psycopg.connect(url, autocommit=True) as db:
            for file in sorted((ROOT / "supabase" / "migrations").glob("*.sql")):
                db.execute(file.read_bytes())
            db.execute("set synchronous_commit = off")
            yield db
    finally:
        admin_url = server.dsn("supabase_admin", "postgres")
        with psycopg.connect(admin_url, autocommit=True) as admin:
            admin.execute(f"drop database {name} with (force)".encode())


def fill(table: str, row: str, rows: int = BULK_ROWS) -> str:
    return f"insert into {table} select {row.format(at=AT)} from generate_series(1, {rows}) n"


def test_reading_through_the_view_of_a_retired_pair(server: PostgresServer, report: Report) -> None:
    with migrated(server, "retired") as db:
        create(db, ENTRIES)
        for table in ("things", "things_v2"):
            db.execute(f"create index on public.{table} (created_at)".encode())
        db.execute(fill("public.things", V1_ROW).encode())
        register(db)
        to_stage(db, "retired")
        db.execute("vacuum analyze")
        backend = Backend(db)
        columns = "select id, person_id, body, created_at from public."
        for name in ("things", "things_archive"):
            backend.prepare(f"key {name}", f"{columns}{name} where id = $1")
            backend.prepare(
                f"list {name}",
                f"{columns}{name} where created_at <= $1 order by created_at desc limit 100",
            )

        def key(name: str) -> Cost:
            return backend.each(f"key {name}", [(1 + n * 7,) for n in range(STATEMENTS)])

        def listed(name: str) -> Cost:
            days = [(f"2026-{1 + n % 9:02}-11",) for n in range(STATEMENTS)]
            return backend.each(f"list {name}", days)

        for read, what in ((key, "by key"), (listed, "list of 100")):
            sides = {
                "view": partial(read, "things"),
                "table": partial(read, "things_archive"),
            }
            report.add(
                f"retired: read {what}, time",
                compare(
                    take_turns(sides, ROUNDS), lambda of: of["view"].time_us / of["table"].time_us
                ),
                "<= 1.1",
                against="the table that V1 was",
            )


def test_writing_a_pair_with_partitions(server: PostgresServer, report: Report) -> None:
    with migrated(server, "parted") as db:
        for name, shape in (("plain", BY_TIME), ("parted", MONTHS)):
            create(db, shape, name)
            register(db, name)
            to_stage(db, "dualwrite", name)
        backend = Backend(db)

        def bulk(name: str, row: str) -> Cost:
            table = name.removesuffix("_v2")
            db.execute(f"truncate public.{table}, public.{table}_v2".encode())
            db.execute("checkpoint")
            return backend.cost(lambda: db.execute(fill(f"public.{name}", row).encode()))

        for version, row in (("", V1_ROW), ("_v2", V2_ROW)):
            sides: dict[str, Callable[[], Cost]] = {
                "partitioned": partial(bulk, f"parted{version}", row),
                "plain": partial(bulk, f"plain{version}", row),
            }
            report.add(
                f"partitioned V2: bulk insert into {'V2' if version else 'V1'}, time",
                compare(
                    take_turns(sides, BULK_ROUNDS),
                    lambda of: of["partitioned"].time_us / of["plain"].time_us,
                ),
                "<= 1.5",
                against="a pair of plain tables",
            )


def test_a_backfill_of_a_group_in_order(server: PostgresServer, report: Report) -> None:
    child = "id bigint primary key, thread bigint not null references public.threads{}, body text"
    with migrated(server, "grouped") as db:
        create(db, Shape(), "threads")
        create(
            db,
            Shape(
                v1=child.format(""),
                v2=child.format("_v2"),
                to_v2="a.id, a.thread, a.body",
                to_v1="b.id, b.thread, b.body",
            ),
            "posts",
        )
        db.execute(GROUP.encode())
        register(db, "threads")
        register(db, "posts")
        backend = Backend(db)

        def in_order() -> Cost:
            call(db, "set_group_stage", "posts", "off", "bench", True)
            db.execute("truncate public.posts_v2, public.threads_v2")
            db.execute("checkpoint")
            group_to_stage(db, "dualwrite", "posts", "threads")
            return backend.cost(run_both)

        def run_both() -> None:
            for name in ("threads", "posts"):
                run = call(db, "start_backfill", name)["run"]["id"]
                while call(db, "backfill_batch", run)["state"] != "finished":
                    pass

        def by_hand() -> Cost:
            db.execute("truncate public.by_hand_posts, public.by_hand")
            db.execute("checkpoint")
            return backend.cost(
                lambda: db.execute(
                    "insert into public.by_hand select id, body, null from public.threads; "
                    "insert into public.by_hand_posts select id, thread, body from public.posts"
                )
            )

        rounds = take_turns({"group": in_order, "by hand": by_hand}, BULK_ROUNDS)
        stored = db.execute("select count(*) from public.posts_v2").fetchone()
        assert stored == (BULK_ROWS,)
        assert db.execute("select count(*) from crossfade.mirror_failures").fetchone() == (0,)
        report.add(
            "backfill of a group, parents first, time",
            compare(rounds, lambda of: of["group"].time_us / of["by hand"].time_us),
            "",
            against="one INSERT ... SELECT a table, parents first",
        )
