"""The worked pairs of sql/pairs, side by side: laws, foreign keys, sequences, backfill, stages."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from tests.sql.conftest import ROOT, Connection, Template, copied, prepared
from tests.sql.control import call, one, open_v2
from tests.sql.worked_rows import Row, Rows, deep_parameters

FILES = {path.stem: path.read_text() for path in (ROOT / "sql" / "pairs").glob("*.sql")}
ADA, BOB = "00000000-0000-4000-8000-0000000000a1", "00000000-0000-4000-8000-0000000000b2"


@dataclass(frozen=True)
class Pair:
    """A worked pair: its name, generators of rows, what V1 cannot show of V2."""

    name: str
    v1: str
    v2: str
    hidden: tuple[str, ...]
    computed: tuple[str, ...] = ()


# Parents before children.
PAIRS = [
    Pair("customers", "customer", "customer_v2", ("locale",)),
    Pair("orders", "order", "order_v2", ("shipping",), ("due", "due_cents")),
    Pair("events", "event", "event_v2", ("source",)),
    Pair("agent_tools", "tool", "tool_v2", ("title", "output_schema", "strict", "annotations")),
]
NAMES = [pair.name for pair in PAIRS]
# Orders refer to customers and move with them.
GROUPS = ["customers", "events", "agent_tools"]

LAWS = """
with input as materialized (
  select i.n, jsonb_populate_record(null::public.{name}, i.v1) a,
    jsonb_populate_record(null::public.{name}_v2, i.v2) b, i.edit
  from jsonb_to_recordset(%s::jsonb) i(n integer, v1 jsonb, v2 jsonb, edit jsonb)
),
made as materialized (
  select i.*, up, down, jsonb_populate_record(down, i.edit) edited
  from input i
  cross join lateral public.{name}_to_v2(i.a, null) up
  cross join lateral public.{name}_to_v1(i.b, null) down
),
put as materialized (
  select m.*, stored, other
  from made m
  cross join lateral public.{name}_to_v2(m.edited, m.b) stored
  cross join lateral public.{name}_to_v2(m.a, m.b) other
)
select p.n, l.law, l.got - %s::text[], l.wanted - %s::text[]
from put p
cross join lateral (
  select '1 up and down', to_jsonb(r), to_jsonb(p.a) from public.{name}_to_v1(p.up, null) r
  union all
  select '2 down and up', to_jsonb(r), to_jsonb(p.b) from public.{name}_to_v2(p.down, p.b) r
  union all
  select '3 an edit wins', to_jsonb(r), to_jsonb(p.edited)
  from public.{name}_to_v1(p.stored, p.down) r
  union all
  select '3 any row wins', to_jsonb(r), to_jsonb(p.a) from public.{name}_to_v1(p.other, p.a) r
  union all
  select '4 the rest survives', to_jsonb(p.stored) - d.shown, to_jsonb(p.b) - d.shown
  from (select array(select k from jsonb_object_keys(to_jsonb(p.b)) k where k <> all (%s))) d(shown)
  union all
  select '6 twice is once', to_jsonb(r), to_jsonb(p.stored)
  from public.{name}_to_v2(p.edited, p.stored) r
) l(law, got, wanted)
where l.got - %s::text[] is distinct from l.wanted - %s::text[]
order by p.n
"""


def install(db: Connection) -> None:
    for name in ("orders", "events", "agent_tools", "chat_messages"):
        db.execute(FILES[name])


def dualwrite(db: Connection) -> None:
    for group in [*GROUPS, "chat_messages"]:
        call(db, "set_group_stage", group, "dualwrite", "test")


@pytest.fixture(scope="module")
def installed(shared: Connection) -> Connection:
    install(shared)
    return shared


@pytest.fixture
def registered(installed: Connection) -> Iterator[Connection]:
    """All pairs in stage off; what a test does is rolled back."""
    with installed.transaction(force_rollback=True):
        # What a rolled-back test took from a sequence stays taken.
        installed.execute("alter sequence public.customers_id_seq restart")
        installed.execute("alter sequence public.orders_number_seq restart")
        yield installed


def ready(db: Connection) -> None:
    """All pairs mirrored: orders are as soon as customers are copied and their turn begins."""
    install(db)
    dualwrite(db)
    for name in NAMES:
        finish(db, "backfill", name)


@pytest.fixture
def mirrored(template: Template) -> Iterator[Connection]:
    with (
        copied(template, prepared(template, ready, (), {})) as name,
        psycopg.connect(template.url(name), autocommit=True) as db,
        db.transaction(),
    ):
        yield db


@contextmanager
def acting_as(db: Connection, role: str, sub: str = "") -> Iterator[None]:
    claims = json.dumps({"sub": sub, "role": role})
    db.execute("select set_config('request.jwt.claims', %s, true)", [claims])
    db.execute(f"set local role {role}")
    yield
    db.execute("reset role")


def rows(db: Connection, query: str) -> list[tuple[Any, ...]]:
    return db.execute(query).fetchall()


def generated(pair: Pair, count: int, seed: int) -> list[Row]:
    made = Rows(seed)
    found = []
    for n in range(count):
        whole = getattr(made, pair.v1)()
        edit = {key: whole[key] for key in whole if made.pick(True, False, False)}
        found.append(
            {"n": n, "v1": getattr(made, pair.v1)(), "v2": getattr(made, pair.v2)(), "edit": edit}
        )
    return found


def violations(db: Connection, pair: Pair, records: list[Row]) -> list[tuple[Any, ...]]:
    computed = list(pair.computed)
    places = [json.dumps(records), computed, computed, list(pair.hidden), computed, computed]
    return db.execute(LAWS.format(name=pair.name), places).fetchall()


def insert(db: Connection, table: str, records: list[Row]) -> None:
    columns = ", ".join(records[0])
    db.execute(
        f"insert into public.{table} ({columns}) overriding system value "
        f"select {columns} from jsonb_populate_recordset(null::public.{table}, %s)",
        [json.dumps(records)],
    )


def unmirrored(db: Connection, name: str) -> list[Any]:
    """Keys that differ between the two tables of a pair, by the engine's own comparison."""
    return rows(
        db,
        "select f.key, f.kind, f.columns from crossfade_private.find_in_range("
        "crossfade_private.run_pieces((select p from crossfade.pairs p "
        f"where p.name = '{name}'), 'v1_to_v2'), null, null) f",
    )


