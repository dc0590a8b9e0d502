"""What many rows cost, counted in transaction numbers and statements instead of in seconds.

A row that is mirrored, or recorded, by itself takes a subtransaction, and each of those that
writes takes a number. A statement of many rows must take few.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.sql.cases.pairs import (
    PLAIN,
    Shape,
    backfill,
    both,
    create,
    dualwrite,
    register,
    settled,
    to_stage,
)
from tests.sql.conftest import Connection, begins_with, on_both_ends
from tests.sql.control import call, one
from tests.sql.things_pair import failures

pytestmark = on_both_ends

ROWS = 2000


@dataclass
class Used:
    """How many transaction numbers went by."""

    numbers: int = 0


@contextmanager
def counted(db: Connection) -> Iterator[Used]:
    """Count the numbers that the block takes; nothing else writes in this cluster."""
    following = "select pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
    used = Used()
    before = one(db, following)
    yield used
    used.numbers = one(db, following) - before


CASCADES = {
    "on update cascade": "update public.parents set id = 20 where id = 2",
    "on delete set null": "delete from public.parents where id = 2",
    "on delete cascade": "delete from public.parents where id = 2",
}


@pytest.mark.parametrize("kind", CASCADES)
def test_a_cascade_of_many_rows_takes_few_steps(db: Connection, kind: str) -> None:
    parent = f"parent bigint references public.parents {kind}"
    dualwrite(
        db,
        Shape(
            v1=f"id bigint primary key, {parent}, body text",
            v2=f"id bigint primary key, {parent}, body text, extra int",
            to_v2="a.id, a.parent, a.body, o.extra",
            to_v1="b.id, b.parent, b.body",
            before="create table public.parents (id bigint primary key); "
            "insert into public.parents values (1), (2)",
        ),
    )
    db.execute(
        f"insert into public.things select g, 1 + g % 2, 'n' from generate_series(1, {ROWS}) g"
    )
    with counted(db) as used:
        db.execute(CASCADES[kind])
    assert used.numbers <= 20
    assert len(settled(db, "id, parent")) == (ROWS // 2 if kind == "on delete cascade" else ROWS)


STATEMENTS = [
    "insert into {t} (id, body) select g, 'n' from generate_series(10001, 12000) g",
    "update {t} set body = 'edited'",
    "insert into {t} (id, body) select g, 'u' from generate_series(11000, 13000) g "
    "on conflict (id) do update set body = excluded.body",
    "merge into {t} t using (select g from generate_series(12500, 14000) g) s on t.id = s.g "
    "when matched then update set body = 'm' "
    "when not matched then insert (id, body) values (s.g, 'm')",
    "with a as (update public.things set body = 'a' where id < 1000) "
    "update public.things_v2 set pinned = true where id < 1000",
    "delete from {t} where id > 1000",
]


@pytest.mark.parametrize("table", ["things", "things_v2"])
@begins_with(dualwrite)
def test_many_good_rows_take_few_steps(db: Connection, table: str) -> None:
    db.execute(f"insert into public.things select g, 'n' from generate_series(1, {ROWS}) g")
    taken = {}
    for statement in STATEMENTS:
        with counted(db) as used:
            db.execute(statement.format(t=f"public.{table}"))
        if used.numbers > 20:
            taken[statement] = used.numbers
    assert taken == {}
    assert len(settled(db)) == 1000


BAD = PLAIN.but(
    v1="id bigint primary key, body text constraint one check (body <> 'bad for V1')",
    v2="id bigint primary key, body text constraint two check (body <> 'bad for V2'), "
    "pinned boolean",
)


@pytest.mark.parametrize("refused", [1, 3])
@pytest.mark.parametrize("side", [1, 2])
@begins_with(dualwrite, BAD)
def test_few_bad_rows_of_many_are_not_paid_for_by_each_good_one(
    db: Connection, side: int, refused: int
) -> None:
    table, value = ("things", "bad for V2") if side == 1 else ("things_v2", "bad for V1")
    every = ROWS // refused
    case = f"case when g % {every} = 7 then '{value}' else '{{}}' end"
    statements = {
        "insert": f"insert into public.{table} (id, body) "
        f"select g, {case.format('n')} from generate_series(1, {ROWS}) g",
        "update": f"update public.{table} set body = {case.replace('g %', 'id %').format('m')}",
        "upsert": f"insert into public.{table} (id, body) "
        f"select g, {case.format('u')} from generate_series(1, {ROWS}) g "
        "on conflict (id) do update set body = excluded.body",
    }
    for name, statement in statements.items():
        with counted(db) as used:
            db.execute(statement)
        # A search that halves or divides by sixteen, for each bad row, and its record.
        assert used.numbers <= 20 + 120 * refused, name
        assert len(failures(db)) == refused
    other = "things_v2" if side == 1 else "things"
    assert one(db, f"select count(*) from public.{other} where body = 'u'") == ROWS - refused
    db.execute("alter table public.things drop constraint one")
    db.execute("alter table public.things_v2 drop constraint two")
    assert call(db, "repair", "things")["remaining"] == 0
    assert len(settled(db)) == ROWS


@begins_with(dualwrite)
def test_an_edit_of_what_only_v2_holds_takes_nothing_of_v1(db: Connection) -> None:
    db.execute(f"insert into public.things select g, 'n' from generate_series(1, {ROWS}) g")
    reads = (
        "select sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) from pg_stat_xact_user_tables "
        "where relname = 'things'"
    )
    for where in ("id = 1", "id <= 100", "true"):
        with db.transaction():
            before = one(db, reads) or 0
            db.execute(f"update public.things_v2 set pinned = true where {where}")
            assert (one(db, reads) or 0) == before, "V1 is not even read"
            locks = "select count(*) from pg_locks where pid = pg_backend_pid() and relation = "
            assert one(db, f"{locks}'public.things'::regclass and mode = 'RowExclusiveLock'") == 0
    settled(db)


@pytest.mark.parametrize("side", [1, 2])
def test_a_statement_of_many_rows_is_few_statements_on_the_other_table(
    db: Connection, side: int
) -> None:
    written, other = ("things", "things_v2")[:: 1 if side == 1 else -1]
    create(
        db,
        PLAIN.but(
            after="create table public.fired (what text); "
            "create function public.count_it() returns trigger language plpgsql as $$ "
            "begin insert into public.fired values (tg_op); return null; end $$; "
            f"create trigger count_it after insert or update or delete on public.{other} "
            "for each statement execute function public.count_it()"
        ),
    )
    register(db)
    to_stage(db, "dualwrite")
    backfill(db)
    for statement in STATEMENTS[:4]:
        db.execute("delete from public.fired")
        db.execute(statement.format(t=f"public.{written}"))
        assert one(db, "select count(*) from public.fired") <= 6, statement
    db.execute("delete from public.fired")
    db.execute(f"delete from public.{written}")
    assert one(db, "select count(*) from public.fired") <= 3
    assert both(db) == []


def test_a_counter_that_a_row_trigger_keeps_takes_no_step_for_each_row(db: Connection) -> None:
    dualwrite(
        db,
        PLAIN.but(
            v2="id bigint primary key, body text, cnt integer not null default 0",
            to_v2="a.id, a.body, coalesce(o.cnt, 0)",
            after="create function public.count_it() returns trigger language plpgsql as $$ begin "
            "update public.things_v2 set cnt = cnt + 1 where id = new.id; return null; end $$; "
            "create trigger a_count after update on public.things for each row "
            "execute function public.count_it()",
        ),
    )
    db.execute("insert into public.things select g, 'n' from generate_series(1, 500) g")
    db.execute("set statement_timeout = '30s'")  # an end for what has none
    with counted(db) as used:
        db.execute("update public.things set body = 'edited'")
    assert used.numbers <= 20
    assert {body for _, body in settled(db)} == {"edited"}
    assert one(db, "select count(*) from public.things_v2 where cnt = 1") == 500
