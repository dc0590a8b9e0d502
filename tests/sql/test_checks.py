"""Checks and uninstall: silent on a healthy project, one row for each thing that is wrong."""

from __future__ import annotations

import re
import shlex
from typing import Any

import click
import psycopg
import pytest
import typer

from crossfade.cli import app
from tests.sql.conftest import ROOT
from tests.sql.control import Connection, call, create_pair, one, ready_for_live

CHECKS = sorted((ROOT / "sql" / "checks").glob("*.sql"))
UNINSTALL = (ROOT / "sql" / "uninstall.sql").read_text(encoding="utf-8")


CLI: Any = typer.main.get_command(app)


def parse_commands(hint: str) -> None:
    """Fail for a command of ours in a hint that would not run as it stands there."""
    for part in hint.split(", then "):
        if part.startswith("crossfade "):
            command, context, words = CLI, click.Context(CLI), shlex.split(part)[1:]
            while hasattr(command, "commands") or hasattr(command, "get_command"):
                found = command.get_command(context, words[0])
                assert found is not None, part
                command, words = found, words[1:]
            command.make_context(part, words, resilient_parsing=False)


def run_check(db: Connection, name: str) -> list[tuple[str, str]]:
    """Run one check and return object and problem of each row."""
    cursor = db.execute((ROOT / "sql" / "checks" / f"{name}.sql").read_text(encoding="utf-8"))
    assert cursor.description is not None
    columns = [column.name for column in cursor.description]
    assert columns == ["check_name", "object", "problem", "hint"]
    rows = cursor.fetchall()
    assert all(row[0] == name and all(row) for row in rows)
    for row in rows:
        parse_commands(row[3])
    return [(row[1], row[2]) for row in rows]


@pytest.fixture
def healthy(scratch: Connection) -> Connection:
    create_pair(scratch, stage="live", percentage=25)
    ready_for_live(scratch, "orders")
    return scratch


@pytest.mark.parametrize("path", CHECKS, ids=lambda path: path.stem)
def test_a_fresh_project_has_nothing_to_report(scratch: Connection, path: Any) -> None:
    assert run_check(scratch, path.stem) == []


@pytest.mark.parametrize("path", CHECKS, ids=lambda path: path.stem)
def test_a_healthy_pair_has_nothing_to_report(healthy: Connection, path: Any) -> None:
    assert run_check(healthy, path.stem) == []


@pytest.mark.parametrize("name", ["search_path", "triggers", "definer_functions"])
def test_a_pair_whose_v1_writers_are_watched_has_nothing_to_report(
    healthy: Connection, name: str
) -> None:
    healthy.execute("update crossfade_private.mirror_state set watched_since = now()")
    state = "select provolatile::text from pg_proc where proname = 'mirror_orders_v1_state'"
    assert one(healthy, state) == "v"
    assert run_check(healthy, name) == []


@pytest.mark.parametrize("path", CHECKS, ids=lambda path: path.stem)
def test_a_check_begins_with_the_question_it_answers(path: Any) -> None:
    assert "?" in path.read_text(encoding="utf-8").splitlines()[0]