def assert_equal(db: Connection) -> None:
    assert rows(db, "select pair, key, message from crossfade.mirror_failures") == []
    assert {name: unmirrored(db, name) for name in NAMES} == {name: [] for name in NAMES}


def finish(db: Connection, kind: str, name: str) -> dict[str, Any]:
    answer = call(db, f"start_{kind}", name)
    batch = "backfill_batch" if kind == "backfill" else "verify_batch"
    for _ in range(50):
        answer = call(db, batch, answer["run"]["id"])
        if answer["state"] == "finished":
            found: dict[str, Any] = answer["run"]
            return found
    raise AssertionError(answer)


# Laws ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", PAIRS, ids=NAMES)
def test_laws_hold_for_generated_rows(registered: Connection, pair: Pair) -> None:
    seed = random.randrange(10**9)
    found = violations(registered, pair, generated(pair, 500, seed))
    assert found == [], f"seed {seed}: {len(found)} violations, first {found[0]}"


@pytest.mark.parametrize("pair", PAIRS, ids=NAMES)
def test_generated_rows_fit_into_the_other_table(mirrored: Connection, pair: Pair) -> None:
    seed = random.randrange(10**9)
    records = generated(pair, 100, seed)
    if pair.name == "orders":
        keys = {row[side]["customer_id"] for row in records for side in ("v1", "v2")}
        insert(mirrored, "customers", [{"id": key, "full_name": ""} for key in sorted(keys)])
    insert(mirrored, pair.name, [row["v1"] for row in records])
    insert(mirrored, f"{pair.name}_v2", [row["v2"] for row in records])
    assert_equal(mirrored)
    for side in (1, 2):
        checked = call(mirrored, "check_conversion", pair.name, side)
        assert (checked["rows_checked"], checked["violations"]) == (200, []), f"seed {seed}"


