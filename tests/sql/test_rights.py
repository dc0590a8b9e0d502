"""Rights: every table and function, tried as everybody, against the table of control/OPERATORS.md.

What is tried comes from the catalog, so that nothing new can be forgotten.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest

from tests.sql.conftest import ROOT, Connect
from tests.sql.control import Connection, create_pair, one
from tests.sql.operators import ROLES, add_operators, sign_in

RIGHTS = ROOT / "control" / "OPERATORS.md"
SCHEMAS = ["crossfade", "crossfade_private"]
COLUMNS = [*ROLES, "secret key"]

FUNCTIONS = """
select n.nspname, p.proname, p.oid, p.oid::regprocedure::text, p.prokind = 'p',
  p.prorettype in ('trigger'::regtype, 'event_trigger'::regtype) or p.proisstrict,
  coalesce(array(select format_type(t.kind, null)
    from unnest(p.proargtypes::oid[]) with ordinality t (kind, place) order by t.place), '{}'),
  coalesce(p.proargnames[:p.pronargs], '{}')
from pg_proc p join pg_namespace n on n.oid = p.pronamespace
where n.nspname = any (%s) order by 4
"""
TABLES = """
select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = any (%s) and c.relkind in ('r', 'p', 'v', 'm') order by 1, 2
"""


@dataclass(frozen=True)
class Function:
    schema: str
    name: str
    oid: int
    text: str
    is_procedure: bool
    is_beyond_a_call: bool
    """A trigger function, or a strict one: a call with nulls is folded away."""
    kinds: list[str]
    parameters: list[str]

    def call(self) -> str:
        """Text of a call with nothing but nulls."""
        nulls = ", ".join(f"null::{kind}" for kind in self.kinds)
        return f"{'call' if self.is_procedure else 'select'} {self.schema}.{self.name}({nulls})"


@dataclass(frozen=True)
class Cells:
    """The rows of the documented table."""

    functions: dict[str, dict[str, bool]] = field(default_factory=dict)
    tables: dict[str, dict[str, bool]] = field(default_factory=dict)


def documented() -> Cells:
    text = RIGHTS.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    start = next(i for i, line in enumerate(lines) if line.startswith("| what |"))
    heads = [cell.strip() for cell in lines[start].strip("|").split("|")]
    assert heads[2:] == COLUMNS
    cells = Cells()
    for line in lines[start + 2 :]:
        _, names, *answers = (cell.strip() for cell in line.strip("|").split("|"))
        rights = {
            who: {"yes": True, "no": False}[a] for who, a in zip(COLUMNS, answers, strict=True)
        }
        functions, _, tables = names.partition("tables")
        for found, part in ((cells.functions, functions), (cells.tables, tables)):
            for name in re.findall(r"`(\w+)`", part):
                assert name not in found, f"{name} stands in two rows"
                found[name] = rights
    return cells


def functions(db: Connection, *schemas: str) -> list[Function]:
    rows = db.execute(FUNCTIONS, [list(schemas) or SCHEMAS]).fetchall()
    return [Function(*row) for row in rows]


def tables(db: Connection, *schemas: str) -> list[tuple[str, str]]:
    return [(row[0], row[1]) for row in db.execute(TABLES, [list(schemas) or SCHEMAS])]


FORGED: dict[str, Any] = {
    "email": "admin",
    "app_metadata": {"role": "admin", "roles": ["admin"], "provider": "email"},
    "user_metadata": {"role": "admin", "sub": "admin", "is_admin": True},
    "user_role": "admin",
    "aud": "service_role",
}
HEADERS = '{"x-crossfade-actor": "admin", "x-crossfade-role": "admin", "apikey": "service_role"}'


@pytest.fixture
def people(db: Connection, connect: Connect) -> dict[str, Connection]:
    """A connection for everybody who may ask; the forgers say that they are admin."""
    create_pair(db)  # generates functions
    add_operators(db)
    found = {role: sign_in(connect(), role) for role in ROLES}
    found["secret key"] = connect("service_role")
    found["anon"] = sign_in(connect(), None, role="anon")
    found["stranger"] = sign_in(connect(), "stranger")
    found["forger"] = sign_in(connect(), "stranger", **FORGED)
    found["anonymous forger"] = sign_in(connect(), "admin", role="anon", **FORGED)
    for name in ("forger", "anonymous forger", "viewer", "operator"):
        found[name].execute("select set_config('request.headers', %s, false)", [HEADERS])
    return found


OPEN = {"operate": "CF020", "my_backend": "CF001"}
"""What every signed-in user may call, and how nulls are refused."""
OUTSIDERS = ["anon", "stranger", "forger", "anonymous forger"]


def outcome(db: Connection, statement: str, *args: Any) -> str:
    """Try it and take it back: ok, the code of a refusal, or the SQLSTATE."""
    try:
        with db.transaction(force_rollback=True):
            db.execute(statement, args or None)
    except psycopg.Error as error:
        code = re.search(r'"code": "(\w+)"', error.diag.message_detail or "")
        return code[1] if code else error.sqlstate or ""
    return "ok"


# The documented table ----------------------------------------------------------------------------


def test_the_documented_table_names_every_function_and_table(db: Connection) -> None:
    cells = documented()
    assert sorted(cells.functions) == sorted(
        f.name for f in functions(db, "crossfade") if f.name not in OPEN
    )
    assert sorted(cells.tables) == sorted(name for _, name in tables(db, "crossfade"))


def test_every_cell_of_a_function_is_what_the_database_does(
    db: Connection, people: dict[str, Connection]
) -> None:
    cells = documented()
    for function in functions(db, "crossfade"):
        if function.name in OPEN:
            continue
        params = "{" + ", ".join(f'"{name}": null' for name in function.parameters) + "}"
        for who in (*ROLES, "stranger", "forger"):
            may = cells.functions[function.name].get(who, False)
            got = outcome(people[who], "select crossfade.operate(%s, %s)", function.name, params)
            # Null arguments are refused for what they are, when the role is right.
            assert (got not in {"CF020", "42501"}) == may, f"{who}: {function.text}: {got}"
        got = outcome(people["secret key"], function.call())
        assert got not in {"CF020", "42501"}, f"secret key: {function.text}: {got}"


def fill(db: Connection) -> None:
    """One row in every table, whatever it asks for."""
    with psycopg.connect(db.info.dsn.replace("user=postgres", "user=supabase_admin")) as su:
        su.execute("set session_replication_role = replica")
        for schema, name in tables(db, "crossfade"):
            checks = su.execute(
                "select conname from pg_constraint where conrelid = %s::regclass and contype = 'c'",
                [f"{schema}.{name}"],
            ).fetchall()
            for (check,) in checks:
                su.execute(f'alter table {schema}."{name}" drop constraint "{check}"')
            columns = su.execute(
                """
                select a.attname, format_type(a.atttypid, null) from pg_attribute a
                where a.attrelid = %s::regclass and a.attnum > 0 and not a.attisdropped
                  and a.attnotnull and not a.atthasdef and a.attidentity = ''
                  and a.attgenerated = ''
                """,
                [f"{schema}.{name}"],
            ).fetchall()
            if su.execute(f"select 1 from {schema}.{name} limit 1").fetchone():
                continue
            values = ", ".join(any_value(kind) for _, kind in columns)
            into = ", ".join(f'"{column}"' for column, _ in columns)
            target = f"{schema}.{name} ({into})" if columns else f"{schema}.{name} default"
            su.execute(f"insert into {target} values ({values})" if columns else
                       f"insert into {target} values")  # fmt: skip


def any_value(kind: str) -> str:
    if kind.endswith("[]"):
        return f"'{{}}'::{kind}"
    values = {"jsonb": "'{}'", "boolean": "true", "timestamp with time zone": "now()"}
    return values.get(kind, f"'1'::{kind}")


def test_every_cell_of_a_table_is_what_the_database_shows(
    db: Connection, people: dict[str, Connection]
) -> None:
    cells = documented()
    fill(db)
    for schema, name in tables(db, "crossfade"):
        rows = one(db, f"select count(*) from {schema}.{name}")
        assert rows > 0, name
        for who in (*ROLES, "secret key", "stranger", "forger"):
            may = cells.tables[name].get(who, False)
            seen = one(people[who], f"select count(*) from {schema}.{name}")
            assert seen == (rows if may else 0), f"{who} sees {seen} of {rows} in {name}"


# Everything else is closed -----------------------------------------------------------------------


@pytest.mark.parametrize("who", [*OUTSIDERS, *ROLES])
def test_no_function_can_be_called_past_the_door(
    db: Connection, people: dict[str, Connection], who: str
) -> None:
    signed_in = who not in {"anon", "anonymous forger"}
    for function in functions(db):
        if function.is_beyond_a_call:
            role = "authenticated" if signed_in else "anon"
            query = "select has_function_privilege(%s, %s::oid, 'execute')"
            assert not one(db, query, role, function.oid), function.text
        elif function.schema == "crossfade" and function.name in OPEN and signed_in:
            # With nulls there is no such RPC, and no such pair.
            assert outcome(people[who], function.call()) == OPEN[function.name], function.text
        else:
            assert outcome(people[who], function.call()) == "42501", f"{who}: {function.text}"


@pytest.mark.parametrize("who", [*OUTSIDERS, *ROLES])
def test_no_table_can_be_changed_and_no_private_one_read(
    db: Connection, people: dict[str, Connection], who: str
) -> None:
    for schema, name in tables(db):
        column = one(
            db,
            "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0"
            " and attidentity = '' order by attnum limit 1",
            f"{schema}.{name}",
        )
        table = f'{schema}."{name}"'
        statements = [
            f"insert into {table} default values",
            f'update {table} set "{column}" = "{column}"',
            f"delete from {table}",
            f"truncate {table} cascade",
            f"lock table {table} in exclusive mode",
        ]
        if schema == "crossfade_private" or who in {"anon", "anonymous forger"}:
            statements.append(f"select * from {table}")
        for statement in statements:
            assert outcome(people[who], statement) == "42501", f"{who}: {statement}"


def test_the_secret_key_does_not_reach_private_things(
    db: Connection, people: dict[str, Connection]
) -> None:
    key = people["secret key"]
    for function in functions(db, "crossfade_private"):
        if not function.is_beyond_a_call:
            assert outcome(key, function.call()) == "42501", function.text
    for schema, name in tables(db, "crossfade_private"):
        assert outcome(key, f'select * from {schema}."{name}"') == "42501", name


@pytest.fixture
def topic(people: dict[str, Connection]) -> dict[str, Connection]:
    for connection in people.values():
        connection.execute("select set_config('realtime.topic', 'crossfade:flags', false)")
    return people


def test_viewers_hear_the_control_topic_and_operators_may_send_hints(
    db: Connection, topic: dict[str, Connection]
) -> None:
    db.execute("select realtime.send('{}', 'kill', 'crossfade:flags')")
    insert = """insert into realtime.messages (topic, extension, event, payload, private)
      values ('crossfade:flags', 'broadcast', 'flags_changed', '{}', true)"""
    for who, may_hear, may_send in [
        ("stranger", False, False),
        ("forger", False, False),
        ("anon", False, False),
        ("viewer", True, False),
        ("operator", True, True),
        ("admin", True, True),
    ]:
        heard = one(topic[who], "select count(*) from realtime.messages where event = 'kill'")
        assert bool(heard) == may_hear, who
        assert (outcome(topic[who], insert) == "ok") == may_send, who
    # Nobody gets another topic of the project through us.
    topic["admin"].execute("select set_config('realtime.topic', 'room:1', false)")
    assert one(topic["admin"], "select count(*) from realtime.messages") == 0
    assert outcome(topic["admin"], insert) == "42501"
