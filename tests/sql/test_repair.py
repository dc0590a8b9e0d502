"""Repair works in sets, says by key what it will do, and lets no row keep another from its turn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from .conftest import Connect, Connection, begins_with
from .control import call, in_background, one, unmirrored
from .notes_pair import behind_the_mirror, create_notes, differences, rows
from .test_backfill import finish, prepare, start
from .test_verification import verify

COUNT_STATEMENTS = """
create table public.statements (what text);
create function public.count_it() returns trigger language plpgsql as $$
begin
  insert into public.statements values (tg_op);
  return null;
end $$;
create trigger count_it after insert or update or delete on public.notes_v2
for each statement execute function public.count_it();
"""


def counted(db: Connection) -> dict[str, int]:
    return dict(rows(db, "select what, count(*) from public.statements group by 1"))


def notes(db: Connection, count: int) -> None:
    """A mirrored pair with equal rows."""
    create_notes(db)
    db.execute(
        "insert into public.notes (id, body) select g, 'n' || g from generate_series(1, %s) g",
        [count],
    )


def repair(db: Connection, **options: Any) -> dict[str, Any]:
    answer: dict[str, Any] = call(db, "repair", "notes", reason="test", **options)
    return answer


def plan(db: Connection) -> dict[int, tuple[str, str, str]]:
    found = call(db, "plan_repair", "notes")["rows"]
    return {row["key"]["id"]: (row["action"], row["table"], row["why"]) for row in found}


# Sets ---------------------------------------------------------------------------------------------


@begins_with(notes, 300)
def test_rows_are_written_by_one_statement_of_each_kind(db: Connection) -> None:
    behind_the_mirror(db, "update public.notes_v2 set parts = '[\"x\"]' where id <= 100")
    behind_the_mirror(db, "delete from public.notes_v2 where id between 101 and 200")
    behind_the_mirror(db, "insert into public.notes_v2 (id, parts) values (901, '[]'), (902, '[]')")
    verify(db)
    db.execute(COUNT_STATEMENTS)
    answer = repair(db, follower_only="delete")
    assert (answer["repaired"], answer["failed"], answer["remaining"]) == (202, 0, 0)
    assert counted(db) == {"UPDATE": 1, "INSERT": 1, "DELETE": 1}
    assert differences(db) == []
    kept = "select count(*) from crossfade.audit where action = 'repair.row'"
    assert one(db, kept) == 202
    assert one(db, f"{kept} and before ->> 'parts' = '[\"x\"]' and after is not null") == 100
    assert one(db, f"{kept} and before is null") == 100
    assert one(db, f"{kept} and after is null and object = 'notes v2 {{\"id\": 901}}'") == 1


@begins_with(notes, 300)
def test_one_row_that_is_refused_keeps_no_other_from_being_repaired(db: Connection) -> None:
    behind_the_mirror(db, "delete from public.notes_v2")
    behind_the_mirror(db, f"update public.notes set tag = '{'x' * 30}' where id = 77")
    verify(db)
    db.execute(COUNT_STATEMENTS)
    answer = repair(db)
    assert (answer["repaired"], answer["failed"], answer["remaining"]) == (299, 1, 1)
    assert counted(db)["INSERT"] < 60  # in sixteenths, not one by one
    ((key, message, tried),) = rows(
        db,
        "select key, message, last_attempt_at is not null from crossfade.mismatches"
        " where resolved_at is null",
    )
    assert (key, tried) == ({"id": 77}, True)
    assert "23514" in message
    assert "tag_is_short" in message


@pytest.mark.parametrize("code", ["XX000", "22012", "P0004", "57P03"])
@begins_with(notes, 200)
def test_a_converter_that_raises_keeps_no_other_from_being_repaired(
    db: Connection, code: str
) -> None:
    behind_the_mirror(db, "delete from public.notes_v2 where id > 50")
    behind_the_mirror(db, "update public.notes_v2 set tag = 'x' where id in (30, 31)")
    verify(db)
    db.execute(f"""
        create function public.parse(x text) returns text language plpgsql stable as $$
        begin
          if x in ('n30', 'n120') then
            raise exception using errcode = '{code}', message = 'no';
          end if;
          return x;
        end $$;
        create or replace function public.notes_to_v2(new_v1 public.notes, old_v2 public.notes_v2)
        returns setof public.notes_v2 language sql stable as $$
          select new_v1.id, new_v1.owner_id, jsonb_build_array(public.parse(new_v1.body)),
            new_v1.tag, coalesce(old_v2.pinned, false), 0 $$;
        select crossfade.register_pair('notes', 'public.notes', 'public.notes_v2',
          'public.notes_to_v2', 'public.notes_to_v1');
    """)
    found = plan(db)
    assert f"cannot be compared: {code}: no" in found[30][2]
    assert [found[key][0] for key in (31, 119, 120)] == ["update", "insert", "insert"]
    answer = repair(db)
    assert (answer["repaired"], answer["failed"]) == (150, 2)
    left = "select key, message from crossfade.mismatches where resolved_at is null order by id"
    assert rows(db, left) == [({"id": 30}, f"{code}: no"), ({"id": 120}, f"{code}: no")]


def test_a_row_that_takes_too_long_is_tried_alone_from_then_on(db: Connection) -> None:
    notes(db, 40)
    behind_the_mirror(db, "delete from public.notes_v2")
    verify(db)
    db.execute("""
        create function public.wait_for(id bigint) returns bigint language plpgsql stable as $$
        begin
          perform pg_catalog.pg_sleep(case id when 7 then 10 else 0 end);
          return id;
        end $$;
        create or replace function public.notes_to_v2(new_v1 public.notes, old_v2 public.notes_v2)
        returns setof public.notes_v2 language sql stable as $$
          select public.wait_for(new_v1.id), new_v1.owner_id, jsonb_build_array(new_v1.body),
            new_v1.tag, coalesce(old_v2.pinned, false), 0 $$;
        select crossfade.register_pair('notes', 'public.notes', 'public.notes_v2',
          'public.notes_to_v2', 'public.notes_to_v1');
        set statement_timeout = '1500ms';
    """)
    answer = repair(db)
    assert (answer["repaired"], answer["failed"], answer["remaining"]) == (0, 40, 40)
    alone = "select count(*) from crossfade.mismatches where resolved_at is null and is_slow"
    assert one(db, alone) == 40
    for _ in range(6):
        answer = repair(db)
        if answer["remaining"] == 1:
            break
    db.execute("reset statement_timeout")
    assert answer["remaining"] == 1
    open_key = "select key from crossfade.mismatches where resolved_at is null"
    assert rows(db, open_key) == [({"id": 7},)]
    assert one(db, "select count(*) from public.notes_v2") == 39


# Evidence -----------------------------------------------------------------------------------------


@begins_with(notes, 20)
def test_the_plan_says_why_for_every_kind(db: Connection) -> None:
    db.execute("alter table public.notes_v2 add constraint fine check (parts <> '[\"bad\"]')")
    db.execute("update public.notes set body = 'bad' where id = 1")
    call(db, "set_mirror", "notes", "log_only", "test")
    db.execute("delete from public.notes_v2 where id = 2")
    db.execute("delete from public.notes where id = 3")
    db.execute("update public.notes_v2 set tag = 't' where id = 4")
    call(db, "set_mirror", "notes", "both", "test")
    behind_the_mirror(db, "delete from public.notes_v2 where id = 5")
    behind_the_mirror(db, "update public.notes_v2 set tag = 'x' where id = 6")
    behind_the_mirror(db, "insert into public.notes_v2 (id, parts) values (900, '[]')")
    verify(db)
    v1, v2 = "public.notes", "public.notes_v2"
    found = plan(db)
    assert {key: item[:2] for key, item in found.items()} == {
        1: ("update", v2),
        2: ("delete", v1),
        3: ("delete", v2),
        4: ("update", v1),
        5: ("insert", v2),
        6: ("update", v2),
        900: ("choose", v2),
    }
    assert found[1][2].startswith("UPDATE on V1 was not mirrored: 23514 ")
    assert found[2][2].startswith("DELETE on V2 was not mirrored: LOGGED ")
    assert found[6][2] == "V1 leads in stage dualwrite"
    assert found[900][2] == "only V2 has it, and nothing says which side was written"
    answer = repair(db)
    assert (answer["repaired"], answer["failed"], answer["undecided"]) == (5, 1, 1)
    assert {key: item[0] for key, item in plan(db).items()} == {1: "update", 900: "choose"}


@begins_with(notes, 20)
def test_a_difference_that_has_become_a_row_of_the_follower_is_a_choice_too(
    db: Connection,
) -> None:
    behind_the_mirror(db, "update public.notes_v2 set tag = 'x' where id = 7")
    verify(db)
    behind_the_mirror(db, "delete from public.notes where id = 7")
    assert plan(db)[7][0] == "choose"
    assert (repair(db)["repaired"], repair(db)["undecided"]) == (0, 1)
    assert one(db, "select count(*) from public.notes_v2 where id = 7") == 1
    kinds = "select kind from crossfade.mismatches where resolved_at is null"
    assert rows(db, kinds) == [("missing_v1",)]
    assert repair(db, follower_only="copy")["repaired"] == 1
    assert differences(db) == []


def test_rows_of_the_follower_take_nobody_s_turn(db: Connection) -> None:
    notes(db, 30)
    behind_the_mirror(
        db,
        "insert into public.notes_v2 (id, parts) select g, '[]' from generate_series(900, 950) g",
    )
    verify(db)
    behind_the_mirror(db, "update public.notes_v2 set tag = 'x' where id = 7")
    verify(db)
    answer = repair(db, max_rows=5)
    assert (answer["repaired"], answer["undecided"], answer["remaining"]) == (1, 51, 51)


@begins_with(notes, 20)
def test_a_failure_is_evidence_also_when_a_mismatch_says_that_only_the_follower_has_it(
    db: Connection,
) -> None:
    call(db, "set_mirror", "notes", "log_only", "test")
    db.execute("delete from public.notes where id = 7")
    verify(db)
    call(db, "set_mirror", "notes", "both", "test")
    assert rows(db, "select kind from crossfade.mismatches") == [("missing_v1",)]
    answer = repair(db)
    assert (answer["repaired"], answer["undecided"], answer["remaining"]) == (1, 0, 0)
    assert differences(db) == []


@contextmanager
def held(connection: Connection, sql: str) -> Iterator[None]:
    connection.execute("begin")
    connection.execute(sql)
    yield
    connection.execute("rollback")


@begins_with(notes, 20)
def test_a_failure_that_a_writer_is_recording_anew_is_left_to_its_side(
    db: Connection, connect: Connect
) -> None:
    db.execute("alter table public.notes_v2 add constraint fine check (parts <> '[\"bad\"]')")
    db.execute("update public.notes set body = 'bad' where id = 7")
    db.execute("alter table public.notes_v2 drop constraint fine")
    writer = connect()
    with held(writer, "update public.notes_v2 set tag = 'newer' where id = 7"):
        answer = repair(db)
        assert (answer["repaired"], answer["failed"]) == (0, 1)
        assert "another session holds" in one(db, "select message from crossfade.mirror_failures")
    assert repair(db)["repaired"] == 1
    assert differences(db) == []


def test_two_repairs_at_once_do_each_row_once_and_wait_for_nobody(
    db: Connection, connect: Connect
) -> None:
    notes(db, 100)
    behind_the_mirror(db, "update public.notes_v2 set tag = 'x'")
    verify(db)
    one_worker, other = connect(), connect()
    one_worker.execute("begin")
    assert repair(one_worker, max_rows=60)["repaired"] == 60
    with in_background(lambda: repair(other)) as answer:
        pass
    assert (answer[0]["repaired"], answer[0]["failed"]) == (40, 60)
    one_worker.execute("commit")
    assert repair(db)["remaining"] == 0
    assert differences(db) == []
    kept = "select count(*) from crossfade.audit where action = 'repair.row'"
    assert one(db, kept) == 100


# Keys ---------------------------------------------------------------------------------------------

WIDE = """
create table public.notes (id integer primary key, body text);
create table public.notes_v2 (id bigint primary key, body text);
create function public.notes_to_v2(a public.notes, o public.notes_v2)
returns setof public.notes_v2 language sql stable as $$ select a.id, a.body $$;
create function public.notes_to_v1(b public.notes_v2, o public.notes)
returns setof public.notes language sql stable as $$
  select b.id::integer, b.body where b.id between -2147483648 and 2147483647 $$;
