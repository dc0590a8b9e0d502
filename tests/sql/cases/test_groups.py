"""Pairs whose tables point at each other: parents first, and nothing is lost in between."""

from __future__ import annotations

import pytest

from tests.sql import rollouts
from tests.sql.cases.pairs import backfill, group_to_stage, repair
from tests.sql.conftest import Connect, Connection, begins_with, on_both_ends
from tests.sql.control import call, in_background, one, refused, wait_for_waiters
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


def enrol(db: Connection, name: str, **options: str | None) -> str:
    names = [f"public.{name}{part}" for part in ("", "_v2", "_to_v2", "_to_v1")]
    return str(call(db, "register_pair", name, *names, options=options)["warnings"])


def dualwrite(db: Connection, *names: str) -> None:
    """Each with its group."""
    for name in names:
        call(db, "set_group_stage", name, "dualwrite", "test")


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


@on_both_ends
@pytest.mark.parametrize("policy", ["record", "raise"])
@pytest.mark.parametrize("where", ["both", "V2 only"])
@begins_with(pair, "parents", registered=False)
def test_writers_of_a_child_notice_nothing_until_its_parents_are_copied(
    db: Connection, connect: Connect, where: str, policy: str
) -> None:
    pair(
        db, "children",
        "references public.parents{v} on delete cascade" if where == "both" else "",
        "references public.parents_v2 on delete cascade", registered=False,
    )  # fmt: skip
    db.execute(FILL)
    for name in ("parents", "children"):
        enrol(db, name, failure_policy=policy)
    dualwrite(db, "parents")
    assert state(db, "children") == ("dualwrite", "waiting")
    writer = connect()
    db.execute("update public.children set body = 'edited' where id <= 10")
    db.execute("insert into public.children values (100, 7, 'new')")
    db.execute("update public.children set id = 101 where id = 50")
    db.execute("delete from public.children where id = 49")
    if where == "both":
        db.execute("delete from public.parents where id = 48")
    with refused("CF005", 409) as refusal:
        call(db, "set_mirror", "children", "log_only", "test")
    assert "parents" in str(refusal.detail)
    backfill(db, "parents")
    with writer.transaction():
        # Its transaction began before the child is mirrored, and it has written already.
        writer.execute("insert into public.children values (200, 1, 'unmirrored')")
        run = call(db, "start_backfill", "children")["run"]["id"]
        assert state(db, "children") == ("dualwrite", "both")
        assert call(db, "backfill_batch", run)["state"] == "waiting"
        writer.execute("insert into public.children values (201, 1, 'mirrored')")
    while call(db, "backfill_batch", run)["state"] != "finished":
        pass
    equal(db, "parents", "children")
    assert one(db, "select count(*) from public.children_v2 where id in (100, 101, 200, 201)") == 4


@begins_with(pair, "parents")
def test_a_waiting_child_is_not_backfilled_either_way_before_its_parents(db: Connection) -> None:
    pair(db, "children", "references public.parents{v}")
    dualwrite(db, "parents")
    for direction in ("v1_to_v2", "v2_to_v1"):
        with refused("CF005", 409):
            call(db, "start_backfill", "children", direction)
    assert state(db, "children") == ("dualwrite", "waiting")


# One stage, one transaction -----------------------------------------------------------------------


def family(db: Connection, *, rows: bool = True) -> None:
    """Parents, children, grandchildren, and one that is tied to nobody."""
    pair(db, "parents")
    pair(db, "children", "references public.parents{v} on delete cascade on update cascade")
    pair(db, "grandchildren", "", "references public.children_v2 on delete cascade")
    pair(db, "alone")
    if rows:
        db.execute(FILL)
        db.execute(
            "insert into public.grandchildren select g, g, 'g' from generate_series(1, 50) g"
        )


FAMILY = ("parents", "children", "grandchildren")


def groups(db: Connection) -> dict[str, list[str]]:
    return {
        group["group"]: [pair["pair"] for pair in group["pairs"]]
        for group in call(db, "group_status")["groups"]
    }


