"""Triggers that the owner has on the tables, as real projects do: both tables end equal.

A BEFORE trigger rewrites the row that is about to be stored, so it also rewrites what a mirror, a
backfill or a repair stores. An AFTER trigger writes before the statement's own mirror has run.
"""

from __future__ import annotations

import psycopg
import pytest

from tests.sql.cases.pairs import (
    PLAIN,
    Shape,
    agreed,
    backfill,
    create,
    dualwrite,
    like,
    mirror,
    register,
    repair,
    settled,
    to_stage,
    unseen,
)
from tests.sql.conftest import Connection, Its, begins_with
from tests.sql.control import call, one
from tests.sql.notes_pair import rows
from tests.sql.things_pair import failures, verify


def trigger(name: str, when: str, body: str, tables: tuple[str, ...]) -> str:
    """One trigger function and its trigger on each of the tables; {t} is the table."""
    return "".join(
        f"""
        create function public.{name}_{table}() returns trigger language plpgsql
        set search_path = '' as $$ {body.format(t="public." + table)} $$;
        create trigger {name} {when.format(t="public." + table)}
        execute function public.{name}_{table}();
        """
        for table in tables
    )


BOTH = ("things", "things_v2")
V1_ONLY = ("things",)
V2_ONLY = ("things_v2",)
COLUMNS = "id bigint primary key, body text, slug text, version integer, edited timestamptz"

TOUCH = "begin new.edited := now(); return new; end"
CLOCK = "begin new.edited := clock_timestamp(); return new; end"
COUNT = "begin new.version := coalesce(new.version, 0) + 1; return new; end"
BEFORE_ROW = "before insert or update on {t} for each row"

BEFORE: dict[str, str] = {
    "time of the edit, both": trigger("touch", BEFORE_ROW, TOUCH, BOTH),
    "time of the edit, V1": trigger("touch", BEFORE_ROW, TOUCH, V1_ONLY),
    "time of the edit, V2": trigger("touch", BEFORE_ROW, TOUCH, V2_ONLY),
    "wall clock, both": trigger("touch", BEFORE_ROW, CLOCK, BOTH),
    "wall clock, updates only": trigger("touch", "before update on {t} for each row", CLOCK, BOTH),
    "wall clock, when something changed": trigger(
        "touch",
        "before update on {t} for each row when (old.* is distinct from new.*)",
        CLOCK,
        BOTH,
    ),
    "slug, another rule a side": trigger(
        "slug", BEFORE_ROW, "begin new.slug := lower(new.body); return new; end", V1_ONLY
    )
    + trigger("slug", BEFORE_ROW, "begin new.slug := upper(new.body); return new; end", V2_ONLY),
    "counter, both": trigger("count", BEFORE_ROW, COUNT, BOTH),
    "counter, V1": trigger("count", BEFORE_ROW, COUNT, V1_ONLY),
    "counter, V2": trigger("count", BEFORE_ROW, COUNT, V2_ONLY),
    "normaliser, V2": trigger(
        "trim", BEFORE_ROW, "begin new.body := trim(new.body); return new; end", V2_ONLY
    ),
    "random value, V2": trigger(
        "random", BEFORE_ROW, "begin new.slug := gen_random_uuid()::text; return new; end", V2_ONLY
    ),
    "two of them, with names around ours": trigger("zzz", BEFORE_ROW, CLOCK, BOTH)
    + trigger("aaa", BEFORE_ROW, COUNT, BOTH),
    "a statement trigger before": trigger(
        "look", "before insert or update on {t} for each statement", "begin return null; end", BOTH
    ),
}
EDITS = [
    "insert into {t} (id, body) values ({n}, ' One ')",
    "insert into {t} (id, body) select g, ' Many ' from generate_series({n} + 1, {n} + 25) g",
    "update {t} set body = ' Edited ' where id = {n}",
    "update {t} set body = body || ' again ' where id between {n} and {n} + 20",
    "insert into {t} (id, body) values ({n}, ' Upsert '), ({n} + 30, ' New ') "
    "on conflict (id) do update set body = excluded.body",
    "update {t} set id = id + 40 where id = {n} + 1",
    "merge into {t} t using (values ({n} + 2), ({n} + 50)) s (id) on t.id = s.id "
    "when matched then update set body = ' Merged ' "
    "when not matched then insert (id, body) values (s.id, ' Merged ')",
    "delete from {t} where id = {n} + 3",
]
ALL = "id, body, slug, version, edited"


