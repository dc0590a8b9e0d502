"""A converter in SQL stands in the engine's statements, and what comes out is what a call gives."""

from __future__ import annotations

import psycopg
import pytest

from .conftest import ROOT, Connection
from .control import Connection as Db
from .control import one

TABLES = """
create domain public.short as text check (value <> 'bad');
create table public.notes (id int primary key, body text, "Odd name" jsonb not null default '{}');
create table public.notes_v2 (
  gone text, id int primary key, body varchar(5), kind public.short not null default 'x',
  "select" char(3), twice text generated always as (body || body) stored, number bigint
);
alter table public.notes_v2 drop column gone;
create schema inner_parts;
create function inner_parts.size_of(note public.notes) returns int language sql immutable
  set search_path = '' as $$ select length(note.body) $$;
"""
BACK = """
create function public.to_v1(new_v2 public.notes_v2, old_v1 public.notes)
returns setof public.notes language sql stable set search_path = pg_catalog, pg_temp
as $$ select new_v2.id, new_v2.body, coalesce(old_v1."Odd name", '{}') $$
"""
HEAD = """
create or replace function public.to_v2(new_v1 public.notes, old_v2 public.notes_v2)
returns setof public.notes_v2
"""
REGISTER = """
select crossfade.register_pair('notes', 'public.notes', 'public.notes_v2', 'public.to_v2',
  'public.to_v1')
"""
STANDARD = "language sql stable set search_path = pg_catalog, pg_temp "
ROW = "select new_v1.id, new_v1.body, coalesce(old_v2.kind, 'k'), 'abc', null, 7"


def register(db: Connection, definition: str) -> None:
    db.execute((TABLES + BACK + ";" + HEAD + definition + ";" + REGISTER).encode())
    db.execute("select crossfade.set_stage('notes', 'dualwrite', 'test')")


def is_inlined(db: Connection) -> bool:
    query = "select pieces ->> 'convert' from crossfade_private.pair_pieces where side = 1"
    return str(one(db, query)).startswith("(select")


BODIES = {
    "a string": f"{STANDARD} as $$ {ROW} $$",
    "an empty search_path": f"language sql stable set search_path = '' as $$ {ROW} $$",
    "a comment behind it": f"{STANDARD} as $$ {ROW}; -- done\n $$",
    "standard SQL": f"{STANDARD} begin atomic {ROW}; end",
    "standard SQL with a table of its own": f"""{STANDARD} begin atomic
      select new_v1.id, max(e.value), 'k', 'abc', null, count(*)
      from jsonb_each_text(jsonb_build_object('a', new_v1.body)) e; end""",
    "two branches": f"""{STANDARD} as $$
      select x.* from (select new_v1.body is not null as is_plain offset 0) p
      cross join lateral ({ROW} where p.is_plain
        union all {ROW} where p.is_plain is not true) x $$""",
    "the whole row as an argument": f"""{STANDARD} as $$
      select new_v1.id, new_v1.body, 'k', 'abc', null, inner_parts.size_of(new_v1) + 2 $$""",
    "what looks like our own pieces": f"""{STANDARD} as $$
      select new_v1.id, case new_v1.body when '{{source}}' then '{{with}} {{nobody}}'
        else new_v1.body end, 'k', 'abc', null, 7 $$""",
    "what looks like our own quotes": f"""{STANDARD} as $q$
      select new_v1.id, new_v1.body, case new_v1.body when '$$' || '$' then '$body$' else 'k' end,
        'abc', null, 7 $q$""",
    "odd names": f"""{STANDARD} as $$
      select new_v1.id, new_v1.body, coalesce(new_v1."Odd name" ->> 'new', 'k'), 'abc', null, 7
      $$""",
}


@pytest.mark.parametrize("name", BODIES)
def test_the_text_of_a_converter_gives_what_a_call_gives(scratch: Db, name: str) -> None:
    register(scratch, BODIES[name])
    assert is_inlined(scratch)
    called = "select n.* from public.notes a cross join lateral public.to_v2(a, null) n"
    stored = 'select id, body, kind, "select", twice, number from public.notes_v2 order by id'
    scratch.execute("insert into public.notes (id, body) values (1, 'hello')")
    scratch.execute(
        "insert into public.notes (id, body) select g, 'n' || g from generate_series(2, 30) g"
    )
    wanted = [
        (*row[:4], row[1] * 2, row[5]) for row in scratch.execute(f"{called} order by 1".encode())
    ]
    assert scratch.execute(stored.encode()).fetchall() == wanted
    scratch.execute("update public.notes set body = 'one' where id = 1")
    scratch.execute("update public.notes set body = 'm' || id where id > 1")
    scratch.execute("update public.notes_v2 set body = 'two' where id = 2")
    bodies = "select id, body from {} where id < 4 order by id"
    changed = [(1, "one"), (2, "two"), (3, "m3")]
    for table in ("public.notes", "public.notes_v2"):
        assert scratch.execute(bodies.format(table).encode()).fetchall() == changed
    assert one(scratch, "select count(*) from crossfade.mirror_failures") == 0


