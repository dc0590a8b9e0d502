"""The texts that registration generates: as written down, marked, complete, and closed to names."""

from __future__ import annotations

import re

import pytest

from crossfade import __version__
from tests.sql.control import Connection, call, one
from tests.sql.generated import KINDS, generated, golden
from tests.sql.things_pair import failures, verify

BODIES = """
select p.proname::text, p.prosrc from pg_proc p
where p.pronamespace = 'crossfade_private'::regnamespace and p.proname ~ '^mirror_.+_v[12]_[a-z]+$'
  and p.proname !~ '_(state|change)$'
"""
PLACEHOLDERS = r"""
select distinct m[1] from pg_proc p
cross join lateral regexp_matches(p.prosrc, '\{[a-z][a-z0-9_]*\}', 'g') m
where p.pronamespace = 'crossfade_private'::regnamespace and p.proname ~ '_text$'
"""


def bodies(db: Connection) -> dict[str, str]:
    found: dict[str, str] = dict(db.execute(BODIES).fetchall())
    assert len(found) >= 18
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_registration_makes_the_golden_texts(scratch: Connection, kind: str) -> None:
    made, wanted = generated(scratch, kind), golden(kind)
    assert made.keys() == wanted.keys()
    changed = [name for name in made if made[name] != wanted[name]]
    assert changed == [], "if that is wanted: python -m tests.sql.generated"


@pytest.mark.parametrize("kind", KINDS)
def test_generated_texts_say_who_made_them_and_are_complete(scratch: Connection, kind: str) -> None:
    generated(scratch, kind)
    placeholders = {name for (name,) in scratch.execute(PLACEHOLDERS.encode()).fetchall()}
    assert {"{target}", "{same_key_t_s}", "{edits}"} <= placeholders
    head = f'\n-- crossfade {__version__}: mirror of pair "notes": '
    for name, body in bodies(scratch).items():
        assert body.startswith(head), name
        assert [text for text in placeholders if text in body] == [], name
        # Each function is of one event; the word is only handed on, for the record.
        assert not re.search(r"tg_op\s*(=|<>|in\b|when\b)|case\s+tg_op", body), name


FRAME = re.compile(r"function crossfade_private\.(\w+)\(\) line (\d+) at SQL statement")


@pytest.mark.parametrize("kind", KINDS)
def test_the_frame_that_a_trigger_looks_for_first_is_that_of_the_other_ones_statement(
    scratch: Connection, kind: str
) -> None:
    generated(scratch, kind)
    texts = bodies(scratch)
    looked_for = [found for text in texts.values() for found in FRAME.findall(text)]
    assert len(looked_for) == 4, "inserts and updates of both sides"
    for name, line in looked_for:
        statement = texts[name].splitlines()[int(line) - 1].split()
        # A pair without a statement for single updates has none to look for.
        if "if cf_moved is false then" in texts[name] or name.endswith("_insert"):
            assert statement[:1] == [name.rpartition("_")[2]], (name, line)


NAMES = {
    "quotes": """o'ne "two" ''three''""",
    "a line": "one\nselect 1; --",
    "dollars": "$body$ $$ $function$ $text$",
    "placeholders": "{source} {made_by} {}",
    "formats": "%s %I %1$L %%",
    "a comment": "/* one -- two",
    "backslashes": r"\ \' E'\n' \1",
    "a statement": "x; drop table public.witness; --",
    "our own names": "a crossfade_private.mirror_things_v2_ b",
    "letters": "ÄÖ 表 🐘",
    "longest": "n" * 63,
}


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def create_odd(db: Connection, odd: str) -> tuple[str, str, str, str]:
    """Make and register a pair in which everything has the name; return tables and columns."""
    name, other, back = (quoted(text) for text in (odd, odd[:60] + "_v2", odd[:58] + "_back"))
    v1, v2 = f"{name}.{name}", f"{name}.{other}"
    db.execute(
        f"""
        create table public.witness (id integer);
        create schema {name};
        create table {v1} ({name} bigint primary key, {other} text default '');
        create table {v2} ({other} text, {name} bigint primary key, {back} integer default 0);
        create function {name}.{other}() returns trigger language plpgsql as $f$
        begin return new; end $f$;
        create trigger {name} before insert or update on {v2}
        for each row execute function {name}.{other}();
        create trigger {other} after update of {other} on {v2}
        for each row execute function {name}.{other}();
        create function {name}.{name}({back} {v1}, {other} {v2}) returns setof {v2}
        language sql stable set search_path = pg_catalog, pg_temp
        as $q$ select {back}.{other}, {back}.{name}, {other}.{back} $q$;
        create function {name}.{back}({name} {v2}, {other} {v1}) returns setof {v1}
        language sql stable set search_path = pg_catalog, pg_temp
        as $q$ select {name}.{name}, {name}.{other} $q$
    """.encode()
    )
    call(db, "register_pair", "things", v1, v2, f"{name}.{name}", f"{name}.{back}")
    call(db, "set_stage", "things", "dualwrite", "test")
    return v1, v2, name, other


@pytest.mark.parametrize("name", NAMES)
def test_names_of_any_kind_do_not_break_out_of_the_texts(scratch: Connection, name: str) -> None:
    v1, v2, key, column = create_odd(scratch, NAMES[name])
    for statement in (
        f"insert into {v1} ({key}, {column}) select g, 'a' from generate_series(1, 30) g",
        f"insert into {v2} ({key}, {column}) values (31, 'b')",
        f"update {v1} set {column} = 'c' where {key} = 1",
        f"update {v1} set {column} = 'd' where {key} > 5",
        f"update {v2} set {column} = 'e' where {key} = 2",
        f"update {v2} set {column} = 'f' where {key} > 20",
        f"update {v1} set {key} = {key} + 100 where {key} = 3",
        f"update {v2} set {key} = {key} + 100 where {key} = 4",
        f"delete from {v1} where {key} = 5",
        f"delete from {v2} where {key} > 25",
    ):
        scratch.execute(statement.encode())
    counts = one(scratch, f"select array[(select count(*) from {v1}), (select count(*) from {v2})]")
    assert counts == [22, 22]
    assert failures(scratch) == []
    assert verify(scratch, "things") == 0
    assert one(scratch, "select count(*) from public.witness") == 0
    # The first line is one line: what comes after it is not a comment's.
    for text in bodies(scratch).values():
        assert text.splitlines()[2].startswith(("#variable_conflict", "declare"))
    scratch.execute(f"truncate {v1}".encode())
    assert one(scratch, f"select count(*) from {v2}") == 0
    call(scratch, "set_stage", "things", "off", "test")
    call(scratch, "unregister_pair", "things", "test")
