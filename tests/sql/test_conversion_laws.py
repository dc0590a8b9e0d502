"""check_conversion proves the laws with the text that runs, on rows and on edits of them."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from .conftest import Connect, Connection
from .control import call, one

V1 = "id bigint primary key, body text, n integer"
V2 = "id bigint primary key, body text, n integer, extra text"
TO_V2 = "a.id, a.body, a.n, o.extra"
TO_V1 = "b.id, b.body, b.n"
ROWS = "insert into public.things select g, 'b' || g, g from generate_series(1, {0}) g"
ROWS_2 = (
    "insert into public.things_v2 select g, 'b' || g, g, 'x' || g from generate_series(1, {0}) g"
)
HEADS = {
    2: "public.things_to_v2(a public.things, o public.things_v2) returns setof public.things_v2",
    1: "public.things_to_v1(b public.things_v2, o public.things) returns setof public.things",
}


def pair(
    db: Connection, v1: str = V1, v2: str = V2, to_v2: str = TO_V2, to_v1: str = TO_V1
) -> None:
    db.execute(f"create table public.things ({v1}); create table public.things_v2 ({v2})")
    for side, text in ((2, to_v2), (1, to_v1)):
        db.execute(f"""
            create function {HEADS[side]} language sql stable
            set search_path = pg_catalog, pg_temp begin atomic select {text}; end
        """)
    names = [f"public.things{part}" for part in ("", "_v2", "_to_v2", "_to_v1")]
    call(db, "register_pair", "things", *names)


def check(db: Connection, side: int = 1, **named: Any) -> dict[str, Any]:
    answer: dict[str, Any] = call(db, "check_conversion", "things", side, **named)
    return answer


def found(db: Connection, side: int = 1) -> list[tuple[int, int, list[str]]]:
    return [(v["key"]["id"], v["law"], v["columns"]) for v in check(db, side)["violations"]]


def test_a_right_pair_keeps_all_laws_on_both_sides(scratch: Connection) -> None:
    pair(scratch)
    scratch.execute(ROWS.format(30))
    scratch.execute(ROWS_2.format(40))
    for side, rows in ((1, 30), (2, 40)):
        answer = check(scratch, side)
        assert (answer["violations"], answer["violated"]) == ([], {})
        assert (answer["rows_checked"], answer["no_counterpart"], answer["done"]) == (rows, 0, True)


def test_violations_are_counted_truly_and_the_first_ones_shown(scratch: Connection) -> None:
    pair(scratch, to_v2="a.id, upper(a.body), a.n, o.extra")
    scratch.execute(ROWS.format(230))
    answer = check(scratch)
    assert (len(answer["violations"]), answer["violated"]) == (100, {"1": 230})
    first = answer["violations"][0]
    assert (first["stored"], first["converted"]) == ({"body": "b1"}, {"body": "B1"})
    part = check(scratch, after={"id": 100}, max_rows=50)
    assert (part["violated"], part["last_key"], part["done"]) == ({"1": 50}, {"id": 150}, False)


def test_rows_for_which_a_converter_raises_hide_no_others(scratch: Connection) -> None:
    pair(scratch, to_v2="a.id, (100 / (a.n - 7 * (a.n / 7)))::text || a.body, a.n, o.extra",
         to_v1="b.id, substr(b.body, length((100 / (b.n % 7))::text) + 1), b.n")  # fmt: skip
    scratch.execute(ROWS.format(30))
    answer = check(scratch)
    raised = {v["key"]["id"]: v["error"][:5] for v in answer["violations"] if v["law"] == 5}
    assert raised == dict.fromkeys((7, 14, 21, 28), "22012")
    assert answer["rows_checked"] == 30


TEXTS = ["{admin}", "{target}", "{}", "<<side>>", "%", "%s", "%I", "it''s", "\\", "$1", "$$", "\n"]
STRICT = f"""id bigint primary key, body text, n integer, extra text, code varchar(5),
  kind public.kind, twice integer generated always as (n * 2) stored not null,
  constraint "{{skey_n}} %s '" check (body not in ({", ".join(f"'{text}'" for text in TEXTS)})),
  constraint whole check (public.is_fine(things_v2)), constraint here check (tableoid <> 0),
  constraint twice_is_small check (twice < 100)"""
KIND = """
create domain public.low as text check (value = lower(value));
create domain public.kind as public.low constraint "not {bad} %s" check (value <> '{bad}') not null;
create function public.odd(n integer) returns boolean language sql immutable as 'select n % 2 = 1';
"""


def test_constraints_are_read_as_their_owner_wrote_them(scratch: Connection) -> None:
    scratch.execute(KIND)
    scratch.execute("create table public.things (id bigint primary key, body text, n integer, "
                    "code text, kind text)")  # fmt: skip
    scratch.execute("create table public.things_v2 (" + STRICT.replace(
        "constraint whole check (public.is_fine(things_v2)), ", "") + ")")  # fmt: skip
    scratch.execute("create function public.is_fine(t public.things_v2) returns boolean "
                    "language sql immutable as 'select t.n is distinct from 13'")  # fmt: skip
    scratch.execute("alter table public.things_v2 add constraint whole "
                    "check (public.is_fine(things_v2))")  # fmt: skip
    for side, text in ((2, "a.id, a.body, a.n, o.extra, a.code, a.kind, null::integer"),
                       (1, "b.id, b.body, b.n, b.code, b.kind")):  # fmt: skip
        scratch.execute(f"create function {HEADS[side]} language sql stable set search_path = '' "
                        f"begin atomic select {text}; end")  # fmt: skip
    call(scratch, "register_pair", "things", "public.things", "public.things_v2",
         "public.things_to_v2", "public.things_to_v1")  # fmt: skip
    assert found(scratch) == []
    insert = "insert into public.things values (%s, %s, %s, %s, %s)"
    bad = {n: text.replace("''", "'") for n, text in enumerate(TEXTS, 10)}
    for n, text in bad.items():
        scratch.execute(insert, [n, text, 1, "a", "k"])
    scratch.execute(insert, [1, "fine", 1, "abcde", "k"])
    scratch.execute(insert, [2, "fine", 1, "abcdef", "k"])
    scratch.execute(insert, [3, "fine", 1, "a", "K"])
    scratch.execute(insert, [4, "fine", 1, "a", "{bad}"])
    scratch.execute(insert, [5, "fine", 1, "a", None])
    scratch.execute(insert, [6, "fine", 13, "a", "k"])
    scratch.execute(insert, [7, "fine", 60, "a", "k"])
    scratch.execute(insert, [8, "fine", None, "a", "k"])
    violations = {(v["key"]["id"], v["law"]): v for v in check(scratch)["violations"]}
    wanted = {
        (2, 5): [], (3, 7): ["low_check"], (4, 7): ["not {bad} %s"], (5, 7): ["kind is not null"],
        (6, 7): ["whole"], (7, 7): ["twice_is_small"], (8, 7): ["twice is not null"],
        **{(n, 7): ["{skey_n} %s '"] for n in bad},
    }  # fmt: skip
    assert {key: v["columns"] for key, v in violations.items()} == wanted
    assert violations[2, 5]["error"].startswith("22001")


def test_a_row_without_a_counterpart_is_a_state(scratch: Connection) -> None:
    pair(scratch, to_v2=f"{TO_V2} where a.n > 10", to_v1=f"{TO_V1} where b.n > 10")
    scratch.execute(ROWS.format(30))
    answer = check(scratch)
    assert (answer["no_counterpart"], answer["violated"]) == (10, {})
    # A row of the other table must not show up as such a row.
    scratch.execute(f"create or replace function {HEADS[1]} language sql stable "
                    f"set search_path = '' begin atomic select {TO_V1}; end")  # fmt: skip
    scratch.execute("insert into public.things_v2 values (3, 'b', 3, null)")
    assert found(scratch) == [(3, 1, ["no counterpart"])]
    assert found(scratch, 2) == [(3, 2, ["no row"])]


# Converters that are right for each row and wrong for an edit of it.
EDITS = {
    "an edit loses against what is there": (
        3, "a.id, coalesce(o.body, a.body), a.n, o.extra", TO_V1),
    "an edit is kept half": (
        3, "a.id, a.body, case when o.n > 5 then o.n else a.n end, o.extra", TO_V1),
    "a short cut that forgets": (
        4, "a.id, a.body, a.n, case when (a.body, a.n) is not distinct from (o.body, o.n) "
           "then o.extra end", TO_V1),
    "an edit that raises": (
        5, "a.id, a.body, a.n / case when o.n = a.n - 1 then 0 else 1 end, o.extra", TO_V1),
    "an edit that V2 refuses": (
        7, "a.id, a.body, a.n, case when o.n is null or o.n = a.n then o.extra "
           "else 'never' end", TO_V1),
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_edits_are_held_against_the_laws(scratch: Connection, name: str) -> None:
    law, to_v2, to_v1 = EDITS[name]
    v2 = f"{V2}, constraint never_never check (extra <> 'never')" if law == 7 else V2
    pair(scratch, v2=v2, to_v2=to_v2, to_v1=to_v1)
    scratch.execute(ROWS.format(20))
    extra = "null" if law == 7 else "'x' || g"
    scratch.execute("insert into public.things_v2 select g, 'b' || g, g, "
                    f"{extra} from generate_series(1, 20) g")  # fmt: skip
    answers = [check(scratch, side) for side in (1, 2)]
    laws = {law for answer in answers for law in answer["violated"]}
    assert str(law) in laws, answers
    of_edit = [v for answer in answers for v in answer["violations"] if v["law"] == law]
    assert law == 5 or all(v["edit"] for v in of_edit)


SETTINGS = {
    "chance": "a.body || random()",
    "the clock": "a.body || clock_timestamp()",
    "who asks": "a.body || coalesce(current_setting('request.jwt.claims', true), '')",
    "the text search": "a.body || to_tsvector('the cats')::text",
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_result_that_depends_on_the_session_is_found(scratch: Connection, name: str) -> None:
    pair(scratch, to_v2=f"a.id, {SETTINGS[name]}, a.n, o.extra",
         to_v1="b.id, 'b' || b.id, b.n")  # fmt: skip
    scratch.execute(ROWS.format(3))
    assert {(v["key"]["id"], v["law"]) for v in check(scratch)["violations"]} >= {
        (1, 6), (2, 6), (3, 6),
    }  # fmt: skip


def test_rows_that_are_edited_during_the_check_break_no_law(
    db: Connection, connect: Connect
) -> None:
    pair(db)
    db.execute(ROWS.format(300))
    client, over = connect(), threading.Event()

    def edit() -> None:
        while not over.is_set():
            client.execute("update public.things set body = body || '.'")

    thread = threading.Thread(target=edit)
    thread.start()
    try:
        answers = [check(db) for _ in range(3)]
    finally:
        over.set()
        thread.join()
    assert [(a["violated"], a["rows_checked"]) for a in answers] == [({}, 300)] * 3
    assert one(db, "select min(length(body)) from public.things") > 5, "nothing was edited"


def test_settings_that_our_statements_pin_make_no_difference(scratch: Connection) -> None:
    pair(
        scratch,
        v1=f"{V1}, at timestamptz, f float8, raw bytea, wait interval",
        v2=f"{V2}, all_of text, at timestamptz, f float8, raw bytea, wait interval",
        to_v2=f"{TO_V2}, concat_ws(' ', a.at, a.f, a.raw, a.wait, current_setting('timezone')), "
        "a.at, a.f, a.raw, a.wait",
        to_v1=f"{TO_V1}, b.at, b.f, b.raw, b.wait",
    )
    scratch.execute("insert into public.things values (1, 'b', 1, '2026-01-31 23:00+00', "
                    r"0.1234567890123456, '\x00ff', '1 mon -2 days 03:04')")  # fmt: skip
    answers = []
    for settings in ("reset timezone", "set timezone = 'Asia/Tokyo'; set datestyle = 'SQL, DMY'; "
                     "set intervalstyle = 'iso_8601'; set extra_float_digits = -3"):  # fmt: skip
        scratch.execute(settings.replace("set ", "set local ").replace("reset local", "reset"))
        answers.append([check(scratch, side) for side in (1, 2)])
    assert answers[0] == answers[1]
    assert answers[0][0]["violated"] == {}


def test_a_converter_that_makes_several_rows_is_found(scratch: Connection) -> None:
    pair(scratch, to_v2=f"{TO_V2} from generate_series(1, a.n)")
    scratch.execute(ROWS.format(2))
    assert found(scratch) == [(2, 7, ["one row"])]


def test_another_key_is_found(scratch: Connection) -> None:
    pair(scratch, to_v2="a.id + 1, a.body, a.n, o.extra", to_v1="b.id - 1, b.body, b.n")
    scratch.execute(ROWS.format(2))
    assert found(scratch) == [(1, 7, ["the same key"]), (2, 7, ["the same key"])]


def test_a_converter_that_is_replaced_is_checked_as_it_is_now(scratch: Connection) -> None:
    pair(scratch)
    scratch.execute(ROWS.format(2))
    scratch.execute(f"create or replace function {HEADS[2]} language sql stable set search_path = "
                    "'' begin atomic select a.id, 'new', a.n, o.extra; end")  # fmt: skip
    assert {law for _, law, _ in found(scratch)} == {1}
