"""Names are data: whatever a schema, table, column or label is called, it is only a name."""

from __future__ import annotations

import contextlib

import psycopg
import pytest
from psycopg import sql

from crossfade.gateway.rows import parse
from crossfade.pairs.catalog import TableInfo
from crossfade.pairs.files import new_pair
from tests.sql.cases.pairs import (
    backfill,
    both,
    create,
    like,
    objection,
    repair,
)
from tests.sql.conftest import Connection
from tests.sql.control import call, one
from tests.sql.notes_pair import rows
from tests.sql.test_pair_new import text_of
from tests.sql.things_pair import failures, verify

NAMES = [
    # Quotes and what ends or continues a literal.
    "it's", '"', 'a"b', "\\", "\\'", "'); drop table x; --", '"; --', "e'\\n'",
    # Dollar quotes.
    "$$", "$body$", "$1", "$body$; select 1; $body$",
    # What a template engine would replace.
    "{target}", "{skey_n}", "{{", "}}", "<<rows>>", "<<side>>", "__pair__", "@pair@", "%s", "%I",
    "%1$s", "%%", ":name", "?", "${x}",
    # Comments, ends of statements, space.
    "-- x", "/*", "*/", ";", " ", " lead", "trail ", "a\tb", "a\nb", "line one\n-- two",
    # Words that mean something, some of them to us.
    "select", "user", "new", "old", "ctid", "crossfade", "public", "a", "Key",
    # Unicode, length, and what is not a letter.
    "e\u0301", "名前", "\u202egnp", "a\u200bb", "x" * 63, "é" * 31, "😀" * 15, "a.b", "[]", "a=>b",
    "1a", "\x01",
]  # fmt: skip
CHUNKS = 5


def names_of(db: Connection, chunk: int) -> list[tuple[int, str]]:
    """A chunk of the names with their numbers; of each kind, every third one before version 18.

    What a name may break is our text, which is the same on every version.
    """
    step = 1 if db.info.server_version >= 180_000 else 3
    return list(enumerate(NAMES))[::step][chunk::CHUNKS]


def other(name: str, number: int) -> str:
    """Another name of the same kind, also when nothing can be added to it."""
    return fits(name, 62) + str(number)


def fits(text: str, size: int = 63) -> str:
    """Cut to so many bytes between characters, as PostgreSQL cuts names to 63."""
    return text.encode()[:size].decode(errors="ignore")


def usable(name: str, *forbidden: str) -> str:
    """The name, or one like it where PostgreSQL forbids the name itself."""
    return name if name not in forbidden else f"{name} "


MAKE = """
create schema {schema};
create type {schema}.{type} as enum ({label}, 'usual');
create table {schema}.{table} (
  {key} bigint, {column} text, {mood} {schema}.{type} default {label}, "plain" integer,
  constraint {constraint2} primary key ({key})
);
create schema {schema2};
create table {schema2}.{table} (
  {key} bigint not null, {column} text, {mood} {schema}.{type} default {label},
  "plain" integer, {extra} text default {literal},
  constraint {constraint2} unique ({key}),
  constraint {constraint} check ({column} <> {literal})
);
create function {schema}.{function}({arg1} {schema}.{table}, {arg2} {schema2}.{table})
returns setof {schema2}.{table} language sql stable set search_path = '' begin atomic
  select {arg1}.{key}, {arg1}.{column}, {arg1}.{mood}, {arg1}."plain",
    coalesce({arg2}.{extra}, {literal});
end;
create function {schema2}.{function}({arg1} {schema2}.{table}, {arg2} {schema}.{table})
returns setof {schema}.{table} language sql stable set search_path = '' begin atomic
  select {arg1}.{key}, {arg1}.{column},
    case when {arg1}.{mood} = {label}::{schema}.{type} then {label}::{schema}.{type}
      else {arg1}.{mood} end,
    {arg1}."plain";
end;
create function {schema}.{trigger}() returns trigger language plpgsql as {trigger_body};
create trigger {trigger} before insert or update on {schema2}.{table}
for each row execute function {schema}.{trigger}();
alter table {schema}.{table} enable row level security;
alter table {schema2}.{table} enable row level security;
create policy {policy} on {schema}.{table} to {role} using ({column} <> {literal});
create policy {policy} on {schema2}.{table} to {role} using ({column} <> {literal});
grant usage on schema {schema}, {schema2} to {role};
grant all on {schema}.{table}, {schema2}.{table} to {role}, service_role;
create index {index} on {schema2}.{table} ({column}) where {column} <> {literal};
"""


