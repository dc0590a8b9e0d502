"""Which keys two tables may share: judged by what a type is made of, in every session the same."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from .conftest import Connection, on_debian_15
from .control import call
from .notes_pair import rows
from .things_pair import failures, verify

TYPES = """
create domain public.ratio as real;
create domain public.ratio_of_ratio as public.ratio;
create domain public.span as interval;
create domain public.stay as daterange;
create domain public.moment as timestamptz;
create domain public.moment_of_moment as public.moment;
create domain public.code as varchar(20);
create domain public.whole as integer;
create type public.speeds as range (subtype = float8);
create type public.place as (street text, number integer);
create type public.mood as enum ('calm', 'busy');
"""
SETTINGS = "whose text depends on the session's settings"
BACK = "whose values do not come back from JSON as they were"
REFUSED = {
    "real": SETTINGS,
    "double precision": SETTINGS,
    "interval": SETTINGS,
    "money": SETTINGS,
    "regclass": SETTINGS,
    "daterange": SETTINGS,
    "tsrange": SETTINGS,
    "tstzrange": SETTINGS,
    "tstzmultirange": SETTINGS,
    "timestamptz[]": SETTINGS,
    "public.ratio": SETTINGS,
    "public.ratio_of_ratio": SETTINGS,
    "public.span": SETTINGS,
    "public.stay": SETTINGS,
    "public.speeds": SETTINGS,
    "public.place": BACK,
    "integer[]": BACK,
    "public.whole[]": BACK,
    "jsonb": BACK,
    "bit(4)": "whose values cannot be hashed",
    "varbit": "whose values cannot be hashed",
}


def make(db: Connection, v1: str, v2: str | None = None, *, key: str = "id") -> None:
    """Create, but not register, things and things_v2 with keys of these types."""
    base_1, base_2 = (
        rows(db, f"select crossfade_private.base_type_name('{t.split('(')[0]}'::regtype)")[0][0]
        for t in (v1, v2 or v1)
    )
    db.execute(f"""
        create table public.things ({key} {v1} primary key, body text,
          constraint no check (body <> 'not by v2'));
        create table public.things_v2 ({key} {v2 or v1} primary key, body text,
          constraint no_v2 check (body <> 'not by v1'));
        create function public.things_to_v2(a public.things, o public.things_v2)
        returns setof public.things_v2 language sql stable set search_path = pg_catalog, pg_temp
        as $$ select a.{key}::{base_2}, a.body $$;
        create function public.things_to_v1(b public.things_v2, o public.things)
        returns setof public.things language sql stable set search_path = pg_catalog, pg_temp
        as $$ select b.{key}::{base_1}, b.body $$;
    """)


def register(db: Connection, **options: Any) -> dict[str, Any]:
    names = [f"public.things{part}" for part in ("", "_v2", "_to_v2", "_to_v1")]
    answer: dict[str, Any] = call(db, "register_pair", "things", *names, options=options)
    return answer


def problems(db: Connection) -> list[str]:
    with pytest.raises(psycopg.Error) as refused:
        register(db)
    found = json.loads(refused.value.diag.message_detail or "{}")
    assert found["code"] == "CF008"
    named: list[str] = found["problems"]
    return named


@pytest.mark.parametrize("kind", REFUSED)
def test_a_type_that_no_key_may_have_is_refused_by_name_on_both_sides(
    scratch: Connection, kind: str
) -> None:
    scratch.execute(TYPES)
    make(scratch, kind)
    found = problems(scratch)
    for table in ("V1 public.things", "V2 public.things_v2"):
        (problem,) = [text for text in found if text.startswith(f'{table}: key column "id" is ')]
        assert REFUSED[kind] in problem
        assert "take another unique column as the key" in problem
    assert len(found) == 2


def test_a_domain_is_named_with_what_it_hides(scratch: Connection) -> None:
    scratch.execute(TYPES)
    make(scratch, "public.ratio_of_ratio")
    assert 'key column "id" is public.ratio_of_ratio (real), whose' in problems(scratch)[0]


@on_debian_15
def test_a_type_of_an_extension_is_refused(scratch: Connection) -> None:
    scratch.execute("create extension if not exists citext schema extensions")
    make(scratch, "extensions.citext")
    assert all("a type of an extension" in text for text in problems(scratch))


ACCEPTED = [
    ("integer", "bigint", "7"),
    ("bigint", "integer", "7"),
    ("smallint", "bigint", "7"),
    ("integer", "smallint", "7"),
    ("public.whole", "bigint", "7"),
    ("varchar(36)", "text", "'a''b'"),
    ("text", "varchar(36)", "'a''b'"),
    ("varchar(20)", "varchar(40)", "'ab'"),
    ("public.code", "text", "'ab'"),
    ("numeric(10)", "numeric(20)", "7"),
    ("numeric", "numeric", "7.50"),
    ("uuid", "uuid", "'00000000-0000-4000-8000-000000000001'"),
    ("timetz", "timetz", "'12:00+02'"),
    ("date", "date", "'2026-02-01'"),
    ("timestamp", "timestamp", "'2026-02-01 10:00:00.000001'"),
    ("timestamptz", "timestamptz", "'2026-02-01 10:00+00'"),
    ("public.moment_of_moment", "timestamptz", "'2026-02-01 10:00+00'"),
    ("bytea", "bytea", "'\\x00ff'"),
    ("boolean", "boolean", "true"),
    ("public.mood", "public.mood", "'busy'"),
    ("inet", "inet", "'10.0.0.1/8'"),
    ("char(4)", "char(4)", "'ab'"),
    ("int4range", "int4range", "'[1,5)'"),
]
SESSION = """
set timezone = 'Asia/Tokyo'; set datestyle = 'SQL, DMY'; set bytea_output = 'escape';
set intervalstyle = 'iso_8601'; set extra_float_digits = -15
"""


@pytest.mark.parametrize(("v1", "v2", "value"), ACCEPTED)
def test_a_key_is_the_same_key_in_every_session(
    db: Connection, v1: str, v2: str, value: str
) -> None:
    db.execute(TYPES)
    make(db, v1, v2)
    register(db)
    db.execute(f"insert into public.things values ({value}, 'old')")
    call(db, "set_stage", "things", "dualwrite", "test")
    copied = call(db, "start_backfill", "things")["run"]["id"]
    while call(db, "backfill_batch", copied)["state"] == "running":
        pass
    both = "select body from public.things union all select body from public.things_v2"
    assert rows(db, both) == [("old",)] * 2
    # Each side refuses once, in sessions with other settings: one key, one note, and the last wins.
    db.execute("update public.things set body = 'not by v1'")
    db.execute(SESSION)
    db.execute("update public.things_v2 set body = 'not by v2'")
    assert len(failures(db)) == 1
    db.execute("alter table public.things drop constraint no")
    db.execute("alter table public.things_v2 drop constraint no_v2")
    assert call(db, "repair", "things", reason="r")["remaining"] == 0
    assert rows(db, both) == [("not by v2",)] * 2
    db.execute("reset all")
    assert verify(db, "things") == 0


NOT_TOGETHER = [
    ("text", "uuid", "give V1 a uuid column beside it"),
    ("varchar(36)", "uuid", "give V1 a uuid column beside it"),
    ("bigint", "uuid", "give V1 a uuid column beside it"),
    ("bigint", "numeric", "may stand for each other"),
    ("bigint", "text", "may stand for each other"),
    ("char(4)", "char(8)", "may stand for each other"),
    ("char(4)", "text", "may stand for each other"),
    ("numeric(10, 2)", "numeric(10)", "may stand for each other"),
    ("timestamptz", "timestamp", "may stand for each other"),
    ("timestamptz(0)", "timestamptz", "may stand for each other"),
]


@pytest.mark.parametrize(("v1", "v2", "way_out"), NOT_TOGETHER)
def test_keys_that_are_not_the_same_values_are_refused_with_the_way_out(
    scratch: Connection, v1: str, v2: str, way_out: str
) -> None:
    scratch.execute(f"""
        create table public.things (id {v1} primary key, body text);
        create table public.things_v2 (id {v2} primary key, body text);
        create function public.things_to_v2(a public.things, o public.things_v2)
        returns setof public.things_v2 language sql stable as 'select o.id, a.body';
        create function public.things_to_v1(b public.things_v2, o public.things)
        returns setof public.things language sql stable as 'select o.id, b.body'""")
    (problem,) = problems(scratch)
    assert problem.startswith('key column "id" is ')
    assert way_out in problem


def test_precision_is_seen_through_a_domain(scratch: Connection) -> None:
    scratch.execute("create domain public.cents as numeric(10, 2)")
    make(scratch, "public.cents", "numeric(12)")
    assert 'key column "id" is public.cents in V1' in problems(scratch)[0]


def test_parts_of_a_composite_key_are_judged_one_by_one(db: Connection) -> None:
    db.execute("""
        create table public.things (a integer, b varchar(9), c date, body text,
          primary key (a, b, c));
        create table public.things_v2 (a bigint, b text, c date, body text, primary key (a, b, c));
        create function public.things_to_v2(a public.things, o public.things_v2)
        returns setof public.things_v2 language sql stable set search_path = pg_catalog, pg_temp
        as 'select a.a, a.b, a.c, a.body';
        create function public.things_to_v1(b public.things_v2, o public.things)
        returns setof public.things language sql stable set search_path = pg_catalog, pg_temp
        as 'select b.a::integer, b.b, b.c, b.body';
        insert into public.things select g % 7, 'k' || g, '2026-01-01', 'n'
        from generate_series(1, 500) g""")
    register(db)
    call(db, "set_setting", "batch_max_rows", "50", "test")
    call(db, "set_stage", "things", "dualwrite", "test")
    run = call(db, "start_backfill", "things")["run"]["id"]
    while call(db, "backfill_batch", run)["state"] == "running":
        pass
    db.execute("update public.things_v2 set body = 'v2' where a = 3")
    db.execute("delete from public.things where a = 4")
    assert verify(db, "things") == 0
    assert rows(db, "select count(*) from public.things_v2") == rows(
        db, "select count(*) from public.things"
    )
    db.execute("alter table public.things alter c type interval using interval '1 day'")
    assert rows(
        db, "select count(*) from crossfade_private.mirror_problems("
        "(select p from crossfade.pairs p)) m where m like '%\"c\" is interval, whose text%'"
    ) == [(1,)]  # fmt: skip


# A key that only the other table can hold ---------------------------------------------------------


@pytest.fixture
def wide(db: Connection) -> Connection:
    """V1 has integer keys, V2 bigint ones; both have rows 1 to 5; V2 then gets one beyond."""
    make(db, "integer", "bigint")
    register(db)
    db.execute("insert into public.things select g, 'n' from generate_series(1, 5) g")
    call(db, "set_stage", "things", "dualwrite", "test")
    run = call(db, "start_backfill", "things")["run"]["id"]
    while call(db, "backfill_batch", run)["state"] == "running":
        pass
    db.execute("insert into public.things_v2 values (3000000000, 'beyond')")
    return db


def test_a_key_beyond_the_other_type_is_a_recorded_failure(wide: Connection) -> None:
    assert failures(wide) == [({"id": 3000000000}, "INSERT", "22003")]
    wide.execute("update public.things_v2 set body = 'again' where id = 3000000000")
    assert [code for _, _, code in failures(wide)] == ["22003"]


def test_batches_and_views_get_past_a_key_beyond_the_other_type(wide: Connection) -> None:
    run = call(wide, "start_backfill", "things", "v1_to_v2")["run"]["id"]
    while call(wide, "backfill_batch", run)["state"] == "running":
        pass
    found = call(wide, "show_rows", "things", {"id": 3000000000})
    assert (found["v1"], found["v2"]["body"]) == (None, "beyond")
    assert call(wide, "repair", "things", reason="r")["failed"] == 1
    assert [code for _, _, code in failures(wide)] == ["22003"]


def test_a_converter_that_leaves_such_keys_out_has_nothing_to_record(wide: Connection) -> None:
    wide.execute("""create or replace function public.things_to_v1(
        b public.things_v2, o public.things) returns setof public.things
        language sql stable set search_path = pg_catalog, pg_temp
        as 'select case when b.id <= 2147483647 then b.id::integer end, b.body
          where b.id <= 2147483647'""")
    register(wide)
    wide.execute("insert into public.things_v2 values (5000000000, 'left out')")
    wide.execute("update public.things_v2 set body = 'still out' where id = 5000000000")
    assert [key for key, _, _ in failures(wide)] == [{"id": 3000000000}]
    wide.execute("delete from public.things_v2 where id > 2147483647")
    call(wide, "repair", "things", reason="r")
    assert failures(wide) == []


def test_a_key_beyond_the_other_type_is_deleted_and_moved_without_an_error(
    wide: Connection,
) -> None:
    wide.execute("update public.things_v2 set id = 6 where id = 3000000000")
    assert rows(wide, "select body from public.things where id = 6") == [("beyond",)]
    assert failures(wide) == [] or call(wide, "repair", "things", reason="r")["remaining"] == 0
    wide.execute("update public.things_v2 set id = 4000000000 where id = 5")
    wide.execute("delete from public.things_v2 where id = 4000000000")
    wide.execute("delete from public.things_v2 where id = 1")
    assert rows(wide, "select count(*) from public.things where id = 1") == [(0,)]


def test_a_longer_text_finds_nothing_instead_of_the_row_it_would_be_cut_to(db: Connection) -> None:
    make(db, "varchar(3)", "text")
    register(db)
    db.execute("insert into public.things values ('abc', 'n')")
    call(db, "set_stage", "things", "dualwrite", "test")
    run = call(db, "start_backfill", "things")["run"]["id"]
    while call(db, "backfill_batch", run)["state"] == "running":
        pass
    db.execute("insert into public.things_v2 values ('abcdef', 'longer')")
    assert [code for _, _, code in failures(db)] == ["22001"]
    found = call(db, "show_rows", "things", {"id": "abcdef"})
    assert found["v1"] is None
    assert rows(db, "select * from public.things") == [("abc", "n")]
