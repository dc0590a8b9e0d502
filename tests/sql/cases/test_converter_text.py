"""What runs is what the converter says: a call by hand, in any session, gives what is stored."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import sql

from tests.sql.cases.pairs import (
    Shape,
    backfill,
    both,
    create,
    only_since,
    register,
    repair,
    settled,
    to_stage,
)
from tests.sql.conftest import Connection
from tests.sql.control import call, one
from tests.sql.notes_pair import rows
from tests.sql.things_pair import failures, verify

# Values that do not fit --------------------------------------------------------------------------

DOMAINS = """
create domain public.short as varchar(5);
create domain public.shorter as public.short check (value <> 'never');
create domain public.flat as char(5);
create domain public.bits as bit(3);
create domain public.varbits as varbit(3);
create domain public.amount as numeric(5, 1);
create domain public.second as timestamp(0);
create domain public.o_clock as time(0);
create domain public.shorts as varchar(5)[];
create domain public.lower_case as text check (value = lower(value));
create type public.label as (text varchar(5));
create domain public.any_label as public.label
"""
# What the written table holds, what the other one makes of it, a value that fits, one that may not.
NARROW = {
    "varchar": ("text", "public.short", "abc", "abcdefgh"),
    "varchar, only blanks too long": ("text", "public.short", "abc", "abcde    "),
    "varchar in two domains": ("text", "public.shorter", "abc", "abcdefgh"),
    "char": ("text", "public.flat", "abc", "abcdefgh"),
    "bit": ("varbit", "public.bits", "101", "10101"),
    "varbit": ("varbit", "public.varbits", "101", "10101"),
    "list in a domain": ("text[]", "public.shorts", "{abc}", "{abc,abcdefgh}"),
    "list of a domain": ("text[]", "public.short[]", "{abc}", "{abc,abcdefgh}"),
    "plain list": ("text[]", "varchar(5)[]", "{abc}", "{abc,abcdefgh}"),
    "plain varchar": ("text", "varchar(5)", "abc", "abcdefgh"),
    "too large a number": ("numeric", "public.amount", "1.5", "123456.7"),
    "a number with more places": ("numeric", "public.amount", "1.5", "1.25"),
    "a part of a second": ("timestamp", "public.second", "2026-01-02 03:04:05",
                           "2026-01-02 03:04:05.678"),
    "a part of a second of a day": ("time", "public.o_clock", "03:04:05", "03:04:05.678"),
    "a check of the domain": ("text", "public.lower_case", "abc", "ABC"),
    "a name": ("text", "name", "abc", "x" * 80),
}  # fmt: skip


def as_called(db: Connection, side: int, key: int) -> tuple[str, object]:
    """Call the converter by hand for a stored row; give its value, or what it raises."""
    source, converter = ("things", "to_v2") if side == 1 else ("things_v2", "to_v1")
    try:
        with db.transaction():
            found = rows(
                db,
                f"select c.body::text from public.{source} t "
                f"cross join lateral public.things_{converter}(t, null) c where t.id = {key}",
            )
    except psycopg.Error as error:
        return "raises", error.sqlstate
    return "value", found[0][0]


@pytest.mark.parametrize("side", [1, 2])
@pytest.mark.parametrize("kind", NARROW)
def test_a_value_that_does_not_fit_is_never_cut(db: Connection, kind: str, side: int) -> None:
    wide, narrow, fits, value = NARROW[kind]
    columns = [f"id bigint primary key, body {kind_of}, more text" for kind_of in (wide, narrow)]
    v1, v2 = columns if side == 1 else columns[::-1]
    create(
        db,
        Shape(v1=v1, v2=v2, to_v2="a.id, a.body, a.more", to_v1="b.id, b.body, b.more",
              before=DOMAINS),
    )  # fmt: skip
    written, other = [f"public.{t}" for t in ("things", "things_v2")][:: 1 if side == 1 else -1]
    insert = f"insert into {written} (id, body) values (%s, %s::{wide})"
    db.execute(insert, [1, value])
    db.execute(insert, [2, fits])
    register(db)
    to_stage(db, "dualwrite")
    if side == 1:
        backfill(db)
    for n in (3, 4, *range(20, 35)):
        db.execute(insert, [n, fits])
    db.execute(insert, [5, value])
    db.execute(
        f"insert into {written} (id, body) select g, %s::{wide} from generate_series(40, 60) g",
        [value],
    )
    db.execute(f"update {written} set body = %s::{wide} where id = 4", [value])
    db.execute(f"update {written} set body = %s::{wide} where id between 20 and 34", [value])
    bad = {1, 4, 5, *range(20, 35), *range(40, 61)} - ({1, 2} if side == 2 else set())
    outcome, wanted = as_called(db, side, 5)
    found = dict(rows(db, f"select id, body::text from {other}"))
    if outcome == "value":
        assert {found.get(n) for n in bad} == {wanted}
        assert failures(db) == []
    else:
        assert wanted in {"22001", "22003", "22026", "23514"}
        assert {found.get(n, fits) for n in bad} <= {fits, fits.ljust(5)}
        open_keys = {(key["id"], code) for key, _, code in failures(db)}
        assert open_keys == {(n, wanted) for n in bad}
        # Somebody on the other side touches a row that is open; the value stays as it was written.
        db.execute(f"update {other} set more = 'touched' where id = 4")
        db.execute(f"update {other} set body = body where id in (4, 20)")
    stored = one(db, f"select body::text from {written} where id = 5")
    again = one(db, f"select count(*) from {written} where body::text = %s", stored)
    assert again == len({1, 4, 5, *range(20, 35), *range(40, 61)})
    if outcome == "raises":
        db.execute(f"update {written} set body = %s::{wide}", [fits])
        repair(db)
        assert rows(db, f"select distinct trim(body::text) from {other}") == [(fits,)]


# Constants and session settings ------------------------------------------------------------------

CONSTANTS = {
    "old": ("boolean", "a.at < date '2026-02-01'"),
    "wait": ("interval", "interval '-1 day 02:03:04'"),
    "since": ("timestamptz", "timestamptz '2026-02-01 00:00+00'"),
    "local": ("timestamp", "timestamp '2026-02-03 04:05:06.789'"),
    "day": ("date", "date '2026-02-03'"),
    "clock": ("timetz", "timetz '12:00+02'"),
    "share": ("float8", "0.1::float8 + 0.2::float8"),
    "third": ("float8", "float8 '0.3333333333333333'"),
    "small": ("float4", "float4 '0.12345679'"),
    "raw": ("bytea", "bytea '\\x00ff5c'"),
    "price": ("numeric", "numeric '1.10'"),
    "during": ("daterange", "daterange '[2026-01-02,2026-03-04)'"),
    "hours": ("tstzrange", "tstzrange '[2026-01-02 00:00+00,2026-03-04 00:00+00)'"),
    "days": ("date[]", "array[date '2026-01-02']"),
    "waits": ("interval[]", "array[interval '1 mon -2 days']"),
    "quoted": ("text", "'it''s \\ {target} $body$ %'"),
}
STRANGE = (
    "set timezone = 'Asia/Kathmandu'; set datestyle = 'SQL, DMY'; "
    "set intervalstyle = 'sql_standard'; set extra_float_digits = -15; "
    "set bytea_output = 'escape'; set search_path = ''; "
    "set backslash_quote = on; set array_nulls = off; set transform_null_equals = on; "
    "set lc_monetary = 'C'; set xmloption = document"
)
USUAL = (
    "reset timezone; reset datestyle; reset intervalstyle; reset extra_float_digits; "
    "reset bytea_output; reset quote_all_identifiers; reset search_path; reset backslash_quote; "
    "reset array_nulls; reset transform_null_equals; reset lc_monetary; reset xmloption"
)
SESSIONS = {
    "usual": USUAL,
    "strange": STRANGE,
    "quoting": "set quote_all_identifiers = on",  # pg_dump and some editors
}
CONSTANT_SHAPE = Shape(
    v1="id bigint primary key, at date",
    v2="id bigint primary key, at date, "
    + ", ".join(f'"{name}" {kind}' for name, (kind, _) in CONSTANTS.items()),
    to_v2="a.id, a.at, " + ", ".join(text for _, text in CONSTANTS.values()),
    to_v1="b.id, b.at",
)
UNLIKE_A_CALL = """
select * from public.things_v2
except all
select c.* from public.things t cross join lateral public.things_to_v2(t, null) c
"""


@pytest.mark.parametrize(
    ("registered", "written"),
    [
        ("usual", "strange"),
        ("strange", "usual"),
        ("strange", "strange"),
        ("quoting", "usual"),
        ("usual", "quoting"),
    ],
)
def test_constants_of_a_converter_mean_the_same_in_every_session(
    db: Connection, registered: str, written: str
) -> None:
    create(db, CONSTANT_SHAPE)
    db.execute("insert into public.things values (1, '2026-01-15'), (2, '2026-02-15')")
    db.execute(SESSIONS[registered])
    register(db)
    db.execute(SESSIONS[written])
    to_stage(db, "dualwrite")
    assert backfill(db)["rows_written"] == 2
    db.execute("insert into public.things values (3, date '2026-01-15')")
    db.execute("insert into public.things select g, '2026-02-15' from generate_series(10, 40) g")
    db.execute("update public.things set at = date '2026-03-15' where id = 1")
    db.execute("update public.things set at = date '2026-01-31' where id >= 10")
    found = []
    for session in (USUAL, SESSIONS[registered], SESSIONS[written], USUAL):
        db.execute(session)
        assert rows(db, UNLIKE_A_CALL) == []
        assert verify(db, "things") == 0
        found.append(call(db, "check_conversion", "things", 1)["violations"])
    assert found[1:] == found[:-1], "also what is said of a column that follows another"
    db.execute(USUAL)
    old = "select id, old from public.things_v2 where id in (1, 2, 10) order by 1"
    assert rows(db, old) == [
        (1, False), (2, False), (10, True),
    ]  # fmt: skip
    settled(db, "id, at")


@pytest.mark.parametrize(
    ("first", "second"),
    [("usual", "strange"), ("strange", "usual"), ("usual", "quoting"), ("quoting", "usual")],
)
def test_registering_again_in_another_session_is_no_new_converter(
    db: Connection, first: str, second: str
) -> None:
    create(db, CONSTANT_SHAPE)
    db.execute("insert into public.things values (1, '2026-01-15')")
    db.execute(SESSIONS[first])
    register(db)
    to_stage(db, "shadow")
    assert verify(db, "things") == 0
    db.execute(SESSIONS[second])
    register(db)
    # Nothing has to be verified again, and a run that goes on is not stopped.
    assert call(db, "set_stage", "things", "live", "test")["after"] == "live"


@pytest.mark.parametrize("settings", [STRANGE, USUAL], ids=["strange", "usual"])
def test_a_run_goes_on_in_a_session_with_other_settings(db: Connection, settings: str) -> None:
    create(db, CONSTANT_SHAPE)
    db.execute("insert into public.things select g, '2026-01-15' from generate_series(1, 300) g")
    register(db)
    to_stage(db, "dualwrite")
    call(db, "set_setting", "batch_max_rows", "100", "test")
    run = call(db, "start_backfill", "things")["run"]["id"]
    states = []
    for n in range(20):
        db.execute(STRANGE if n % 2 else USUAL)
        states.append(call(db, "backfill_batch", run)["state"])
        if states[-1] == "finished":
            break
    assert states[-1] == "finished"
    db.execute(settings)
    assert rows(db, UNLIKE_A_CALL) == []


# Conversions whose result would depend on the session ---------------------------------------------

# V1's type, V2's type, to V2, to V1, a value.
DEPENDENT = {
    "timestamp to timestamptz": (
        "timestamp", "timestamptz", "a.{c}::timestamptz", "b.{c}::timestamp", "2026-01-01 12:00"),
    "date to timestamptz": (
        "date", "timestamptz", "a.{c}::timestamptz", "b.{c}::date", "2026-07-01"),
    "text to timestamptz": (
        "text", "timestamptz", "a.{c}::timestamptz", "o.{c}", "2026-01-01 12:00"),
    "text to date": ("text", "date", "a.{c}::date", "o.{c}", "03/04/2026"),
    "text to interval": ("text", "interval", "a.{c}::interval", "o.{c}", "-1 2:03"),
    "timestamptz to text": (
        "timestamptz", "text", "a.{c}::text", "b.{c}::timestamptz", "2026-01-01 12:00+00"),
    "date to text": ("date", "text", "a.{c}::text", "b.{c}::date", "2026-03-04"),
    "interval to text": (
        "interval", "text", "a.{c}::text", "b.{c}::interval", "1 mon -2 days 03:04:05"),
    "float to text": ("float8", "text", "a.{c}::text", "b.{c}::float8", "0.1234567890123456"),
    "bytes to text": ("bytea", "text", "a.{c}::text", "b.{c}::bytea", "\\x00ff"),
    "the local day": ("timestamptz", "date", "a.{c}::date", "o.{c}", "2026-01-01 20:00+00"),
    "the local hour": (
        "timestamptz", "numeric", "extract(hour from a.{c})", "o.{c}", "2026-01-01 20:00+00"),
    "midnight": (
        "timestamptz", "timestamptz", "date_trunc('day', a.{c})", "o.{c}", "2026-01-01 20:00+00"),
    "to_char": (
        "timestamptz", "text", "to_char(a.{c}, 'DD HH24')", "o.{c}", "2026-01-01 20:00+00"),
    "json": (
        "timestamptz", "jsonb", "jsonb_build_object('at', a.{c})", "(b.{c} ->> 'at')::timestamptz",
        "2026-01-01 20:00+00"),
    "a month later": (
        "timestamptz", "timestamptz", "a.{c} + interval '1 mon'", "o.{c}", "2026-01-31 20:00+00"),
    "the setting itself": (
        "text", "text", "a.{c} || current_setting('timezone') || current_setting('datestyle')",
        "o.{c}", "x"),
}  # fmt: skip
CALLED = """
create or replace function public.things_to_v2(a public.things, o public.things_v2)
returns setof public.things_v2 language plpgsql stable as $$
begin return query select {to_v2}; end $$;
create or replace function public.things_to_v1(b public.things_v2, o public.things)
returns setof public.things language plpgsql stable as $$
begin return query select {to_v1}; end $$;
"""
WHERE_ABOUTS = [
    "reset timezone; reset datestyle; reset intervalstyle; reset extra_float_digits; "
    "reset bytea_output",
    "set timezone = 'Asia/Tokyo'; set datestyle = 'German'; set intervalstyle = 'sql_standard'; "
    "set extra_float_digits = -15; set bytea_output = 'escape'",
    "set timezone = 'America/New_York'; set datestyle = 'SQL, DMY'; "
    "set intervalstyle = 'iso_8601'; set extra_float_digits = 0",
]


@pytest.mark.parametrize("form", ["standing in our statements", "called"])
def test_a_row_is_converted_alike_in_every_session(db: Connection, form: str) -> None:
    kinds = list(DEPENDENT.values())
    to_v2 = ", ".join(["a.id, a.n", *(kind[2].format(c=f"c{n}") for n, kind in enumerate(kinds))])
    to_v1 = ", ".join(["b.id, b.n", *(kind[3].format(c=f"c{n}") for n, kind in enumerate(kinds))])
    create(
        db,
        Shape(
            v1="id bigint primary key, n integer, "
            + ", ".join(f"c{n} {kind[0]}" for n, kind in enumerate(kinds)),
            v2="id bigint primary key, n integer, "
            + ", ".join(f"c{n} {kind[1]}" for n, kind in enumerate(kinds)),
            to_v2=to_v2,
            to_v1=to_v1,
        ),
    )
    if form == "called":
        db.execute(CALLED.format(to_v2=to_v2, to_v1=to_v1))
    # Bound as values of their types, so that the session that writes does not change the V1 row.
    db.execute("create table public.model as select * from public.things")
    db.execute(
        sql.SQL("insert into public.model values (0, 0, {})").format(
            sql.SQL(", ").join(sql.Literal(kind[4]) for kind in kinds)
        )
    )
    copy = "insert into public.things select {}, 0, " + ", ".join(
        f"c{n}" for n in range(len(kinds))
    )
    for n in range(1, 4):
        db.execute(copy.format(n) + " from public.model")
    register(db)
    to_stage(db, "dualwrite")
    backfill(db)
    for place, settings in enumerate(WHERE_ABOUTS):
        start = 1000 * (place + 1)
        db.execute(settings)
        db.execute(copy.format(start) + " from public.model")
        db.execute(copy.format(f"{start} + g") + " from public.model, generate_series(10, 40) g")
        db.execute(
            f"insert into public.things (id) select {start} + g from generate_series(41, 80) g"
        )
        sets = ", ".join(f"c{n} = m.c{n}" for n in range(len(kinds)))
        for where in (f"id = {start} + 41", f"id between {start} + 42 and {start} + 80"):
            db.execute(f"update public.things t set {sets} from public.model m where t.{where}")
        # What both formats have is edited on both sides, in this session.
        db.execute(f"update public.things_v2 set n = 1 where id in (1, {start}, {start} + 11)")
        db.execute(f"update public.things set n = 2 where id in (2, {start} + 12)")
    columns = {name: f"c{n}" for n, name in enumerate(DEPENDENT)}
    unlike = {}
    db.execute(WHERE_ABOUTS[0])
    for name, column in columns.items():
        for table in ("things", "things_v2"):
            found = rows(db, f"select distinct {column}::text from public.{table}")
            if len(found) != 1:
                unlike[name, table] = found
    assert unlike == {}
    assert failures(db) == []
    assert len(both(db, "id, n")) == 3 + 3 * 72
    for settings in WHERE_ABOUTS:
        db.execute(settings)
        assert verify(db, "things") == 0
    found_violations = []
    for settings in WHERE_ABOUTS:
        db.execute(settings)
        found_violations.append(
            [(item["key"], item["law"], item["columns"])
             for side in (1, 2)
             for item in call(db, "check_conversion", "things", side)["violations"]]
        )  # fmt: skip
    assert found_violations[0] == found_violations[1] == found_violations[2]


# Columns that are computed ------------------------------------------------------------------------


@pytest.mark.parametrize("storage", ["stored", "virtual"])
def test_a_generated_column_that_a_converter_reads_has_its_value(
    db: Connection, storage: str
) -> None:
    if storage == "virtual":
        only_since(db, 18, "a virtual generated column")
    create(
        db,
        Shape(
            v1="id bigint primary key, qty int, cents int, "
            f"total int generated always as (qty * cents) {storage}",
            v2="id bigint primary key, qty int, cents int, total int not null, note text",
            to_v2="a.id, a.qty, a.cents, a.total, o.note",
            to_v1="b.id, b.qty, b.cents, null::int",
        ),
    )
    db.execute("insert into public.things (id, qty, cents) values (1, 2, 3)")
    db.execute(
        "insert into public.things (id, qty, cents) select g, 2, 3 from generate_series(100, 130) g"
    )
    register(db)
    assert call(db, "check_conversion", "things", 1)["violations"] == []
    to_stage(db, "dualwrite")
    backfill(db)
    insert = "insert into public.things (id, qty, cents) "
    wrong = {}
    for statement in (
        f"{insert} values (2, 2, 3)",
        f"{insert} select g, 2, 3 from generate_series(10, 40) g",
        "update public.things set qty = 5 where id in (1, 11)",
        "update public.things set cents = 7 where id >= 10",
        f"{insert} values (2, 9, 9), (3, 1, 1) on conflict (id) do update set qty = excluded.qty",
        "merge into public.things t using (values (3), (4)) s (id) on t.id = s.id "
        "when matched then update set qty = 4 "
        "when not matched then insert (id, qty, cents) values (s.id, 6, 6)",
        "update public.things set id = 50 where id = 2",
        "update public.things_v2 set qty = 8 where id = 3",
        "update public.things_v2 set note = 'n' where id >= 10",
        "insert into public.things_v2 (id, qty, cents, total) values (60, 2, 2, 4)",
    ):
        db.execute(statement)
        found = rows(
            db, "select id from public.things_v2 where total <> qty * cents or total is null"
        )
        if found and "v2 set qty" not in statement:
            wrong[statement] = found
        db.execute("update public.things_v2 set total = qty * cents where total <> qty * cents")
    assert wrong == {}
    assert failures(db) == []
    settled(db, "id, qty, cents, total")


@pytest.mark.parametrize("storage", ["stored", "virtual"])
def test_a_generated_column_of_v2_is_computed_there_and_read_by_the_way_back(
    db: Connection, storage: str
) -> None:
    if storage == "virtual":
        only_since(db, 18, "a virtual generated column")
    create(
        db,
        Shape(
            v1="id bigint primary key, first text, last text, name text",
            v2="id bigint primary key, first text, last text, "
            f"name text generated always as (first || ' ' || last) {storage}",
            to_v2="a.id, a.first, a.last, null::text",
            to_v1="b.id, b.first, b.last, b.name",
        ),
    )
    register(db)
    to_stage(db, "dualwrite")
    backfill(db)
    insert = "insert into public.things_v2 (id, first, last) "
    for statement in (
        f"{insert} values (1, 'Ada', 'L')",
        f"{insert} select g, 'Bob', 'M' from generate_series(2, 40) g",
        "update public.things_v2 set last = 'N' where id = 1",
        "update public.things_v2 set first = 'Cy' where id > 1",
        f"{insert} values (1, 'Dee', 'x') on conflict (id) do update set first = excluded.first",
    ):
        db.execute(statement)
        assert both(db, "id, first, last, name")
    assert settled(db, "id, first, last, name")[:2] == [
        (1, "Dee", "N", "Dee N"), (2, "Cy", "M", "Cy M"),
    ]  # fmt: skip


# The owner's SQL is text, and no template ---------------------------------------------------------

TEXTS = [
    "{admin}", "{target}", "{source}", "{skey_n}", "{pair}", "{convert}", "{}", "{{", "}}",
    "<<side>>", "<<broken>>", "<<different>>", "<<rows>>", "%", "%s", "%I", "%%", "%1$s", "$1",
    "$$",
    "$body$", "$template$", "$outer$", "it''s", "\\", "\\1", "\\n", "\n", "--", "/*", "*/", ";",
    ":name", "@@", "?", "made", "cf_t", "new", "old", "a", "b", "o", "{\"a\": 1}", "__pair__",
    "@pair@", "\"quoted\"",
]  # fmt: skip


def test_checks_are_read_as_they_are_written(db: Connection) -> None:
    checks = ", ".join(
        f"constraint {psycopg.sql.Identifier('not ' + text).as_string(db)} check (body <> "
        f"{sql.Literal(text.replace(chr(39) * 2, chr(39))).as_string(db)})"
        for text in TEXTS
    )
    create(
        db,
        Shape(
            v1="id bigint primary key, body text, roles text[]",
            v2=f"id bigint primary key, body text, roles text[] not null default '{{}}', {checks}, "
            "constraint admins check (not roles @> '{admin}')",
            to_v2="a.id, a.body, coalesce(a.roles, '{}')",
            to_v1="b.id, b.body, b.roles",
        ),
    )
    register(db)
    assert call(db, "check_conversion", "things", 1)["violations"] == []
    assert call(db, "check_conversion", "things", 2)["violations"] == []
    db.execute("insert into public.things select g, 'fine', '{user}' from generate_series(1, 3) g")
    assert call(db, "check_conversion", "things", 1)["violations"] == []
    insert = "insert into public.things values (%s, %s, '{user}')"
    values = [text.replace("''", "'") for text in TEXTS]
    for n, value in enumerate(values):
        db.execute(insert, [100 + n, value])
    db.execute("insert into public.things values (99, 'fine', '{admin}')")
    broken = {
        item["key"]["id"]: item["columns"]
        for item in call(db, "check_conversion", "things", 1)["violations"]
    }
    wanted = {100 + n: [f"not {text}"] for n, text in enumerate(TEXTS)}
    assert broken == {99: ["admins"], **wanted}
    to_stage(db, "dualwrite")
    run = call(db, "start_backfill", "things")["run"]["id"]
    while call(db, "backfill_batch", run)["state"] != "finished":
        pass
    assert {key["id"]: code for key, _, code in failures(db)} == dict.fromkeys(broken, "23514")
    assert len(rows(db, "select from public.things_v2")) == 3


def test_literals_of_a_converter_are_read_as_they_are_written(db: Connection) -> None:
    literals = [sql.Literal(text.replace("''", "'")).as_string(db) for text in TEXTS]
    columns = ", ".join(f"c{n} text default {text}" for n, text in enumerate(literals))
    create(
        db,
        Shape(
            v1="id bigint primary key, body text",
            v2=f"id bigint primary key, body text, {columns}",
            to_v2="a.id, a.body, " + ", ".join(
                f"coalesce(o.c{n}, case when a.body = {text} then '=' else {text} end)"
                for n, text in enumerate(literals)
            ),
            to_v1="b.id, b.body",
        ),
    )  # fmt: skip
    db.execute("insert into public.things values (1, 'a')")
    register(db)
    to_stage(db, "dualwrite")
    backfill(db)
    db.execute("insert into public.things values (2, 'a')")
    db.execute("insert into public.things select g, 'a' from generate_series(10, 40) g")
    db.execute("update public.things set body = 'c'")
    db.execute("insert into public.things_v2 (id, body) values (3, 'c')")
    values = [text.replace("''", "'") for text in TEXTS]
    for n, value in enumerate(values):
        found = rows(db, f"select distinct c{n} from public.things_v2")
        assert found in ([(value,)], [(value,), ("=",)], [("=",), (value,)]), value
    settled(db)
    assert call(db, "check_conversion", "things", 1)["violations"] == []
