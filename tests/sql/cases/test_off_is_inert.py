"""While a pair is off its V1 is an ordinary table: whatever becomes of V2, V1's writes go on."""

from __future__ import annotations

import psycopg
import pytest

from tests.sql.cases.pairs import (
    PLAIN,
    backfill,
    create,
    dualwrite,
    register,
    settled,
    to_stage,
)
from tests.sql.conftest import Connect, Connection, Its, begins_with, on_both_ends
from tests.sql.control import call, one
from tests.sql.notes_pair import rows
from tests.sql.things_pair import failures

pytestmark = on_both_ends

WRITES = [
    "insert into public.things values (10, 'one')",
    "insert into public.things select g, 'many' from generate_series(11, 40) g",
    "update public.things set body = 'edited' where id = 1",
    "update public.things set body = 'edited too'",
    "update public.things set id = 100 where id = 2",
    "insert into public.things values (1, 'x'), (50, 'y') "
    "on conflict (id) do update set body = excluded.body",
    "merge into public.things t using (values (1), (60)) s (id) on t.id = s.id "
    "when matched then delete when not matched then insert values (s.id, 'merged')",
    "delete from public.things where id = 3",
    "truncate public.things",
]
HARM = {
    "dropped": "drop table public.things_v2 cascade",
    "renamed": "alter table public.things_v2 rename to elsewhere",
    "in another schema": "create schema other; alter table public.things_v2 set schema other",
    "a column dropped": "alter table public.things_v2 drop column body cascade",
    "a column renamed": "alter table public.things_v2 rename column body to text",
    "a column of another type": "drop function public.things_to_v2, public.things_to_v1; "
    "alter table public.things_v2 alter body type jsonb using null",
    "the key dropped": "alter table public.things_v2 drop column id cascade",
    "replaced by a view": "drop table public.things_v2 cascade; "
    "create view public.things_v2 as select id, body, null::boolean pinned from public.things",
    "its converters dropped": "drop function public.things_to_v2(public.things, public.things_v2), "
    "public.things_to_v1(public.things_v2, public.things)",
    "given to somebody else": "revoke all on public.things_v2 from postgres; "
    "alter table public.things_v2 enable row level security",
    "a constraint that nothing meets": "alter table public.things_v2 add check (false) not valid",
}


def off(db: Connection, ever_on: bool) -> None:
    create(db, PLAIN)
    db.execute("insert into public.things select g, 'old' from generate_series(1, 5) g")
    register(db)
    if ever_on:
        to_stage(db, "dualwrite")
        backfill(db)
        db.execute("insert into public.things values (6, 'mirrored')")
        call(db, "set_stage", "things", "off", "given up")


@pytest.mark.parametrize("ever_on", [False, True], ids=["never on", "on before"])
@pytest.mark.parametrize("harm", HARM)
@begins_with(off, Its("ever_on"))
def test_v1_goes_on_whatever_becomes_of_v2(
    db: Connection, connect: Connect, harm: str, ever_on: bool
) -> None:
    cached = connect()  # has plans from before
    for write in WRITES[:4]:
        cached.execute("begin")
        cached.execute(write)
        cached.execute("rollback")
    db.execute(HARM[harm])
    for session in (cached, connect(), connect("service_role")):
        session.execute("begin")
        for write in WRITES:
            session.execute(write)
        assert one(session, "select count(*) from public.things") == 0
        session.execute("rollback")
    call(db, "unregister_pair", "things", "given up")
    for write in WRITES[:-1]:
        db.execute(write)
    assert rows(db, "select id, body from public.things where id in (50, 60, 100) order by 1") == [
        (50, "y"), (60, "merged"), (100, "edited too"),
    ]  # fmt: skip


def test_off_waits_for_no_lock_on_v2(db: Connection, connect: Connect) -> None:
    create(db, PLAIN)
    db.execute("insert into public.things select g, 'old' from generate_series(1, 5) g")
    register(db)
    migration = connect()
    migration.execute("begin")
    migration.execute("lock table public.things_v2 in access exclusive mode")
    db.execute("set lock_timeout = '100ms'")
    for write in WRITES:
        db.execute(write)
    migration.execute("rollback")


def test_on_and_off_take_no_lock_that_a_writer_waits_for(db: Connection, connect: Connect) -> None:
    dualwrite(db)
    writer, operator = connect(), connect()
    writer.execute("set lock_timeout = '100ms'")
    operator.execute("begin")
    for stage in ("off", "dualwrite", "off"):
        call(operator, "set_stage", "things", stage, "test")
        # The reader and the writer of another row go on while the switch is not committed yet.
        writer.execute("select count(*) from public.things, public.things_v2")
        writer.execute(
            "insert into public.things select coalesce(max(id), 0) + 1 from public.things"
        )
    operator.execute("rollback")
    assert len(settled(db)) == 3


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
def test_a_writer_that_began_before_the_switch_is_mirrored_or_told(
    db: Connection, connect: Connect, level: str
) -> None:
    create(db, PLAIN)
    register(db)
    writer = connect()
    writer.execute(f"begin isolation level {level}")
    writer.execute("select count(*) from public.things")
    call(db, "set_stage", "things", "dualwrite", "test")
    try:
        writer.execute("insert into public.things values (1, 'a')")
        writer.execute("commit")
    except psycopg.Error:
        writer.execute("rollback")
    backfill(db)
    settled(db)


@pytest.mark.parametrize("policy", ["record", "raise"])
@pytest.mark.parametrize("harm", ["dropped", "renamed", "a column dropped",
                                  "a constraint that nothing meets"])  # fmt: skip
@begins_with(dualwrite, failure_policy=Its("policy"))
def test_a_v2_that_goes_while_the_pair_is_on_is_recorded_or_raised(
    db: Connection, connect: Connect, harm: str, policy: str
) -> None:
    db.execute("insert into public.things select g, 'old' from generate_series(1, 5) g")
    db.execute(HARM[harm])
    writes = [
        "insert into public.things values (10, 'one')",
        "insert into public.things select g, 'many' from generate_series(11, 40) g",
        "update public.things set body = 'edited' where id = 1",
    ]
    for session in (db, connect()):
        for write in writes:
            before = rows(session, "select * from public.things order by 1")
            if policy == "record":
                session.execute("begin")
                session.execute(write)
                assert failures(session) != []
                session.execute("rollback")
            else:
                with pytest.raises(psycopg.Error):
                    session.execute(write)
                assert rows(session, "select * from public.things order by 1") == before
    call(db, "set_stage", "things", "off", "given up")
    for write in writes:
        db.execute(write)
    assert one(db, "select count(*) from public.things") == 36
