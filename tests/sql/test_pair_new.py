"""``pair new``: what it writes applies, keeps the laws, and says what it could not decide."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from crossfade.core.errors import InvalidValueError
from crossfade.gateway.rows import parse
from crossfade.pairs.catalog import TableInfo
from crossfade.pairs.files import PairFiles, masked, new_pair

from .conftest import Connection
from .control import call

STAMP = "20270101000000"
SHOP = """
create type public.mood as enum ('calm', 'in a hurry');
create table public.shops (id integer primary key);
insert into public.shops values (1);
create table public."Visits" (
  shop_id integer not null references public.shops on delete cascade,
  number bigint generated always as identity,
  "order" text,
  mood public.mood not null default 'calm',
  cents bigint not null check (cents >= 0),
  twice bigint generated always as (cents * 2) stored,
  extra jsonb not null default '{}',
  tags text[] not null default '{}',
  at timestamptz not null default now(),
  primary key (shop_id, number)
);
alter table public."Visits" enable row level security;
create policy "Staff ""sees"" all" on public."Visits" for select to authenticated using (cents > 0);
grant select on public."Visits" to authenticated;
grant select, insert on public."Visits" to service_role;
insert into public."Visits" (shop_id, "order", cents, extra, mood)
values (1, 'It''s Anna, 0171 555', 5, '{"name": "Anna"}', 'in a hurry'), (1, null, 0, '[]', 'calm');
"""
ODD = """
create schema "Ann's Shop";
create domain "Ann's Shop".price as numeric(10, 2) check (value >= 0);
create type "Ann's Shop".place as (street text, number integer);
create type "Ann's Shop"."Size" as enum ('S', 'it''s XL');
create table "Ann's Shop"."Order" (
  "select" uuid default gen_random_uuid(), "a""b" varchar(5) not null default 'it''s',
  "user" inet, price "Ann's Shop".price not null default 0, home "Ann's Shop".place,
  sizes "Ann's Shop"."Size"[] not null default '{}', size "Ann's Shop"."Size", span int4range,
  raw bytea, pause interval, code char(3), big numeric, real real, double double precision,
  day date, clock time with time zone, doc json, docs jsonb[], mac macaddr, bits bit(4),
  flag boolean not null default true, "Ünïcode" text,   primary key ("select", "a""b")
);
insert into "Ann's Shop"."Order" ("a""b", "user", price, home, sizes, size, span, raw, pause, code,
  big, real, double, day, clock, doc, docs, mac, bits, "Ünïcode")
values ('x', '10.0.0.1/8', 1.5, row('Road', 7), '{S}', 'it''s XL', '[1,5)', '\\x00ff', '1 mon -1 d',
  'ab', 1e40, 'NaN', 'Infinity', 'infinity', '12:00+02', '{"a": 1, "a": 2}', array['{}'::jsonb],
  '08:00:2b:01:02:03', b'1010', 'ß$$');
"""
TWO = """
create table public.people (id bigint primary key, full_name varchar(80) not null, age smallint,
  born date, secret text, active boolean not null default true);
insert into public.people values (1, 'Anna', 7, '2000-01-01', 's'), (2, 'Bob', null, null, null);
create table public.people_v2 (id bigint primary key, name text not null, age integer,
  born text, level integer not null, locale text, kind text not null default 'human',
  active boolean not null default true);
grant select on public.people, public.people_v2 to service_role;
"""


def table(db: Connection, name: str) -> TableInfo:
    return parse(TableInfo, call(db, "describe_table", name, 5))


def write(db: Connection, name: str, v1: str, v2: str | None = None) -> PairFiles:
    one, two = table(db, v1), table(db, v2) if v2 else None
    options = {"v2_key": list(two.key)} if two and two.key != one.key else {}
    named = {"v1": one.table} | ({"v2": two.table} if two else {}) | {"options": options}
    judged = call(db, "judge_pair", name, **named) if name.isidentifier() else {"problems": ()}
    return new_pair(name, one, two, stamp=STAMP, problems=judged["problems"])


def text_of(made: PairFiles, ending: str) -> str:
    (found,) = [text for name, text in made.files.items() if name.endswith(ending)]
    return found


def tap(db: Connection, sql: str) -> list[str]:
    """Run a test file inside the test's transaction; return its lines."""
    body = sql.replace("\nbegin;\n", "\n").replace("\nrollback;\n", "\n")
    cursor = db.execute(body, prepare=False)
    lines: list[str] = []
    while True:
        if cursor.description:
            lines += [str(row[0]) for row in cursor.fetchall()]
        if not cursor.nextset():
            return lines


