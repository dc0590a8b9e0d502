"""Pairs whose tables point at each other: parents first, and nothing is lost in between."""

from __future__ import annotations

import psycopg
import pytest

from tests.sql.cases.pairs import backfill, repair
from tests.sql.conftest import Connection, begins_with
from tests.sql.control import call, one, refused
from tests.sql.notes_pair import rows
from tests.sql.things_pair import failures, verify


def pair(
    db: Connection, name: str, v1: str = "", v2: str | None = None, *, registered: bool = True
) -> None:
    """Make a pair NAME of (id, parent, body); v1 and v2 are more of the parent columns."""
    v2 = v1.replace("{v}", "_v2") if v2 is None else v2
    for table, constraint in ((name, v1.replace("{v}", "")), (f"{name}_v2", v2)):
        db.execute(
            f"create table public.{table} (id bigint primary key, "
            f"parent bigint {constraint}, body text)"
        )
    db.execute(f"""
        create function public.{name}_to_v2(a public.{name}, o public.{name}_v2)
        returns setof public.{name}_v2 language sql stable set search_path = ''
        begin atomic select a.id, a.parent, a.body; end;
        create function public.{name}_to_v1(b public.{name}_v2, o public.{name})
        returns setof public.{name} language sql stable set search_path = ''
        begin atomic select b.id, b.parent, b.body; end
    """)
    if registered:
        enrol(db, name)


def enrol(db: Connection, name: str) -> str:
    names = [f"public.{name}{part}" for part in ("", "_v2", "_to_v2", "_to_v1")]
    return str(call(db, "register_pair", name, *names)["warnings"])


def dualwrite(db: Connection, *names: str) -> None:
    for name in names:
        call(db, "set_stage", name, "dualwrite", "test")


def equal(db: Connection, *names: str) -> None:
    for name in names:
        select = "select id, parent, body from public.{} order by id"
        assert rows(db, select.format(name)) == rows(db, select.format(f"{name}_v2")), name
        assert verify(db, name) == 0
    assert failures(db) == []


FILL = """
insert into public.parents select g, null, 'p' from generate_series(1, 50) g;
insert into public.children select g, g, 'c' from generate_series(1, 50) g
"""
ORDERS = [("parents", "children"), ("children", "parents")]


@pytest.mark.parametrize("order", ORDERS, ids=["parent first", "child first"])
@pytest.mark.parametrize("where", ["both", "V2 only"])
@begins_with(pair, "parents", registered=False)
def test_a_child_is_not_copied_before_its_parent(
    db: Connection, order: tuple[str, str], where: str
) -> None:
    pair(
        db, "children",
        "references public.parents{v}" if where == "both" else "",
        "references public.parents_v2", registered=False,
    )  # fmt: skip
    told = [enrol(db, name) for name in order]
    assert "parents" in told[1 if order[0] == "parents" else 0]
    db.execute(FILL)
    dualwrite(db, *order)
    with refused("CF005", 409) as refusal:
        call(db, "start_backfill", "children")
    assert "parents" in refusal.message
    assert one(db, "select count(*) from public.children_v2") == 0
    run = call(db, "start_backfill", "parents")["run"]["id"]
    with refused("CF005", 409):
        call(db, "start_backfill", "children")
    while call(db, "backfill_batch", run)["state"] != "finished":
        pass
    assert backfill(db, "children")["rows_written"] == 50
    equal(db, "parents", "children")


@begins_with(pair, "parents")
def test_the_status_of_a_child_names_the_parent_it_waits_for(db: Connection) -> None:
    pair(db, "children", "references public.parents{v}")
    dualwrite(db, "parents", "children")
    status = str(call(db, "pair_status", "children"))
    assert "parents" in status.replace("public.parents", "")
    backfill(db, "parents")
    backfill(db, "children")


@begins_with(pair, "parents")
def test_grandchildren_and_children_of_two_parents_wait_for_all_of_them(db: Connection) -> None:
    pair(db, "others")
    pair(db, "children", "references public.parents{v}")
    pair(db, "grandchildren", "references public.children{v}")
    db.execute(
        "alter table public.grandchildren add other bigint; "
        "alter table public.grandchildren drop column other; "
        "alter table public.grandchildren add foreign key (parent) references public.others; "
        "alter table public.grandchildren_v2 add foreign key (parent) references public.others_v2"
    )
    call(db, "unregister_pair", "grandchildren", "test")
    enrol(db, "grandchildren")
    dualwrite(db, "parents", "others", "children", "grandchildren")
    for done, waits_for in (("", "children"), ("parents", "children"), ("children", "others")):
        if done:
            backfill(db, done)
        with refused("CF005", 409) as refusal:
            call(db, "start_backfill", "grandchildren")
        assert waits_for in refusal.message
    backfill(db, "others")
    assert backfill(db, "grandchildren")["state"] == "finished"


