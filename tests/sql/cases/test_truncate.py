"""TRUNCATE empties what was in both tables; what one table alone has stays."""

from __future__ import annotations

import pytest

from tests.sql.cases.pairs import backfill, both, create, like, mirror, register, repair, to_stage
from tests.sql.conftest import Connection
from tests.sql.control import call
from tests.sql.notes_pair import rows
from tests.sql.things_pair import failures, verify

SHAPE = like("id bigint primary key, body text")
SIDES = [("things", "things_v2"), ("things_v2", "things")]


def test_starting_over_by_emptying_v2_costs_v1_nothing_that_was_not_copied(db: Connection) -> None:
    create(db, SHAPE)
    register(db)
    db.execute("insert into public.things select g, 'old' from generate_series(1, 500) g")
    to_stage(db, "dualwrite")
    run = call(db, "start_backfill", "things")["run"]["id"]
    call(db, "backfill_batch", run, 100)
    ((copied,),) = rows(db, "select count(*) from public.things_v2")
    assert 0 < copied < 500
    db.execute("truncate public.things_v2")
    assert rows(db, "select count(*) from public.things") == [(500 - copied,)]
    call(db, "control_run", run, "cancel", "test")
    backfill(db)
    assert len(both(db)) == 500 - copied
    assert verify(db, "things") == 0


@pytest.mark.parametrize("mode", ["both", "log_only"])
@pytest.mark.parametrize(("table", "other"), SIDES)
def test_a_row_that_the_other_table_refused_outlives_its_truncate(
    db: Connection, table: str, other: str, mode: str
) -> None:
    create(db, SHAPE)
    db.execute(f"alter table public.{table} add constraint short check (length(body) < 9)")
    register(db)
    to_stage(db, "dualwrite")
    db.execute("insert into public.things select g, 'short' from generate_series(1, 5) g")
    db.execute(f"insert into public.{other} values (6, 'much too long')")
    assert failures(db) == [({"id": 6}, "INSERT", "23514")]
    mirror(db, mode)
    db.execute(f"truncate public.{table}")
    assert rows(db, f"select * from public.{other}") == [(6, "much too long")]
    assert rows(db, f"select * from public.{table}") == []
    mirror(db, "both")
    db.execute(f"alter table public.{table} drop constraint short")
    assert repair(db)["remaining"] == 0
    assert both(db) == [(6, "much too long")]


def test_the_owners_trigger_that_looks_before_a_truncate_still_sees_the_rows(
    db: Connection,
) -> None:
    create(
        db,
        SHAPE.but(
            after="""
              create table public.seen (n bigint);
              create function public.see() returns trigger language plpgsql as $$ begin
                insert into public.seen select count(*) from public.things; return null;
              end $$;
              create trigger a_see before truncate on public.things
                for each statement execute function public.see();
              create trigger z_see before truncate on public.things
                for each statement execute function public.see();
            """
        ),
    )
    register(db)
    to_stage(db, "dualwrite")
    db.execute("insert into public.things select g, 'b' from generate_series(1, 5) g")
    db.execute("truncate public.things")
    assert rows(db, "select n from public.seen") == [(5,), (5,)]
    assert both(db) == []


CHILDREN = """
create table public.likes (thing bigint references public.things on delete cascade deferrable);
create table public.likes_v2 (thing bigint references public.things_v2 deferrable);
"""
TRUNCATES = [
    "truncate public.things cascade",
    "truncate public.things_v2 cascade",
    "truncate public.things, public.things_v2, public.likes, public.likes_v2",
    "truncate public.things_v2, public.likes_v2, public.things, public.likes restart identity",
]


@pytest.mark.parametrize("deferred", [False, True])
@pytest.mark.parametrize("statement", TRUNCATES)
def test_children_are_emptied_with_their_parents(
    db: Connection, statement: str, *, deferred: bool
) -> None:
    create(db, SHAPE.but(after=CHILDREN))
    register(db)
    to_stage(db, "dualwrite")
    db.execute("insert into public.things select g, 'b' from generate_series(1, 5) g")
    db.execute("insert into public.likes select id from public.things")
    if "likes_v2" in statement:
        db.execute("insert into public.likes_v2 select id from public.things_v2")
    with db.transaction():
        if deferred:
            db.execute("set constraints all deferred")
        db.execute("update public.things set body = 'edited'")
        db.execute(statement)
    assert both(db) == []
    assert failures(db) == []
    assert rows(db, "select * from public.likes") == []


