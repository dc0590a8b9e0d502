"""Values of every type: verify tells two of them apart when they are stored differently."""

from __future__ import annotations

import itertools
from typing import Any

import psycopg
import pytest

from .conftest import Connection, on_debian_15
from .control import call, one
from .notes_pair import rows
from .things_pair import create_ignore_case, failures, verify

TYPES = """
create type public.mood as enum ('calm', 'Calm');
create type public.pause as (wait interval, n numeric);
create type public.doc as (body json, at point);
create type public.nested as (pauses public.pause[], mood public.mood);
create domain public.amount as numeric(10, 2) check (value > -1000);
create domain public.amount_2 as public.amount;
create domain public.pauses as public.pause[];
create type public.waits as range (subtype = interval);
"""
VALUES: dict[str, list[str | None]] = {
    "boolean": ["t", "f", None],
    "smallint": ["0", "1", None],
    "bigint": ["0", "9223372036854775807", None],
    "numeric": ["1.1", "1.10", "NaN", "Infinity", "0", "-0.0", None],
    "numeric(10,2)": ["1.1", "1.10", "1.104", "NaN", None],
    "real": ["0", "-0", "NaN", "1.1", "1.1000001"],
    "double precision": ["0", "-0", "NaN", "0.1", "0.10000000000000002", "Infinity"],
    "money": ["1.10", "1.11", "-1"],
    "text": ["a", "A", "a ", "", "é", "e\u0301", None],
    'text collate "C"': ["a", "A", "a "],
    "varchar(5)": ["a", "a ", "abcde", None],
    "char(5)": ["a", "a  ", "b"],
    "bpchar": ["a", "b"],
    "name": ["a", "A"],
    '"char"': ["a", "b"],
    "bytea": ["\\x00", "\\x0000", "\\x", None],
    "uuid": ["00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"],
    "date": ["2026-01-01", "infinity", "0001-01-01 BC", None],
    "time": ["00:00", "24:00", "12:00:00.000001"],
    "time(0)": ["12:00", "12:00:00.4", "12:00:01"],
    "timetz": ["12:00+00", "13:00+01", "12:00+00:00:01"],
    "timestamp": ["2026-01-01 12:00", "2026-01-01 12:00:00.000001", "-infinity"],
    "timestamptz": ["2026-01-01 12:00+00", "2026-01-01 13:00+01", "2026-03-29 02:30+01"],
    "interval": ["1 mon", "30 days", "720:00", "1 day", "24:00", None],
    "interval day to second(0)": ["1 day", "24:00", "00:00:01.4"],
    "json": ['{"a":1}', '{"a": 1}', '{"a":1,"a":2}', '{"a": "\\u0000"}', "null", None],
    "jsonb": ['{"a":1}', '{"a": 1}', '{"a":1.0}', "null", "[]", None],
    "xml": ["<a/>", "<a></a>", "<a />"],
    "bit(3)": ["101", "100"],
    "varbit": ["101", "1010", ""],
    "inet": ["10.0.0.1", "10.0.0.1/8", "10.0.0.0/8"],
    "cidr": ["10.0.0.0/8", "10.0.0.0/9"],
    "macaddr": ["08:00:2b:01:02:03", "08:00:2b:01:02:04"],
    "point": ["(0,0)", "(-0,0)", "(0.1,2)"],
    "box": ["(1,1),(0,0)", "(2,0.5),(0,0)"],
    "path": ["[(0,0),(1,1)]", "((0,0),(1,1))"],
    "circle": ["<(0,0),1>", "<(5,5),1>"],
    "tsvector": ["'a':1", "'a':2", "a"],
    "pg_lsn": ["0/1", "0/2"],
    "int4range": ["[1,5)", "[1,4]", "empty", "(,)"],
    "numrange": ["[1.0,2)", "[1.00,2)", "[1.0,2]"],
    "tstzrange": ["[2026-01-01,2026-01-02)", "[2026-01-01,2026-01-02]"],
    "int4multirange": ["{[1,5)}", "{[1,3),[4,5)}", "{}"],
    "nummultirange": ["{[1.0,2)}", "{[1.00,2)}"],
    "integer[]": ["{1,2}", "{1,NULL}", "[0:1]={1,2}", "{}", "{{1},{2}}", None],
    "numeric[]": ["{1.1}", "{1.10}"],
    "interval[]": ["{1 mon}", "{30 days}"],
    "text[]": ["{a}", "{A}", '{"a "}', "{NULL}", '{"NULL"}'],
    "point[]": ['{"(0,0)"}', '{"(-0,0)"}'],
    "json[]": ['{"{}"}', '{"{ }"}'],
    "public.mood": ["calm", "Calm", None],
    "public.mood[]": ["{calm}", "{Calm}"],
    "public.pause": ["(1 mon,1.1)", "(30 days,1.1)", "(1 mon,1.10)", "(,)", None],
    "public.pause[]": ['{"(1 mon,1)"}', '{"(30 days,1)"}'],
    "public.doc": ['("{}","(0,0)")', '("{ }","(0,0)")', '("{}","(-0,0)")'],
    "public.nested": ['("{""(1 mon,1)""}",calm)', '("{""(30 days,1)""}",calm)'],
    "public.amount": ["1.1", "1.10", "2"],
    "public.amount_2": ["1.1", "1.10", "2"],
    "public.amount[]": ["{1.1}", "{1.10}", "{2}"],
    "public.pauses": ['{"(1 mon,1)"}', '{"(30 days,1)"}'],
    "public.waits": ['["24:00:00","2 days")', '["1 day","2 days")'],
}
PLACES = {f"c{n}": kind for n, kind in enumerate(VALUES)}