@pytest.mark.parametrize("kind", BEFORE)
def test_a_before_trigger_does_not_make_the_tables_differ(db: Connection, kind: str) -> None:
    create(db, like(COLUMNS, after=BEFORE[kind]))
    for n in range(1, 4):
        db.execute("insert into public.things (id, body) values (%s, ' old ')", [n])
    register(db)
    to_stage(db, "dualwrite")
    assert backfill(db)["rows_written"] == 3
    settled(db, ALL)
    wrong = {}
    for start, table in ((100, "public.things"), (200, "public.things_v2")):
        for edit in EDITS:
            db.execute(edit.format(t=table, n=start))
            try:
                agreed(db, ALL)
            except AssertionError as error:
                wrong[edit, table] = str(error)[:200]
    assert wrong == {}
    settled(db, ALL)


def test_a_before_trigger_that_is_named_to_come_last_of_all_is_told_by_name(db: Connection) -> None:
    made = trigger("touch", BEFORE_ROW, CLOCK, V2_ONLY).replace(
        "create trigger touch", 'create trigger "~~~~"'
    )
    create(db, like(COLUMNS, after=made))
    try:
        told = str(register(db)["warnings"])
    except psycopg.Error as error:
        told = f"{error} {error.diag.message_detail}"
    assert "~~~~" in told


def test_registration_tells_of_what_keeps_rows_from_being_mirrored(db: Connection) -> None:
    by_hand = trigger("copy", BEFORE_ROW, """begin
      insert into public.things_v2 (id, body) values (new.id, new.body); return new; end""",
      ("things",))  # fmt: skip
    columns = "id bigint primary key, body text, owner bigint references public.owners on update "
    shape = like(
        columns, before="create table public.owners (id bigint primary key)", after=by_hand
    )
    create(db, shape.but(v1=columns + "cascade", v2=columns + "no action"))
    told = str(register(db)["warnings"])
    assert 'trigger "copy" on public.things runs before its row is there' in told
    assert "changing the key of public.owners is carried on to public.things and" in told


@pytest.mark.parametrize("kind", ["time of the edit, both", "wall clock, V2", "counter, both"])
@pytest.mark.parametrize("leader", [1, 2])
def test_repair_comes_to_rest(db: Connection, kind: str, leader: int) -> None:
    after = BEFORE.get(kind) or trigger("touch", BEFORE_ROW, CLOCK, V2_ONLY)
    create(db, like(COLUMNS, after=after))
    db.execute("insert into public.things (id, body) select g, 'n' from generate_series(1, 30) g")
    register(db)
    to_stage(db, "dualwrite" if leader == 1 else "rampdown")
    if leader == 1:
        backfill(db)
    written, follower = (BOTH, BOTH[::-1])[leader - 1]
    with unseen(db):
        db.execute(f"update public.{written} set body = 'unseen', version = 7 where id <= 10")
        db.execute(f"delete from public.{follower} where id = 20")
    assert verify(db, "things") == 11
    wanted = rows(db, f"select {ALL} from public.{written} order by 1")
    answer = repair(db)
    assert (answer["repaired"], answer["failed"], answer["remaining"]) == (11, 0, 0)
    assert settled(db, ALL) == wanted


TOUCHED = like(
    "id bigint primary key, v integer, edited timestamptz",
    after=trigger("touch", "before update on {t} for each row", TOUCH, BOTH),
)


def test_rows_that_were_only_noted_are_repaired_at_once(db: Connection) -> None:
    create(db, TOUCHED)
    db.execute("insert into public.things (id, v) select g, g from generate_series(1, 10) g")
    register(db)
    to_stage(db, "dualwrite")
    backfill(db)
    mirror(db, "log_only")
    db.execute("update public.things set v = v + 1 where id <= 3")
    db.execute("update public.things_v2 set v = v + 10 where id between 5 and 6")
    mirror(db, "both")
    answer = repair(db)
    assert (answer["repaired"], answer["failed"], answer["remaining"]) == (5, 0, 0)
    assert [v for _, v, _ in settled(db, "id, v, edited")] == [2, 3, 4, 4, 15, 16, 7, 8, 9, 10]