CALLED = {
    "PL/pgSQL": """language plpgsql stable set search_path = '' as $$
      declare v_row public.notes_v2 := row(new_v1.id, new_v1.body, 'k', 'abc', null, 7);
      begin return next v_row; end $$""",
    "another search_path": f"language sql stable set search_path = 'public' as $$ {ROW} $$",
    "another setting": f"{STANDARD} set timezone = 'UTC' as $$ {ROW} $$",
    "no search_path": f"language sql stable as $$ {ROW} $$",
    "security definer": f"{STANDARD} security definer as $$ {ROW} $$",
    "what looks like our own names": f"""{STANDARD} as $$
      select cf_t.cf_written, max(cf_s.cf_count), 'k', 'abc', null, 7
      from (values (new_v1.id)) cf_t(cf_written), (values (new_v1.body)) cf_s(cf_count)
      group by cf_t.cf_written $$""",
    "two statements": f"{STANDARD} as $$ select 1; {ROW} $$",
}


@pytest.mark.parametrize("name", CALLED)
def test_any_other_converter_is_called(scratch: Db, name: str) -> None:
    register(scratch, CALLED[name])
    assert not is_inlined(scratch)
    warned = str(one(scratch, "select crossfade_private.pair_warnings(p) from crossfade.pairs p"))
    assert "converter public.to_v2 is called for every row" in warned
    assert "public.to_v1" not in warned
    scratch.execute("insert into public.notes (id, body) values (1, 'hello'), (2, null)")
    stored = "select id, body, kind, number from public.notes_v2 order by id"
    assert scratch.execute(stored.encode()).fetchall() == [(1, "hello", "k", 7), (2, None, "k", 7)]
    assert one(scratch, "select count(*) from crossfade.mirror_failures") == 0


def test_parameters_without_names_are_found_in_the_text(scratch: Db) -> None:
    head = HEAD.replace("new_v1 public", "public").replace("old_v2 public", "public")
    body = f"{STANDARD} as $$ select $1.id, $1.body, coalesce($2.kind, 'k'), 'abc', null, 7 $$"
    scratch.execute((TABLES + BACK + ";" + head + body + ";" + REGISTER).encode())
    scratch.execute("select crossfade.set_stage('notes', 'dualwrite', 'test')")
    assert is_inlined(scratch)
    scratch.execute("insert into public.notes (id, body) values (1, 'one')")
    scratch.execute("update public.notes_v2 set kind = 'own'")
    scratch.execute("update public.notes set body = 'two'")
    assert scratch.execute("select body, kind from public.notes_v2").fetchall() == [("two", "own")]


def test_a_value_that_is_too_long_is_refused_and_not_cut(scratch: Db) -> None:
    register(scratch, BODIES["a string"])
    for rows in (1, 20):
        scratch.execute(
            "insert into public.notes select g, 'too long' from generate_series(1, %s) g", [rows]
        )
        assert one(scratch, "select count(*) from public.notes_v2") == 0
        found = (
            "select distinct error_code from crossfade.mirror_failures where resolved_at is null"
        )
        assert one(scratch, found) == "22001"
        scratch.execute("delete from public.notes; delete from crossfade.mirror_failures")


def test_registering_leaves_no_function_of_its_own(scratch: Db) -> None:
    register(scratch, BODIES["a string"])
    query = (
        "select count(*) from pg_proc where pronamespace = pg_my_temp_schema() or proname = 'to_v2'"
    )
    assert one(scratch, query) == 1


# Which form of the text stands in our statements; a slower one must be noticed here.
WORKED = {
    "agent_tools": {"agent_tools": "items"},
    "events": {"events": "items"},
    "orders": {"customers": "items", "orders": "items"},
    "chat_messages": {"chat_messages": "text"},
}
FORMS = """
select p.name, s.side, case when c -> 'items' <> 'null' then 'items'
  when c ->> 'text' is not null then 'text' else c ->> 'why' end
from crossfade.pairs p
cross join lateral (values (1, p.to_v2, p.v1_table, p.v2_table),
  (2, p.to_v1, p.v2_table, p.v1_table)) s(side, converter, source, target)
cross join lateral crossfade_private.conversion(s.converter, s.source::regclass,
  s.target::regclass) c
"""


@pytest.mark.parametrize("file", WORKED)
def test_the_worked_pairs_are_inlined_both_ways(scratch: Db, file: str) -> None:
    scratch.execute((ROOT / "sql" / "pairs" / f"{file}.sql").read_bytes())
    found = {(name, side): form for name, side, form in scratch.execute(FORMS)}
    assert found == {(name, side): form for name, form in WORKED[file].items() for side in (1, 2)}
    query = (
        "select pieces ->> 'convert', pieces ->> 'convert_back' from crossfade_private.pair_pieces"
    )
    assert all(text.startswith("(select") for row in scratch.execute(query) for text in row)


def test_a_replaced_converter_is_taken_up_by_registering_again(scratch: Db) -> None:
    register(scratch, BODIES["a string"])
    changed = BODIES["a string"].replace("'k'", "'new'")
    scratch.execute((HEAD + changed).encode())
    scratch.execute("insert into public.notes (id, body) values (1, 'a')")
    assert one(scratch, "select kind from public.notes_v2") == "k"
    for start in ("start_backfill", "start_verify"):
        with pytest.raises(psycopg.Error) as refused, scratch.transaction():
            scratch.execute(f"select crossfade.{start}('notes')".encode())
        assert "converters" in str(refused.value)
        assert "Register the pair again" in str(refused.value)
    scratch.execute(REGISTER)
    scratch.execute("insert into public.notes (id, body) values (2, 'b')")
    assert one(scratch, "select kind from public.notes_v2 where id = 2") == "new"
    scratch.execute("select crossfade.start_verify('notes')")