def test_a_parent_that_is_no_pair_is_waited_for_by_nobody(db: Connection) -> None:
    db.execute("create table public.owners (id bigint primary key)")
    pair(db, "children", "references public.owners")
    db.execute("insert into public.owners select g from generate_series(1, 20) g")
    db.execute("insert into public.children select g, g, 'c' from generate_series(1, 20) g")
    dualwrite(db, "children")
    assert backfill(db, "children")["rows_written"] == 20
    equal(db, "children")


def test_a_table_that_points_at_itself_waits_for_nobody(db: Connection) -> None:
    pair(db, "nodes", "references public.nodes{v}")
    # Each points at the next one, which is copied later.
    db.execute("insert into public.nodes select g, null, 'n' from generate_series(1, 300) g")
    db.execute("update public.nodes set parent = id + 1 where id < 300")
    dualwrite(db, "nodes")
    call(db, "set_setting", "batch_max_rows", "50", "test")
    backfill(db, "nodes")
    for _ in range(20):
        if repair(db, "nodes")["remaining"] == 0:
            break
    equal(db, "nodes")
    db.execute("insert into public.nodes values (400, 401, 'a'), (401, null, 'b')")
    db.execute("update public.nodes_v2 set parent = 400 where id = 1")
    equal(db, "nodes")


@pytest.mark.parametrize("table", ["", "_v2"])
@begins_with(pair, "parents")
def test_cascades_reach_the_children_of_both_tables(db: Connection, table: str) -> None:
    pair(db, "children", "references public.parents{v} on delete cascade on update cascade")
    dualwrite(db, "parents", "children")
    backfill(db, "parents")
    backfill(db, "children")
    db.execute(FILL)
    equal(db, "parents", "children")
    db.execute(f"delete from public.parents{table} where id <= 20")
    equal(db, "parents", "children")
    assert one(db, "select count(*) from public.children") == 30
    db.execute(f"update public.parents{table} set id = id + 100 where id = 30")
    equal(db, "parents", "children")
    assert one(db, "select parent from public.children where id = 30") == 130
    db.execute(f"truncate public.parents{table} cascade")
    equal(db, "parents", "children")
    assert one(db, "select count(*) from public.children_v2") == 0


@pytest.mark.parametrize("table", ["", "_v2"])
@begins_with(pair, "parents")
def test_a_parent_with_its_children_in_one_statement_reaches_both(
    db: Connection, table: str
) -> None:
    pair(db, "children", "references public.parents{v}")
    dualwrite(db, "parents", "children")
    backfill(db, "parents")
    backfill(db, "children")
    db.execute(
        f"with p as (insert into public.parents{table} values (1, null, 'p') returning id) "
        f"insert into public.children{table} select g, p.id, 'c' from p, generate_series(1, 9) g"
    )
    db.execute(
        f"with c as (delete from public.children{table} where parent = 1) "
        f"delete from public.parents{table} where id = 1"
    )
    # The parent's mirror may come before the child's, whose foreign key it then meets.
    for name in ("children", "parents"):
        repair(db, name)
    equal(db, "parents", "children")
    assert one(db, "select count(*) from public.children") == 0


@begins_with(pair, "parents")
def test_a_parent_switched_off_under_its_child_costs_only_what_repair_brings_back(
    db: Connection,
) -> None:
    pair(db, "children", "references public.parents{v}")
    dualwrite(db, "parents", "children")
    backfill(db, "parents")
    backfill(db, "children")
    call(db, "set_stage", "parents", "off", "test")  # going back is always allowed
    db.execute("insert into public.parents values (6000, null, 'new')")
    db.execute("insert into public.children values (6000, 6000, 'new')")
    assert [code for _, _, code in failures(db)] == ["23503"], "noted, and the writer got through"
    dualwrite(db, "parents")
    backfill(db, "parents")
    assert call(db, "repair", "children")["remaining"] == 0
    assert one(db, "select count(*) from public.children_v2 where id = 6000") == 1
    assert verify(db, "children") == 0


@pytest.mark.parametrize("policy", ["record", "raise"])
@begins_with(pair, "parents", registered=False)
def test_what_the_wrong_order_cost_is_repaired(db: Connection, policy: str) -> None:
    # Live writes reach a child's pair while the parents that were there before are not copied yet.
    pair(db, "children", "references public.parents{v}", registered=False)
    db.execute(FILL)
    for name in ("parents", "children"):
        names = [f"public.{name}{part}" for part in ("", "_v2", "_to_v2", "_to_v1")]
        call(db, "register_pair", name, *names, options={"failure_policy": policy})
    dualwrite(db, "parents", "children")
    edit = "update public.children set body = 'edited' where id <= 10"
    insert = "insert into public.children values (100, 7, 'new')"
    if policy == "record":
        db.execute(edit)
        db.execute(insert)
    else:
        for statement in (edit, insert):
            with pytest.raises(psycopg.errors.ForeignKeyViolation):
                db.execute(statement)
    backfill(db, "parents")
    backfill(db, "children")
    for _ in range(3):
        repair(db, "children")
    equal(db, "parents", "children")
    assert one(db, "select count(*) from public.children_v2 where body <> 'c'") == (
        11 if policy == "record" else 0
    )