@begins_with(family, rows=False)
def test_foreign_keys_of_either_side_make_a_group_parents_first(db: Connection) -> None:
    assert groups(db) == {"parents": list(FAMILY), "alone": ["alone"]}
    for name in ("parents", "grandchildren"):
        (found,) = call(db, "group_status", name)["groups"]
        assert found["group"] == "parents"
    assert call(db, "pair_status", "grandchildren")["pairs"][0]["group"] == "parents"
    with refused("CF001", 404):
        call(db, "group_status", "nobody")
    db.execute("alter table public.alone add foreign key (parent) references public.grandchildren")
    assert groups(db) == {"parents": [*FAMILY, "alone"]}, "seen at once"


def test_a_name_makes_a_group_too_and_pairs_in_a_circle_have_an_order_by_name(
    db: Connection,
) -> None:
    for name in ("b", "a"):
        pair(db, name, registered=False)
    db.execute("alter table public.a add foreign key (parent) references public.b")
    db.execute("alter table public.b add foreign key (parent) references public.a")
    pair(db, "c", registered=False)
    for name in ("a", "b"):
        enrol(db, name)
    enrol(db, "c", group="shop")
    assert groups(db) == {"a": ["a", "b"], "shop": ["c"]}
    enrol(db, "a", group="shop")
    assert groups(db) == {"shop": ["a", "b", "c"]}
    enrol(db, "a")
    assert groups(db) == {"shop": ["a", "b", "c"]}, "as its file registers it again"
    enrol(db, "a", group=None)
    assert groups(db) == {"a": ["a", "b"], "shop": ["c"]}


def test_a_group_that_cannot_be_is_refused_by_name(db: Connection) -> None:
    pair(db, "parents", registered=False)
    pair(db, "children", "references public.parents{v}", registered=False)
    pair(db, "others", registered=False)
    enrol(db, "parents", group="one")
    for name, group, said in (
        ("children", "two", 'several groups ("one", "two")'),
        ("children", "Bad name", 'group "Bad name" is no name'),
        ("children", "parents", 'group "parents" has the name of a pair that is not in it'),
        ("others", "parents", 'group "parents" has the name of a pair that is not in it'),
    ):
        with refused("CF008", 400) as refusal:
            enrol(db, name, group=group)
        assert said in refusal.message, refusal.message
    assert groups(db) == {"one": ["parents"]}
    enrol(db, "children")
    assert groups(db) == {"one": ["parents", "children"]}
    enrol(db, "others", group="two")
    pair(db, "two", registered=False)
    with refused("CF008", 400) as refusal:
        enrol(db, "two")
    assert 'group "two" has the name of a pair that is not in it' in refusal.message


def state(db: Connection, name: str) -> tuple[str, str]:
    ((stage, mirror),) = rows(
        db,
        "select p.stage, m.mirror from crossfade.pairs p "
        f"join crossfade_private.mirror_state m on m.pair = p.name where p.name = '{name}'",
    )
    return stage, mirror


def stages(db: Connection) -> list[str]:
    return [state(db, name)[0] for name in FAMILY]


@begins_with(family)
def test_a_pair_alone_does_not_overtake_its_group(db: Connection) -> None:
    for name in FAMILY[1:]:
        with refused("CF005", 409) as refusal:
            call(db, "set_stage", name, "dualwrite", "test")
        assert [b["code"] for b in refusal.detail["blockers"]] == ["group"]
        hint = refusal.detail["blockers"][0]["hint"]
        assert hint == 'crossfade group stage parents dualwrite --reason "..."'
    # Parents first is the order of opening, so they may go alone.
    for name in (*FAMILY, "alone"):
        call(db, "set_stage", name, "dualwrite", "test")
        backfill(db, name)
    equal(db, *FAMILY)
    for name in FAMILY:
        with refused("CF005", 409) as refusal:
            call(db, "set_stage", name, "shadow", "test")
        assert [b["code"] for b in refusal.detail["blockers"]] == ["group"]
    # One that has fallen behind may catch up alone.
    call(db, "set_stage", "grandchildren", "off", "test")
    call(db, "set_stage", "grandchildren", "dualwrite", "test")


