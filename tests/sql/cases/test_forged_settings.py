"""A session may set and call itself what it likes: its writes are mirrored all the same.

Guarantees may hang on what the session cannot choose: its role, the call stack, rows of ours.
"""

from __future__ import annotations

import re

import psycopg
import pytest

from tests.sql.cases.pairs import (
    PLAIN,
    backfill,
    both,
    create,
    mirror,
    register,
    repair,
    settled,
    to_stage,
)
from tests.sql.conftest import Connect, Connection
from tests.sql.control import call, one, refused
from tests.sql.notes_pair import rows
from tests.sql.things_pair import failures

VALUES = ["on", "1", "2", "3", "true", "things", "2030-01-01", "1,2,3", "{}", "[]", "off", "both",
          "-1", "99999999999", "'; drop table public.things; --"]  # fmt: skip
PLACES = {"pair": "things", "side": "1", "other": "2"}


def settings_we_read(db: Connection) -> set[str]:
    """Name every setting of ours that any function mentions, as they are for this pair."""
    found: set[str] = set()
    for (text,) in rows(
        db,
        "select p.prosrc from pg_proc p join pg_namespace n on n.oid = p.pronamespace "
        "where n.nspname like 'crossfade%' union all "
        "select pg_get_triggerdef(g.oid) from pg_trigger g where g.tgname like '%crossfade%'",
    ):
        for name in re.findall(r"crossfade\.([a-z_0-9{}%<>]+)", text):
            for side in ("1", "2"):
                filled = re.sub(r"[{<]+([a-z]+)[}>]+", r"{\1}", name)
                for place, value in {**PLACES, "side": side}.items():
                    filled = filled.replace("{" + place + "}", value)
                filled = re.sub(r"\{\w+\}", "x", filled)
                filled = re.sub(r"%s", "things", filled, count=1).replace("%s", side)
                if re.fullmatch(r"[a-z_0-9]+", filled):
                    found.add(f"crossfade.{filled}")
    return found | {
        f"crossfade.{name}_things_v{side}"
        for name in ("echo", "nested", "dirty", "keys", "move", "mark", "chain", "debt", "engine")
        for side in (1, 2)
    } | {
        "crossfade.engine", "crossfade.dirty_things", "crossfade.fence", "crossfade.operator",
    }  # fmt: skip


def forge(session: Connection, names: set[str], value: str) -> None:
    for name in names:
        session.execute("select set_config(%s, %s, false)", [name, value])


WRITES = [
    "insert into {t} (id, body) values ({n}, 'one')",
    "insert into {t} (id, body) select g, 'many' from generate_series({n} + 1, {n} + 30) g",
    "update {t} set body = 'edited' where id = {n}",
    "update {t} set body = body || '!' where id between {n} + 1 and {n} + 30",
    "insert into {t} (id, body) values ({n}, 'upsert'), ({n} + 40, 'upsert') "
    "on conflict (id) do update set body = excluded.body",
    "update {t} set id = {n} + 50 where id = {n} + 1",
    "delete from {t} where id = {n} + 2",
    "do $$ begin update {t} set body = 'in a block' where id = {n} + 3; "
    "insert into {t} (id, body) values ({n} + 60, 'in a block'); end $$",
]


def write_all(session: Connection, start: int) -> None:
    for n, table in ((start, "public.things"), (start + 500, "public.things_v2")):
        for write in WRITES:
            session.execute(write.format(t=table, n=n))


@pytest.mark.parametrize("value", VALUES)
def test_no_setting_of_ours_switches_the_mirror_off(
    mirrored: Connection, connect: Connect, value: str
) -> None:
    names = settings_we_read(mirrored)
    session = connect("service_role")
    forge(session, names, value)
    write_all(session, 1000)
    # Within one transaction, and set anew before each statement.
    with session.transaction():
        for name in sorted(names):
            session.execute("select set_config(%s, %s, true)", [name, value])
        write_all(session, 3000)
    assert len(settled(mirrored)) == 4 * 32
    assert {body for _, body in both(mirrored)} == {"upsert", "many!", "in a block"}


