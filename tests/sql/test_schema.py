"""The one migration: over itself it changes nothing, and it leaves nothing of an older release."""

import psycopg
import pytest

from crossfade.project.schema import signatures

from .conftest import MIGRATIONS, Connection, Template, begins_with, on_every_version
from .control import call
from .notes_pair import create_notes

pytestmark = on_every_version

OURS = "n.nspname in ('crossfade', 'crossfade_private')"
CATALOG = {
    "function": "select pg_get_functiondef(p.oid), p.proacl, p.proowner::regrole,"
    " obj_description(p.oid, 'pg_proc')"
    " from pg_proc p join pg_namespace n on n.oid = p.pronamespace",
    "relation": "select c.oid::regclass, c.relkind, c.relacl, c.relrowsecurity,"
    " obj_description(c.oid, 'pg_class')"
    " from pg_class c join pg_namespace n on n.oid = c.relnamespace",
    "column": "select c.oid::regclass, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod),"
    " a.attnotnull, a.attidentity, pg_get_expr(d.adbin, d.adrelid),"
    " col_description(c.oid, a.attnum)"
    " from pg_attribute a join pg_class c on c.oid = a.attrelid"
    " join pg_namespace n on n.oid = c.relnamespace"
    " left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum",
    "constraint": "select o.conrelid::regclass, o.conname, pg_get_constraintdef(o.oid)"
    " from pg_constraint o join pg_namespace n on n.oid = o.connamespace",
    "index": "select pg_get_indexdef(i.indexrelid) from pg_index i"
    " join pg_class c on c.oid = i.indrelid join pg_namespace n on n.oid = c.relnamespace",
    "trigger": "select pg_get_triggerdef(g.oid), g.tgenabled from pg_trigger g"
    " join pg_class c on c.oid = g.tgrelid join pg_namespace n on n.oid = c.relnamespace",
    "policy": "select c.oid::regclass, l.polname, l.polcmd, l.polroles::regrole[],"
    " pg_get_expr(l.polqual, c.oid), pg_get_expr(l.polwithcheck, c.oid) from pg_policy l"
    " join pg_class c on c.oid = l.polrelid join pg_namespace n on n.oid = c.relnamespace",
    "schema": "select n.nspname, n.nspacl, obj_description(n.oid, 'pg_namespace')"
    " from pg_namespace n",
}
(MIGRATION,) = MIGRATIONS


def catalog(db: Connection) -> dict[str, list[str]]:
    return {
        kind: sorted(map(str, db.execute(f"{query} where {OURS}").fetchall()))
        for kind, query in CATALOG.items()
    }


def install(db: Connection) -> None:
    with db.transaction():
        db.execute(MIGRATION.read_text(encoding="utf-8"))


@begins_with(create_notes)
def test_applied_over_itself_it_gives_the_same_catalog(db: Connection) -> None:
    once = catalog(db)
    assert all(once.values())
    assert any("mirror_notes_v1_" in text for text in once["function"])
    install(db)
    again = catalog(db)
    assert {kind: set(lines) ^ set(again[kind]) for kind, lines in once.items()} == {
        kind: set() for kind in once
    }


@begins_with(create_notes)
def test_functions_and_triggers_of_an_older_release_are_dropped(db: Connection) -> None:
    now = catalog(db)
    db.execute(
        """
        create function crossfade.gone() returns int language sql return 1;
        create function crossfade.depends() returns int language sql return crossfade.gone();
        -- The same name with other parameters would make calls ambiguous.
        create function crossfade.set_setting(name text, value text) returns int
          language sql return 1;
        create function crossfade_private.gone() returns trigger language plpgsql
          as 'begin return new; end';
        create trigger crossfade_gone after insert on crossfade.flags
          for each row execute function crossfade_private.gone();
        """
    )
    assert catalog(db) != now
    install(db)
    assert catalog(db) == now


def test_the_release_knows_all_its_functions(db: Connection) -> None:
    # One that it named wrongly would be dropped and made again at every upgrade.
    known = list(signatures(MIGRATION.read_text(encoding="utf-8")))
    found = db.execute(
        "select array_agg(to_regprocedure(name)::oid order by to_regprocedure(name)::oid)"
        " = (select array_agg(p.oid order by p.oid) from pg_proc p"
        f" join pg_namespace n on n.oid = p.pronamespace where {OURS})"
        " from unnest(%s::text[]) as f (name)",
        [known],
    ).fetchall()
    assert len(known) > 200
    assert found == [(True,)]


# What functions and signed-in users call for each request costs too little to be compiled.
EACH_REQUEST = {
    "bucket", "choose_backend", "evaluate_flag", "explain_flag", "flags_version", "my_backend",
    "read_flags", "record_exposures", "record_reads", "record_requests", "whoami",
}  # fmt: skip


def test_no_command_has_its_looks_at_the_catalog_compiled(scratch: Connection) -> None:
    """They look dear to the planner and are not: with JIT a stage took three times as long."""
    found = scratch.execute(
        "select p.proname from pg_proc p where p.pronamespace = 'crossfade'::regnamespace "
        "and p.prokind = 'f' and p.prorettype <> 'trigger'::regtype "
        "and not coalesce('jit=off' = any (p.proconfig), false)"
    )
    assert {name for (name,) in found} - EACH_REQUEST == set()


def test_over_the_first_version_it_refuses_and_changes_nothing(db: Connection) -> None:
    db.execute("update crossfade.control set schema_version = 1")
    db.execute("drop function crossfade.whoami()")
    before = catalog(db)
    with pytest.raises(psycopg.Error, match="run crossfade uninstall first") as caught:
        install(db)
    assert "\n" not in str(caught.value.diag.message_primary)
    assert catalog(db) == before


def test_every_function_is_valid_when_the_migration_has_been_applied(template: Template) -> None:
    # Bodies are not looked at while it is applied: columns may come at its end.
    text = MIGRATION.read_text(encoding="utf-8")
    unchecked = "set_config('check_function_bodies', 'off', true)"
    assert text.count(unchecked) == 1
    url = template.server.create_database("checked_bodies")
    template.server.bootstrap("checked_bodies")
    with psycopg.connect(url) as db:
        db.execute(text.replace(unchecked, unchecked.replace("off", "on")).encode())
    with psycopg.connect(template.url("postgres", "supabase_admin"), autocommit=True) as admin:
        admin.execute("drop database checked_bodies with (force)")


def test_a_temporary_type_does_not_stand_in_for_one_of_postgres(db: Connection) -> None:
    # With an empty path PostgreSQL looks for types among the temporary ones first.
    db.execute(
        """
        create function pg_temp.spy(given pg_catalog.text) returns boolean language plpgsql as $$
        begin
          raise exception 'a stranger runs as %', current_user;
        end $$;
        create domain pg_temp.text as pg_catalog.text check (pg_temp.spy(value));
        """
    )
    call(db, "set_setting", "kill_wait_ms", "77", "test")
    kept = "select value from crossfade.settings where name = 'kill_wait_ms'"
    assert db.execute(kept).fetchall() == [(77,)]