@begins_with(family)
def test_a_group_moves_whole_or_not_at_all_and_says_who_is_in_the_way(db: Connection) -> None:
    dualwrite(db, "parents")
    backfill(db, "parents")
    backfill(db, "children")
    with refused("CF005", 409) as refusal:
        call(db, "set_group_stage", "parents", "shadow", "test")
    blocked = [(b["pair"], b["code"]) for b in refusal.detail["blockers"]]
    assert blocked == [("grandchildren", "backfill_needed")]
    (found,) = call(db, "group_status", "parents")["groups"]
    assert [(b["pair"], b["code"]) for b in found["blockers"]] == blocked
    assert (found["stage"], found["next_stage"]) == ("dualwrite", "shadow")
    assert stages(db) == ["dualwrite"] * 3
    backfill(db, "grandchildren")
    moved = call(db, "set_group_stage", "parents", "shadow", "test")["pairs"]
    assert [(m["pair"], m["before"], m["after"]) for m in moved] == [
        (name, "dualwrite", "shadow") for name in FAMILY
    ]
    assert stages(db) == ["shadow"] * 3
    assert (
        call(db, "set_group_stage", "parents", "shadow", "test")["pairs"][0]["before"] == "shadow"
    )
    call(db, "set_stage", "children", "dualwrite", "test")
    with refused("CF005", 409) as refusal:
        call(db, "set_group_stage", "parents", "live", "test")
    said = [(b["pair"], b["code"]) for b in refusal.detail["blockers"]]
    assert ("children", "stage_order") in said
    assert stages(db) == ["shadow", "dualwrite", "shadow"]
    for bad, code in (("sideways", "CF012"), (None, "CF012")):
        with refused(code, 400):
            call(db, "set_group_stage", "parents", bad, "test")


@begins_with(family)
def test_no_parent_is_switched_off_under_its_children(db: Connection) -> None:
    dualwrite(db, "parents")
    for name in FAMILY:
        backfill(db, name)
    for name, others in (
        ("parents", '"children", "grandchildren" are'),
        ("children", '"grandchildren" is'),
    ):
        with refused("CF005", 409) as refusal:
            call(db, "set_stage", name, "off", "test")
        assert others in refusal.message
    call(db, "set_stage", "grandchildren", "off", "test")
    call(db, "set_stage", "children", "off", "test")
    dualwrite(db, "parents")
    backfill(db, "children")
    call(db, "set_group_stage", "children", "off", "test")
    assert stages(db) == ["off"] * 3


@pytest.mark.parametrize("version", ["", "_v2"])
@begins_with(pair, "parents", registered=False)
def test_a_child_that_is_off_refuses_no_writer_of_its_parent(db: Connection, version: str) -> None:
    pair(db, "children", "references public.parents{v}", registered=False)
    for name in ("parents", "children"):
        enrol(db, name, failure_policy="raise")
    db.execute(FILL)
    dualwrite(db, "parents")
    for name in ("parents", "children"):
        backfill(db, name)
    call(db, "set_stage", "children", "off", "test")
    other = "_v2" if version == "" else ""
    db.execute(f"delete from public.children{version} where id <= 3")
    db.execute(f"delete from public.parents{version} where id = 1")
    db.execute(f"update public.parents{version} set id = 102 where id = 2")
    db.execute(f"truncate public.parents{version} cascade")
    assert one(db, f"select count(*) from public.parents{other}") == 50
    assert {code for *_, code in failures(db)} == {"23503"}
    db.execute(f"delete from public.children{other}")
    repair(db, "parents")
    call(db, "set_stage", "children", "dualwrite", "test")
    backfill(db, "children")
    equal(db, "parents", "children")