V1, V2 = "public.orders_v1", "public.orders_v2"
TOO_LONG = "alter table public.orders_v1 add constraint short check (length(body) < 5)"
LONG_ROW = "insert into public.orders_v2 values (7, '\"too long\"')"
TRUE_POLICY = "create policy p on crossfade.flags for all to anon using (true)"
RAMPDOWN = """
select set_config('crossfade.engine', 'on', true);
update crossfade.pairs set stage = 'rampdown'
"""
OLD_BUNDLE = """
select set_config('crossfade.engine', 'on', true);
update crossfade.pairs set stage = 'complete', step_flags_version = 20;
insert into crossfade_private.bundles values ('orders', 12), ('orders', 20)
"""
OWN_TRIGGER = """
create function public.own() returns trigger language plpgsql as 'begin return new; end';
create trigger mine before insert or update on public.orders_v1
for each row execute function public.own()
"""
MIRROR = "crossfade_private.mirror_orders_v1_insert"
OTHER_STATE = """
create function public.any_state() returns text language sql immutable as $$ select 'off' $$;
create or replace function crossfade_private.mirror_orders_v1_state() returns text
language sql immutable as $$ select public.any_state() $$
"""
STALE_RUN = """
with r as (
  insert into crossfade.runs (kind, pair, direction, fingerprint, converter_hash)
  values ('backfill', 'orders', 'v1_to_v2', '', '') returning id
)
insert into crossfade.run_ranges (run, range, batch_rows, progress_at)
select r.id, 1, 100, now() - interval '2 hours' from r
"""
MISMATCH = """
with r as (
  insert into crossfade.runs (kind, pair, direction, state, fingerprint, converter_hash)
  values ('verify', 'orders', 'v1_to_v2', 'finished', '', '') returning id
)
insert into crossfade.mismatches (pair, run, key, kind)
select 'orders', r.id, '{"id": 1}', 'different' from r
"""
NEW_CONVERTER = """
create or replace function public.orders_to_v2(new_v1 public.orders_v1, old_v2 public.orders_v2)
returns setof public.orders_v2 language sql stable as $$ select new_v1.id, '"new"'::jsonb $$
"""


