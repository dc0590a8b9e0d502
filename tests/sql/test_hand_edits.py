"""Control rows and tables changed by hand: all that the functions do happens, or it is refused."""

from __future__ import annotations

import psycopg
import pytest

from tests.sql.conftest import Connect, begins_with
from tests.sql.control import Connection, call, create_pair, force, one, refused
from tests.sql.notes_pair import create_notes, differences, rows
from tests.sql.things_pair import failures, verify


@begins_with(create_pair, stage="live", percentage=25)
def test_a_percentage_written_by_hand_is_a_step_of_its_own(
    db: Connection, connect: Connect
) -> None:
    step, version = rows(db, "select step, step_flags_version from crossfade.pairs")[0]
    connect("service_role").execute("update crossfade.cohorts set percentage = 100")
    after = rows(db, "select step, full_since is not null, step_flags_version from crossfade.pairs")
    assert after[0][:2] == (step + 1, True)
    assert after[0][2] > version
    db.execute("update crossfade.cohorts set percentage = 5")
    after = rows(db, "select step, full_since from crossfade.pairs")
    assert after == [(step + 2, None)]


@begins_with(create_pair, stage="live", percentage=25)
def test_going_back_to_shadow_is_one_step(db: Connection) -> None:
    step = one(db, "select step from crossfade.pairs")
    call(db, "set_stage", "orders", "shadow", "test")
    assert rows(db, "select step from crossfade.pairs") == [(step + 1,)]
    assert rows(db, "select percentage from crossfade.cohorts") == [(0,)]


@begins_with(create_pair, stage="shadow")
def test_nobody_widens_by_hand_outside_live_or_while_latched(db: Connection) -> None:
    with refused("CF005", 409):
        one(db, "update crossfade.cohorts set percentage = 50 returning 1")
    force(db, "update crossfade.pairs set stage = 'live'")
    db.execute("update crossfade.cohorts set percentage = 50")
    db.execute("update crossfade.pairs set latched_at = now(), latch_reason = 'R1'")
    with refused("CF006", 409):
        one(db, "update crossfade.cohorts set percentage = 60 returning 1")
    db.execute("update crossfade.cohorts set percentage = 10")
    db.execute("delete from crossfade.cohorts")
    with refused("CF006", 409):
        one(db, "insert into crossfade.cohorts (pair, percentage, cohort_key)"
            " values ('orders', 100, 'orders') returning 1")  # fmt: skip


@pytest.mark.parametrize(
    "edit",
    [
        "update crossfade.pairs set name = 'other' returning 1",
        "update crossfade.pairs set v2_table = 'public.other' returning 1",
        "update crossfade.pairs set to_v2 = 'public.other' returning 1",
        "update crossfade.pairs set stage = 'off' returning 1",
        "update crossfade.pairs set stage = 'complete' returning 1",
        "delete from crossfade.pairs returning 1",
    ],
)
@begins_with(create_pair, stage="shadow")
def test_what_the_mirror_depends_on_is_not_changed_by_hand(db: Connection, edit: str) -> None:
    with refused("CF016", 409):
        one(db, edit)
    db.execute("insert into public.orders_v1 values (1, 'still mirrored')")
    assert one(db, "select count(*) from public.orders_v2") == 1


def test_a_stage_is_not_entered_by_hand_while_the_mirror_is_off(db: Connection) -> None:
    create_pair(db)
    with refused("CF016", 409):
        one(db, "update crossfade.pairs set stage = 'dualwrite' returning 1")