def traffic(db: Connection, n: int, versions: tuple[str, ...] = ("", "_v2")) -> None:
    """A family, edited and half of it deleted, written through V1, V2 or both."""
    for place, v in enumerate(versions):
        key = 1000 * n + 100 * place
        for table, parent in zip(FAMILY, (None, key, key), strict=True):
            db.execute(
                f"insert into public.{table}{v} values (%s, %s, %s), (%s, %s, 'gone')",
                [key, parent, f"{table}{n}", key + 1, parent and key + 1],
            )
        db.execute(f"update public.children{v} set body = body || '!' where id = {key}")
        db.execute(f"update public.parents{v} set id = {key + 50} where id = {key}")
        db.execute(f"delete from public.grandchildren{v} where id = {key + 1}")
        db.execute(f"delete from public.parents{v} where id = {key + 1}")


@on_both_ends
@pytest.mark.parametrize("policy", ["record", "raise"])
def test_a_group_goes_through_every_stage_and_back_with_writers_at_each(
    db: Connection, policy: str
) -> None:
    pair(db, "parents", registered=False)
    pair(
        db, "children", "references public.parents{v} on delete cascade on update cascade",
        registered=False,
    )  # fmt: skip
    pair(db, "grandchildren", "references public.children{v} on delete cascade", registered=False)
    for name in FAMILY:
        enrol(db, name, failure_policy=policy)
    for setting in ("shadow_min_reads", "stage_bake_s"):
        call(db, "set_setting", setting, "0", "test")
    traffic(db, 1, ("",))
    for n, stage in enumerate(("dualwrite", "shadow", "live", "rampdown", "complete"), 2):
        for name in FAMILY:
            if stage == "live":
                verify(db, name)
            if stage == "rampdown":
                call(db, "set_cohort", name, {"percentage": 100}, "test")
        call(db, "set_group_stage", "parents", stage, "test", True)
        if stage == "dualwrite":
            traffic(db, n, ("",))
            for name in FAMILY:
                backfill(db, name)
        elif stage == "complete":
            traffic(db, n, ("_v2",))
            break
        # Nobody but the mirror writes V1 in rampdown: complete counts who does.
        traffic(db, n + 10, ("_v2",) if stage == "rampdown" else ("", "_v2"))
        equal(db, *FAMILY)
    for name in FAMILY:
        with refused("CF005", 409):
            call(db, "set_stage", name, "rampdown", "test")
    for name in ("grandchildren", "children"):
        with refused("CF005", 409):
            call(db, "start_backfill", name, "v2_to_v1")
    for name in FAMILY:
        backfill(db, name, "v2_to_v1")
        traffic(db, 20 + FAMILY.index(name), ("_v2",))
    for name in FAMILY:
        for _ in range(9):
            if call(db, "repair", name, follower_only="delete", reason="test")["remaining"] == 0:
                break
        verify(db, name)
        verify(db, name)
    call(db, "set_group_stage", "children", "rampdown", "test")
    equal(db, *FAMILY)
    for n, stage in enumerate(("live", "shadow", "dualwrite", "off"), 30):
        call(db, "set_group_stage", "parents", stage, "test")
        if stage != "off":
            traffic(db, n)
            equal(db, *FAMILY)
    assert stages(db) == ["off"] * 3


@begins_with(family, rows=False)
def test_a_pair_that_was_tied_later_does_not_bar_the_way_out_of_complete(db: Connection) -> None:
    call(db, "set_stage", "alone", "dualwrite", "test")
    group_to_stage(db, "complete", *FAMILY)
    db.execute("alter table public.alone add foreign key (parent) references public.grandchildren")
    db.execute("insert into public.parents_v2 values (1, null, 'p')")
    with refused("CF005", 409):
        call(db, "set_group_stage", "parents", "rampdown", "test")
    for name in FAMILY:
        backfill(db, name, "v2_to_v1")
        verify(db, name)
    moved = call(db, "set_group_stage", "parents", "rampdown", "test")["pairs"]
    assert [m["after"] for m in moved] == ["rampdown"] * 3 + ["dualwrite"]
    equal(db, *FAMILY)
    with refused("CF005", 409):
        call(db, "set_group_stage", "parents", "live", "test")


# Going back together ------------------------------------------------------------------------------