insert into public.notes select g, 'n' from generate_series(1, 3000) g;
select crossfade.register_pair('notes', 'public.notes', 'public.notes_v2', 'public.notes_to_v2',
  'public.notes_to_v1');
select crossfade.set_stage('notes', 'dualwrite', 'test');
"""
HUGE = '{"id": 3000000001}'


def failure(db: Connection, side: int, key: str) -> None:
    db.execute(
        "insert into crossfade.mirror_failures"
        " (pair, written_side, key, operation, error_code, message)"
        " values ('notes', %s, %s, 'INSERT', '22003', 'x')",
        [side, key],
    )


@pytest.mark.parametrize("side", [1, 2])
def test_a_failure_with_a_key_that_v1_cannot_hold_is_in_nobody_s_way(
    db: Connection, side: int
) -> None:
    db.execute(WIDE)
    db.execute(COUNT_STATEMENTS)
    failure(db, side, HUGE)
    call(db, "set_setting", "batch_max_rows", "1000", "test")
    call(db, "set_setting", "batch_first_rows", "1000", "test")
    call(db, "set_setting", "batch_target_ms", "60000", "test")
    finish(db, start(db))
    assert one(db, "select count(*) from public.notes_v2") == 3000
    assert counted(db)["INSERT"] <= 4  # whole batches, and not row by row
    # A row of V2 that V1 cannot hold has no counterpart, and that is how it should be.
    with unmirrored(db):
        db.execute("insert into public.notes_v2 values (3000000001, 'huge')")
        db.execute("update public.notes_v2 set body = 'x' where id = 5")
    assert verify(db)["mismatches"] == 1
    assert repair(db)["remaining"] == 0
    assert one(db, "select body from public.notes_v2 where id = 5") == "n"


def test_a_failure_with_a_key_that_is_no_key_is_in_nobody_s_way(db: Connection) -> None:
    db.execute(WIDE)
    failure(db, 2, '{"id": "no number"}')
    finish(db, start(db))
    assert one(db, "select count(*) from public.notes_v2") == 3000
    with unmirrored(db):
        db.execute("update public.notes_v2 set body = 'x' where id <= 100")
    verify(db)
    found = plan_of_all(db)
    assert found["remaining"] == 101
    assert sum(row["action"] == "update" for row in found["rows"]) >= 99
    answer = repair(db)
    assert (answer["repaired"], answer["failed"], answer["remaining"]) == (100, 1, 1)
    message = "select message from crossfade.mirror_failures where resolved_at is null"
    assert "22P02" in one(db, message)


def plan_of_all(db: Connection) -> dict[str, Any]:
    answer: dict[str, Any] = call(db, "plan_repair", "notes", 1000)
    return answer


def test_rows_that_repair_owes_the_source_are_left_out_of_a_batch_and_cost_it_nothing(
    db: Connection,
) -> None:
    prepare(db, 2000)
    finish(db, start(db))
    call(db, "set_mirror", "notes", "log_only", "test")
    db.execute("delete from public.notes_v2 where id % 10 = 0")
    call(db, "set_mirror", "notes", "both", "test")
    db.execute(COUNT_STATEMENTS)
    call(db, "set_setting", "batch_first_rows", "1000", "test")
    call(db, "set_setting", "batch_target_ms", "60000", "test")
    finish(db, start(db))
    # The deletes have not come back, and every other row was copied in whole batches.
    assert one(db, "select count(*) from public.notes_v2") == 1800
    assert counted(db)["INSERT"] <= 6
    for _ in range(3):
        repair(db)
    assert one(db, "select count(*) from public.notes") == 1800
    assert differences(db) == []


def test_repair_refuses_what_is_no_number_of_rows(db: Connection) -> None:
    notes(db, 1)
    for rows_wanted in (0, -1):
        with pytest.raises(Exception, match="max_rows"):
            repair(db, max_rows=rows_wanted)
        with pytest.raises(Exception, match="max_rows"):
            call(db, "plan_repair", "notes", rows_wanted)