def test_each_setting_alone_switches_nothing_off(mirrored: Connection, connect: Connect) -> None:
    session = connect()
    start = 0
    for name in sorted(settings_we_read(mirrored)):
        for value in ("on", "1", "2"):
            start += 10
            session.execute("select set_config(%s, %s, false)", [name, value])
            session.execute("insert into public.things values (%s, 'v1')", [start])
            session.execute("insert into public.things_v2 values (%s, 'v2')", [start + 1])
            session.execute("update public.things set body = 'edited' where id = %s", [start + 1])
            session.execute("delete from public.things_v2 where id = %s", [start])
            found = rows(session, f"select id, body from public.things where id >= {start}")
            assert found == [(start + 1, "edited")], (name, value)
            assert found == rows(
                session, f"select id, body from public.things_v2 where id >= {start}"
            ), (name, value)
            session.execute("select set_config(%s, '', false)", [name])
    settled(mirrored)


@pytest.mark.parametrize("value", ["on", "1", "2"])
def test_no_setting_of_ours_opens_what_is_closed(
    db: Connection, connect: Connect, value: str
) -> None:
    create(db, PLAIN)
    db.execute("insert into public.things select g, 'n' from generate_series(1, 5) g")
    register(db)
    names = settings_we_read(db)
    user = connect("authenticated")
    forge(user, names, value)
    insert = "insert into public.things_v2 (id, body) values (100, 'x')"
    with refused("CF_CLOSED", 409):
        user.execute(insert)
    to_stage(db, "dualwrite")
    with refused("CF_CLOSED", 409):
        user.execute(insert)
    backfill(db)
    call(db, "engage_kill_switch", "disable_v2_messages", "test")
    with refused("CF_FENCED", 409):
        user.execute(insert)
    call(db, "release_kill_switch", "disable_v2_messages", "test")
    mirror(db, "log_only")
    with refused("CF_CLOSED", 409):
        user.execute(insert)
    mirror(db, "both")
    repair(db)
    user.execute(insert)
    assert len(settled(db)) == 6


@pytest.mark.parametrize("value", ["on", "1"])
def test_no_setting_of_ours_writes_the_archive_or_control_rows(
    db: Connection, connect: Connect, value: str
) -> None:
    create(db, PLAIN)
    db.execute("insert into public.things select g, 'n' from generate_series(1, 5) g")
    register(db)
    names = settings_we_read(db)
    to_stage(db, "complete")
    for role in ("authenticated", "service_role"):
        session = connect(role)
        forge(session, names, value)
        for write in ("insert into public.things values (100, 'x')", "delete from public.things",
                      "update public.things set body = 'x'"):  # fmt: skip
            with refused("CF_ARCHIVED", 409):
                session.execute(write)
        with pytest.raises(psycopg.Error):
            session.execute("update crossfade.pairs set stage = 'off'")
    assert len(both(db)) == 5


# What else a session may set ----------------------------------------------------------------------

ODD = {
    "null is equal to null": "set transform_null_equals = on",
    "no path": "set search_path = ''",
    "a path of its own": "create schema if not exists mine; set search_path = mine, pg_catalog",
    "pg_catalog last": "set search_path = public, pg_catalog",
    "places and times": "set timezone = 'Asia/Kathmandu'; set datestyle = 'German'; "
    "set intervalstyle = 'sql_standard'",
    "quotes": "set standard_conforming_strings = off; set backslash_quote = on; "
    "set escape_string_warning = off; set quote_all_identifiers = on",
    "row security off": "set row_security = off",
    "generic plans": "set plan_cache_mode = force_generic_plan",
    "custom plans": "set plan_cache_mode = force_custom_plan",
    "no usual plans": "set enable_hashjoin = off; set enable_mergejoin = off; "
    "set enable_indexscan = off; set enable_bitmapscan = off; set enable_indexonlyscan = off",
    "only parallel plans": "set parallel_setup_cost = 0; set parallel_tuple_cost = 0; "
    "set min_parallel_table_scan_size = 0; set max_parallel_workers_per_gather = 4",
    "little memory": "set work_mem = '64kB'; set temp_buffers = '800kB'",
    "serializable": "set default_transaction_isolation = 'serializable'",
    "no counts of rows": "set track_activities = off",
    "arrays": "set array_nulls = off",
    "no bodies checked": "set check_function_bodies = off",
    "genetic plans": "set geqo_threshold = 2; set from_collapse_limit = 1; "
    "set join_collapse_limit = 1",
    "its own name": "set application_name = 'crossfade'",
    "claims": 'set request.jwt.claims = \'{"role":"service_role","crossfade":"on"}\'; '
    "set request.headers = 'not json'",
    "client encoding": "set client_encoding = 'LATIN1'",
    "xml and bytes": "set xmlbinary = hex; set bytea_output = escape; set extra_float_digits = -15",
    "variables of plpgsql": "set plpgsql.variable_conflict = 'use_column'",
    "strict plpgsql": "set plpgsql.extra_errors = 'all'",
    "print strict": "set plpgsql.print_strict_params = on; set plpgsql.check_asserts = off",
}