def both_tables(db: Connection, types: dict[str, str]) -> None:
    columns = ", ".join(f"{name} {kind}" for name, kind in types.items())
    db.execute(f"""
        {TYPES};
        create table public.things (id integer primary key, {columns});
        create table public.things_v2 (id integer primary key, {columns}, kept text);
        create function public.things_to_v2(a public.things, o public.things_v2)
        returns setof public.things_v2 language sql stable set search_path = ''
        begin atomic select a.*, o.kept; end;
        create function public.things_to_v1(b public.things_v2, o public.things)
        returns setof public.things language sql stable set search_path = ''
        begin atomic select b.id, {", ".join("b." + name for name in types)}; end;
    """)
    parts = ("", "_v2", "_to_v2", "_to_v1")
    call(db, "register_pair", "things", *(f"public.things{part}" for part in parts))
    call(db, "set_stage", "things", "dualwrite", "test")


def stored(db: Connection, types: dict[str, str], table: str) -> dict[int, dict[str, Any]]:
    """Give each row of a table by its id, every value as the text that is stored."""
    texts = ", ".join(f"'=' || {n}::text || octet_length({n}::text)" for n in types)
    found = rows(db, f"select id, {texts} from public.{table}")
    return {row[0]: dict(zip(types, row[1:], strict=True)) for row in found}


@pytest.fixture
def types(scratch: Connection) -> dict[str, str]:
    found = dict(PLACES)
    scratch.execute("savepoint here")
    try:
        scratch.execute("select xml '<a/>'")
    except psycopg.errors.FeatureNotSupported:  # PostgreSQL may be built without
        scratch.execute("rollback to here")
        found = {name: kind for name, kind in found.items() if kind != "xml"}
    return found


def test_verify_tells_values_apart_that_are_stored_differently(
    scratch: Connection, types: dict[str, str]
) -> None:
    both_tables(scratch, types)
    # One difference a row, so that no other one gives it away.
    cases = [
        (name, {"things": one, "things_v2": other})
        for name, kind in types.items()
        for one, other in itertools.product(VALUES[kind], repeat=2)
    ]
    first = {name: VALUES[kind][0] for name, kind in types.items()}
    places = ", ".join(["%s"] * (len(types) + 1))
    for table in ("things", "things_v2"):
        scratch.execute(f"alter table public.{table} disable trigger user")
        with scratch.cursor() as cursor:
            cursor.executemany(
                f"insert into public.{table} values ({places})",
                [
                    [row, *({**first, name: values[table]}).values()]
                    for row, (name, values) in enumerate(cases)
                ],
            )
        scratch.execute(f"alter table public.{table} enable trigger user")
    verify(scratch, "things")
    seen = {
        key["id"]: {name for name in columns if not name.startswith("v2.")}
        for key, columns in rows(
            scratch, "select key, columns from crossfade.mismatches where resolved_at is null"
        )
    }
    scratch.execute("set local extra_float_digits = 1")
    tables = [stored(scratch, types, table) for table in ("things", "things_v2")]
    for row, (name, _) in enumerate(cases):
        both = [table[row][name] for table in tables]
        assert seen.get(row, set()) == ({name} if both[0] != both[1] else set()), (
            types[name],
            both,
        )
    # Repair comes to rest, and nothing is left that differs.
    for _ in range(10):
        if not call(scratch, "repair", "things")["remaining"]:
            break
    assert verify(scratch, "things") == 0
    assert stored(scratch, types, "things") == stored(scratch, types, "things_v2")


