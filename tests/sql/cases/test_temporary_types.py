"""A role makes types, tables, functions and operators of its own in pg_temp: none of them is used.

Even with an empty search_path PostgreSQL looks for the names of types and tables in pg_temp first,
so a domain that is called text runs its owner's code with the rights of whoever names it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from tests.sql.cases.pairs import (
    PLAIN,
    Shape,
    backfill,
    create,
    mirror,
    objection,
    register,
    repair,
    settled,
    to_stage,
)
from tests.sql.conftest import Connect, Connection, Its, begins_with, on_both_ends
from tests.sql.control import call, one
from tests.sql.operators import ROLES, add_operators, sign_in
from tests.sql.test_pair_new import text_of, write
from tests.sql.test_rights import functions

pytestmark = on_both_ends

HOSTILE = """
do $$ begin create role hostile; exception when duplicate_object then end $$;
grant hostile to postgres;
create sequence public.alarm;
grant usage on sequence public.alarm to public;
grant usage on schema public to hostile;
"""
# A domain of every name that a type of pg_catalog has. The alarm is a sequence, which no rollback
# takes back; what the attacker does to itself is no alarm.
TYPES = """
create function pg_temp.evil() returns pg_catalog.bool language plpgsql as $evil$ begin
  if current_user <> '{role}' then
    perform pg_catalog.nextval('public.alarm');
  end if;
  return true;
end $evil$;
do $do$
declare v_name pg_catalog.text;
begin
  for v_name in
    select t.typname from pg_catalog.pg_type t
    where t.typnamespace = 'pg_catalog'::pg_catalog.regnamespace and t.typtype = 'b'
      and t.typelem = 0
    order by t.typname = 'name', t.typname = 'bool', t.typname = 'text'
  loop
    execute pg_catalog.format(
      'create domain pg_temp.%1$I as pg_catalog.%1$I check (pg_temp.evil())', v_name);
  end loop;
  for v_name in
    select p.proname from pg_catalog.pg_proc p
    where p.pronamespace = 'crossfade_private'::pg_catalog.regnamespace and p.pronargs = 0
      and p.prorettype <> 'pg_catalog.trigger'::pg_catalog.regtype
  loop
    execute pg_catalog.format(
      'create or replace function pg_temp.%I() returns pg_catalog.text language plpgsql '
      'as $evil$ begin perform pg_temp.evil(); return null; end $evil$', v_name);
  end loop;
end $do$;
"""
# Functions and operators that statements of ours use, and tables of the names they read.
NAMES = """
create function pg_temp.format(pg_catalog.text, variadic pg_catalog._text) returns pg_catalog.text
language plpgsql as $$ begin perform pg_temp.evil(); return 'select 1'; end $$;
create function pg_temp.set_config(pg_catalog.text, pg_catalog.text, pg_catalog.bool)
returns pg_catalog.text language plpgsql as $$ begin perform pg_temp.evil(); return ''; end $$;
create function pg_temp.jsonb_build_object(variadic pg_catalog._text) returns pg_catalog.jsonb
language plpgsql as $$ begin perform pg_temp.evil(); return null; end $$;
create function pg_temp.to_jsonb(pg_catalog.anyelement) returns pg_catalog.jsonb
language plpgsql as $$ begin perform pg_temp.evil(); return null; end $$;
create function pg_temp.pg_trigger_depth() returns pg_catalog.int4
language plpgsql as $$ begin perform pg_temp.evil(); return 2; end $$;
create function pg_temp.same(pg_catalog.int8, pg_catalog.int8) returns pg_catalog.bool
language plpgsql as $$ begin perform pg_temp.evil(); return true; end $$;
create operator pg_temp.= (leftarg = pg_catalog.int8, rightarg = pg_catalog.int8,
  function = pg_temp.same);
create operator pg_temp.<> (leftarg = pg_catalog.int8, rightarg = pg_catalog.int8,
  function = pg_temp.same);