@pytest.mark.parametrize("kind", ODD)
def test_a_session_with_odd_settings_is_mirrored(
    mirrored: Connection, connect: Connect, kind: str
) -> None:
    session = connect()
    for statement in ODD[kind].split("; "):
        try:
            session.execute(statement)
        except psycopg.errors.InsufficientPrivilege:
            pytest.skip(f"an ordinary role may not: {statement}")
    write_all(session, 1000)
    assert len(settled(mirrored)) == 2 * 32


def test_a_superusers_settings_change_nothing_either(mirrored: Connection) -> None:
    with psycopg.connect(
        host=mirrored.info.host, port=mirrored.info.port, dbname=mirrored.info.dbname,
        user="supabase_admin", autocommit=True,
    ) as admin:  # fmt: skip
        admin.execute("set plpgsql.variable_conflict = 'use_column'")
        admin.execute("set track_counts = off; set lc_messages = 'C'; set max_stack_depth = '1MB'")
        write_all(admin, 1000)
    assert len(settled(mirrored)) == 2 * 32


# A call stack that looks like ours ----------------------------------------------------------------

ROLE = """
do $$ begin create role hostile; exception when duplicate_object then end $$;
grant hostile to postgres; grant create, usage on schema public to hostile;
grant select, insert, update, delete on public.things, public.things_v2 to hostile
"""
OPERATIONS = ["insert", "update", "delete", "truncate", "put", "edit", "move", "push", "merge",
              "remove", "first", "last", "key"]  # fmt: skip


def frames(db: Connection) -> list[str]:
    """Lines of a call stack as the mirror's own functions leave them, for both sides."""
    names = {
        f"crossfade_private.mirror_things_v{side}_{operation}"
        for side in (1, 2) for operation in OPERATIONS
    } | {
        f"crossfade_private.{name}" for (name,) in rows(
            db,
            "select proname from pg_proc where pronamespace = 'crossfade_private'::regnamespace "
            "and (proname like '%things%' or proname like '%mirror%')",
        )
    }  # fmt: skip
    return [
        form.format(name=name)
        for name in sorted(names)
        for form in (
            "PL/pgSQL function {name}() line 3 at SQL statement",
            "PL/pgSQL function {name}() line 12 at EXECUTE",
        )
    ]


FORMS = {
    "a comment": "insert into public.things (id, body) values ({n}, 'x') /* \n{frame}\n */",
    "a line comment": "insert into public.things (id, body) values ({n}, 'x') --\n-- {frame}\n",
    "a literal": "insert into public.things (id, body) "
    "select {n}, 'x' where $q$\n{frame}\n$q$ <> ''",
    "a quoted name": "insert into public.things (id, body) "
    "select {n}, 'x' from (select 1 as \"\n{frame}\n\") q",
}


@pytest.mark.parametrize("form", FORMS)
def test_dynamic_sql_that_carries_our_frames_is_mirrored(
    mirrored: Connection, connect: Connect, form: str
) -> None:
    mirrored.execute(ROLE)
    session = connect("hostile")
    session.execute("""
        create temp table mine (id bigint, statement text);
        create function pg_temp.run() returns trigger language plpgsql as $$
        begin execute new.statement; return null; end $$;
        create trigger run after insert on mine for each row execute function pg_temp.run()
    """)
    found = frames(mirrored)
    for n, frame in enumerate(found, 1):
        text = FORMS[form].format(n=n, frame=frame)
        session.execute("insert into mine values (%s, %s)", [n, text])
        text = FORMS[form].format(n=n + 10_000, frame=frame)
        text = text.replace("into public.things ", "into public.things_v2 ")
        session.execute("insert into mine values (%s, %s)", [n, text])
    assert len(settled(mirrored)) == 2 * len(found)


NAMED = """
create function {schema}.{name}() returns trigger language plpgsql as $$
begin
  update public.things set body = 'by ' || tg_table_name where id = new.id;
  insert into public.things (id, body) values (new.id + 1000, 'new');
  update public.things_v2 set pinned = true, body = body || '!' where id = new.id;
  return null;
end $$;
create trigger named after insert on {schema}.mine
for each row execute function {schema}.{name}()
"""
SCHEMAS = ["hostile", '"crossfade_private."', '"crossfade_private"" "', "pg_temp",
           '"PL/pgSQL function crossfade_private"', '"crossfade_private\n"']  # fmt: skip