def test_the_way_back_from_complete_is_open(db: Connection) -> None:
    create(db, TOUCHED)
    db.execute("insert into public.things (id, v) select g, g from generate_series(1, 10) g")
    register(db)
    to_stage(db, "complete")
    db.execute("update public.things_v2 set v = v + 1 where id <= 3")
    db.execute("insert into public.things_v2 (id, v) values (11, 11)")
    backfill(db, direction="v2_to_v1")
    verify(db, "things")
    answer = repair(db)
    assert (answer["failed"], answer["remaining"]) == (0, 0)
    assert verify(db, "things") == 0
    assert call(db, "set_stage", "things", "rampdown", "test")["after"] == "rampdown"
    found = settled(db, "id, v, edited")
    assert [v for _, v, _ in found] == [2, 3, 4, *range(4, 12)]
    db.execute("update public.things set v = 0 where id = 1")
    db.execute("update public.things_v2 set v = 0 where id = 2")
    assert [v for _, v, _ in settled(db, "id, v, edited")] == [0, 0, 4, *range(4, 12)]


def test_what_only_this_table_holds_stays_as_its_trigger_computed_it(db: Connection) -> None:
    create(
        db,
        Shape(
            v1="id bigint primary key, body text",
            v2="id bigint primary key, body text, words integer, seen integer not null default 0",
            to_v2="a.id, a.body, o.words, coalesce(o.seen, 0)",
            to_v1="b.id, b.body",
            after=trigger(
                "words",
                BEFORE_ROW,
                "begin new.words := length(new.body); new.seen := new.seen + 1; return new; end",
                V2_ONLY,
            ),
        ),
    )
    db.execute("insert into public.things values (1, 'a'), (2, 'bb')")
    register(db)
    to_stage(db, "dualwrite")
    backfill(db)
    db.execute("insert into public.things values (3, 'ccc')")
    db.execute("update public.things set body = 'edited' where id = 1")
    db.execute("update public.things_v2 set body = 'by V2' where id = 2")
    found = settled(db)
    assert rows(db, "select id, words from public.things_v2 order by 1") == [
        (key, len(body)) for key, body in found
    ]


def dropping(db: Connection, side: int) -> None:
    """A row of this side may be dropped by a trigger of the other one."""
    made = trigger(
        "drop_it",
        BEFORE_ROW,
        "begin if new.body = 'unwanted' then return null; end if; return new; end",
        (BOTH[2 - side],),
    )
    create(db, PLAIN.but(after=made))
    register(db)
    to_stage(db, "dualwrite")


@pytest.mark.parametrize("count", [1, 30])
@pytest.mark.parametrize("side", [1, 2])
@begins_with(dropping, Its("side"))
def test_a_before_trigger_that_drops_the_mirrored_row_is_recorded(
    db: Connection, side: int, count: int
) -> None:
    other = BOTH[2 - side]
    written = f"public.{BOTH[side - 1]}"
    db.execute(
        f"insert into {written} (id, body) "
        f"select g, case g when 1 then 'unwanted' else 'n' end from generate_series(1, {count}) g"
    )
    assert [(key, code) for key, _, code in failures(db)] == [({"id": 1}, "CF017")]
    db.execute(f"drop trigger drop_it on public.{other}")
    assert repair(db)["remaining"] == 0
    assert len(settled(db)) == count


# AFTER triggers that complete the row they were fired for -----------------------------------------