def test_every_change_of_a_value_is_mirrored(scratch: Connection, types: dict[str, str]) -> None:
    both_tables(scratch, types)
    places = ", ".join(["%s"] * (len(types) + 1))
    first = [VALUES[kind][0] for kind in types.values()]
    scratch.execute(f"insert into public.things values ({places})", [1, *first])
    for name, kind in types.items():
        for value in VALUES[kind]:
            for table in ("things", "things_v2"):
                scratch.execute(f"update public.{table} set {name} = %s where id = 1", [value])
                both = [stored(scratch, {name: kind}, t) for t in ("things", "things_v2")]
                assert both[0] == both[1], (kind, value, table)
    assert failures(scratch) == []
    assert verify(scratch, "things") == 0


CONVERTED = {
    # V1's type, V2's type, to V2, to V1, V2's values: what comes back is equal and looks otherwise.
    "cents": ("bigint", "numeric", "a.v * 0.01", "(b.v * 100)::bigint", ["0.1", "12", "1.50"]),
    "places": ("numeric(10,2)", "numeric", "a.v", "b.v", ["2", "2.5"]),
    "jsonb of json": ("json", "jsonb", "a.v", "b.v", ['{"b": 1, "a": 2}']),
    "days": ("integer", "interval", "make_interval(days => a.v)",
             "(extract(epoch from b.v) / 86400)::integer", ["24:00", "2 days"]),
    "char": ("text", "char(5)", "a.v", "b.v", ["a", "ab"]),
}  # fmt: skip


@pytest.mark.parametrize("name", CONVERTED)
def test_what_only_looks_otherwise_is_no_mismatch(scratch: Connection, name: str) -> None:
    v1, v2, to_v2, to_v1, values = CONVERTED[name]
    scratch.execute(f"""
        create table public.things (id integer primary key, v {v1});
        create table public.things_v2 (id integer primary key, v {v2});
        create function public.things_to_v2(a public.things, o public.things_v2)
        returns setof public.things_v2 language sql stable set search_path = ''
        begin atomic select a.id, {to_v2}; end;
        create function public.things_to_v1(b public.things_v2, o public.things)
        returns setof public.things language sql stable set search_path = ''
        begin atomic select b.id, {to_v1}; end;
    """)
    parts = ("", "_v2", "_to_v2", "_to_v1")
    call(scratch, "register_pair", "things", *(f"public.things{part}" for part in parts))
    call(scratch, "set_stage", "things", "dualwrite", "test")
    for n, value in enumerate(values):
        scratch.execute("insert into public.things_v2 values (%s, %s)", [n, value])
    assert failures(scratch) == []
    assert one(scratch, "select count(*) from public.things") == len(values)
    assert verify(scratch, "things") == 0


@on_debian_15
def test_other_collations_compare_as_bytes(scratch: Connection) -> None:
    create_ignore_case(scratch)
    kinds = {"a": "text collate public.ignore_case", "b": "text[] collate public.ignore_case",
             "c": "text collate \"C\""}  # fmt: skip
    both_tables(scratch, kinds)
    scratch.execute("alter table public.things_v2 disable trigger user")
    scratch.execute("alter table public.things disable trigger user")
    scratch.execute("insert into public.things values (1, 'abc', '{abc}', 'a')")
    scratch.execute("insert into public.things_v2 values (1, 'ABC', '{ABC}', 'a')")
    scratch.execute("alter table public.things enable trigger user")
    scratch.execute("alter table public.things_v2 enable trigger user")
    assert verify(scratch, "things") == 1
    found = rows(scratch, "select columns from crossfade.mismatches")
    assert found == [(["a", "b", "v2.a", "v2.b"],)]
    assert call(scratch, "repair", "things")["remaining"] == 0
    assert verify(scratch, "things") == 0


def test_columns_with_different_collations_are_compared(scratch: Connection) -> None:
    scratch.execute("""
        create table public.things (id integer primary key, v text collate "C", w varchar(9));
        create table public.things_v2 (id integer primary key, v text, w text collate "POSIX");
        create function public.things_to_v2(a public.things, o public.things_v2)
        returns setof public.things_v2 language sql stable set search_path = ''
        begin atomic select a.id, a.v, a.w; end;
        create function public.things_to_v1(b public.things_v2, o public.things)
        returns setof public.things language sql stable set search_path = ''
        begin atomic select b.id, b.v, b.w; end;
    """)
    parts = ("", "_v2", "_to_v2", "_to_v1")
    call(scratch, "register_pair", "things", *(f"public.things{part}" for part in parts))
    call(scratch, "set_stage", "things", "dualwrite", "test")
    scratch.execute("insert into public.things values (1, 'a', 'b')")
    scratch.execute("update public.things set v = 'c', w = 'd'")
    scratch.execute("update public.things_v2 set v = 'e'")
    assert failures(scratch) == []
    assert rows(scratch, "select v, w from public.things") == [("e", "d")]
    assert verify(scratch, "things") == 0
    assert call(scratch, "check_conversion", "things", 1)["violations"] == []