def test_a_proposed_table_applies_and_keeps_the_laws(scratch: Connection) -> None:
    scratch.execute(SHOP)
    made = write(scratch, "visits", "public.Visits")
    assert (made.undecided, made.v2) == ((), 'public."Visits_v2"')
    assert list(made.files)[:3] == [
        "supabase/migrations/20270101000000_visits_pair.sql",
        "supabase/migrations/20270101000001_visits_register.sql",
        "supabase/tests/visits_converters.test.sql",
    ]
    scratch.execute(text_of(made, "_pair.sql"))
    scratch.execute(text_of(made, "_register.sql"))
    for side in (1, 2):
        checked = call(scratch, "check_conversion", "visits", side)
        assert (checked["violations"], checked["rows_checked"]) == ([], 2 if side == 1 else 0)
    one, two = table(scratch, "public.Visits"), table(scratch, "public.Visits_v2")
    assert [column.name for column in two.columns] == [column.name for column in one.columns]
    assert two.column("twice") == one.column("twice")
    assert two.policies == one.policies
    assert two.grants["authenticated"] == ("select",)
    assert {c.definition for c in two.constraints} == {c.definition for c in one.constraints}
    call(scratch, "set_stage", "visits", "dualwrite", "test")
    scratch.execute('insert into public."Visits" (shop_id, cents) values (1, 7)')
    scratch.execute('insert into public."Visits_v2" (shop_id, cents) values (1, 8)')
    counts = (
        'select (select count(*) from public."Visits"), (select count(*) from public."Visits_v2")'
    )
    assert scratch.execute(counts).fetchone() == (4, 2)


def test_odd_names_and_types_come_back_the_same(scratch: Connection) -> None:
    scratch.execute(ODD)
    one = table(scratch, "Ann's Shop.Order")
    made = new_pair("odd", one, None, stamp=STAMP)
    assert (made.undecided, made.v2) == ((), '"Ann\'s Shop"."Order_v2"')
    for ending in ("_pair.sql", "_register.sql"):
        scratch.execute(text_of(made, ending))
    checked = call(scratch, "check_conversion", "odd", 1)
    assert (checked["violations"], checked["rows_checked"]) == ([], 1)
    call(scratch, "set_stage", "odd", "dualwrite", "test")
    scratch.execute("""insert into "Ann's Shop"."Order" ("a""b", doc) values ('y', '[]')""")
    mirrored = """select "a""b" from "Ann's Shop"."Order_v2" """
    assert scratch.execute(mirrored).fetchall() == [("y",)]
    for name, text in made.files.items():
        if name.endswith(".ts"):
            assert '"a\\"b"' in text or "convert_test" in name


def test_keys_of_other_names_are_paired_by_their_place(scratch: Connection) -> None:
    scratch.execute("""
        create table public.olds (a integer, b text, note text, primary key (a, b));
        create table public.news (x integer, y text, note text, primary key (x, y));
        grant select on public.olds, public.news to service_role;
        insert into public.olds values (1, 'k', 'n')""")
    made = write(scratch, "olds", "olds", "news")
    assert made.undecided == ()
    scratch.execute(text_of(made, "_pair.sql") + text_of(made, "_register.sql"))
    assert call(scratch, "check_conversion", "olds", 1)["violations"] == []
    assert [line[:3] for line in tap(scratch, text_of(made, ".test.sql"))[1:]] == ["ok "] * 2