SLUG = "id bigint primary key, title text, slug text"
COMPLETE_ROW = """
begin
  update {t} set slug = lower(new.title) || '-' || new.id where id = new.id;
  return null;
end"""
COMPLETE_ALL = """
begin
  update {t} t set slug = lower(t.title) || '-' || t.id from made
  where t.id = made.id and t.slug is distinct from lower(t.title) || '-' || t.id;
  return null;
end"""
COMPLETING = {
    "row": ("after insert on {t} for each row", COMPLETE_ROW),
    "row, also before ours by name": ("after insert on {t} for each row", COMPLETE_ROW),
    "statement": ("after insert on {t} referencing new table as made for each statement",
                  COMPLETE_ALL),
    "row, insert and update": (
        "after insert or update of title on {t} for each row when (pg_trigger_depth() < 9)",
        COMPLETE_ROW,
    ),
}  # fmt: skip
FIRING = {
    "insert": "insert into {t} (id, title) values ({n}, 'Plain')",
    "many": "insert into {t} (id, title) "
    "select g, 'Many' from generate_series({n} + 1, {n} + 30) g",
    "upsert of a new row": "insert into {t} (id, title) values ({n} + 40, 'Upsert') "
    "on conflict (id) do update set title = excluded.title",
    "upsert of old and new rows": "insert into {t} (id, title) values ({n}, 'Old'), "
    "({n} + 41, 'New') on conflict (id) do update set title = excluded.title",
    "upsert that does nothing": "insert into {t} (id, title) values ({n}, 'x'), ({n} + 42, 'Y') "
    "on conflict do nothing",
    "merge": "merge into {t} t using (values ({n}), ({n} + 43), ({n} + 1)) s (id) on t.id = s.id "
    "when matched and s.id = {n} + 1 then delete "
    "when matched then update set title = 'Merged' "
    "when not matched then insert (id, title) values (s.id, 'Merge')",
    "cte": "with a as (insert into {t} (id, title) values ({n} + 44, 'Cte') returning id) "
    "insert into {t} (id, title) select id + 1, 'Cte' from a",
    "select": "insert into {t} (id, title) select id + 1000, title from {t} where id = {n}",
}


@pytest.mark.parametrize("kind", COMPLETING)
@pytest.mark.parametrize("tables", [V1_ONLY, V2_ONLY, BOTH], ids=["V1", "V2", "both"])
def test_a_row_that_its_own_trigger_completes_is_whole_in_both_tables(
    db: Connection, kind: str, tables: tuple[str, ...]
) -> None:
    when, body = COMPLETING[kind]
    name = "aaa" if "before ours" in kind else "slug"
    shape = Shape(
        v1=SLUG,
        v2=f"{SLUG}, extra integer",
        to_v2="a.id, a.title, a.slug, o.extra",
        to_v1="b.id, b.title, b.slug",
        after=trigger(name, when, body, tables),
    )
    dualwrite(db, shape)
    wrong = {}
    for start, table in ((10_000, "things"), (20_000, "things_v2")):
        for event, statement in FIRING.items():
            db.execute(statement.format(t=f"public.{table}", n=start))
            try:
                found = agreed(db, "id, title, slug")
                assert [row for row in found if row[2] is None] == []
            except AssertionError as error:
                wrong[event, table] = str(error)[:300]
        with db.cursor().copy(f"copy public.{table} (id, title) from stdin") as copy:
            for n in range(3):
                copy.write_row((start + 500 + n, "Copied"))
        settled(db, "id, title, slug")
    assert wrong == {}


# AFTER triggers that write something else ---------------------------------------------------------

COUNTING = PLAIN.but(
    v2="id bigint primary key, body text, cnt integer not null default 0",
    to_v2="a.id, a.body, coalesce(o.cnt, 0)",
)
ROUND = """
begin update public.things_v2 set cnt = cnt + 1 where id = new.id; return null; end"""
ROUND_ALL = """
begin
  update public.things_v2 set cnt = cnt + 1 where id in (select id from edited);
  return null;
end"""


def counting_in_v2(db: Connection, name: str, each: str, **options: str) -> None:
    made = (
        trigger(name, "after update on {t} for each row", ROUND, V1_ONLY)
        if each == "row"
        else trigger(
            name,
            "after update on {t} referencing new table as edited for each statement",
            ROUND_ALL,
            V1_ONLY,
        )
    )
    dualwrite(db, COUNTING.but(after=made), **options)


