"""Keys: a row is named alike in every session, and where that cannot be it is refused by name."""

from __future__ import annotations

import re

import psycopg
import pytest

from tests.sql.cases.pairs import (
    Shape,
    backfill,
    create,
    dualwrite,
    like,
    objection,
    problems,
    register,
    repair,
    settled,
    to_stage,
)
from tests.sql.conftest import Connection
from tests.sql.control import call, one
from tests.sql.notes_pair import rows
from tests.sql.things_pair import failures, verify

TYPES = """
create domain public.span as interval;
create domain public.ratio as float8;
create domain public.small_ratio as float4 check (value > 0);
create domain public.ratio_again as public.ratio;
create domain public.cash as money;
create domain public.moment as timestamptz;
create domain public.moment_again as public.moment;
create domain public.hours as tstzrange;
create domain public.spans as interval[];
create domain public.code as text;
create domain public.number as bigint;
create type public.mood as enum ('calm', 'in a hurry');
create type public.wait as (wait interval, n integer);
create type public.visit as (at timestamptz, n integer);
create type public.place as (street text, number integer);
create domain public.any_wait as public.wait;
create type public.ratios as range (subtype = float8);
"""
REFUSED = {
    # The type of the key, and what the refusal must name beside the column.
    "float8": "double precision",
    "float4": "real",
    "interval": "interval",
    "money": "money",
    "public.span": "interval",
    "public.ratio": "double precision",
    "public.small_ratio": "real",
    "public.ratio_again": "double precision",
    "public.cash": "money",
    "tstzrange": "tstzrange",
    "public.hours": "tstzrange",
    "tstzmultirange": "tstzmultirange",
    "public.ratios": "double precision",
    "interval[]": "interval",
    "float8[]": "double precision",
    "public.spans": "interval",
    "public.span[]": "interval",
    "public.wait": "interval",
    "public.any_wait": "interval",
    "public.wait[]": "interval",
    "public.visit": "timestamp with time zone",
    "timestamptz[]": "timestamp with time zone",
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_key_whose_text_depends_on_the_session_is_refused_by_name(
    scratch: Connection, kind: str
) -> None:
    found = problems(scratch, like(f"id {kind} primary key, body text", before=TYPES))
    assert REFUSED[kind] in found
    assert "id" in found
    for table in ("things", "things_v2"):
        assert table in found


@pytest.mark.parametrize("part", ["public.span", "tstzrange"])
def test_a_part_of_a_key_is_looked_at_as_well(scratch: Connection, part: str) -> None:
    columns = f"id bigint, part {part}, body text, primary key (id, part)"
    found = problems(scratch, like(columns, before=TYPES))
    assert "part" in found
    assert REFUSED[part] in found


ACCEPTED = {
    "smallint": "7",
    "integer": "7",
    "bigint": "7",
    "public.number": "7",
    "numeric": "7.10",
    "text": 'it\'s é \\ "7"',
    "varchar(40)": "seven",
    "char(5)": "seven",
    "public.code": "seven",
    "uuid": "00000000-0000-4000-8000-000000000007",
    "date": "2026-03-04",
    "timestamp": "2026-03-04 05:06:07.89",
    "timestamptz": "2026-03-04 05:06:07.89+00",
    "public.moment": "2026-03-04 05:06:07.89+00",
    "public.moment_again": "2026-03-04 05:06:07.89+00",
    "time": "05:06:07.89",
    "bytea": "\\x00ff5c27",
    "boolean": "true",
    "inet": "10.0.0.1/8",
    "public.mood": "in a hurry",
    "int8range": "[1,5)",
    "integer[]": "{1,2}",
    "text[]": '{"a b","c,d"}',
    "public.place": '("Main Road",7)',
}
SESSIONS = [
    "set timezone = 'UTC'; set datestyle = 'ISO'; reset bytea_output; reset extra_float_digits; "
    "reset intervalstyle; reset search_path",
    "set timezone = 'Asia/Kathmandu'; set datestyle = 'German'; set bytea_output = 'escape'; "
    "set extra_float_digits = -15; set intervalstyle = 'sql_standard'; set search_path = ''",
    "set timezone = 'America/St_Johns'; set datestyle = 'SQL, DMY'; set bytea_output = 'hex'; "
    "set extra_float_digits = 3; set intervalstyle = 'iso_8601'; set search_path = extensions",
]


@pytest.mark.parametrize("kind", ACCEPTED)
def test_a_key_names_one_row_in_every_session(db: Connection, kind: str) -> None:
    create(
        db,
        Shape(
            v1=f"id {kind} primary key, body text constraint fine check (body <> 'by V2')",
            v2=f"id {kind} primary key, body text constraint fine_too check (body not like 'no%')",
            to_v2="a.id, a.body",
            to_v1="b.id, b.body",
            before=TYPES,
        ),
    )
    if against := objection(db):
        # What cannot be named alike must be refused by name; that is not one of the usual keys.
        assert kind in {"int8range", "integer[]", "text[]", "public.place", "time"}, against
        assert "CF008" in against
        return
    to_stage(db, "dualwrite")
    db.execute(SESSIONS[0])
    db.execute("insert into public.things values (%s, 'no')", [ACCEPTED[kind]])
    first = failures(db)
    assert [code for _, _, code in first] == ["23514"]
    for settings in SESSIONS[1:]:
        db.execute(settings)
        db.execute("update public.things set body = 'no!'")
        assert [key for key, _, _ in failures(db)] == [first[0][0]]
    db.execute(SESSIONS[1])
    assert verify(db, "things") == 1
    db.execute("alter table public.things_v2 drop constraint fine_too")
    db.execute(SESSIONS[2])
    assert repair(db)["remaining"] == 0
    for settings in SESSIONS:
        db.execute(settings)
        db.execute("update public.things_v2 set body = 'by V2'")
        assert len(failures(db)) == 1
    db.execute("alter table public.things drop constraint fine")
    assert repair(db)["remaining"] == 0
    db.execute(SESSIONS[0])
    assert [body for _, body in settled(db, "id::text, body")] == ["by V2"]


# One family, two sizes ----------------------------------------------------------------------------

FAMILIES = {
    # V1's key, V2's key, to V1 where V1 may be narrower.
    "integer to bigint": ("integer", "bigint", "b.id::integer, b.body where {fits}"),
    "smallint to bigint": ("smallint", "bigint", "b.id::smallint, b.body where {fits}"),
    "smallint to integer": ("smallint", "integer", "b.id::smallint, b.body where {fits}"),
    "bigint to integer": ("bigint", "integer", "b.id::bigint, b.body"),
    "varchar to text": ("varchar(36)", "text", "b.id::varchar(36), b.body"),
    "text to varchar": ("text", "varchar(36)", "b.id::text, b.body"),
    "varchar to a longer varchar": ("varchar(20)", "varchar(40)", "b.id, b.body"),
    "numeric to a longer numeric": ("numeric(10)", "numeric(20)", "b.id, b.body"),
    "identity to bigint": ("integer generated by default as identity", "bigint",
                           "b.id::integer, b.body where {fits}"),
}  # fmt: skip


def family(kind: str) -> Shape:
    v1, v2, to_v1 = FAMILIES[kind]
    largest = {"smallint": 32_767}.get(v1, 2_147_483_647)
    plain_v2 = v2.split(" ")[0]
    return Shape(
        v1=f"id {v1} primary key, body text",
        v2=f"id {v2} primary key, body text, extra text",
        to_v2=f"a.id::{plain_v2}, a.body, o.extra",
        to_v1=to_v1.format(fits=f"b.id between -{largest} and {largest}"),
    )


@pytest.mark.parametrize("kind", FAMILIES)
def test_keys_of_one_family_may_differ(db: Connection, kind: str) -> None:
    create(db, family(kind))
    db.execute("insert into public.things (id, body) values (1, 'old'), (2, 'old'), (3, 'old')")
    register(db)
    to_stage(db, "dualwrite")
    assert backfill(db)["rows_written"] == 3
    db.execute("update public.things_v2 set extra = 'kept'")
    for table, start in (("things", 100), ("things_v2", 200)):
        t = f"public.{table}"
        db.execute(f"insert into {t} (id, body) values ({start}, 'one')")
        db.execute(
            f"insert into {t} (id, body) "
            f"select g, 'n' from generate_series({start} + 1, {start} + 40) g"
        )
        db.execute(f"update {t} set body = 'edited' where id::int in (1, {start})")
        db.execute(f"update {t} set body = body || '!' where id::int > {start}")
        db.execute(f"delete from {t} where id::int = {start} + 1")
        db.execute(
            f"insert into {t} (id, body) values (2, 'upsert'), ({start} + 50, 'upsert') "
            "on conflict (id) do update set body = excluded.body"
        )
        db.execute(f"update {t} set id = {start} + 60 where id::int = {start} + 2")
        settled(db, "id::text, body")
    assert one(db, "select extra from public.things_v2 where id::int = 1") == "kept"
    for side in (1, 2):
        assert call(db, "check_conversion", "things", side)["violations"] == []


WIDER = [kind for kind, (_, _, to_v1) in FAMILIES.items() if "fits" in to_v1]


@pytest.mark.parametrize("kind", WIDER)
def test_a_row_whose_key_v1_cannot_hold_has_no_counterpart_and_that_is_no_failure(
    db: Connection, kind: str
) -> None:
    _, v2, _ = FAMILIES[kind]
    beyond = 3_000_000_000 if v2 == "bigint" else 70_000
    dualwrite(db, family(kind))
    db.execute("insert into public.things (id, body) values (1, 'a')")
    insert = "insert into public.things_v2 (id, body) "
    db.execute(f"{insert} values ({beyond}, 'beyond')")
    db.execute(f"{insert} select {beyond} + g, 'beyond' from generate_series(1, 30) g")
    db.execute(f"{insert} values (2, 'b'), ({beyond} + 40, 'beyond')")
    db.execute(f"update public.things_v2 set body = body || '!' where id <> {beyond} + 3")
    db.execute(f"delete from public.things_v2 where id = {beyond} + 1")
    assert failures(db) == []
    assert rows(db, "select id, body from public.things order by 1") == [(1, "a!"), (2, "b!")]
    assert verify(db, "things") == 0
    assert call(db, "check_conversion", "things", 2)["violations"] == []
    assert backfill(db)["state"] == "finished"
    # Moved to where V1 can hold it, and away again.
    db.execute(f"update public.things_v2 set id = 3 where id = {beyond} + 2")
    assert one(db, "select body from public.things where id = 3") == "beyond!"
    db.execute(f"update public.things_v2 set id = {beyond} + 2 where id = 3")
    assert one(db, "select count(*) from public.things where id = 3") == 0
    assert failures(db) == []
    assert verify(db, "things") == 0


def test_what_v1_cannot_hold_is_recorded_where_the_converter_insists(db: Connection) -> None:
    dualwrite(db, family("integer to bigint").but(to_v1="b.id::integer, b.body"))
    db.execute("insert into public.things_v2 (id, body) values (3000000001, 'beyond'), (7, 'a')")
    assert [(key, code) for key, _, code in failures(db)] == [({"id": 3000000001}, "22003")]
    assert rows(db, "select * from public.things") == [(7, "a")]
    # An open failure whose key the older type cannot hold is in nobody's way.
    db.execute("insert into public.things select g, 'n' from generate_series(100, 400) g")
    with_it = backfill(db)
    assert with_it["rows_done"] == 302
    assert [key for key, _, _ in failures(db)] == [{"id": 3000000001}]
    assert repair(db)["failed"] == 1
    db.execute("update public.things set body = 'm' where id = 7")
    db.execute("delete from public.things_v2 where id = 3000000001")
    repair(db)
    assert len(settled(db)) == 302


OTHER_FAMILIES = [
    ("text", "uuid"), ("varchar(36)", "uuid"), ("bigint", "uuid"), ("integer", "text"),
    ("uuid", "text"), ("bigint", "numeric"), ("date", "timestamptz"), ("text", "bytea"),
]  # fmt: skip


@pytest.mark.parametrize(("v1", "v2"), OTHER_FAMILIES)
def test_keys_of_two_families_are_refused_with_both_types_and_a_way_out(
    scratch: Connection, v1: str, v2: str
) -> None:
    create(
        scratch,
        Shape(
            v1=f"id {v1} primary key, body text",
            v2=f"id {v2} primary key, body text",
            to_v2=f"null::{v2}, a.body",
            to_v1=f"null::{v1}, b.body",
        ),
    )
    with pytest.raises(psycopg.Error) as caught, scratch.transaction():
        register(scratch)
    text = f"{caught.value} {caught.value.diag.message_detail} {caught.value.diag.message_hint}"
    assert '"CF008"' in text
    names = {"varchar(36)": "character varying", "timestamptz": "timestamp with time zone"}
    for kind in (v1, v2):
        assert names.get(kind, kind) in text
    if v2 == "uuid":
        # The way that works: a column of the new type on V1, which the pair is keyed by.
        assert re.search("uuid column|column of type uuid|key carry|v2_key", text)


def test_the_documented_way_from_text_to_uuid_works(db: Connection) -> None:
    create(
        db,
        Shape(
            v1="id text primary key, body text, "
            "new_id uuid not null unique default gen_random_uuid()",
            v2="id uuid primary key, legacy_id text, body text",
            to_v2="a.new_id, a.id, a.body",
            to_v1="coalesce(b.legacy_id, b.id::text), b.body, b.id",
        ),
    )
    db.execute("insert into public.things (id, body) values ('first', 'a'), ('second', 'b')")
    names = [f"public.things{part}" for part in ("", "_v2", "_to_v2", "_to_v1")]
    db.execute(
        "select crossfade.register_pair('things', %s, %s, %s, %s, array['new_id'], "
        """'{"v2_key": ["id"]}')""",
        names,
    )
    to_stage(db, "dualwrite")
    assert backfill(db)["rows_written"] == 2
    db.execute("insert into public.things (id, body) values ('third', 'c')")
    db.execute("update public.things_v2 set body = 'edited' where legacy_id = 'first'")
    db.execute(
        "insert into public.things_v2 (id, body) "
        "values ('00000000-0000-4000-8000-000000000009', 'by V2')"
    )
    db.execute("update public.things_v2 set legacy_id = 'ninth' where body = 'by V2'")
    found = settled(db, "new_id, id, body", "id, legacy_id, body")
    assert sorted(row[1:] for row in found) == [
        ("first", "edited"), ("ninth", "by V2"), ("second", "b"), ("third", "c"),
    ]  # fmt: skip