def test_parameters_may_nest_deeper_than_the_stack_is(registered: Connection) -> None:
    tools = PAIRS[2]
    records = generated(tools, 3, 1)
    schema = {"type": "object", "properties": deep_parameters(200)}
    records[0]["v1"]["parameters"] = deep_parameters(200)
    records[1]["v2"]["input_schema"] = schema
    records[1]["edit"] = {"parameters": deep_parameters(199)}
    assert violations(registered, tools, records) == []


def test_legacy_parameters_become_a_json_schema(registered: Connection) -> None:
    parameters = {
        "city": {"type": "string", "required": True, "enum": ["Oslo", "Bergen"]},
        "days": {"type": "float", "required": False, "default": 1},
        "where": {
            "type": "dict",
            "properties": {"lat": {"type": "number", "required": True}, "note": {"type": "any"}},
        },
        "odd": "just a word",
    }
    schema = one(
        registered,
        "select agent_tools_private.put_schema(%s::jsonb, null)",
        json.dumps(parameters),
    )
    assert schema == {
        "type": "object",
        "required": ["city"],
        "properties": {
            "city": {"type": "string", "enum": ["Oslo", "Bergen"]},
            "days": {
                "type": "number",
                "default": 1,
                "x-legacy-type": "float",
                "x-legacy-required": False,
            },
            "where": {
                "type": "object",
                "x-legacy-type": "dict",
                "required": ["lat"],
                "properties": {"lat": {"type": "number"}, "note": {"x-legacy-type": "any"}},
            },
            "odd": {"x-legacy": "just a word"},
        },
    }


def test_an_edited_parameter_leaves_the_rest_of_the_schema_alone(mirrored: Connection) -> None:
    schema = {
        "type": "object",
        "$defs": {"day": {"type": "string"}},
        "required": ["to", "from", "hidden"],
        "properties": {"from": {"type": "string"}, "to": {"$ref": "#/$defs/day"}},
    }
    mirrored.execute(
        "insert into public.agent_tools_v2 (name, input_schema, strict) values ('trip', %s, true)",
        [json.dumps(schema)],
    )
    mirrored.execute(
        "update public.agent_tools "
        "set parameters = jsonb_set(parameters, '{from,required}', 'false')"
    )
    (found,) = rows(mirrored, "select input_schema, strict from public.agent_tools_v2")
    schema["required"] = ["to", "hidden"]
    schema["properties"]["from"]["x-legacy-required"] = False  # type: ignore[index]
    assert found == (schema, True)
    assert_equal(mirrored)


# A converter that is wrong for some rows ----------------------------------------------------------

WRONG = """
create or replace function public.orders_to_v2(new_v1 public.orders, old_v2 public.orders_v2)
returns setof public.orders_v2 language sql stable as $$
  select new_v1.customer_id, new_v1.number,
    -- Wrong on purpose: a value that V2 does not know, for one status.
    case new_v1.status when 'shipped' then 'sent' else new_v1.status::text end,
    -- Cents are cut off above 10 000.
    case when new_v1.total_cents > 1000000 then trunc(new_v1.total_cents / 100)
      else new_v1.total_cents * 0.01 end,
    new_v1.discount_cents * 0.01, null::numeric, coalesce(old_v2.shipping, '{}'),
    -- Raises for a note that begins with a zero.
    case when new_v1.note like '0%' then (1 / (length(new_v1.note) - length(new_v1.note)))::text
      else new_v1.note end, new_v1.placed_at
$$
"""