@pytest.mark.parametrize("policy", ["record", "raise"])
@pytest.mark.parametrize("name", ["a_count", "zz_count"])
@pytest.mark.parametrize("count", [1, 25])
@pytest.mark.parametrize("each", ["row", "statement"])
@begins_with(counting_in_v2, Its("name"), Its("each"), failure_policy=Its("policy"))
def test_a_counter_that_v1s_trigger_keeps_in_v2_does_not_undo_the_edit(
    db: Connection, each: str, count: int, name: str, policy: str
) -> None:
    db.execute(f"insert into public.things select g, 'old' from generate_series(1, {count}) g")
    db.execute("update public.things set body = 'new'")
    assert settled(db) == [(n, "new") for n in range(1, count + 1)]
    assert rows(db, "select distinct cnt from public.things_v2") == [(1,)]


@pytest.mark.parametrize("count", [1, 25])
@begins_with(counting_in_v2, "a_count", "row")
def test_a_counter_that_v1s_trigger_keeps_in_v2_ends_after_an_edit_of_v2(
    db: Connection, count: int
) -> None:
    db.execute(f"insert into public.things select g, 'old' from generate_series(1, {count}) g")
    db.execute("set statement_timeout = '20s'")
    db.execute("update public.things_v2 set body = 'by V2'")
    db.execute("reset statement_timeout")
    assert settled(db) == [(n, "by V2") for n in range(1, count + 1)]
    db.execute(
        "insert into public.things values (1, 'upsert') "
        "on conflict (id) do update set body = excluded.body"
    )
    assert settled(db)[0] == (1, "upsert")


COUNTING_IN_V1 = Shape(
    v1="id bigint primary key, body text, cnt integer",
    v2="id bigint primary key, body text",
    to_v2="a.id, a.body",
    to_v1="b.id, b.body, coalesce(o.cnt, 0)",
    after=trigger(
        "a_count",
        "after update on {t} for each row",
        "begin update public.things set cnt = cnt + 1 where id = new.id; return null; end",
        V2_ONLY,
    ),
)


@pytest.mark.parametrize("count", [1, 25])
@begins_with(dualwrite, COUNTING_IN_V1)
def test_a_counter_that_v2s_trigger_keeps_in_v1_does_not_undo_the_edit(
    db: Connection, count: int
) -> None:
    db.execute(f"insert into public.things select g, 'old', 0 from generate_series(1, {count}) g")
    db.execute("set statement_timeout = '20s'")
    db.execute("update public.things_v2 set body = 'new'")
    db.execute("reset statement_timeout")
    assert settled(db) == [(n, "new") for n in range(1, count + 1)]
    assert rows(db, "select distinct cnt from public.things") == [(1,)]


SIBLINGS = """
begin
  insert into {t} (id, body) values (new.id + 1000, 'copy of ' || new.body);
  update {t} set body = 'last was ' || new.id where id = 1;
  return null;
end"""


def with_siblings(db: Connection, table: str) -> None:
    when = "after insert on {t} for each row when (new.id < 1000)"
    dualwrite(db, PLAIN.but(after=trigger("siblings", when, SIBLINGS, (table,))))


@pytest.mark.parametrize("table", BOTH)
@begins_with(with_siblings, Its("table"))
def test_a_trigger_that_writes_sibling_rows_writes_them_in_both_tables(
    db: Connection, table: str
) -> None:
    t = f"public.{table}"
    db.execute(f"insert into {t} (id, body) values (1, 'a')")
    db.execute(f"insert into {t} (id, body) values (2, 'b'), (3, 'c')")
    db.execute(
        f"insert into {t} (id, body) values (2, 'u'), (4, 'd') "
        "on conflict (id) do update set body = excluded.body"
    )
    assert settled(db) == [
        (1, "last was 4"), (2, "u"), (3, "c"), (4, "d"),
        (1001, "copy of a"), (1002, "copy of b"), (1003, "copy of c"), (1004, "copy of d"),
    ]  # fmt: skip


@pytest.mark.parametrize("how", ["backfill", "repair"])
@pytest.mark.parametrize(("table", "source"), [("things", "things_v2"), ("things_v2", "things")])
@begins_with(with_siblings, Its("table"))
def test_what_a_trigger_writes_beside_a_row_that_we_make_is_in_both_tables(
    db: Connection, table: str, source: str, how: str
) -> None:
    db.execute(f"insert into public.{source} (id, body) values (1, 'a')")
    with unseen(db):
        db.execute(f"insert into public.{source} (id, body) values (2, 'b'), (3, 'c')")
    if how == "backfill":
        backfill(db, direction="v1_to_v2" if source == "things" else "v2_to_v1")
    else:
        assert verify(db, "things") == 2
        repair(db, follower_only="copy")
    assert settled(db) == [
        (1, "last was 3"), (2, "b"), (3, "c"),
        (1001, "copy of a"), (1002, "copy of b"), (1003, "copy of c"),
    ]  # fmt: skip


BY_HAND = """
begin
  if tg_op = 'DELETE' then
    delete from public.{o} where id = old.id;
  else
    insert into public.{o} (id, body) values (new.id, new.body)
    on conflict (id) do update set body = excluded.body;
  end if;
  return null;
end"""


@pytest.mark.parametrize("policy", ["record", "raise"])
@pytest.mark.parametrize("side", [1, 2])
def test_an_older_dual_write_of_the_owners_may_stay(db: Connection, side: int, policy: str) -> None:
    table, other = BOTH if side == 1 else BOTH[::-1]
    made = trigger(
        "dual_write",
        "after insert or update or delete on {t} for each row",
        BY_HAND.replace("{o}", other),
        (table,),
    )
    dualwrite(db, PLAIN.but(after=made), failure_policy=policy)
    for t in (f"public.{table}", f"public.{other}"):
        db.execute("delete from public.things")
        db.execute(f"insert into {t} (id, body) select g, 'n' from generate_series(1, 9) g")
        db.execute(f"update {t} set body = 'edited' where id <= 5")
        db.execute(f"delete from {t} where id = 3")
        db.execute(
            f"insert into {t} (id, body) values (1, 'u'), (20, 'v') "
            "on conflict (id) do update set body = excluded.body"
        )
        assert settled(db) == [
            (1, "u"), (2, "edited"), (4, "edited"), (5, "edited"),
            *((n, "n") for n in range(6, 10)), (20, "v"),
        ]  # fmt: skip


@pytest.mark.parametrize("side", [1, 2])
def test_an_older_dual_write_in_another_form_settles_both_tables(db: Connection, side: int) -> None:
    """What it wrote last is what both tables hold; nobody is refused."""
    table, other = BOTH if side == 1 else BOTH[::-1]
    body = BY_HAND.replace("{o}", other).replace("new.body", "upper(new.body)")
    made = trigger(
        "dual_write", "after insert or update or delete on {t} for each row", body, (table,)
    )
    dualwrite(db, PLAIN.but(after=made))
    db.execute(f"insert into public.{table} (id, body) select g, 'n' from generate_series(1, 9) g")
    assert settled(db) == [(n, "N") for n in range(1, 10)]
    db.execute(f"insert into public.{table} (id, body) values (20, 'v')")
    assert settled(db)[-1] == (20, "V")


@pytest.mark.parametrize("table", BOTH)
def test_nothing_is_compiled_for_what_the_mirror_writes(db: Connection, table: str) -> None:
    """A row that triggers write one by one is planned as if it were many, and compiled as that."""
    other = BOTH[1 - BOTH.index(table)]
    seen = "begin insert into public.seen values (tg_op, current_setting('jit')); return null; end"
    made = "create table public.seen (op text, jit text);" + trigger(
        "see", "after insert or update or delete on {t} for each row", seen, (other,)
    )
    dualwrite(db, PLAIN.but(after=made))
    db.execute("set jit = on")
    db.execute(f"insert into public.{table} (id, body) select g, 'a' from generate_series(1, 20) g")
    db.execute(f"update public.{table} set body = 'b'")
    db.execute(f"delete from public.{table} where id > 10")
    db.execute(f"truncate public.{table}")
    assert rows(db, "select op, jit, count(*) from public.seen group by 1, 2 order by 1") == [
        ("DELETE", "off", 20),
        ("INSERT", "off", 20),
        ("UPDATE", "off", 20),
    ]
    assert rows(db, "show jit") == [("on",)]