def pieces(name: str, role: str) -> dict[str, sql.Composable]:
    """The name in every place that takes one, and names like it where two stand side by side."""
    return {
        "schema": sql.Identifier(usable(name, "crossfade", "public")),
        "schema2": sql.Identifier(other(name, 2)),
        "table": sql.Identifier(name), "type": sql.Identifier(other(name, 3)),
        "label": sql.Literal(name), "key": sql.Identifier(usable(name, "ctid")),
        "column": sql.Identifier(other(name, 4)), "mood": sql.Identifier(other(name, 5)),
        "extra": sql.Identifier(other(name, 6)), "constraint": sql.Identifier(name),
        "constraint2": sql.Identifier(other(name, 7)), "function": sql.Identifier(name),
        # Not the function's own name, by which a body would mean its parameters.
        "arg1": sql.Identifier(other(name, 2)), "arg2": sql.Identifier(other(name, 3)),
        "trigger": sql.Identifier(other(name, 8)),
        "trigger_body": sql.Literal("begin return new; end"), "policy": sql.Identifier(name),
        "role": sql.Identifier(role), "literal": sql.Literal(name),
        "index": sql.Identifier(other(name, 9)),
    }  # fmt: skip


def live_through(db: Connection, name: str, number: int) -> None:
    """Register a pair full of this name and take it through its life."""
    role = fits(f"r{number} {name}")
    parts = pieces(name, role)
    with contextlib.suppress(psycopg.errors.DuplicateObject):
        db.execute(sql.SQL("create role {}").format(sql.Identifier(role)))
    db.execute(sql.SQL(MAKE).format(**parts))
    v1 = sql.SQL("{schema}.{table}").format(**parts).as_string(db)
    v2 = sql.SQL("{schema2}.{table}").format(**parts).as_string(db)
    to_v2 = sql.SQL("{schema}.{function}").format(**parts).as_string(db)
    to_v1 = sql.SQL("{schema2}.{function}").format(**parts).as_string(db)
    key, column = parts["key"].as_string(db), parts["column"].as_string(db)
    key_name = usable(name, "ctid")
    pair = f"p{number}"
    into = f'({key}, {column}, "plain")'
    db.execute(f"insert into {v1} {into} select g, 'n', g from generate_series(1, 30) g".encode())
    answer = one(
        db,
        "select crossfade.register_pair(%s, %s, %s, %s, %s, %s)",
        pair, v1, v2, to_v2, to_v1, [key_name],
    )  # fmt: skip
    assert answer["pair"]["key_columns"] == [key_name]
    tables = [answer["pair"][name] for name in ("v1_table", "v2_table")]
    assert one(db, "select %s::regclass = %s::regclass", tables[0], v1)
    call(db, "set_stage", pair, "dualwrite", "test")
    assert backfill(db, pair)["rows_written"] == 30
    for start, table in ((1000, v1), (2000, v2)):
        for statement in (
            f"insert into {table} {into} values ({start}, 'one', 1)",
            f"insert into {table} {into} select g, 'many', g "
            f"from generate_series({start} + 1, {start} + 30) g",
            f"update {table} set {column} = 'edited' where {key} = {start}",
            f"update {table} set {column} = 'edited' where {key} > {start}",
            f"update {table} set {key} = {start} + 100 where {key} = {start} + 1",
            f"insert into {table} {into} values ({start}, 'u', 2) "
            f"on conflict ({key}) do update set {column} = excluded.{column}",
            f"delete from {table} where {key} = {start} + 2",
        ):
            db.execute(statement.encode())
    shared = f'{key}, {column}, "plain", {parts["mood"].as_string(db)}'
    found = [rows(db, f"select {shared} from {table} order by 1") for table in (v1, v2)]
    assert found[0] == found[1]
    assert failures(db) == []
    # What V2's constraint of that name refuses is noted under the key's name.
    literal = sql.Literal(name).as_string(db)
    db.execute(f"update {v1} set {column} = {literal} where {key} = 1".encode())
    assert [(found, code) for found, _, code in failures(db)] == [({key_name: 1}, "23514")]
    message = one(db, "select message from crossfade.mirror_failures where resolved_at is null")
    assert name in message
    violations = call(db, "check_conversion", pair, 1)["violations"]
    assert [item["columns"] for item in violations] == [[name]]
    assert repair(db, pair)["failed"] == 1
    db.execute(f"update {v1} set {column} = 'fine' where {key} = 1".encode())
    assert repair(db, pair)["remaining"] == 0
    assert verify(db, pair) == 0
    described = call(db, "plan_pair", pair)
    assert [table["table"] for table in described["tables"]] == tables
    call(db, "pair_status", pair)
    db.execute(f"truncate {v2}".encode())
    assert one(db, f"select count(*) from {v1}") == 0
    call(db, "set_stage", pair, "off", "test")
    call(db, "unregister_pair", pair, "test")
    db.execute(sql.SQL("drop schema {schema}, {schema2} cascade").format(**parts))
    db.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_a_pair_may_be_called_anything_in_every_place(db: Connection, chunk: int) -> None:
    wrong = {}
    for number, name in names_of(db, chunk):
        try:
            live_through(db, name, number)
        except (psycopg.Error, AssertionError) as error:
            wrong[name] = f"{type(error).__name__}: {error}"[:600]
            db.execute("delete from crossfade.mirror_failures")
    assert wrong == {}