@pytest.mark.parametrize(
    ("name", "damage", "broken", "words"),
    [
        (
            "rights_too_wide",
            "grant usage on schema crossfade to anon",
            "crossfade",
            "anon has USAGE",
        ),
        (
            "rights_too_wide",
            "grant execute on function crossfade.flags_version() to authenticated",
            "crossfade.flags_version()",
            "authenticated has EXECUTE",
        ),
        (
            "rights_too_wide",
            "create function crossfade.fresh() returns int language sql as 'select 1'",
            "crossfade.fresh()",
            "PUBLIC has EXECUTE",
        ),
        (
            "rights_too_wide",
            "grant update on crossfade.audit to service_role",
            "crossfade.audit",
            "service_role has UPDATE",
        ),
        (
            "rights_too_wide",
            "grant execute on function crossfade_private.bump_version() to service_role",
            "crossfade_private.bump_version()",
            "service_role has EXECUTE",
        ),
        (
            "rights_missing",
            "revoke execute on function crossfade.flags_version() from service_role",
            "crossfade.flags_version()",
            "no EXECUTE",
        ),
        (
            "rights_missing",
            "revoke update on crossfade.flags from service_role",
            "crossfade.flags",
            "no UPDATE",
        ),
        (
            "rights_missing",
            "revoke usage on schema crossfade from service_role",
            "crossfade",
            "no USAGE",
        ),
        (
            "row_level_security",
            "alter table crossfade.flags disable row level security",
            "crossfade.flags",
            "is off",
        ),
        ("old_bundles", OLD_BUNDLE, "orders", "flags of version 12"),
        ("row_level_security", TRUE_POLICY, "crossfade.flags", "lets anon write"),
        (
            "search_path",
            "alter function crossfade.flags_version() reset search_path",
            "crossfade.flags_version()",
            "not pinned",
        ),
        (
            "search_path",
            "alter function crossfade.flags_version() set search_path = public",
            "crossfade.flags_version()",
            "not pinned",
        ),
        (
            "search_path",
            "alter function crossfade.flags_version()"
            " set search_path = pg_catalog, public, pg_temp",
            "crossfade.flags_version()",
            "not pinned",
        ),
        ("search_path", f"alter function {MIRROR}() reset search_path", MIRROR, "not pinned"),
        (
            "search_path",
            f"alter function {MIRROR}() set search_path = pg_temp, pg_catalog",
            MIRROR,
            "not pinned",
        ),
        (
            "search_path",
            f"alter function {MIRROR}() set search_path = pg_catalog, \"of, nobody\", pg_temp",
            MIRROR,
            "create things in schema of, nobody",
        ),
        (
            "search_path",
            f"alter function {MIRROR}() set search_path = pg_catalog, pg_temp, public, pg_temp",
            MIRROR,
            "create things in schema pg_temp",
        ),
        (
            "search_path",
            "grant create on schema public to authenticated",
            "crossfade_private.mirror_orders",
            "create things in schema public",
        ),
        (
            "search_path",
            "grant create on schema extensions to public",
            "crossfade_private.mirror_orders",
            "create things in schema extensions",
        ),
        ("search_path", OTHER_STATE, "crossfade_private.mirror_orders_v1_state", "not pinned"),
        (
            "search_path",
            "alter function crossfade_private.mirror_orders_v1_state() reset search_path",
            "crossfade_private.mirror_orders_v1_state",
            "not pinned",
        ),
        (
            "definer_functions",
            "grant execute on function crossfade.take_snapshot(text) to authenticated",
            "crossfade.take_snapshot(text)",
            "authenticated may execute",
        ),
        ("comments", "comment on table crossfade.flags is null", "crossfade.flags", "no comment"),
        (
            "comments",
            "comment on function crossfade.flags_version is null",
            "crossfade.flags_version()",
            "no comment",
        ),
        (
            "triggers",
            f"alter table {V1} disable trigger crossfade_mirror_update",
            V1,
            "crossfade_mirror_update is disabled",
        ),
        (
            "triggers",
            f"alter table {V1} enable always trigger crossfade_mirror_update",
            V1,
            "crossfade_mirror_update also fires while a dump is restored",
        ),
        (
            "triggers",
            f"alter table {V1} enable replica trigger crossfade_mirror_update",
            V1,
            "crossfade_mirror_update fires in replica mode only",
        ),
        (
            "triggers",
            f"create or replace trigger crossfade_mirror_delete after delete on {V1}"
            f" referencing old table as cf_old execute function {MIRROR}()",
            V1,
            "crossfade_mirror_delete calls another function",
        ),
        ("triggers", OWN_TRIGGER, V1, "trigger !crossfade_first is missing"),
        ("triggers", OWN_TRIGGER, V1, "trigger ~crossfade_last is missing"),
        (
            "triggers",
            f"alter table {V2} alter column id add generated always as identity",
            V2,
            "trigger ~crossfade_key is missing",
        ),
        ("triggers", f"drop trigger crossfade_fence on {V2}", V2, "crossfade_fence is missing"),
        (
            "triggers",
            "alter table crossfade.flags disable trigger crossfade_after_change",
            "crossfade.flags",
            "crossfade_after_change is disabled",
        ),
        ("triggers", f"drop table {V2} cascade", V2, "does not exist"),
        ("outdated_mirrors", OWN_TRIGGER, "orders", "(before insert row, before row) for which"),
        (
            "outdated_mirrors",
            "update crossfade.pairs set generator = '0.1.9'",
            "orders",
            "was made by crossfade 0.1.9",
        ),
        ("converters", NEW_CONVERTER, "orders", "has changed"),
        ("converters", "drop function public.orders_to_v1 cascade", "orders", "is missing"),
        ("changed_tables", f"alter table {V2} add column more text", "orders", "have changed"),
        ("changed_tables", f"alter table {V2} rename to gone", "orders", "does not exist"),
        ("open_failures", f"{TOO_LONG}; {LONG_ROW}", "orders", "1 writes"),
        (
            "drift",
            f"{TOO_LONG}; {LONG_ROW}; update crossfade.mirror_failures set resolved_at = now()",
            "orders",
            "1 writes",
        ),
        ("open_mismatches", MISMATCH, "orders", "1 rows differ"),
        (
            "foreign_keys",
            f"create table public.parent (id bigint primary key); alter table {V2}"
            " add column parent bigint references public.parent",
            V2,
            "has no index",
        ),
        (
            "v1_dependents",
            f"{RAMPDOWN}; create table public.child_of_v1 (id bigint references {V1})",
            "child_of_v1_id_fkey of public.child_of_v1",
            f"depends on {V1} of pair orders",
        ),
        (
            "v1_dependents",
            f"{RAMPDOWN}; create view public.shown as select * from {V1}",
            "public.shown",
            "view (owner postgres)",
        ),
        ("stalled_runs", STALE_RUN, "orders: backfill", "slow: no progress since"),
        (
            "stalled_runs",
            STALE_RUN.replace("2 hours", "2 days"),
            "orders: backfill",
            "stalled: no progress since",
        ),
    ],
)  # fmt: skip
def test_damage_is_reported_once_with_its_object(
    healthy: Connection, name: str, damage: str, broken: str, words: str
) -> None:
    healthy.execute(damage)
    found = [row for row in run_check(healthy, name) if words in row[1]]
    assert found
    assert all(row[0].startswith(broken) for row in found)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("rights_too_wide", "grant usage on schema crossfade to anon"),
        ("rights_missing", "revoke all on crossfade.flags from service_role"),
        ("row_level_security", "alter table crossfade.flags disable row level security"),
    ],
)
def test_applying_the_grants_again_repairs_rights(db: Connection, name: str, damage: str) -> None:
    db.execute(damage)
    assert run_check(db, name)
    db.execute((ROOT / "sql/schema/api.sql").read_text())
    assert run_check(db, name) == []