def test_check_conversion_names_the_rows_and_columns_of_a_wrong_converter(
    registered: Connection,
) -> None:
    registered.execute(WRONG)
    registered.execute("""
        insert into public.customers (full_name) values ('Ada');
        insert into public.orders (customer_id, number, status, total_cents, note)
        overriding system value values
          (1, 1, 'new', 100, null), (1, 2, 'shipped', 100, null), (1, 3, 'new', 1000001, null),
          (1, 4, 'paid', 1000100, null), (1, 5, 'new', 1, '0 raises'), (1, 6, 'shipped', 7, 'b')
    """)
    found = call(registered, "check_conversion", "orders", 1)
    assert [(v["key"]["number"], v["law"], v["columns"]) for v in found["violations"]] == [
        (2, 7, ["status_is_known"]),
        (3, 1, ["total_cents"]),
        (5, 5, []),
        (6, 7, ["status_is_known"]),
    ]
    assert found["rows_checked"] == 6


# Mirrors ------------------------------------------------------------------------------------------


def test_native_rows_of_both_tables_never_collide(mirrored: Connection) -> None:
    for number in range(4):
        version = "_v2" if number % 2 else ""
        name, total = ("name", "total") if version else ("full_name", "total_cents")
        mirrored.execute(f"insert into public.customers{version} ({name}) values ('Ada')")
        mirrored.execute(f"insert into public.orders{version} (customer_id, {total}) values (1, 5)")
    for version in ("", "_v2"):
        assert rows(mirrored, f"select id from public.customers{version} order by 1") == [
            (1,), (2,), (3,), (4,),
        ]  # fmt: skip
        assert rows(mirrored, f"select number from public.orders{version} order by 1") == [
            (1,), (2,), (3,), (4,),
        ]  # fmt: skip
    assert_equal(mirrored)


def test_amounts_and_generated_columns_agree(mirrored: Connection) -> None:
    mirrored.execute("insert into public.customers (full_name) values ('Ada')")
    mirrored.execute(
        "insert into public.orders (customer_id, total_cents, discount_cents) values (1, 12345, 45)"
    )
    assert rows(mirrored, "select total::text, due::text from public.orders_v2") == [
        ("123.45", "123.00")
    ]
    mirrored.execute("update public.orders_v2 set total = 99.99, status = 'refunded'")
    assert rows(mirrored, "select total_cents, due_cents, status::text from public.orders") == [
        (9999, 9954, "cancelled")
    ]
    mirrored.execute("update public.orders set note = 'called'")
    assert rows(mirrored, "select status, note from public.orders_v2") == [("refunded", "called")]
    mirrored.execute("update public.orders set status = 'paid'")
    assert rows(mirrored, "select status from public.orders_v2") == [("paid",)]
    assert_equal(mirrored)


@pytest.mark.parametrize("version", ["", "_v2"])
def test_parent_and_children_in_one_transaction(mirrored: Connection, version: str) -> None:
    name, total = ("name", "total") if version else ("full_name", "total_cents")
    with mirrored.transaction():
        mirrored.execute(
            f"insert into public.customers{version} ({name}) "
            "select g::text from generate_series(1, 20) g"
        )
        mirrored.execute(
            f"insert into public.orders{version} (customer_id, {total}) "
            f"select id, 5 from public.customers{version}"
        )
    assert_equal(mirrored)
    for table in ("orders", "orders_v2"):
        assert one(mirrored, f"select count(*) from public.{table}") == 20


@pytest.mark.parametrize("version", ["", "_v2"])
@pytest.mark.parametrize("statement", ["delete from", "truncate"])
def test_cascades_empty_both_tables_and_report_nothing(
    mirrored: Connection, version: str, statement: str
) -> None:
    mirrored.execute("""
        insert into public.customers (full_name) select g::text from generate_series(1, 20) g;
        insert into public.orders (customer_id, total_cents) select id, 5 from public.customers
    """)
    cascade = " cascade" if statement == "truncate" else ""
    mirrored.execute(f"{statement} public.customers{version}{cascade}")
    for table in ("customers", "customers_v2", "orders", "orders_v2"):
        assert one(mirrored, f"select count(*) from public.{table}") == 0
    assert_equal(mirrored)