def live(db: Connection) -> None:
    family(db)
    group_to_stage(db, "live", *FAMILY)
    group_to_stage(db, "live", "alone")
    for name in (*FAMILY, "alone"):
        call(db, "set_cohort", name, {"percentage": 25}, "test")


@begins_with(live)
def test_a_change_of_stage_waits_for_no_pair_but_its_own(db: Connection, connect: Connect) -> None:
    other = connect()
    with other.transaction():
        # As a change of its stage begins, which wants the control row next.
        other.execute("select from crossfade.pairs where name = 'alone' for no key update")
        db.execute("set lock_timeout = '1s'")
        call(db, "set_stage", "parents", "shadow", "test")
        call(db, "set_group_stage", "parents", "dualwrite", "test")
        call(db, "set_group_stage", "parents", "off", "test")
    assert stages(db) == ["off"] * 3


@begins_with(live)
def test_two_changes_of_cohorts_take_the_locks_in_one_order(
    db: Connection, connect: Connect
) -> None:
    first, second = connect(), connect()
    with first.transaction():
        # As a change of the first pair's cohort begins.
        first.execute("select from crossfade.pairs where name = 'alone' for no key update")
        change = {"percentage": 30}
        with in_background(lambda: call(second, "set_cohort", "parents", change, "test")) as done:
            wait_for_waiters(db, 1)
            call(first, "set_cohort", "alone", change, "test")
            first.execute("commit; begin")
    assert [answer["cohort"]["percentage"] for answer in done] == [30]
    assert rows(db, "select count(*) from crossfade.cohorts where percentage = 30") == [(2,)]


@pytest.mark.parametrize("scope", FAMILY)
@begins_with(live)
def test_a_rollback_of_one_takes_its_group_back_and_says_so(db: Connection, scope: str) -> None:
    plan = call(db, "rollback", "COMPLETE", scope, "slow", True, True)["plan"]
    wanted = sorted(FAMILY)
    for action in ("set_stage", "set_percentage", "latch"):
        assert [step["object"] for step in plan if step["action"] == action] == wanted
    done = call(db, "rollback", "COMPLETE", scope, "slow", True)
    assert done["plan"] == plan
    assert stages(db) == ["shadow"] * 3
    assert state(db, "alone") == ("live", "both")
    with refused("CF006", 409):
        call(db, "set_group_stage", "parents", "live", "test")
    call(db, "rearm", "children", "mended")
    assert rows(db, "select name from crossfade.pairs where latched_at is not null") == []
    call(db, "restore_snapshot", done["snapshot"], "it was nothing")
    assert stages(db) == ["live"] * 3


@begins_with(pair, "parents")
def test_a_snapshot_older_than_the_child_takes_no_parent_off_under_it(db: Connection) -> None:
    snapshot = call(db, "take_snapshot", "before there were children")["snapshot"]["id"]
    pair(db, "children", "references public.parents{v}")
    dualwrite(db, "parents")
    for name in ("parents", "children"):
        backfill(db, name)
    with refused("CF005", 409) as refusal:
        call(db, "restore_snapshot", snapshot, "test")
    assert '"children" is of its group and would be left behind' in refusal.message
    assert state(db, "parents") == ("dualwrite", "both")
    call(db, "set_stage", "children", "off", "test")
    call(db, "restore_snapshot", snapshot, "test")
    assert state(db, "parents") == ("off", "off")


@begins_with(family)
def test_a_plan_of_one_pair_takes_the_stages_of_its_group(db: Connection) -> None:
    group_to_stage(db, "shadow", *FAMILY)
    for name in ("parents", "children"):
        verify(db, name)
    rollouts.start(db, rollouts.plan(rollouts.step("five", 5)), "parents")
    waits = str(rollouts.advance(db, "parents", automatic=False)["waits"])
    assert '"grandchildren": ' in waits, "the one that is not ready is named"
    assert stages(db) == ["shadow"] * 3
    verify(db, "grandchildren")
    assert rollouts.advance(db, "parents", automatic=False)["advanced"]
    assert stages(db) == ["live"] * 3