def follow(db: Connection, name: str) -> int:
    """Do what the hints of a check say, each once: commands of ours by their RPC, else SQL."""
    path = ROOT / "sql" / "checks" / f"{name}.sql"
    hints = {row[3] for row in db.execute(path.read_text(encoding="utf-8"))}
    for hint in hints:
        refresh = re.fullmatch(r"crossfade pair refresh (\w+)", hint)
        if refresh:
            call(db, "refresh_pair", refresh[1])
        else:
            db.execute(hint)
    return len(hints)


def test_every_trigger_of_our_tables_is_one_of_the_check(healthy: Connection) -> None:
    off = """
        select format('alter table %s disable trigger %I', g.tgrelid::regclass, g.tgname),
          g.tgrelid::regclass::text, g.tgname
        from pg_trigger g join pg_class c on c.oid = g.tgrelid
        where not g.tgisinternal
          and c.relnamespace in ('crossfade'::regnamespace, 'crossfade_private'::regnamespace)
    """
    known = healthy.execute(off).fetchall()
    assert len(known) > 20
    for statement, _, _ in known:
        healthy.execute(statement)
    found = run_check(healthy, "triggers")
    assert sorted(found) == sorted((tab, f"trigger {name} is disabled") for _, tab, name in known)


def test_following_the_hints_of_the_trigger_check_repairs_it(healthy: Connection) -> None:
    healthy.execute(OWN_TRIGGER)
    healthy.execute(f"alter table {V1} disable trigger crossfade_mirror_insert")
    healthy.execute(f"alter table {V1} enable always trigger crossfade_mirror_update")
    healthy.execute(f"drop trigger crossfade_mirror_delete on {V1}")
    healthy.execute(f"alter table {V2} disable trigger crossfade_fence")
    healthy.execute("alter table crossfade.flags disable trigger user")
    assert len(run_check(healthy, "triggers")) == 10
    assert follow(healthy, "triggers") == 5  # one of them for all of the pair
    assert run_check(healthy, "triggers") == []


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("outdated_mirrors", OWN_TRIGGER),
        ("outdated_mirrors", "update crossfade.pairs set generator = '0.1.9'"),
        ("search_path", f"alter function {MIRROR}() reset search_path"),
        ("search_path", "grant create on schema public to authenticated"),
        ("search_path", "alter function crossfade.flags_version() reset search_path"),
    ],
)
def test_following_the_hint_mends_it(healthy: Connection, name: str, damage: str) -> None:
    healthy.execute(damage)
    assert follow(healthy, name) == 1
    assert run_check(healthy, name) == []


