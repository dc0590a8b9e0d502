"""Verify finds every difference by value; repair settles it from the right side."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from .conftest import Connect, Connection, begins_with
from .notes_pair import behind_the_mirror, create_notes, differences, rows


def prepare(db: Connection, count: int = 50) -> None:
    create_notes(db)
    db.execute(
        "insert into public.notes (id, body, tag) "
        "select g, 'n' || g, 't' from generate_series(1, %s) g",
        [count],
    )


def verify(db: Connection, *, ranges: int = 1) -> dict[str, Any]:
    (started,) = rows(db, f"select crossfade.start_verify('notes', {ranges})")
    for _ in range(100):
        (answer,) = rows(db, f"select crossfade.verify_batch({started[0]['run']['id']})")
        if answer[0]["state"] == "finished":
            found: dict[str, Any] = answer[0]["run"]
            return found
    raise AssertionError(answer)


DIFFERENCES = {
    "missing_v2": ("delete from public.notes_v2 where id = 7", 7, []),
    "missing_v1": ("insert into public.notes_v2 (id, parts) values (9999, '[\"x\"]')", 9999, []),
    "different": ("update public.notes_v2 set tag = 'other' where id = 7", 7, ["tag", "v2.tag"]),
}


@pytest.mark.parametrize("ranges", [1, 3])
@begins_with(prepare)
def test_equal_tables_are_clean(db: Connection, ranges: int) -> None:
    assert verify(db, ranges=ranges)["mismatches"] == 0
    assert rows(db, "select last_clean_verify_at is not null from crossfade.pairs") == [(True,)]


@pytest.mark.parametrize("kind", DIFFERENCES)
def test_verify_names_the_row_and_columns_that_differ(db: Connection, kind: str) -> None:
    sql, key, columns = DIFFERENCES[kind]
    prepare(db)
    behind_the_mirror(db, sql)
    assert verify(db)["mismatches"] == 1
    assert rows(db, "select key, kind, columns from crossfade.mismatches") == [
        ({"id": key}, kind, columns)
    ]
    assert rows(db, "select last_clean_verify_at from crossfade.pairs") == [(None,)]


@begins_with(prepare)
def test_null_and_empty_string_differ(db: Connection) -> None:
    db.execute("update public.notes set tag = '' where id = 7")
    behind_the_mirror(db, "update public.notes_v2 set tag = null where id = 7")
    assert verify(db)["mismatches"] == 1


@pytest.mark.parametrize("kind", DIFFERENCES)
@begins_with(prepare)
def test_repair_makes_v1_win_while_it_leads(db: Connection, kind: str) -> None:
    behind_the_mirror(db, DIFFERENCES[kind][0])
    verify(db)
    before = rows(db, "select * from public.notes order by id")
    choice = "delete" if kind == "missing_v1" else "keep"
    repaired = rows(db, f"select crossfade.repair('notes', follower_only => '{choice}')")
    assert repaired[0][0]["repaired"] == 1
    assert rows(db, "select * from public.notes order by id") == before
    assert differences(db) == []
    assert rows(db, "select count(*) from crossfade.audit where action = 'repair.row'") == [(1,)]


@begins_with(prepare)
def test_repair_makes_v2_win_in_rampdown(db: Connection) -> None:
    db.execute("update crossfade.pairs set stage = 'rampdown'")
    behind_the_mirror(db, "update public.notes_v2 set tag = 'v2 wins' where id = 7")
    verify(db)
    db.execute("select crossfade.repair('notes')")
    assert rows(db, "select tag from public.notes where id = 7") == [("v2 wins",)]


@begins_with(prepare)
def test_recorded_failure_says_which_side_was_written(db: Connection) -> None:
    db.execute(
        "alter table public.notes add constraint no_long_tag check (length(tag) < 5) not valid"
    )
    db.execute("update public.notes_v2 set tag = 'too long' where id = 7")
    assert rows(db, "select written_side from crossfade.mirror_failures") == [(2,)]
    assert rows(db, "select crossfade.repair('notes')")[0][0]["failed"] == 1
    db.execute("alter table public.notes drop constraint no_long_tag")
    assert rows(db, "select crossfade.repair('notes')")[0][0] | {"flags_version": 0} == {
        "repaired": 1,
        "failed": 0,
        "undecided": 0,
        "remaining": 0,
        "flags_version": 0,
    }
    assert rows(db, "select tag from public.notes where id = 7") == [("too long",)]


@begins_with(prepare)
def test_repair_keeps_what_it_deletes(db: Connection) -> None:
    behind_the_mirror(
        db, "insert into public.notes_v2 (id, parts) values (9999, '[\"only here\"]')"
    )
    verify(db)
    # Only version 2 has the row, and no record says why: deleting it is somebody's choice.
    db.execute("select crossfade.repair('notes', reason => 'test', follower_only => 'delete')")
    assert rows(
        db, "select before ->> 'parts', reason from crossfade.audit where action = 'repair.row'"
    ) == [('["only here"]', "test")]


@begins_with(prepare)
def test_clean_pass_settles_older_findings(db: Connection) -> None:
    behind_the_mirror(db, "update public.notes_v2 set tag = 'x' where id = 7")
    verify(db)
    db.execute("update public.notes set tag = 'mended' where id = 7")
    assert verify(db)["mismatches"] == 0
    assert rows(db, "select resolution from crossfade.mismatches") == [("equal",)]


@begins_with(prepare)
def test_verify_of_a_row_somebody_holds_does_not_hang(db: Connection, connect: Connect) -> None:
    behind_the_mirror(db, "update public.notes_v2 set tag = 'x' where id = 7")
    holder = connect()
    holder.execute("begin")
    holder.execute("select * from public.notes where id = 7 for update")
    assert verify(db)["mismatches"] == 1
    holder.execute("rollback")


@begins_with(prepare)
def test_backfill_batch_refuses_a_verify_run(db: Connection) -> None:
    (started,) = rows(db, "select crossfade.start_verify('notes')")
    with pytest.raises(psycopg.Error) as refused:
        db.execute("select crossfade.backfill_batch(%s)", [started[0]["run"]["id"]])
    assert '"CF010"' in (refused.value.diag.message_detail or "")
