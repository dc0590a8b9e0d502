"""Values that PostgreSQL calls equal and that are not the same are mirrored, and seen by verify."""

from __future__ import annotations

import pytest

from tests.sql.cases.pairs import Shape, both, dualwrite, repair, unseen
from tests.sql.conftest import Connection
from tests.sql.notes_pair import rows
from tests.sql.things_pair import failures, verify

TYPES = """
create type public.pause as (wait interval, n int);
create type public.plan as (pauses public.pause[], note text);
create type public.amount as (value numeric, currency text);
create type public.shape as (corner box, n int);
create type public.doc as (body json, n int);
create type public.spot as (at point, n int);
create domain public.wait as interval;
create domain public.any_pause as public.pause;
create type public.waits as range (subtype = interval);
"""
# A type, a value, and one that `=` takes for the same, or cannot compare at all.
LOOK_ALIKES = {
    "interval": ("interval", "30 days", "1 mon"),
    "interval in a domain": ("public.wait", "24:00:00", "1 day"),
    "interval in a composite": ("public.pause", '("30 days",1)', '("1 mon",1)'),
    "interval in a composite in a domain": ("public.any_pause", '("30 days",1)', '("1 mon",1)'),
    "composites in a list": (
        "public.pause[]", '{"(\\"30 days\\",1)"}', '{"(\\"1 mon\\",1)"}'),
    "composite in a composite": (
        "public.plan", '("{""(\\\\""30 days\\\\"",1)""}",a)', '("{""(\\\\""1 mon\\\\"",1)""}",a)'),
    "range of intervals": ("public.waits", '["24:00:00","2 days")', '["1 day","2 days")'),
    "numeric with more places": ("numeric", "1.1", "1.10"),
    "numeric in a composite": ("public.amount", "(1.1,EUR)", "(1.10,EUR)"),
    "numeric in a list": ("numeric[]", "{1.1}", "{1.10}"),
    "numeric in a range": ("numrange", "[1.1,2)", "[1.10,2)"),
    "numeric in jsonb": ("jsonb", '{"a": 1.1}', '{"a": 1.10}'),
    "float with a sign": ("float8", "0", "-0"),
    "float list with a sign": ("float8[]", "{0}", "{-0}"),
    "timetz": ("timetz", "12:00+00", "13:00+01"),
    "char": ("text", "a", "a "),
    "json": ("json", '{"a":1}', '{"a":2}'),
    "json in a composite": ("public.doc", '("{""a"":1}",1)', '("{""a"":2}",1)'),
    "box in a composite": ("public.shape", '("(1,1),(0,0)",1)', '("(2,2),(1,1)",1)'),
    "point in a composite": ("public.spot", '("(1,2)",1)', '("(1,3)",1)'),
    "points": ("point[]", '{"(1,2)"}', '{"(1,3)"}'),
}  # fmt: skip


@pytest.mark.parametrize("kind", LOOK_ALIKES)
def test_a_change_that_equality_hides_is_mirrored_and_seen(db: Connection, kind: str) -> None:
    column, first, second = LOOK_ALIKES[kind]
    dualwrite(
        db,
        Shape(
            v1=f"id bigint primary key, body {column}, n int",
            v2=f"id bigint primary key, body {column}, n int, extra int",
            to_v2="a.id, a.body, a.n, o.extra",
            to_v1="b.id, b.body, b.n",
            before=TYPES,
        ),
    )
    text = "id, body::text"
    for table, start in (("things", 0), ("things_v2", 100)):
        t = f"public.{table}"
        db.execute(f"insert into {t} (id, body) values ({start}, %s)", [first])
        db.execute(
            f"insert into {t} (id, body) select {start} + g, %s from generate_series(1, 30) g",
            [first],
        )
        assert failures(db) == []
        db.execute(f"update {t} set body = %s where id = {start}", [second])
        assert dict(both(db, text))[start] == second_of(db, column, second)
        db.execute(
            f"update {t} set body = %s where id between {start} + 1 and {start} + 30", [second]
        )
        db.execute(f"update {t} set n = 1 where id = {start}")
        db.execute(
            f"insert into {t} (id, body) values ({start} + 1, %s) "
            "on conflict (id) do update set body = excluded.body",
            [first],
        )
        both(db, text)
        assert failures(db) == []
    assert verify(db, "things") == 0
    for table in ("things", "things_v2"):
        with unseen(db):
            db.execute(f"update public.{table} set body = %s where id = 5", [first])
        assert verify(db, "things") == 1, "a difference that equality hides is seen"
        assert repair(db)["remaining"] == 0
        both(db, text)
        with unseen(db):
            db.execute("update public.things set body = %s where id = 5", [second])
            db.execute("update public.things_v2 set body = %s where id = 5", [second])
    assert verify(db, "things") == 0
    assert len(both(db, text)) == 62


def second_of(db: Connection, column: str, value: str) -> str:
    """Give how PostgreSQL prints the value."""
    found = rows(db, f"select '{value.replace(chr(39), chr(39) * 2)}'::{column}::text")
    text: str = found[0][0]
    return text


def test_nulls_inside_a_value_are_no_null(db: Connection) -> None:
    dualwrite(
        db,
        Shape(
            v1="id bigint primary key, body public.pause, n int",
            v2="id bigint primary key, body public.pause, n int, extra int",
            to_v2="a.id, a.body, a.n, o.extra",
            to_v1="b.id, b.body, b.n",
            before=TYPES,
        ),
    )
    # A row of nulls "is null" and is not the null.
    for first, second in (("(,)", None), (None, "(,)"), ("(,1)", "(,)")):
        for count in (1, 30):
            db.execute("delete from public.things")
            db.execute(
                f"insert into public.things select g, %s, 1 from generate_series(1, {count}) g",
                [first],
            )
            db.execute("update public.things set body = %s", [second])
            assert {body for _, body in both(db, "id, body::text")} == {second}
            db.execute("update public.things_v2 set body = %s", [first])
            assert {body for _, body in both(db, "id, body::text")} == {first}
    assert failures(db) == []
    assert verify(db, "things") == 0
    with unseen(db):
        db.execute("update public.things set body = null where id = 1")
    assert verify(db, "things") == 1