def test_a_pair_that_was_refreshed_mirrors_beside_the_new_trigger(healthy: Connection) -> None:
    healthy.execute(OWN_TRIGGER)
    call(healthy, "refresh_pair", "orders")
    healthy.execute(f"insert into {V1} values (1, 'a')")
    assert one(healthy, f"select body from {V2}") == "a"


# Uninstall ---------------------------------------------------------------------------------


def catalog(db: Connection) -> set[tuple[Any, ...]]:
    """Everything outside the system schemas, by kind and name."""
    return set(
        db.execute(
            """
            select 'schema', nspname::text from pg_namespace where nspname !~ '^pg_'
            union all select 'relation', oid::regclass::text from pg_class
              where relnamespace::regnamespace::text !~ '^(pg_|information_schema)'
            union all select 'function', oid::regprocedure::text from pg_proc
              where pronamespace::regnamespace::text !~ '^(pg_|information_schema)'
            union all select 'trigger', tgrelid::regclass || '.' || tgname from pg_trigger
              where not tgisinternal
            """
        ).fetchall()
    )


OWN = """
create table public.own (id bigint primary key, body text);
create function public.own() returns trigger language plpgsql as 'begin return new; end';
create trigger crossfade_mine before insert on public.own
for each row execute function public.own();
"""


def test_uninstalling_leaves_the_project_as_it_was_and_every_row(
    template: Any, db: Connection
) -> None:
    db.execute(OWN)
    create_pair(db, stage="live", percentage=25)
    db.execute("create trigger crossfade_mine before insert on public.orders_v1"
               " for each row execute function public.own()")  # fmt: skip
    db.execute("insert into public.orders_v1 values (1, 'a')")
    before = catalog(db)
    db.execute(UNINSTALL)
    after = catalog(db)
    gone = before - after
    assert after <= before
    assert {name for kind, name in gone if kind == "schema"} == {"crossfade", "crossfade_private"}
    assert {name for kind, name in gone if kind == "function" and "crossfade" not in name} == set()
    named = {name for _, name in after if "crossfade" in name}
    assert named == {"own.crossfade_mine", "orders_v1.crossfade_mine"}
    db.execute("insert into public.orders_v1 values (2, 'b')")
    assert one(db, "select array_agg(id order by id) from public.orders_v1") == [1, 2]
    assert one(db, "select count(*) from public.orders_v2") == 1


def test_uninstalling_twice_is_no_error(db: Connection) -> None:
    db.execute(UNINSTALL)
    db.execute(UNINSTALL)


def test_crossfade_can_be_installed_again_after_it_was_removed(db: Connection) -> None:
    from tests.sql.conftest import MIGRATIONS

    create_pair(db)
    db.execute(UNINSTALL)
    for path in MIGRATIONS:
        db.execute(path.read_text(encoding="utf-8"))
    tables = [f"public.orders_{part}" for part in ("v1", "v2", "to_v2", "to_v1")]
    assert call(db, "register_pair", "orders", *tables)["pair"]["name"] == "orders"


@pytest.mark.parametrize(
    "use",
    [
        "create view public.mine as select name from crossfade.flags",
        "alter table public.own enable row level security;"
        " create policy mine on public.own using (crossfade.bucket('k', body) < 1)",
        "create function public.mine(crossfade.flags) returns int language sql return 1",
        "alter table public.own add column kept crossfade.flags",
        "alter table public.own add check (crossfade.bucket('k', body) < 100000)",
    ],
)
def test_uninstalling_refuses_while_something_of_the_owner_depends_on_it(
    db: Connection, use: str
) -> None:
    db.execute(OWN)
    db.execute(use)
    with pytest.raises(psycopg.Error, match="Cannot uninstall crossfade"):
        db.execute(UNINSTALL)
    db.rollback()
    assert call(db, "flags_version") >= 1
