"""Traps of columns, foreign keys, policy and plans; the table of all traps is in test_traps.py."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import psycopg
import pytest

from tests.sql.conftest import ROOT, Connection, begins_with, on_debian_15
from tests.sql.control import call, one, refused, unmirrored
from tests.sql.notes_pair import REGISTER, create_notes, differences, rows
from tests.sql.things_pair import acting_as, create_ignore_case, failures, pair_of, verify


@pytest.fixture
def notes(scratch: Connection) -> Connection:
    """The notes pair, mirrored both ways, in a transaction that is rolled back."""
    create_notes(scratch)
    return scratch


# 6.8 Columns.


def test_identity_outside_the_key_is_mirrored(scratch: Connection) -> None:
    pair_of(
        scratch,
        "id bigint primary key, serial bigint generated always as identity, body text",
        "id bigint primary key, serial bigint default nextval('public.things_serial_seq'), "
        "body text",
        "a.id, a.serial, a.body",
        "b.id, b.serial, b.body",
    )
    scratch.execute(
        "insert into public.things (id, body) select g, 'n' from generate_series(1, 2) g"
    )
    scratch.execute(
        "insert into public.things_v2 (id, body) select g, 'n' from generate_series(3, 20) g"
    )
    scratch.execute("update public.things_v2 set body = 'edited' where id < 5")
    scratch.execute("update public.things_v2 set body = body || '!'")
    scratch.execute("update public.things set body = body || '?'")
    assert failures(scratch) == []
    assert verify(scratch, "things") == 0
    assert one(scratch, "select count(distinct serial) from public.things") == 20


@begins_with(create_notes)
def test_a_column_added_later_is_never_silently_lost(db: Connection) -> None:
    db.execute("insert into public.notes (id, body) values (1, 'before')")
    db.execute("alter table public.notes_v2 add column colour text")
    # The converter no longer makes a whole row, and every write says so.
    db.execute("insert into public.notes (id, body) values (2, 'after')")
    assert [(key, operation) for key, operation, _ in failures(db)] == [({"id": 2}, "INSERT")]
    with refused("CF005", 409) as refusal:
        call(db, "set_stage", "notes", "shadow", "test")
    assert "tables_changed" in {blocker["code"] for blocker in refusal.detail["blockers"]}
    with refused("CF011", 409):
        call(db, "start_verify", "notes")
    db.execute("""
        create or replace function public.notes_to_v2(new_v1 public.notes, old_v2 public.notes_v2)
        returns setof public.notes_v2 language sql stable as $$
          select new_v1.id, new_v1.owner_id, jsonb_build_array(new_v1.body), new_v1.tag,
            coalesce(old_v2.pinned, false), 0, old_v2.colour $$
    """)
    db.execute(REGISTER, ["{}"])
    assert call(db, "repair", "notes")["remaining"] == 0
    db.execute("update public.notes_v2 set colour = 'red'")
    db.execute("update public.notes set body = 'edited'")
    assert rows(db, "select distinct colour, parts ->> 0 from public.notes_v2") == [
        ("red", "edited")
    ]
    assert verify(db, "notes") == 0


# Values that `=` finds equal and that are not the same.
LOOK_ALIKES = {
    "case": ("text collate public.ignore_case", "abc", "ABC"),
    "case of a domain": ("public.any_case", "abc", "ABC"),
    "case in a list": ("text[] collate public.ignore_case", "{abc}", "{ABC}"),
    "interval": ("interval", "30 days", "1 mon"),
    "intervals": ("interval[]", "{24:00:00}", '{"1 day"}'),
}


@pytest.mark.parametrize("name", [name for name in LOOK_ALIKES if not name.startswith("case")])
def test_a_change_that_equality_does_not_see_is_mirrored(scratch: Connection, name: str) -> None:
    a_look_alike_is_mirrored(scratch, name)


@on_debian_15
@pytest.mark.parametrize("name", [name for name in LOOK_ALIKES if name.startswith("case")])
def test_a_change_of_case_alone_is_mirrored(scratch: Connection, name: str) -> None:
    create_ignore_case(scratch)
    scratch.execute("create domain public.any_case text collate public.ignore_case")
    a_look_alike_is_mirrored(scratch, name)


def a_look_alike_is_mirrored(scratch: Connection, name: str) -> None:
    kind, before, after = LOOK_ALIKES[name]
    scratch.execute("set local intervalstyle = postgres")
    pair_of(
        scratch,
        f"id bigint primary key, data {kind}",
        f"id bigint primary key, data {kind}, more integer",
        "a.id, a.data, o.more",
        "b.id, b.data",
    )
    both = (
        "select a.data::text, b.data::text from public.things a join public.things_v2 b using (id)"
    )
    for number in range(1, 20):
        scratch.execute("insert into public.things values (%s, %s)", [number, before])
    scratch.execute("update public.things set data = %s where id = 1", [after])
    assert rows(scratch, f"{both} where id = 1") == [(after, after)]
    scratch.execute("update public.things_v2 set data = %s", [after])
    assert set(rows(scratch, both)) == {(after, after)}
    with unmirrored(scratch):
        scratch.execute("update public.things_v2 set data = %s where id = 2", [before])
    assert verify(scratch, "things") == 1


JSON = ("id bigint primary key, data json", "id bigint primary key, data json", "a.*", "b.*")


def test_json_written_otherwise_in_one_table_is_found(
    scratch: Connection,
) -> None:
    pair_of(scratch, *JSON)
    scratch.execute("""insert into public.things values (1, '{"a": 1, "b": 2}'), (2, null)""")
    with unmirrored(scratch):
        scratch.execute("""update public.things_v2 set data = '{"b":2,"a":1}' where id = 1""")
    assert verify(scratch, "things") == 1
    assert call(scratch, "repair", "things")["remaining"] == 0
    assert verify(scratch, "things") == 0
    scratch.execute("""update public.things set data = '{"a": 2}'""")
    assert rows(scratch, "select data from public.things_v2 order by id") == [
        ({"a": 2},), ({"a": 2},),
    ]  # fmt: skip
    assert failures(scratch) == []


def test_json_that_jsonb_refuses_can_be_verified(scratch: Connection) -> None:
    pair_of(scratch, *JSON)
    refused_by_jsonb = r'{"a": "\u0000"}'
    for number in range(20):
        scratch.execute("insert into public.things values (%s, %s)", [number, refused_by_jsonb])
    scratch.execute("update public.things set data = %s", [r'["\ud800", 1e1000000]'])
    assert failures(scratch) == []
    assert verify(scratch, "things") == 0
    assert call(scratch, "check_conversion", "things", 1)["violations"] == []
    with unmirrored(scratch):
        scratch.execute("""update public.things_v2 set data = '"\\u0000"' where id = 7""")
    assert verify(scratch, "things") == 1
    assert rows(scratch, "select key, columns from crossfade.mismatches") == [
        ({"id": 7}, ["data", "v2.data"])
    ]
    assert call(scratch, "repair", "things")["repaired"] == 1


SETTINGS = (
    "set local timezone = 'Asia/Kathmandu'; set local datestyle = 'German'; "
    "set local intervalstyle = 'sql_standard'; set local extra_float_digits = -15; "
    "set local bytea_output = 'escape'; set local lc_monetary = 'C'"
)
TYPES = {
    "timestamptz": "2026-05-01 10:00:00.123456+00",
    "timestamp": "2026-05-01 10:00:00.123456",
    "date": "2026-05-02",
    "interval": "1 mon -2 days 03:04:05.678",
    "float8": "0.1234567890123456",
    "float4": "0.12345678",
    "bytea": "\\x00ff5c27",
    "numeric": "1.10",
    "char(5)": "ab",
    "varchar": "ab",
    "uuid": "00000000-0000-4000-8000-000000000001",
    "inet": "10.0.0.1/8",
    'text collate "C"': "é'\"\\",
}
OTHER_TYPES = {
    "point": "(0.1234567890123456,2)",
    "int4range": "[1,5)",
    "json[]": '{"{\\"a\\": 1}",null}',
    "point[]": '{"(0.1234567890123456,2)"}',
    "tsvector": "'a':1",
    "bit(3)": "101",
    "money": "12.34",
}


UNFIT_KEYS = ("float8", "float4", "interval")


def test_session_settings_make_no_difference(scratch: Connection) -> None:
    types = TYPES | OTHER_TYPES
    with suppress(psycopg.errors.FeatureNotSupported), scratch.transaction():
        scratch.execute("select xml '<a/>'")
        types["xml"] = "<a>b</a>"
    columns = ", ".join(f"c{n} {name}" for n, name in enumerate(types))
    pair_of(
        scratch,
        f"id bigint primary key, {columns}",
        f"id bigint primary key, {columns}",
        "a.*",
        "b.*",
    )
    insert = f"insert into public.things values (%s{', %s' * len(types)})"
    for number in range(3):
        scratch.execute(insert, [number, *types.values()])
    before = rows(scratch, "select id, xmin::text from public.things_v2 order by id")
    scratch.execute(SETTINGS)
    scratch.execute("update public.things set id = id")
    assert rows(scratch, "select id, xmin::text from public.things_v2 order by id") == before
    assert verify(scratch, "things") == 0
    assert call(scratch, "check_conversion", "things", 2)["violations"] == []
    # What differs in the last digit only differs, whatever the session would print.
    places = {name: n for n, name in enumerate(types)}
    scratch.execute(f"""
        update public.things set c{places["float8"]} = 0.1234567890123457,
          c{places["point"]} = point(0.1234567890123457, 2)
    """)
    scratch.execute("set local extra_float_digits = 1")
    point = f"c{places['float8']}::text, c{places['point']}::text"
    assert rows(scratch, f"select distinct {point} from public.things_v2") == [
        ("0.1234567890123457", "(0.1234567890123457,2)")
    ]
    assert failures(scratch) == []


@pytest.mark.parametrize("name", [name for name in TYPES if name not in UNFIT_KEYS])
def test_keys_of_any_type_survive_session_settings(scratch: Connection, name: str) -> None:
    pair_of(
        scratch,
        f"id {name} primary key, body text",
        f"id {name} primary key, body text constraint fine check (body <> 'refused')",
        "a.*",
        "b.*",
    )
    scratch.execute(SETTINGS)
    scratch.execute("insert into public.things values (%s, 'refused')", [TYPES[name]])
    assert len(failures(scratch)) == 1
    scratch.execute("reset timezone; reset datestyle; reset bytea_output")
    scratch.execute("alter table public.things_v2 drop constraint fine")
    assert call(scratch, "repair", "things")["repaired"] == 1
    assert rows(scratch, "select body from public.things_v2") == [("refused",)]
    assert verify(scratch, "things") == 0


@pytest.mark.parametrize(
    ("name", "value", "setting"),
    [
        ("timestamptz", "2026-11-22 12:00+00", "timezone = 'Asia/Tokyo'"),
        ("bytea", r"\x00ff", "bytea_output = 'escape'"),
    ],
)
def test_a_key_is_noted_once_whatever_the_session(
    scratch: Connection, name: str, value: str, setting: str
) -> None:
    # Two notes of one row would be repaired one after the other, each from its own side.
    pair_of(
        scratch,
        f"id {name} primary key, body text constraint fine check (body <> 'v2')",
        f"id {name} primary key, body text constraint fine_too check (body <> 'v1')",
        "a.*",
        "b.*",
    )
    scratch.execute("insert into public.things values (%s, 'a')", [value])
    scratch.execute("update public.things set body = 'v1'")
    scratch.execute(f"set local {setting}")
    scratch.execute("update public.things_v2 set body = 'v2'")
    assert len(failures(scratch)) == 1
    scratch.execute("alter table public.things drop constraint fine")
    scratch.execute("alter table public.things_v2 drop constraint fine_too")
    assert call(scratch, "repair", "things")["repaired"] == 1
    assert rows(scratch, "select body from public.things") == [("v2",)]


@pytest.mark.parametrize("name", UNFIT_KEYS)
def test_keys_whose_text_depends_on_the_session_are_refused(scratch: Connection, name: str) -> None:
    table = f"id {name} primary key, body text"
    with refused("CF008", 400) as refusal, scratch.transaction():
        pair_of(scratch, table, table, "a.*", "b.*")
    assert "whose text depends on the session" in refusal.detail["problems"][0]


def test_types_of_extensions_are_compared(db: Connection, database: str) -> None:
    # Their operators are not on an empty search_path, which is what a mirror must run with.
    admin_url = database.replace("postgres@", "supabase_admin@")
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute(LIKE_AN_EXTENSION)
    table = "id bigint primary key, size extensions.size, sizes extensions.size[]"
    pair_of(db, table, table, "a.*", "b.*")
    db.execute("set search_path = ''")
    db.execute("insert into public.things select g, '1', '{1,2}' from generate_series(1, 3) g")
    db.execute("update public.things set size = '2' where id = 1")
    db.execute("update public.things_v2 set sizes = '{3}' where id = 2")
    assert failures(db) == []
    assert verify(db, "things") == 0
    assert rows(db, "select id, size::text, sizes::text from public.things order by 1") == [
        (1, "\\x32", '{"\\\\x31","\\\\x32"}'),
        (2, "\\x31", '{"\\\\x33"}'),
        (3, "\\x31", '{"\\\\x31","\\\\x32"}'),
    ]


LIKE_AN_EXTENSION = """
create type extensions.size;
create function extensions.size_in(cstring) returns extensions.size
language internal immutable strict as 'byteain';
create function extensions.size_out(extensions.size) returns cstring
language internal immutable strict as 'byteaout';
create function extensions.size_send(extensions.size) returns bytea
language internal immutable strict as 'byteasend';
create type extensions.size (
  input = extensions.size_in, output = extensions.size_out, send = extensions.size_send
);
create function extensions.size_eq(extensions.size, extensions.size) returns boolean
language internal immutable strict as 'byteaeq';
create operator extensions.= (
  leftarg = extensions.size, rightarg = extensions.size, function = extensions.size_eq, hashes
);
create function extensions.size_hash(extensions.size) returns integer
language internal immutable strict as 'hashvarlena';
create operator class extensions.size_ops default for type extensions.size using hash
as operator 1 extensions.=, function 1 extensions.size_hash(extensions.size);
grant usage on type extensions.size to public;
"""


def test_an_update_keeps_values_that_are_stored_out_of_line(notes: Connection) -> None:
    body = "".join(chr(97 + (n * n) % 26) + str(n) for n in range(20_000))
    notes.execute("insert into public.notes (id, body) values (1, %s)", [body])
    notes.execute("update public.notes set tag = 'v1'")
    notes.execute("update public.notes_v2 set pinned = true")
    assert rows(
        notes,
        "select a.body = b.parts ->> 0, length(a.body), b.tag from public.notes a "
        "join public.notes_v2 b using (id)",
    ) == [(True, len(body), "v1")]


# 6.9 Foreign keys.

ORDERS = (ROOT / "sql" / "pairs" / "orders.sql").read_text()


@pytest.fixture
def orders(scratch: Connection) -> Connection:
    scratch.execute(ORDERS)
    return scratch


def opened(db: Connection) -> None:
    """Both pairs mirrored, parents first."""
    db.execute(ORDERS)
    for name in ("customers", "orders"):
        call(db, "set_stage", name, "dualwrite", "test")
        run = call(db, "start_backfill", name)["run"]["id"]
        while call(db, "backfill_batch", run)["state"] != "finished":
            pass


def test_a_child_is_not_opened_before_its_parent(orders: Connection) -> None:
    with refused("CF005", 409), orders.transaction():
        call(orders, "set_stage", "orders", "dualwrite", "the wrong one first")
    orders.execute(
        "insert into public.customers (id, full_name) overriding system value values (1, 'Ada')"
    )
    orders.execute(
        "insert into public.orders (customer_id, number, total_cents) overriding system value "
        "values (1, 1, 5)"
    )
    assert failures(orders) == []


@pytest.mark.parametrize("count", [1, 30])
@begins_with(opened)
def test_a_deferred_foreign_key_lets_the_child_come_first(db: Connection, count: int) -> None:
    db.execute("alter table public.orders alter constraint orders_customer_id_fkey deferrable")
    with db.transaction():
        db.execute("set constraints all deferred")
        db.execute(
            "insert into public.orders (customer_id, total_cents) "
            "select g, 5 from generate_series(1, %s) g",
            [count],
        )
        db.execute(
            "insert into public.customers (id, full_name) overriding system value "
            "select g, 'n' from generate_series(1, %s) g",
            [count],
        )
        db.execute("set constraints all immediate")
    assert failures(db) == []
    assert one(db, "select count(*) from public.orders_v2") == count


def test_backfill_of_the_child_first_is_refused(db: Connection) -> None:
    db.execute(ORDERS)
    db.execute("""
        insert into public.customers (full_name) select 'n' from generate_series(1, 10);
        insert into public.orders (customer_id, total_cents) select id, 5 from public.customers
    """)
    for name in ("customers", "orders"):
        call(db, "set_stage", name, "dualwrite", "test")
    with refused("CF005", 409) as refusal:
        call(db, "start_backfill", "orders")
    assert refusal.detail["parents"] == ["customers"]
    for name in ("customers", "orders"):
        run = call(db, "start_backfill", name)["run"]["id"]
        while call(db, "backfill_batch", run)["state"] != "finished":
            pass
    assert failures(db) == []
    assert one(db, "select count(*) from public.orders_v2") == 10


@pytest.mark.parametrize("policy", ["record", "raise"])
@begins_with(opened)
def test_a_mirrored_cascade_passes_the_fence(db: Connection, policy: str) -> None:
    for name in ("customers", "orders"):
        names = [f"public.{name}{part}" for part in ("", "_v2", "_to_v2", "_to_v1")]
        call(db, "register_pair", name, *names, options={"failure_policy": policy})
    with acting_as(db, "authenticated"):
        db.execute("insert into public.customers (full_name) values ('Ada')")
        db.execute(
            "insert into public.orders (customer_id, total_cents) "
            "select id, 5 from public.customers"
        )
    call(db, "engage_kill_switch", "disable_v2_messages", "test")
    with acting_as(db, "authenticated"):
        assert db.execute("delete from public.customers").rowcount == 1
    assert failures(db) == []
    for table in ("customers_v2", "orders", "orders_v2"):
        assert one(db, f"select count(*) from public.{table}") == 0


# 6.11 Policy and cost.


@pytest.mark.parametrize("count", [1, 30])
def test_a_converter_that_raises_stops_nobody(notes: Connection, count: int) -> None:
    notes.execute("""
        create or replace function public.notes_to_v2(new_v1 public.notes, old_v2 public.notes_v2)
        returns setof public.notes_v2 language sql stable as $$
          select new_v1.id, new_v1.owner_id, jsonb_build_array(new_v1.body), new_v1.tag,
            1 / (new_v1.id - 1) >= 0, 0 $$
    """)
    notes.execute(
        "insert into public.notes (id, body) select g, 'n' from generate_series(1, %s) g", [count]
    )
    assert failures(notes) == [({"id": 1}, "INSERT", "22012")]
    assert differences(notes) == [(1, False, True)]


# PostgreSQL 15 does not count them.
@pytest.mark.parametrize("template", ["18", "16"], indirect=True, scope="session")
@begins_with(create_notes)
def test_many_rows_cost_few_subtransactions(db: Connection) -> None:
    count = (
        "select s.subxact_count from pg_stat_get_backend_idset() b "
        "cross join lateral pg_stat_get_backend_subxact(b) s "
        "where pg_stat_get_backend_pid(b) = pg_backend_pid()"
    )
    for sql in (
        "insert into public.notes (id, body) select g, 'n' from generate_series(1, 500) g",
        "update public.notes set body = 'edited'",
        "update public.notes_v2 set tag = 'x'",
        "delete from public.notes where id > 100",
    ):
        with db.transaction():
            db.execute(sql)
            db.execute("select pg_stat_clear_snapshot()")
            # Above 64 the list no longer fits, and every snapshot in the cluster pays for it.
            assert one(db, count) <= 2 + 1, sql  # one() opens a savepoint itself


# Plans: PL/pgSQL keeps them per session, and a plan made for 40,000 rows scans the table for one.


@begins_with(create_notes)
def test_single_rows_are_fast_after_many_rows(db: Connection) -> None:
    singles: list[Callable[[int], str]] = [
        lambda n: f"update public.notes set body = 'v1 {n}' where id = {n}",
        lambda n: f"""update public.notes_v2 set parts = '["v2 {n}"]' where id = {n}""",
        lambda n: f"insert into public.notes (id, body) values ({n + 10_000}, 'n')",
        lambda n: f"insert into public.notes_v2 (id, parts) values ({n + 20_000}, '[]')",
        lambda n: f"delete from public.notes where id = {n + 20_000}",
        lambda n: f"update public.notes_v2 set id = id + 50000 where id = {n + 10_000}",
    ]
    many = [
        "insert into public.notes (id, body) select g, 'n' from generate_series(1, 5000) g",
        "update public.notes set tag = 'all'",
        "update public.notes_v2 set pinned = true",
        "delete from public.notes where id > 4000",
    ]
    for sql in many:
        db.execute(sql)
    db.execute("analyze public.notes, public.notes_v2")
    scans = (
        "select sum(seq_scan) from pg_stat_xact_user_tables where relname in ('notes', 'notes_v2')"
    )
    for single in singles:
        with db.transaction():
            before = one(db, scans)
            for number in range(1, 13):  # past the five custom plans
                db.execute(single(number))
            assert one(db, scans) == before, single(1)
    assert differences(db) == []