def test_a_child_that_holds_a_counterpart_fast_is_told_and_nothing_is_lost(db: Connection) -> None:
    create(
        db,
        SHAPE.but(after=CHILDREN),
    )
    register(db)
    to_stage(db, "dualwrite")
    db.execute("insert into public.things select g, 'b' from generate_series(1, 3) g")
    db.execute("insert into public.likes_v2 values (2)")
    db.execute("truncate public.things cascade")
    assert [code for _, _, code in failures(db)] == ["23503"] * 3
    db.execute("delete from public.likes_v2")
    assert repair(db)["remaining"] == 0
    assert both(db) == []


# Tables beside the pair, rows in them, and a valid statement.
DEEPER = {
    "a child of both": (
        "create table public.k (t bigint references public.things, "
        "id bigint primary key references public.things_v2 on delete cascade); "
        "create table public.g (id bigint references public.k deferrable)",
        "truncate public.things cascade",
    ),
    "a grandchild": (
        "create table public.k "
        "(id bigint primary key references public.things_v2 on delete cascade); "
        "create table public.g (id bigint references public.k deferrable)",
        "truncate public.things, public.things_v2 cascade",
    ),
    "a key of two columns": (
        "create table public.k (id bigint primary key, t bigint references public.things, "
        "v2 bigint references public.things_v2 on delete set null, unique (id, v2)); "
        "create table public.g (id bigint, v2 bigint, "
        "foreign key (id, v2) references public.k (id, v2) deferrable)",
        "truncate public.things cascade",
    ),
}


@pytest.mark.parametrize("kind", DEEPER)
def test_checks_that_wait_for_commit_find_what_they_look_for(db: Connection, kind: str) -> None:
    made, statement = DEEPER[kind]
    create(db, SHAPE.but(after=made))
    register(db)
    to_stage(db, "dualwrite")
    db.execute("insert into public.things select g, 'b' from generate_series(1, 3) g")
    column = ", v2" if "set null" in made else ""
    db.execute(f"insert into public.k (id{column}) select id{', id' if column else ''} from things")
    db.execute(f"insert into public.g (id{column}) select id{', id' if column else ''} from things")
    with db.transaction():
        db.execute("set constraints all deferred")
        db.execute(statement)
    assert both(db) == []
    assert failures(db) == []


def test_a_client_may_empty_everything_and_load_children_first(db: Connection) -> None:
    create(db, SHAPE.but(after=CHILDREN))
    register(db)
    to_stage(db, "dualwrite")
    db.execute("insert into public.things values (1, 'b')")
    with db.transaction():
        db.execute("set constraints all deferred")
        db.execute("truncate public.things, public.things_v2, public.likes, public.likes_v2")
        db.execute("insert into public.likes_v2 values (7)")
        db.execute("insert into public.things_v2 values (7, 'new')")
    assert both(db) == [(7, "new")]


WRITES = {
    "before the truncate": ("before truncate on {t} for each statement", "{t} values (50, 'z')"),
    "for each deleted counterpart": (
        "after delete on {o} for each row when (old.id < 100)",
        "{o} values (old.id + 100, 'z')",
    ),
}


@pytest.mark.parametrize("kind", WRITES)
@pytest.mark.parametrize(("table", "other"), SIDES)
def test_what_the_owners_triggers_write_meanwhile_is_in_both_tables_or_in_none(
    db: Connection, table: str, other: str, kind: str
) -> None:
    when, what = (text.format(t=f"public.{table}", o=f"public.{other}") for text in WRITES[kind])
    made = (
        "create function public.write() returns trigger language plpgsql as $$ begin "
        f"insert into {what} on conflict do nothing; return null; end $$; "
        f"create trigger zz_write {when} execute function public.write()"
    )
    create(db, SHAPE.but(after=made))
    register(db)
    to_stage(db, "dualwrite")
    db.execute("insert into public.things select g, 'b' from generate_series(1, 3) g")
    db.execute(f"truncate public.{table}")
    assert len(both(db)) == (0 if kind.startswith("before") else 3)
    assert failures(db) == []