@pytest.mark.parametrize("version", ["", "_v2"])
def test_users_see_the_same_rows_in_both_formats(mirrored: Connection, version: str) -> None:
    name, total = ("name", "total") if version else ("full_name", "total_cents")
    order = f"insert into public.orders{version} (customer_id, {total}) values (%s, 5)"
    for pair in ("customers", "orders", "agent_tools"):
        open_v2(mirrored, pair)
    for number, sub in enumerate((ADA, BOB), 1):
        with acting_as(mirrored, "authenticated", sub):
            mirrored.execute(f"insert into public.customers{version} ({name}) values ('me')")
            mirrored.execute(order, [number])
            mirrored.execute(f"insert into public.agent_tools{version} (name) values ('mine')")
    for number, sub in enumerate((ADA, BOB), 1):
        with acting_as(mirrored, "authenticated", sub):
            for other in ("", "_v2"):
                assert rows(mirrored, f"select id from public.customers{other}") == [(number,)]
                assert rows(mirrored, f"select customer_id from public.orders{other}") == [
                    (number,)
                ]
                assert one(mirrored, f"select count(*) from public.agent_tools{other}") == 1
            denied(mirrored, order, [3 - number])
            denied(mirrored, "select public.orders_to_v1(o, null) from public.orders_v2 o")
    with acting_as(mirrored, "anon"):
        denied(mirrored, f"select from public.customers{version}")
    assert_equal(mirrored)


def denied(db: Connection, query: str, values: list[Any] | None = None) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege), db.transaction():
        db.execute(query, values)


# From off to rampdown and back --------------------------------------------------------------------


def test_all_pairs_go_forward_together_and_come_back(db: Connection) -> None:
    install(db)
    db.execute("""
        insert into public.customers (full_name, email)
        select 'n' || g, 'e' || g from generate_series(1, 300) g;
        insert into public.orders (customer_id, total_cents, status)
        select id, id, 'paid' from public.customers;
        insert into public.agent_tools (name, parameters)
        select 't' || g, jsonb_build_object('p' || g, '{"type": "float", "required": true}'::jsonb)
        from generate_series(1, 300) g;
        insert into public.events (name, occurred_at)
        select 'e' || g, now() - g * interval '1 day' from generate_series(1, 300) g;
        update crossfade.settings set value = '0' where name = 'shadow_min_reads'
    """)
    dualwrite(db)
    for name in NAMES:
        assert finish(db, "backfill", name)["rows_written"] == 300
        assert finish(db, "verify", name)["mismatches"] == 0
    assert_equal(db)
    for stage in ("shadow", "live", "rampdown"):
        if stage == "rampdown":
            for name in NAMES:
                call(db, "set_cohort", name, {"percentage": 100}, "test")
        for group in GROUPS:
            moved = call(db, "set_group_stage", group, stage, "test")["pairs"]
            assert {pair["after"] for pair in moved} == {stage}
        db.execute("update public.orders set note = %s", [stage])
        db.execute("update public.customers set email = %s", [stage])
        db.execute("update public.agent_tools set enabled = not enabled")
        db.execute("update public.events set occurred_at = occurred_at + interval '20 days'")
    db.execute("update public.orders_v2 set total = total + 1")
    assert_equal(db)
    for stage in ("live", "shadow", "dualwrite", "off"):
        for group in GROUPS:
            moved = call(db, "set_group_stage", group, stage, "test")["pairs"]
            assert {pair["after"] for pair in moved} == {stage}
    assert_equal(db)
    assert one(db, "select sum(total_cents) from public.orders") == 300 * 301 // 2 + 300 * 100


def test_applying_the_files_again_changes_nothing(mirrored: Connection) -> None:
    mirrored.execute("insert into public.customers (full_name) values ('Ada')")
    catalog = "select name, stage, fingerprint, converter_hash from crossfade.pairs order by name"
    before = rows(mirrored, catalog)
    install(mirrored)
    assert rows(mirrored, catalog) == before
    assert one(mirrored, "select count(*) from public.customers_v2") == 1