"""
TABLES = """
do $do$
declare v_name pg_catalog.text;
begin
  for v_name in
    select c.relname from pg_catalog.pg_class c
    where c.relkind in ('r', 'v') and (c.relnamespace in
      ('crossfade'::pg_catalog.regnamespace, 'crossfade_private'::pg_catalog.regnamespace)
      or c.relnamespace = 'pg_catalog'::pg_catalog.regnamespace and c.relname in
        ('pg_class', 'pg_proc', 'pg_attribute', 'pg_type', 'pg_trigger', 'pg_roles', 'pg_index',
         'pg_constraint', 'pg_namespace', 'pg_stat_activity', 'pg_locks', 'pg_depend'))
    union select t.name from pg_catalog.unnest(
      '{things,things_v2,cf_old,cf_new,cf_n,cf_o,cf_t,cf_s,crossfade_rows}'::pg_catalog._text
      ) t(name)
    union select g.tgnewtable from pg_catalog.pg_trigger g where g.tgnewtable is not null
    union select g.tgoldtable from pg_catalog.pg_trigger g where g.tgoldtable is not null
  loop
    execute pg_catalog.format('create temp table %I (id pg_catalog.int8)', v_name);
  end loop;
end $do$;
"""


def attacker(connect: Connect, role: str, what: str = TYPES, sub: str | None = None) -> Connection:
    """A new session of the role, with its own names in place before anything else runs."""
    session = connect(role, sub=sub)
    session.execute(TYPES.format(role=role) if what is TYPES else "select")
    if what is not TYPES:
        session.execute(TYPES.split("do $do$")[0].format(role=role))
        session.execute(what)
    return session


def outcome(session: Connection, statement: str, arguments: Any = None) -> str:
    """Try it and take it back; give the error, empty when there was none."""
    try:
        with session.transaction(force_rollback=True):
            session.execute(statement.encode(), arguments)
    except psycopg.Error as error:
        return str(error)
    return ""


@contextmanager
def no_alarm(db: Connection) -> Iterator[None]:
    """Nothing of the attacker's may run with anybody else's rights."""
    yield
    assert one(db, "select is_called from public.alarm") is False


def prepare(db: Connection, shape: Shape = PLAIN, **options: Any) -> None:
    db.execute(HOSTILE)
    create(db, shape)
    db.execute("insert into public.things (id, body) select g, 'n' from generate_series(1, 9) g")
    register(db, **options)


def mirrored_pair(db: Connection, shape: Shape = PLAIN) -> None:
    prepare(db, shape)
    to_stage(db, "dualwrite")
    backfill(db)


RIGHTS = {
    "update": ["update public.things set body = 'x' where false",
               "update public.things set body = 'x'"],
    "insert": ["insert into public.things values (100, 'x')",
               "insert into public.things select g, 'x' from generate_series(200, 230) g"],
    "delete": ["delete from public.things where false", "delete from public.things"],
    "truncate": ["truncate public.things"],
}  # fmt: skip


@pytest.mark.parametrize("names", [TYPES, NAMES, TABLES], ids=["types", "functions", "tables"])
@pytest.mark.parametrize("right", RIGHTS)
@begins_with(mirrored_pair)
def test_one_right_on_one_table_runs_nobodys_code_as_the_owner(
    db: Connection, connect: Connect, right: str, names: str
) -> None:
    select = ", select" if right in ("update", "delete") else ""
    db.execute(f"grant {right}{select} on public.things to hostile")
    with no_alarm(db):
        session = attacker(connect, "hostile", names)
        for statement in RIGHTS[right]:
            session.execute(statement)
    assert len(settled(db)) == {"update": 9, "insert": 41, "delete": 0, "truncate": 0}[right]


WRITES = [
    "update {t} set body = 'x' where false",
    "update {t} set body = 'x' where id = 1",
    "update {t} set body = 'y'",
    "insert into {t} (id, body) values (100, 'x')",
    "insert into {t} (id, body) values (101, 'bad')",
    "insert into {t} (id, body) select g, case g when 210 then 'bad' else 'x' end "
    "from pg_catalog.generate_series(200, 240) g",
    "update {t} set body = 'bad' where id in (2, 3)",
    "insert into {t} (id, body) values (1, 'u'), (300, 'v') "
    "on conflict (id) do update set body = excluded.body",
    "merge into {t} t using (values (1), (400)) s (id) on t.id = s.id "
    "when matched then update set body = 'm' when not matched then insert (id) values (s.id)",
    "update {t} set id = 500 where id = 1",
    "update {t} set id = id + 1000 where id > 200",
    "with a as (update public.things set body = 'a' where id = 4) "
    "update public.things_v2 set body = 'b' where id = 5",
    "delete from {t} where id = 6",
    "delete from {t}",
    "truncate {t}",
]
BAD = PLAIN.but(
    v1="id bigint primary key, body text constraint one check (body <> 'bad in V1')",
    v2="id bigint primary key, body text constraint two check (body not like 'bad%'), "
    "pinned boolean",
)
SITUATIONS = [
    *((situation, "record") for situation in ("off", "closed", "dualwrite", "log_only", "fenced",
                                              "rampdown", "complete")),
    ("dualwrite", "raise"),
]  # fmt: skip


@pytest.mark.parametrize(("situation", "policy"), SITUATIONS)
@begins_with(prepare, BAD, failure_policy=Its("policy"))
def test_no_write_in_any_situation_runs_code_of_the_writer(
    db: Connection, connect: Connect, situation: str, policy: str
) -> None:
    if situation == "closed":
        to_stage(db, "dualwrite")
    elif situation != "off":
        to_stage(db, situation if situation in ("rampdown", "complete") else "shadow")
    if situation == "log_only":
        mirror(db, "log_only")
    if situation == "fenced":
        call(db, "engage_kill_switch", "disable_v2_messages", "test")
    db.execute("grant all on public.things, public.things_v2 to hostile, authenticated")
    with no_alarm(db):
        # API roles are told apart by the fence; the others are not.
        for role, names in (("hostile", TYPES), ("hostile", TABLES), ("authenticated", TYPES)):
            session = attacker(connect, role, names)
            for table in ("public.things", "public.things_v2"):
                for write in WRITES:
                    # Refused is fine; the attacker's own names never are the reason.
                    assert "pg_temp" not in outcome(session, write.format(t=table)), write
            session.close()


# Every function that somebody may call ------------------------------------------------------------

VALUES = {
    "pair": "things", "stage": "shadow", "reason": "test", "mode": "log_only",
    "direction": "v1_to_v2", "action": "cancel", "level": "PARTIAL", "scope": "things",
    "name": "disable_v2_messages", "rpc": "pair_status", "who": "viewer", "role": "viewer",
    "v1": "public.things", "v2": "public.things_v2", "to_v2": "public.things_to_v2",
    "to_v1": "public.things_to_v1", "value": "5", "unit": "u", "cohort_key": "things",
    "holder": "h", "follower_only": "delete", "query": "select 1",
}  # fmt: skip
BY_KIND = {
    "text": "things", "jsonb": '{"pair": "things", "percentage": 5}', "integer": "1",
    "bigint": "1", "numeric": "1", "boolean": "false", "text[]": "{id}", "uuid": None,
    "timestamp with time zone": "2026-01-01",
}  # fmt: skip


@pytest.mark.parametrize("role", ["hostile", "anon", *ROLES, "service_role"])
@begins_with(mirrored_pair, BAD)
def test_no_function_runs_code_of_its_caller_as_somebody_else(
    db: Connection, connect: Connect, role: str
) -> None:
    add_operators(db)
    db.execute("insert into public.things values (50, 'bad'), (51, 'bad')")
    db.execute("create table public.shops (id bigint primary key, body text)")
    called = 0
    with no_alarm(db):
        session = connect()
        if role in ROLES:
            sign_in(session, role)
            acting = "authenticated"
        else:
            session.execute(f"set role {role}")
            acting = role
        session.execute(TYPES.format(role=acting))
        for function in functions(db, "crossfade"):
            places = ", ".join(
                f"{name} => %s::pg_catalog.{kind_of(kind)}"
                for name, kind in zip(function.parameters, function.kinds, strict=True)
                if kind in BY_KIND
            )
            values = [
                VALUES.get(name, BY_KIND[kind]) if kind == "text" else BY_KIND[kind]
                for name, kind in zip(function.parameters, function.kinds, strict=True)
                if kind in BY_KIND
            ]
            statements = [(f"select crossfade.{function.name}({places})", values)]
            if role in ROLES:
                params = {
                    name: NUMBERS.get(kind, value)
                    for name, kind, value in zip(
                        function.parameters, function.kinds, values, strict=False
                    )
                }
                statements.append(
                    (
                        "select crossfade.operate(%s::pg_catalog.text, %s::pg_catalog.jsonb)",
                        [function.name, json.dumps(params)],
                    )
                )
            for statement, arguments in statements:
                told = outcome(session, statement, arguments)
                called += not told
                assert "pg_temp" not in told, statement
    assert called > {"service_role": 20, "admin": 10, "operator": 5, "viewer": 2}.get(role, -1)


NUMBERS: dict[str, Any] = {
    "integer": 1, "bigint": 1, "numeric": 1, "boolean": False, "text[]": ["id"],
    "jsonb": {"percentage": 5},
}  # fmt: skip


def kind_of(kind: str) -> str:
    """The name in pg_catalog, which no domain of the caller hides."""
    return {"integer": "int4", "bigint": "int8", "boolean": "bool", "text[]": "_text",
            "timestamp with time zone": "timestamptz"}.get(kind, kind)  # fmt: skip


# Converters ---------------------------------------------------------------------------------------

FORMS = {
    "standard body": "language sql stable set search_path = '' begin atomic {body}; end",
    "text, empty path": "language sql stable set search_path = '' as $$ {body} $$",
    "text, safe path": "language sql stable set search_path = pg_catalog, pg_temp as $$ {body} $$",
    "text, no path": "language sql stable as $$ {body} $$",
    "called, empty path": "language plpgsql stable set search_path = '' as "
    "$$ begin return query {body}; end $$",
    "called, safe path": "language plpgsql stable set search_path = pg_catalog, pg_temp as "
    "$$ begin return query {body}; end $$",
    "called, no path": "language plpgsql stable as $$ begin return query {body}; end $$",
}
CASTS = "select {r}.id, ({r}.body::text || ''::text)::varchar::text{more}"


@pytest.mark.parametrize("form", FORMS)
def test_types_that_a_converter_names_are_the_owners(
    db: Connection, connect: Connect, form: str
) -> None:
    db.execute(HOSTILE)
    create(db, PLAIN)
    for name, mine, other, more in (
        ("to_v2", "things", "things_v2", ", o.pinned and true::bool"),
        ("to_v1", "things_v2", "things", ""),
    ):
        body = CASTS.format(r="a", more=more)
        db.execute(
            f"drop function public.things_{name}; "
            f"create function public.things_{name}(a public.{mine}, o public.{other}) "
            f"returns setof public.{other} {FORMS[form].format(body=body)}"
        )
    if against := objection(db):
        # A converter whose path lets the writer choose its types may be refused, by name.
        assert "empty path" in form or "no path" in form
        assert "things_to_v" in against
        return
    to_stage(db, "dualwrite")
    backfill(db)
    db.execute("grant all on public.things, public.things_v2 to hostile")
    with no_alarm(db):
        for names in (TYPES, NAMES, TABLES):
            session = attacker(connect, "hostile", names)
            for table in ("public.things", "public.things_v2"):
                for write in WRITES:
                    with session.transaction(force_rollback=True):
                        session.execute(write.format(t=table))
            session.close()
    repair(db)


def test_what_pair_new_writes_names_no_type_of_the_writer(db: Connection, connect: Connect) -> None:
    db.execute(HOSTILE)
    db.execute(
        "create table public.shops (id bigint primary key, name varchar(80), born date, n integer, "
        "data jsonb default '{}', at timestamptz default now(), code char(3), ok boolean)"
    )
    made = write(db, "shops", "public.shops")
    for ending in ("_pair.sql", "_register.sql"):
        db.execute(text_of(made, ending))
    call(db, "set_stage", "shops", "dualwrite", "test")
    backfill(db, "shops")
    db.execute(f"grant all on public.shops, {made.v2} to hostile")
    with no_alarm(db):
        session = attacker(connect, "hostile")
        for n, table in enumerate(("public.shops", made.v2)):
            session.execute(f"insert into {table} (id, name, n) values ({n}, 'x', 1)")
            session.execute(
                f"insert into {table} (id, name) "
                f"select g + {n}, 'x' from pg_catalog.generate_series(100, 160, 2) g"
            )
            session.execute(f"update {table} set name = 'y', code = 'abc', ok = true, born = null")
            session.execute(f"delete from {table} where id = {n}")
    assert one(db, f"select count(*) from {made.v2}") == 62