@pytest.mark.parametrize("name", ["cf_t", "cf_new", "cf_old", "cf_s", "cf_"])
def test_a_column_that_is_called_like_ours_works_or_is_refused_by_name(
    scratch: Connection, name: str
) -> None:
    create(scratch, like(f"id bigint primary key, {name} text"))
    if against := objection(scratch):
        assert f'"{name}"' in against
        assert "rename column" in against, "a way out that runs"
    else:
        call(scratch, "set_stage", "things", "dualwrite", "test")
        scratch.execute("insert into public.things values (1, 'a')")
        assert both(scratch, f"id, {name}") == [(1, "a")]


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_what_pair_new_writes_for_any_name_applies(db: Connection, chunk: int) -> None:
    wrong = {}
    for number, name in names_of(db, chunk):
        schema = fits(f"s {name}")
        parts = {
            "schema": sql.Identifier(schema), "table": sql.Identifier(fits(name[:50])),
            "key": sql.Identifier(usable(fits(name), "ctid")),
            "column": sql.Identifier(other(name, 4)), "label": sql.Literal(fits(name)),
            "type": sql.Identifier(fits(f"t {name}")), "literal": sql.Literal(name),
            "policy": sql.Identifier(fits(name)),
        }  # fmt: skip
        try:
            db.execute(
                sql.SQL(
                    "create schema {schema}; create type {schema}.{type} as enum ({label}); "
                    "create table {schema}.{table} ({key} bigint primary key, "
                    "{column} text default {literal} check ({column} <> {literal} || '!'), "
                    "mood {schema}.{type} default {label}); "
                    "insert into {schema}.{table} values (1, {literal}, {label}), (2, null, null); "
                    "alter table {schema}.{table} enable row level security; "
                    "create policy {policy} on {schema}.{table} to authenticated "
                    "using ({column} = {literal}); "
                    "grant select on {schema}.{table} to authenticated, service_role; "
                    "grant usage on schema {schema} to service_role"
                ).format(**parts)
            )
            v1 = sql.SQL("{schema}.{table}").format(**parts).as_string(db)
            # Without quotes as people write it, and with them where a name holds a dot.
            spelling = v1 if "." in name else f"{schema}.{fits(name[:50])}"
            info = parse(TableInfo, call(db, "describe_table", spelling, 5))
            written = new_pair(f"p{number}", info, None, stamp="20270101000000")
            for ending in ("_pair.sql", "_register.sql"):
                db.execute(text_of(written, ending).encode())
            for side in (1, 2):
                checked = call(db, "check_conversion", f"p{number}", side)
                assert checked["violations"] == [], checked
            call(db, "set_stage", f"p{number}", "dualwrite", "test")
            backfill(db, f"p{number}")
            assert rows(db, f"select * from {v1} order by 1") == rows(
                db, f"select * from {written.v2} order by 1"
            )
        except Exception as error:
            wrong[name] = f"{type(error).__name__}: {error}"[:600]
    assert wrong == {}
