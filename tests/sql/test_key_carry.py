"""A key of another type is carried: one step after the other, each read from the catalog."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from crossfade.gateway.rows import parse
from crossfade.pairs.catalog import CarryPlan
from crossfade.runs.model import Batch

from .conftest import Connect, Connection, on_both_ends
from .control import call, one, refused
from .notes_pair import rows

TABLE = """
create table public.notes (id integer generated always as identity primary key, body text);
insert into public.notes (body) select 'n' || g from generate_series(1, 1000) g;
grant select, insert, update, delete on public.notes to service_role, authenticated;
"""


def plan(db: Connection, name: str = "public.notes", column: str = "uid") -> dict[str, Any]:
    found: dict[str, Any] = call(db, "carry_plan", name, column)
    assert parse(CarryPlan, found).column == column
    return found


def states(db: Connection, name: str = "public.notes") -> dict[str, str]:
    return {step["step"]: step["state"] for step in plan(db, name)["steps"]}


def apply(db: Connection, name: str = "public.notes", *, quiet: bool = False) -> list[str]:
    """Run the files that may be run now, each as a client sends it; give their names.

    ``quiet``: with what keeps the owner's triggers from running.
    """
    files = plan(db, name)["files"]
    for file in files:
        text = file["sql"].replace("-- create or replace trigger", "create or replace trigger")
        db.execute((text if quiet else file["sql"]).encode(), prepare=False)
    return [file["name"] for file in files]


def fill(db: Connection, name: str = "public.notes", **options: Any) -> dict[str, Any]:
    for _ in range(500):
        batch: dict[str, Any] = call(db, "carry_batch", name, **options)
        assert parse(Batch, batch).run.kind == "fill"
        if batch["state"] == "finished":
            return batch
    raise AssertionError(batch)


def carry(db: Connection, name: str) -> None:
    apply(db, name, quiet=True)
    fill(db, name)
    apply(db, name)


def shape(db: Connection) -> Any:
    return one(db, "select relfilenode from pg_class where oid = 'public.notes'::regclass")


@on_both_ends
def test_a_table_comes_to_carry_a_uuid_without_a_rewrite(db: Connection) -> None:
    db.execute(TABLE)
    before = shape(db)
    waiting = ["waiting"] * 3
    assert list(states(db).values()) == ["next", *waiting]
    assert apply(db) == ["carry_notes_uid-column"]
    db.execute("insert into public.notes (body) values ('new')")
    assert rows(db, "select count(*) from public.notes where uid is null") == [(1000,)]
    assert list(states(db).values()) == ["done", "next", "waiting", "waiting"]
    assert plan(db)["files"] == []
    batch = fill(db, target_ms=10)
    assert (batch["run"]["rows_done"], batch["run"]["rows_written"]) == (1001, 1000)
    assert list(states(db).values()) == ["done", "done", "next", "waiting"]
    names = ["index", "check", "validate", "not_null"]
    assert apply(db) == [f"carry_notes_uid-{name}" for name in names]
    assert list(states(db).values()) == ["done"] * 4
    assert (plan(db)["files"], plan(db)["notes"], plan(db)["problems"]) == ([], [], [])
    assert {step["step"]: step["detail"] for step in plan(db)["steps"]}["index"] is None
    assert shape(db) == before
    assert rows(db, "select count(distinct uid) from public.notes") == [(1001,)]
    assert rows(
        db, "select count(*) from pg_constraint where conrelid = 'public.notes'::regclass "
        "and contype = 'c'"
    ) == [(0,)]  # fmt: skip
    assert fill(db)["run"]["rows_done"] == 1001, "once more is nothing"


def test_a_fill_waits_for_a_locked_row_and_goes_on_where_it_was(
    db: Connection, connect: Connect
) -> None:
    db.execute(TABLE)
    apply(db)
    call(db, "set_setting", "batch_first_rows", "300", "test")
    other = connect()
    with other.transaction():
        other.execute("update public.notes set body = 'mine' where id = 400")
        first = call(db, "carry_batch", "public.notes")
        assert (first["state"], first["rows_written"]) == ("running", 300)
        held = call(db, "carry_batch", "public.notes", target_ms=10_000)
        assert (held["state"], held["rows_written"]) == ("waiting", 0)
        assert f"session {other.info.backend_pid} " in held["reason"]
        assert held["run"]["batch_rows"] < first["run"]["batch_rows"]
        mine = connect()
        with mine.transaction():
            mine.execute("select from crossfade_private.key_fills for update")
            told = call(db, "carry_batch", "public.notes")
            assert (told["state"], told["reason"]) == ("waiting", "another session fills it")
    assert fill(db)["run"]["rows_written"] == 1000
    assert rows(db, "select body from public.notes where id = 400") == [("mine",)]


def test_what_a_client_writes_back_as_null_is_filled_again(db: Connection) -> None:
    db.execute(TABLE)
    apply(db)
    fill(db)
    db.execute("update public.notes set uid = null where id = 7")
    files = [file["sql"].encode() for file in plan(db)["files"]]
    for text in files[:2]:
        db.execute(text, prepare=False)
    with pytest.raises(psycopg.errors.CheckViolation):
        db.execute(files[2], prepare=False)
    assert list(states(db).values()) == ["done", "next", "done", "waiting"]
    assert fill(db)["run"]["rows_written"] == 1001
    assert apply(db) == ["carry_notes_uid-validate", "carry_notes_uid-not_null"]
    assert list(states(db).values()) == ["done"] * 4


def test_an_index_that_was_left_behind_is_named_with_the_way_out(db: Connection) -> None:
    db.execute(TABLE)
    apply(db)
    fill(db)
    again = "update public.notes set uid = (select uid from public.notes where id = 1) where id = 2"
    db.execute(again)
    index = plan(db)["files"][0]["sql"].encode()
    with pytest.raises(psycopg.errors.UniqueViolation):
        db.execute(index, prepare=False)
    (step,) = [step for step in plan(db)["steps"] if step["step"] == "index"]
    way_out = "drop index concurrently public.notes_uid_idx"
    assert (step["state"], step["detail"].endswith(way_out)) == ("broken", True)
    assert "carry_notes_uid-index" not in [file["name"] for file in plan(db)["files"]]
    db.execute("update public.notes set uid = default where id = 2")
    db.execute(way_out)
    assert states(db)["index"] == "next"
    db.execute(index, prepare=False)
    assert states(db)["index"] == "done"


TOUCHED = f"""{TABLE}
alter table public.notes add column at timestamptz not null default '2026-01-01';
create function public.touch() returns trigger language plpgsql
set search_path = pg_catalog, pg_temp as 'begin new.at := now(); return new; end';
create trigger touch before update on public.notes
for each row execute function public.touch();
create trigger body_only before update of body on public.notes
for each row execute function public.touch();
create trigger switched_off before update on public.notes
for each row execute function public.touch();
alter table public.notes disable trigger switched_off;
"""


def test_triggers_of_the_owner_run_only_when_somebody_says_so(db: Connection) -> None:
    db.execute(TOUCHED)
    assert plan(db)["triggers"] == ["touch"]
    with refused("CF012", 409) as early:
        call(db, "carry_batch", "public.notes")
    assert '"uid" is not there yet' in early.message
    apply(db)
    with refused("CF013", 409) as refusal:
        call(db, "carry_batch", "public.notes")
    assert "(touch)" in refusal.message
    first = call(db, "carry_batch", "public.notes", fires_triggers=True)
    changed = "select count(*) from public.notes where at <> '2026-01-01'"
    assert rows(db, changed) == [(first["rows_written"],)]
    # With the statement that the first migration shows, they run for other updates only.
    (line,) = [line for line in column_file(db).splitlines() if "create or replace" in line]
    db.execute(line.removeprefix("-- ").encode())
    assert plan(db)["triggers"] == []
    fill(db)
    assert rows(db, changed) == [(first["rows_written"],)]
    db.execute("update public.notes set body = body || '!'")
    assert rows(db, changed) == [(1000,)]


def column_file(db: Connection) -> str:
    text: str = one(
        db, "select crossfade_private.carry_column_file('public.notes', 'uid')"
    )  # fmt: skip
    return text


def test_a_trigger_that_can_have_no_condition_is_said_to_be_changed_by_hand(
    db: Connection,
) -> None:
    db.execute(TOUCHED)
    db.execute("create or replace trigger touch before insert or update on public.notes "
               "for each row execute function public.touch()")  # fmt: skip
    assert "-- touch runs for several events" in column_file(db)


REFUSED = {
    "create table public.notes (id integer) partition by range (id)": "is partitioned",
    "create view public.notes as select 1 as id": "is a view",
    "create table public.notes (id integer)": "no primary key",
    "create table public.notes (id integer primary key, uid text)": 'column "uid" is there and is '
    "text, not uuid; take another name: --column",
    "create table public.notes (id integer primary key, uid uuid generated always as "
    "(md5(id::text)::uuid) stored)": 'column "uid" is generated',
    "create table public.notes (id uuid primary key)": "is a uuid already; there is nothing",
    f"{TABLE}; alter table public.notes replica identity nothing; "
    "create publication news for table public.notes": "publication news wants one for every "
    "update; run: alter table public.notes replica identity default",
    f"{TABLE}; create role crossfade_other; grant crossfade_other to postgres; "
    "grant usage, create on schema public to crossfade_other; alter table public.notes owner to "
    "crossfade_other; revoke crossfade_other from postgres": "belongs to "
    "crossfade_other, of which postgres is not a member",
}


@pytest.mark.parametrize("build", REFUSED)
def test_what_cannot_carry_a_key_is_refused_by_name(scratch: Connection, build: str) -> None:
    scratch.execute(build)
    found = plan(scratch)
    assert REFUSED[build] in "; ".join(found["problems"])
    assert (found["steps"], found["files"]) == ([], [])
    with refused("CF012", 409):
        call(scratch, "carry_batch", "public.notes")


ODD = """
create schema "Ann's";
create table "Ann's"."No%te\\s" (
  at timestamptz, "a""b" text, body text, primary key (at, "a""b")
);
insert into "Ann's"."No%te\\s"
select '2026-01-01'::timestamptz + g % 50 * interval '1 h', 'it''s ' || g, 'b'
from generate_series(1, 900) g;
"""


def test_a_composite_key_and_odd_names_are_carried_in_any_session(db: Connection) -> None:
    db.execute(ODD)
    name = '"Ann\'s"."No%te\\s"'
    for setting in ("batch_first_rows", "batch_max_rows"):
        call(db, "set_setting", setting, "70", "test")
    column = 'u"id %s'
    names = [file["name"] for file in plan(db, name, column)["files"]]
    assert names == ["carry_no_te_s_u_id_s-column"]
    for _ in range(2):
        for file in plan(db, name, column)["files"]:
            db.execute(file["sql"].encode(), prepare=False)
        for place in range(60):
            db.execute(f"set timezone = '{('Asia/Tokyo', 'UTC')[place % 2]}'")
            batch = call(db, "carry_batch", name, column)
            if batch["state"] == "finished":
                break
    found = plan(db, name, column)
    assert [step["state"] for step in found["steps"]] == ["done"] * 4
    assert batch["run"]["rows_written"] == 900
    assert one(db, f'select count(distinct "u""id %s") from {name}') == 900


def test_the_notes_say_what_clients_will_notice(db: Connection) -> None:
    db.execute(TABLE)
    db.execute("create publication news for table public.notes")
    db.execute("revoke select on public.notes from authenticated")
    db.execute("grant select (id, body) on public.notes to authenticated")
    notes = " ".join(plan(db)["notes"])
    for words in ("`select *` of public.notes shows", "publication news", "authenticated may read",
                  "writes null"):  # fmt: skip
        assert words in notes
