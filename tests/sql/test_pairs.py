"""What cannot be mirrored is refused at registration, by name and with the reason."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from .conftest import Connection, begins_with, on_debian_15
from .notes_pair import REGISTER, TABLES, create_notes, rows
from .things_pair import create_ignore_case

REFUSALS = {
    "a missing table": (
        "drop table public.notes_v2 cascade",
        'table "public.notes_v2" does not exist',
    ),
    "no primary key": (
        "alter table public.notes drop constraint notes_pkey",
        "has no primary key and no key was given",
    ),
    "no key in v2": (
        "alter table public.notes_v2 drop constraint notes_v2_pkey",
        "no immediate unique constraint or index on exactly (id), not null",
    ),
    "a deferrable key": (
        """alter table public.notes_v2 drop constraint notes_v2_pkey;
        alter table public.notes_v2 add primary key (id) deferrable""",
        "no immediate unique constraint",
    ),
    "a view": (
        """alter table public.notes rename to notes_table;
        create view public.notes as select * from public.notes_table""",
        "is a view",
    ),
    "a partition": (
        """drop table public.notes_v2 cascade;
        create table public.all_notes (id bigint primary key) partition by range (id);
        create table public.notes_v2 partition of public.all_notes default""",
        "is a partition of public.all_notes: register that",
    ),
    "an inheriting table": (
        "create table public.more () inherits (public.notes)",
        "public.notes inherits",
    ),
    "an unlogged table": (
        "alter table public.notes set unlogged",
        "V1 public.notes is unlogged: a crash would empty it",
    ),
    "keys of different collations": (
        """alter table public.notes alter id drop default, alter id type text collate "C";
        alter table public.notes_v2 alter id drop default, alter id type text""",
        'key column "id" has another collation in V1 than "id" in V2',
    ),
    "keys that ignore case": (
        """alter table public.notes alter id drop default,
          alter id type text collate public.ignore_case;
        alter table public.notes_v2 alter id drop default,
          alter id type text collate public.ignore_case""",
        'nondeterministic collation "ignore_case"',
    ),
    "a deferrable trigger": (
        """create function public.f() returns trigger language plpgsql as 'begin return null; end';
        create constraint trigger late after insert on public.notes deferrable initially deferred
        for each row execute function public.f()""",
        'has the deferrable trigger "late"',
    ),
    "a deferred foreign key": (
        """create table public.tags (tag text primary key);
        alter table public.notes_v2 add constraint tag_exists foreign key (tag)
        references public.tags initially deferred""",
        'foreign key "tag_exists" is initially deferred',
    ),
    "a foreign key between the two": (
        "alter table public.notes_v2 add foreign key (id) references public.notes",
        "ties the two tables of the pair together",
    ),
    "another key type": (
        """drop function public.notes_to_v2, public.notes_to_v1;
        alter table public.notes_v2 drop column part_count, alter column id drop default,
          alter column id type text""",
        'key column "id" is bigint in V1 but "id" is text in V2',
    ),
    "a missing converter": (
        "drop function public.notes_to_v1",
        "is missing or its name is not unique",
    ),
    "a converter of the wrong type": (
        """drop function public.notes_to_v1;
        create function public.notes_to_v1(public.notes_v2) returns setof public.notes
        language sql stable as 'select null::public.notes'""",
        "function to_v1 has the wrong type",
    ),
    "a volatile converter": ("alter function public.notes_to_v2 volatile", "is volatile"),
    "a strict converter": ("alter function public.notes_to_v2 strict", "is strict"),
}


def detail(error: psycopg.Error) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(error.diag.message_detail or "{}")
    return found


def needs_icu(name: str) -> bool:
    return "ignore_case" in REFUSALS[name][0]


@pytest.mark.parametrize("name", [name for name in REFUSALS if not needs_icu(name)])
def test_registration_refuses(db: Connection, name: str) -> None:
    registration_refuses(db, name)


@on_debian_15
@pytest.mark.parametrize("name", [name for name in REFUSALS if needs_icu(name)])
def test_registration_refuses_keys_that_ignore_case(db: Connection, name: str) -> None:
    create_ignore_case(db)
    registration_refuses(db, name)


def registration_refuses(db: Connection, name: str) -> None:
    sql, reason = REFUSALS[name]
    db.execute(TABLES)
    db.execute(sql)
    with pytest.raises(psycopg.Error) as refused:
        db.execute(REGISTER, ["{}"])
    assert refused.value.sqlstate == "PT400"
    assert detail(refused.value)["code"] == "CF008"
    assert any(reason in problem for problem in detail(refused.value)["problems"])
    assert rows(db, "select * from crossfade.pairs") == []
    assert (
        rows(
            db,
            "select * from pg_trigger where tgname like 'crossfade%' and tgrelid in "
            "(select oid from pg_class where relname like 'notes%')",
        )
        == []
    )


def test_row_level_security_that_binds_the_owner_is_refused_without_bypass(
    db: Connection, database: str
) -> None:
    db.execute(TABLES)
    db.execute("alter table public.notes_v2 force row level security")
    with psycopg.connect(
        database.replace("postgres@", "supabase_admin@"), autocommit=True
    ) as admin:
        admin.execute("create role limited login")
        try:
            admin.execute("""
                alter table public.notes owner to limited;
                alter table public.notes_v2 owner to limited;
                grant limited to supabase_admin; set role limited""")
            (problem,) = admin.execute(
                "select p from crossfade_private.table_problems('public.notes_v2', 'V2', '{id}') p"
            ).fetchall() or [("no problem",)]
        except psycopg.errors.InsufficientPrivilege:
            # The function is not for everybody: look as the superuser, for that role.
            admin.execute(
                "reset role; grant usage on schema crossfade_private to limited; "
                "grant execute on all functions in schema crossfade_private to limited; "
                "set role limited"
            )
            (problem,) = admin.execute(
                "select p from crossfade_private.table_problems('public.notes_v2', 'V2', '{id}') p"
            ).fetchall()
        finally:
            admin.execute(
                "reset role; reassign owned by limited to postgres; drop owned by limited; "
                "drop role limited"
            )
    assert "row-level security" in problem[0]


@begins_with(create_notes)
def test_registration_is_safe_to_repeat_and_takes_up_a_changed_converter(db: Connection) -> None:
    (before,) = rows(db, "select converter_hash from crossfade.pairs")
    db.execute(REGISTER, ["{}"])
    assert rows(db, "select converter_hash from crossfade.pairs") == [before]
    assert rows(db, "select stage from crossfade.pairs") == [("dualwrite",)]
    db.execute("""create or replace function public.notes_to_v1(
        new_v2 public.notes_v2, old_v1 public.notes) returns setof public.notes language sql stable
        as $$ select new_v2.id, new_v2.owner_id, new_v2.parts ->> 0, new_v2.tag $$""")
    db.execute(REGISTER, ["{}"])
    assert rows(db, "select converter_hash from crossfade.pairs") != [before]


@begins_with(create_notes)
def test_the_same_name_for_other_tables_is_refused(db: Connection) -> None:
    db.execute("create table public.other (like public.notes_v2 including all)")
    with pytest.raises(psycopg.Error) as refused:
        db.execute(
            "select crossfade.register_pair('notes', 'public.notes', 'public.other', 'a', 'b')"
        )
    assert detail(refused.value)["code"] == "CF016"


def test_unregister_leaves_tables_and_data_as_they_were(db: Connection) -> None:
    catalog = """
        select c.relname, t.tgname from pg_trigger t join pg_class c on c.oid = t.tgrelid
        where c.relname like 'notes%' and not t.tgisinternal
        union all select 'function', p.proname::text from pg_proc p
        where p.pronamespace = 'crossfade_private'::regnamespace
          and p.proname like 'mirror_notes%'"""
    create_notes(db)
    db.execute("insert into public.notes (body) values ('a')")
    assert rows(db, catalog) != []
    with pytest.raises(psycopg.Error) as refused:
        db.execute("select crossfade.unregister_pair('notes', 'done')")
    assert detail(refused.value)["code"] == "CF005"
    db.execute("select crossfade.set_stage('notes', 'off', 'done')")
    db.execute("select crossfade.unregister_pair('notes', 'done')")
    assert rows(db, catalog) == []
    assert rows(
        db, "select (select count(*) from public.notes), (select count(*) from public.notes_v2)"
    ) == [(1, 1)]


def test_unknown_pair_is_named(db: Connection) -> None:
    with pytest.raises(psycopg.Error, match='Unknown pair "nots"') as refused:
        db.execute("select crossfade.set_stage('nots', 'dualwrite', 'x')")
    assert refused.value.sqlstate == "PT404"


# Proving converters -------------------------------------------------------------------------------


def check(db: Connection, side: int, max_rows: int = 100) -> dict[str, Any]:
    (answer,) = rows(db, f"select crossfade.check_conversion('notes', {side}, null, {max_rows})")
    found: dict[str, Any] = answer[0]
    return found


@begins_with(create_notes, mirror=False)
def test_check_conversion_passes_on_rows_that_convert(db: Connection) -> None:
    db.execute("insert into public.notes (body) select 'n' || g from generate_series(1, 30) g")
    assert check(db, 1)["violations"] == []
    assert check(db, 1)["rows_checked"] == 30
    assert check(db, 1)["done"] is True


@begins_with(create_notes, mirror=False)
def test_check_conversion_pages_over_all_rows(db: Connection) -> None:
    db.execute("insert into public.notes (id, body) select g, 'n' from generate_series(1, 25) g")
    after, checked, pages = None, 0, 0
    while True:
        (answer,) = db.execute(
            "select crossfade.check_conversion('notes', 1, %s::jsonb, 10)",
            [json.dumps(after) if after else None],
        ).fetchall()
        checked, pages = checked + answer[0]["rows_checked"], pages + 1
        after = answer[0]["last_key"]
        if answer[0]["done"]:
            break
    assert (checked, pages) == (25, 3)


WRONG = {
    "loses a column (law 1)": (
        "select new_v1.id, new_v1.owner_id, jsonb_build_array(new_v1.body), null, false, 0",
        (1, ["tag"]),
    ),
    "raises (law 5)": (
        "select new_v1.id, new_v1.owner_id, jsonb_build_array(new_v1.body), "
        "(1 / length(new_v1.tag))::text, false, 0",
        (5, []),
    ),
    "breaks a constraint of v2 (law 7)": (
        "select new_v1.id, new_v1.owner_id, jsonb_build_array(new_v1.body), "
        "repeat(new_v1.tag || 'x', 30), false, 0",
        (7, ["tag_is_short"]),
    ),
    "changes the key (law 7)": (
        "select new_v1.id + case when new_v1.tag = 't' then 1000 else 0 end, new_v1.owner_id, "
        "jsonb_build_array(new_v1.body), new_v1.tag, false, 0",
        (7, ["the same key"]),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_check_conversion_names_the_row_and_the_law_it_breaks(db: Connection, name: str) -> None:
    body, (law, columns) = WRONG[name]
    create_notes(db, mirror=False)
    db.execute(
        "insert into public.notes (id, body, tag) values (1, 'a', null), (2, 'b', %s)",
        ["" if law == 5 else "t"],
    )
    db.execute(f"""create or replace function public.notes_to_v2(
        new_v1 public.notes, old_v2 public.notes_v2) returns setof public.notes_v2
        language sql stable as $$ {body} $$""")
    violations = check(db, 1)["violations"]
    assert [(v["key"], v["law"], v["columns"]) for v in violations] == [({"id": 2}, law, columns)]
    assert (violations[0]["error"] is not None) == (law == 5)


@begins_with(create_notes)
def test_converter_hash_covers_the_functions_that_converters_call(db: Connection) -> None:
    db.execute("""
        create function public.inner_part(text) returns text language sql as $$ select $1 $$;
        create function public.outer_part(text) returns text language sql
        as $$ select public.inner_part($1) $$;
        create or replace function public.notes_to_v1(
          new_v2 public.notes_v2, old_v1 public.notes)
        returns setof public.notes language sql stable as $$
          select new_v2.id, new_v2.owner_id, public.outer_part(new_v2.parts ->> 0), new_v2.tag
        $$;
    """)
    hashes = "select crossfade_private.converter_hash('public.notes_to_v2', 'public.notes_to_v1')"
    before = rows(db, hashes)
    assert rows(db, hashes) == before
    db.execute("""create or replace function public.inner_part(text) returns text language sql
        as $$ select upper($1) $$""")
    assert rows(db, hashes) != before
