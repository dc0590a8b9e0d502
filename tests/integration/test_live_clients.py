"""The stages forward, back and forward again under clients of the Data API, for each kind of pair.

The owner writes by psycopg, users under row-level security by supabase-py and supabase-js. Each
keeps a ledger of what it was told is stored; no call may fail but for 40001 and 40P01, which are
tried again, and at the end both tables hold what the ledgers say and no row more.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from supabase import ClientOptions, create_client

from crossfade.local import LocalStack
from tests.sql import test_carried_pairs, test_key_carry
from tests.sql.cases.pairs import STAGES, grant, register, to_stage
from tests.sql.control import Connection, call, one
from tests.sql.live_operator import IN_THE_WAY, Operator

from . import live_worlds as worlds
from . import test_retired_clients
from .live_callers import JavaScript, Owner, Python
from .live_writers import Crowd, World
from .test_supabase_cli import DEBIAN_15, ROOT

SERVERS: dict[str, Path | None] = {"18": None} | (
    {"15": DEBIAN_15}
    if os.environ.get("CROSSFADE_TEST_EVERY_VERSION") and (DEBIAN_15 / "postgres").exists()
    else {}
)
SETTINGS = {
    "shadow_min_reads": "0",
    "stage_bake_s": "0",
    # The clients of a test on a busy machine would hold its runs back.
    "throttle_lock_waits": "1000",
    "throttle_min_requests": "1000000",
}


FUNCTIONS = '{public.loudest(integer),"public.add_post(bigint,text)"}'


@pytest.fixture(scope="module", params=SERVERS)
def stack(request: pytest.FixtureRequest, fresh_dir: Callable[[str], Path]) -> Iterator[LocalStack]:
    """A project without tables and functions."""
    with LocalStack(
        fresh_dir("live"), functions=(), pairs=(), durable=False,
        postgres_bin=SERVERS[request.param],
    ) as running:  # fmt: skip
        yield running


@contextmanager
def crowded(
    stack: LocalStack, http: httpx.Client, world: World, *, may_be_archived: bool = False
) -> Iterator[tuple[Crowd, Connection]]:
    """An owner, two users of supabase-py, and one of them by supabase-js as well: all write V1."""
    crowd = Crowd(world, may_be_archived=may_be_archived)
    info = stack.info
    stack.restart_api()
    options = ClientOptions(auto_refresh_token=False, persist_session=False, httpx_client=http)
    crowd.join("owner", Owner(info.db_url))
    for name in ("ada", "bob"):
        client = create_client(info.api_url, info.publishable_key, options)
        email = f"{name}-{id(crowd)}@example.com"
        session = client.auth.sign_up({"email": email, "password": "pass-word-1"}).session
        assert session
        crowd.join(name, Python(client))
        if name == "ada":
            tokens = {
                "access_token": session.access_token, "refresh_token": session.refresh_token
            }  # fmt: skip
            crowd.join("ada's app", JavaScript(info.api_url, info.publishable_key, tokens))
    with psycopg.connect(info.db_url, autocommit=True) as db:
        for name, value in SETTINGS.items():
            call(db, "set_setting", name, value, "test")
        crowd.seeds = list(crowd.stored(db, 1).elements())
        crowd.start()
        try:
            crowd.go_on(10)
            yield crowd, db
        finally:
            crowd.stop()
        print(crowd.told())


def again(work: Callable[[], Any]) -> Any:
    """Do what may be in the way of writers, until it is not."""
    for _ in range(20):
        try:
            return work()
        except IN_THE_WAY:
            continue
    raise AssertionError("always in the way of writers")


def forward(crowd: Crowd, operator: Operator, *stages: str) -> None:
    """To complete; version 2 is open and copied."""
    crowd.write(1, 2)
    for before, stage in pairwise(("dualwrite", *stages)):
        operator.stage(stage, clean=STAGES.index(stage) > max(1, STAGES.index(before)))
        crowd.go_on()
    crowd.write(2)  # version 1 is read-only in complete
    operator.stage("complete", clean=True)
    crowd.go_on()


def through_all_stages(
    crowd: Crowd, db: Connection, *pairs: str, meanwhile: Callable[[], None] = lambda: None
) -> None:
    """Forward, with steps back, back from complete to dualwrite, and forward again.

    meanwhile: done in stage live, while all go on.
    """
    operator = Operator(db, *pairs)
    operator.stage("dualwrite")
    crowd.go_on()
    operator.run("backfill", ", ranges => 2")
    crowd.write(1, 2)
    crowd.go_on()
    operator.stage("shadow")
    operator.stage("live", clean=True)
    meanwhile()
    forward(crowd, operator, "shadow", "live", "rampdown", "live", "rampdown")
    operator.run("backfill", ", 'v2_to_v1'")
    operator.stage("rampdown", clean=True)
    crowd.write(1, 2)
    for stage in ("live", "shadow", "dualwrite"):
        operator.stage(stage)
        crowd.go_on()
    crowd.write()
    operator.make_clean()
    crowd.settled(db, 1, 2)
    forward(crowd, operator, "shadow", "live", "rampdown")
    crowd.write()
    crowd.settled(db, 2)


def test_a_group_of_messages_votes_and_attachments(stack: LocalStack, http: httpx.Client) -> None:
    with psycopg.connect(stack.info.db_url, autocommit=True) as db:
        db.execute(worlds.CHAT_SQL)
    with crowded(stack, http, worlds.CHAT) as (crowd, db):
        for name, (v1, v2, key) in worlds.CHAT_PAIRS.items():
            names = (f"public.{name}_to_v2", f"public.{name}_to_v1")
            call(db, "register_pair", name, v1, v2, *names, key=f"{{{key}}}")
        through_all_stages(crowd, db, *worlds.CHAT_PAIRS)


def test_keys_grow_from_int_to_bigint_with_two_child_tables(
    stack: LocalStack, http: httpx.Client
) -> None:
    with psycopg.connect(stack.info.db_url, autocommit=True) as db:
        db.execute(worlds.NUMBERS_SQL)
    with crowded(stack, http, worlds.NUMBERS) as (crowd, db):
        for name in worlds.NUMBERS:
            register(db, name)
        through_all_stages(crowd, db, *worlds.NUMBERS)
        assert one(db, "select count(*) from public.lines_v2 where order_id > 2147483647") > 0


def test_integers_become_uuids_with_a_child_table(stack: LocalStack, http: httpx.Client) -> None:
    with psycopg.connect(stack.info.db_url, autocommit=True) as db:
        db.execute(test_carried_pairs.WORLD)
        for name in worlds.CARRIED:
            assert test_key_carry.apply(db, f"public.{name}", quiet=True)
    with crowded(stack, http, worlds.CARRIED) as (crowd, db):
        # The rest of carrying and both pairs, drafted, while V1 is written.
        for name in worlds.CARRIED:
            test_key_carry.fill(db, f"public.{name}")
            again(partial(test_key_carry.apply, db, f"public.{name}"))
            crowd.go_on()
        for name in worlds.CARRIED:
            test_carried_pairs.adopt(db, test_carried_pairs.draft(db, name, f"public.{name}"))
        crowd.write()
        stack.restart_api()  # V2's tables are new; a hosted one reads its schema cache by itself
        crowd.write(1)
        through_all_stages(crowd, db, *worlds.CARRIED)


def test_a_plain_table_becomes_one_of_months(stack: LocalStack, http: httpx.Client) -> None:
    months = worlds.Months("2026-11", "2026-12", "2027-01")
    with psycopg.connect(stack.info.db_url, autocommit=True) as db:
        db.execute((ROOT / "sql" / "pairs" / "events.sql").read_bytes())
        for month, says in (("2026-10", "old"), ("2026-11", "seed"), ("2026-12", "seed")):
            db.execute(
                "insert into public.events (name, occurred_at) select %s || g, %s::timestamptz "
                "+ g * interval '1 hour' from generate_series(1, 300) g",
                [f"{says} ", f"{month}-02"],
            )
            db.execute("select public.make_events_partition(%s)", [f"{month}-01"])
        call(db, "refresh_pair", "events")

    def meanwhile() -> None:
        again(lambda: db.execute("select public.make_events_partition('2027-05-01')"))
        months.open.append("2027-05")
        crowd.go_on(8)
        again(lambda: call(db, "refresh_pair", "events"))
        crowd.go_on()
        gone = again(
            lambda: call(db, "remove_partition", "events", "public.events_v2_2026_10", "drop", "t")
        )
        assert gone["rows"] == 300
        crowd.seeds = [seed for seed in crowd.seeds if not seed[2].startswith("old")]

    with crowded(stack, http, worlds.events(months)) as (crowd, db):
        through_all_stages(crowd, db, "events", meanwhile=meanwhile)
        assert one(db, "select count(*) from public.events_v2_2027_05") > 0


def test_six_swaps_of_a_retired_pair_under_four_clients(
    stack: LocalStack, http: httpx.Client
) -> None:
    with psycopg.connect(stack.info.db_url, autocommit=True) as db:
        db.execute(test_retired_clients.TABLES.replace("posts", "articles"))
        db.execute("alter table public.articles_v2 alter column owner_id set default auth.uid()")
    with crowded(stack, http, worlds.ARTICLES, may_be_archived=True) as (crowd, db):
        register(db, "articles")
        call(db, "ignore_dependents", "articles", FUNCTIONS, "test")
        crowd.write()
        to_stage(db, "complete", "articles")
        crowd.write(1, 2)
        grant(db, "articles")
        for _ in range(3):
            for stage in ("retired", "complete"):
                again(partial(call, db, "set_stage", "articles", stage, "test"))
                crowd.go_on(6)
        again(partial(call, db, "set_stage", "articles", "retired", "test"))
        crowd.go_on(6)
        crowd.write()
        crowd.settled(db, 1, 2)