# Rows that their triggers bring back or take away -------------------------------------------------


UNDELETE = "begin insert into {t} (id, body) values (old.id, %s); return null; end"


def undeleting(db: Connection, side: int) -> None:
    made = trigger(
        "undelete",
        "after delete on {t} for each row when (old.body <> 'gone')",
        UNDELETE % "old.body",
        (BOTH[side - 1],),
    )
    dualwrite(db, PLAIN.but(after=made))


@pytest.mark.parametrize("count", [1, 25])
@pytest.mark.parametrize("side", [1, 2])
@begins_with(undeleting, Its("side"))
def test_a_row_that_an_after_delete_trigger_puts_back_is_in_both_tables(
    db: Connection, side: int, count: int
) -> None:
    db.execute(f"insert into public.things select g, 'n' from generate_series(1, {count}) g")
    db.execute("insert into public.things values (100, 'gone')")
    db.execute(f"delete from public.{BOTH[side - 1]}")
    assert settled(db) == [(n, "n") for n in range(1, count + 1)]


@pytest.mark.parametrize("side", [1, 2])
def test_one_that_puts_another_row_back_is_refused_and_nothing_is_lost(
    db: Connection, side: int
) -> None:
    # The counterpart is still there, and might be a row that only the other table has: handing it
    # over would be worse. LIMITS.md says so.
    made = trigger(
        "undelete", "after delete on {t} for each row", UNDELETE % "'kept'", (BOTH[side - 1],)
    )
    dualwrite(db, PLAIN.but(after=made))
    db.execute("insert into public.things select g, 'n' from generate_series(1, 9) g")
    with pytest.raises(psycopg.errors.UniqueViolation, match="has a row with it"):
        db.execute(f"delete from public.{BOTH[side - 1]}")
    assert settled(db) == [(n, "n") for n in range(1, 10)]


@pytest.mark.parametrize("event", ["insert", "update"])
@pytest.mark.parametrize("side", [1, 2])
def test_a_row_that_its_own_trigger_deletes_is_in_no_table(
    db: Connection, side: int, event: str
) -> None:
    made = trigger(
        "purge",
        f"after {event} on {{t}} for each row when (new.body = 'spam')",
        "begin delete from {t} where id = new.id; return null; end",
        (BOTH[side - 1],),
    )
    dualwrite(db, PLAIN.but(after=made))
    t = f"public.{BOTH[side - 1]}"
    db.execute(f"insert into {t} (id, body) values (1, 'spam'), (2, 'fine'), (3, 'fine')")
    db.execute(f"update {t} set body = 'spam' where id = 2")
    db.execute(
        f"insert into {t} (id, body) values (3, 'spam'), (4, 'spam') "
        "on conflict (id) do update set body = excluded.body"
    )
    left = {"insert": [(2, "spam"), (3, "spam")], "update": [(1, "spam"), (4, "spam")]}
    assert settled(db) == left[event]


@pytest.mark.parametrize("name", ["a_note", "zz_note"])
def test_an_edit_of_the_counterpart_of_a_deleted_row_does_not_bring_it_back(
    db: Connection, name: str
) -> None:
    made = trigger(
        name,
        "after delete on {t} for each row",
        "begin update public.things_v2 set body = 'deleted' where id = old.id; return null; end",
        V1_ONLY,
    )
    dualwrite(db, PLAIN.but(after=made))
    db.execute("insert into public.things select g, 'n' from generate_series(1, 5) g")
    db.execute("delete from public.things where id < 4")
    assert settled(db) == [(4, "n"), (5, "n")]


# Triggers that answer each other ------------------------------------------------------------------

STAMP = "update {t} set edited = clock_timestamp() where id = new.id"
STAMPS = Shape(
    v1="id bigint primary key, body text, edited timestamptz",
    v2="id bigint primary key, body text, edited timestamptz, extra integer",
    to_v2="a.id, a.body, a.edited, o.extra",
    to_v1="b.id, b.body, b.edited",
)
LOG = """
create table public.fired (side integer);
create function public.count_it() returns trigger language plpgsql as $$
begin insert into public.fired values (tg_argv[0]::int); return null; end $$;
create trigger zzz after update on public.things for each statement
execute function public.count_it(1);
create trigger zzz after update on public.things_v2 for each statement
execute function public.count_it(2);
"""


def stamping(db: Connection, when: str) -> None:
    made = trigger("a_stamp", when, f"begin {STAMP}; return null; end", BOTH)
    dualwrite(db, STAMPS.but(after=made + LOG))


@pytest.mark.parametrize("side", [1, 2])
@pytest.mark.parametrize("count", [1, 10])
@pytest.mark.parametrize("when", ["after update of body on {t} for each row",
                                  "after update of body on {t} for each row when "
                                  "(old.body is distinct from new.body)"])  # fmt: skip
@begins_with(stamping, Its("when"))
def test_column_triggers_on_both_tables_come_to_an_end(
    db: Connection, when: str, count: int, side: int
) -> None:
    db.execute(f"insert into public.things select g, 'a' from generate_series(1, {count}) g")
    db.execute("delete from public.fired")
    # The bound is the number of statements below; the timeout only ends what would never end.
    db.execute("set statement_timeout = '20s'")
    db.execute(f"update public.{BOTH[side - 1]} set body = 'b'")
    db.execute("reset statement_timeout")
    assert one(db, "select count(*) from public.fired") <= 8 * count + 8
    assert [body for _, body, _ in settled(db, "id, body, edited")] == ["b"] * count
    assert one(db, "select count(*) from public.things where edited is null") == 0


@pytest.mark.parametrize("side", [1, 2])
@begins_with(
    dualwrite,
    STAMPS.but(
        after=trigger(
            "a_stamp",
            "after update on {t} for each row when (pg_trigger_depth() < 3)",
            f"begin {STAMP}; return null; end",
            BOTH,
        )
    ),
)
def test_triggers_that_touch_each_others_rows_come_to_an_end(db: Connection, side: int) -> None:
    db.execute("insert into public.things select g, 'a' from generate_series(1, 5) g")
    db.execute("set statement_timeout = '20s'")
    db.execute(f"update public.{BOTH[side - 1]} set body = 'b' where id <= 3")
    db.execute("reset statement_timeout")
    assert [body for _, body, _ in settled(db, "id, body, edited")] == ["b"] * 3 + ["a"] * 2


# A trigger of a third table -----------------------------------------------------------------------

SIGN_UP = """
create table public.signups (id bigint primary key);
create function public.handle_sign_up() returns trigger language plpgsql
security definer set search_path = '' as $$
begin
  insert into public.{t} (id, body) values (new.id, 'new');
  return new;
end $$;
create trigger on_sign_up after insert on public.signups
for each row execute function public.handle_sign_up();
grant insert on public.signups to authenticated;
"""


@pytest.mark.parametrize("stage", ["dualwrite", "live", "rampdown"])
@pytest.mark.parametrize("table", BOTH)
def test_a_sign_up_trigger_writes_both_tables(db: Connection, table: str, stage: str) -> None:
    create(db, PLAIN.but(after=SIGN_UP.format(t=table)))
    register(db)
    to_stage(db, stage)
    if stage == "dualwrite":
        backfill(db)
    with db.transaction():
        db.execute("set local role authenticated")
        db.execute("insert into public.signups values (1), (2)")
    assert settled(db) == [(1, "new"), (2, "new")]


def test_replica_and_always_triggers_of_the_owner_are_left_as_they_are(db: Connection) -> None:
    create(db, PLAIN.but(after=trigger("a", BEFORE_ROW, "begin return new; end", BOTH)))
    db.execute("""
        alter table public.things enable replica trigger a;
        alter table public.things_v2 enable always trigger a;
    """)
    states = (
        "select tgrelid::regclass::text, tgenabled from pg_trigger where tgname = 'a' order by 1"
    )
    before = rows(db, states)
    register(db)
    to_stage(db, "dualwrite")
    db.execute("insert into public.things values (1, 'a')")
    assert rows(db, states) == before
    assert settled(db) == [(1, "a")]