# What owners do to their tables afterwards, and what is said about it.
BROKEN = {
    "a trigger is disabled": (
        "alter table public.notes disable trigger crossfade_mirror_update",
        "trigger crossfade_mirror_update of public.notes is missing or disabled",
    ),
    "a trigger fires for replicas only": (
        "alter table public.notes_v2 enable replica trigger crossfade_mirror_delete",
        "trigger crossfade_mirror_delete of public.notes_v2 is missing or disabled",
    ),
    "another table has taken the name": (
        """alter table public.notes_v2 rename to notes_v2_old;
        create table public.notes_v2 (like public.notes_v2_old including all)""",
        "trigger crossfade_mirror_insert of public.notes_v2 is missing or disabled",
    ),
    "a table is renamed": (
        "alter table public.notes rename to messages",
        "table public.notes does not exist",
    ),
    "a table is unlogged": (
        "alter table public.notes_v2 set unlogged",
        "V2 public.notes_v2 is unlogged",
    ),
    "a table inherits": (
        "create table public.more () inherits (public.notes)",
        "public.notes inherits",
    ),
    "a trigger is deferrable": (
        """create function public.f() returns trigger language plpgsql as 'begin return null; end';
        create constraint trigger late after insert on public.notes deferrable
        for each row execute function public.f()""",
        'has the deferrable trigger "late"',
    ),
    "the key is gone": (
        "alter table public.notes_v2 drop constraint notes_v2_pkey",
        "no immediate unique constraint or index",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
@begins_with(create_notes)
def test_a_table_that_cannot_be_mirrored_any_more_stops_everything_forward(
    db: Connection, name: str
) -> None:
    change, problem = BROKEN[name]
    db.execute(change)
    with refused("CF005", 409) as refusal:
        call(db, "set_stage", "notes", "shadow", "test")
    found = [b["message"] for b in refusal.detail["blockers"] if b["code"] == "mirror_broken"]
    assert any(problem in message for message in found), found
    for function in ("start_backfill", "start_verify"):
        with refused("CF011", 409) as refusal:
            call(db, function, "notes")
        assert problem in refusal.message
    call(db, "set_stage", "notes", "off", "the way back is always open")


@pytest.mark.parametrize("table", ["notes", "notes_v2"])
@begins_with(create_notes)
def test_a_pair_whose_table_was_renamed_can_be_removed(db: Connection, table: str) -> None:
    db.execute(f"alter table public.{table} rename to renamed")
    call(db, "set_stage", "notes", "off", "test")
    call(db, "unregister_pair", "notes", "renamed")
    left = """select tgname from pg_trigger where tgname like 'crossfade%' and tgrelid in
      (select oid from pg_class where relnamespace = 'public'::regnamespace)"""
    assert rows(db, left) == []
    db.execute(f"alter table public.renamed rename to {table}")
    db.execute("insert into public.notes (id, body) values (1, 'one')")
    db.execute("insert into public.notes_v2 (id, parts) values (2, '[\"two\"]')")
    assert len(differences(db)) == 2


def test_removing_one_pair_leaves_the_fence_of_another(db: Connection) -> None:
    create_pair(db, "orders")
    create_pair(db, "orders2")
    call(db, "unregister_pair", "orders", "test")
    fences = "select tgrelid::regclass::text from pg_trigger where tgname = 'crossfade_fence'"
    assert rows(db, fences) == [("orders2_v2",)]


@begins_with(create_notes)
def test_a_writer_whose_counterpart_was_renamed_is_not_forgotten(
    db: Connection, connect: Connect
) -> None:
    db.execute("alter table public.notes_v2 rename to renamed")
    connect().execute("insert into public.notes (id, body) values (1, 'one')")
    assert failures(db) == [({"id": 1}, "INSERT", "42P01")]
    db.execute("alter table public.renamed rename to notes_v2")
    call(db, "repair", "notes")
    assert differences(db) == []
    assert verify(db, "notes") == 0


def test_a_writer_whose_counterpart_was_renamed_is_refused_where_failures_are(
    db: Connection, connect: Connect
) -> None:
    create_notes(db, options='{"failure_policy": "raise"}')
    db.execute("alter table public.notes_v2 rename to renamed")
    with pytest.raises(psycopg.errors.UndefinedTable):
        connect().execute("insert into public.notes (id, body) values (1, 'one')")
    assert one(db, "select count(*) from public.notes") == 0