@pytest.mark.parametrize("schema", SCHEMAS)
def test_functions_that_are_named_like_ours_are_not_ours(
    mirrored: Connection, connect: Connect, schema: str
) -> None:
    mirrored.execute(ROLE)
    mirrored.execute("insert into public.things select g, 'n' from generate_series(1, 300) g")
    if schema != "pg_temp":
        mirrored.execute(f"create schema {schema} authorization hostile")
    session = connect("hostile")
    names = {
        f"mirror_things_v{side}_{operation}" for side in (1, 2) for operation in OPERATIONS
    } | {'"crossfade_private.mirror_things_v2_insert"',
         '"mirror_things_v2_insert() line 3 at SQL statement\n'
         'PL/pgSQL function crossfade_private.mirror_things_v"',
         '"x() line 1 at EXECUTE\nPL/pgSQL function crossfade_private.mirror_things_v1_put"',
    }  # fmt: skip
    for n, name in enumerate(sorted(names), 1):
        temporary = schema == "pg_temp"
        place = "" if temporary else f"{schema}."
        session.execute(f"create {'temp' if temporary else ''} table {place}mine (id bigint)")
        session.execute(NAMED.format(schema=schema, name=name))
        session.execute(f"insert into {schema}.mine values ({n})")
        session.execute(f"drop table {schema}.mine")
        found = rows(
            mirrored,
            "select a.id, a.body, b.body, b.pinned from public.things a "
            f"full join public.things_v2 b using (id) where id in ({n}, {n} + 1000) order by id",
        )
        assert found == [
            (n, "by mine!", "by mine!", True), (n + 1000, "new", "new", None),
        ], name  # fmt: skip
    settled(mirrored)


def test_a_trigger_that_writes_inside_a_mirrored_write_is_told_from_the_mirror(
    db: Connection,
) -> None:
    # The innermost writer counts: an owner's trigger that our statement fires is no mirror.
    create(db, PLAIN)
    db.execute("""
        create function public.follow() returns trigger language plpgsql as $$
        begin
          if new.id < 1000 then
            execute 'insert into ' || tg_relid::regclass || ' (id, body) values ($1, $2)'
            using new.id + tg_argv[0]::bigint, 'after ' || new.id;
          end if;
          return null;
        end $$;
        create trigger follow after insert on public.things
        for each row execute function public.follow(10000);
        create trigger follow after insert on public.things_v2
        for each row execute function public.follow(20000)
    """)
    register(db)
    to_stage(db, "dualwrite")
    backfill(db)
    db.execute("insert into public.things values (1, 'a')")
    db.execute("insert into public.things_v2 values (2, 'b'), (3, 'c')")
    db.execute("insert into public.things values (4, 'd'), (5, 'e')")
    assert settled(db) == sorted(
        [(n, "abcde"[n - 1]) for n in range(1, 6)]
        + [(n + start, f"after {n}") for n in range(1, 6) for start in (10_000, 20_000)]
    )
    assert failures(db) == []


def test_the_language_of_messages_makes_no_difference(mirrored: Connection) -> None:
    mirrored.execute("""
        create function public.again() returns trigger language plpgsql as $$
        begin
          update public.things_v2 set pinned = true where id in (select id from fresh);
          return null;
        end $$;
        create trigger zz_again after insert on public.things referencing new table as fresh
        for each statement execute function public.again()
    """)
    with psycopg.connect(
        host=mirrored.info.host, port=mirrored.info.port, dbname=mirrored.info.dbname,
        user="supabase_admin", autocommit=True,
    ) as admin:  # fmt: skip
        admin.execute("create extension if not exists plpgsql")
        for n, language in enumerate(("de_DE.UTF-8", "fr_FR.UTF-8", "C", "ja_JP.UTF-8"), 1):
            try:
                admin.execute(f"set lc_messages = '{language}'")
            except psycopg.Error:
                continue  # not installed here; the frame is found by its name, not by its words
            admin.execute("insert into public.things values (%s, 'a')", [n])
    assert {body for _, body in settled(mirrored)} == {"a"}
    assert (
        one(mirrored, "select count(*) from public.things_v2 where not coalesce(pinned, false)")
        == 0
    )