def test_a_note_on_the_last_column_swallows_nothing(scratch: Connection) -> None:
    scratch.execute("""
        create table public.lasts (id integer primary key, twice integer generated always
          as (id * 2) stored);
        create table public.lasts_v2 (id integer primary key, remark text);
        grant select on public.lasts, public.lasts_v2 to service_role;
        insert into public.lasts values (1)""")
    made = write(scratch, "lasts", "lasts", "lasts_v2")
    assert made.undecided == ()
    scratch.execute(text_of(made, "_pair.sql") + text_of(made, "_register.sql"))
    assert call(scratch, "check_conversion", "lasts", 1)["violations"] == []


def test_the_sql_test_passes_and_notices_a_wrong_converter(scratch: Connection) -> None:
    scratch.execute(SHOP)
    made = write(scratch, "visits", "public.Visits")
    scratch.execute(text_of(made, "_pair.sql"))
    test = text_of(made, ".test.sql")
    lines = tap(scratch, test)
    assert lines[0] == "1..5"
    assert [line[:3] for line in lines[1:]] == ["ok "] * 5
    scratch.execute("drop table crossfade_results")
    scratch.execute(text_of(made, "_pair.sql").split("-- Converters")[1].split("\n", 1)[1].replace(
        "new_v1.cents", "0::bigint").replace("create table", "-- "))  # fmt: skip
    assert [line for line in tap(scratch, test) if line.startswith("not ok")]


def test_two_tables_are_matched_and_the_rest_is_asked(scratch: Connection) -> None:
    scratch.execute(TWO)
    made = write(scratch, "people", "people", "people_v2")
    assert sorted(text.split(":")[0] for text in made.undecided) == [
        "to_v1, age",  # integer into smallint
        "to_v1, born",  # a text need not be a date
        "to_v1, full_name",  # longer names fit V2
        "to_v1, secret",  # V2 has no place for it
        "to_v2, born",
        "to_v2, level",  # not null and without a default
        "to_v2, name",  # is full_name really name?
    ]
    sql = text_of(made, "_pair.sql")
    assert "coalesce(old_v2.kind, 'human'::text)" in sql
    assert "old_v2.locale, -- locale: only V2 has it: kept" in sql
    unfinished = pytest.raises(psycopg.errors.RaiseException, match="not finished: 7 to decide")
    with unfinished, scratch.transaction():
        scratch.execute(sql)


def test_what_cannot_be_a_pair_is_refused_before_a_file_is_written(scratch: Connection) -> None:
    scratch.execute(TWO)
    scratch.execute("create table public.keyless (a integer)")
    scratch.execute("create table public.wide (a integer, b integer, primary key (a, b))")
    for arguments, message in {
        ("p", "keyless"): "no primary key",
        ("p", "people", "wide"): "their keys have 1 and 2 columns",
        ("Bad name", "people"): "Invalid pair name",
    }.items():
        with pytest.raises(InvalidValueError, match=message):
            write(scratch, *arguments)
    taken = replace(table(scratch, "people"), pair="humans")
    with pytest.raises(InvalidValueError, match='already belongs to pair "humans"'):
        new_pair("p", taken, None, stamp=STAMP)


def test_free_text_is_masked_and_what_decides_is_kept(scratch: Connection) -> None:
    scratch.execute(SHOP)
    one = table(scratch, "public.Visits")
    first, second = masked(one.sample, one)
    assert first["order"] == "Xx'x Xxxx, 0000 000"
    assert first["extra"] == {"name": "Xxxx"}
    assert (first["mood"], first["cents"], second["order"]) == ("in a hurry", 5, None)


@pytest.mark.parametrize("template", ["18"], indirect=True, scope="session")
def test_the_typescript_is_checked_and_its_tests_pass(scratch: Connection, tmp_path: Path) -> None:
    scratch.execute(SHOP)
    for name, text in write(scratch, "visits", "public.Visits").files.items():
        if "/functions/" in name:
            (tmp_path / Path(name).name).write_text(text)
    deno = Path(sys.executable).with_name("deno")
    done = subprocess.run(
        [deno, "test", "--quiet", "--check", "--allow-read", "."],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout
