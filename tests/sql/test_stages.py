"""One way forward with every precondition; the way back needs only a reason."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from .conftest import Connect, Connection, begins_with
from .notes_pair import behind_the_mirror, create_notes, differences, rows
from .test_backfill import finish, start
from .test_verification import verify

FORWARD = ["dualwrite", "shadow", "live", "rampdown", "complete"]


def stage(db: Connection, name: str, **more: object) -> dict[str, Any]:
    (answer,) = db.execute(
        "select crossfade.set_stage('notes', %s, 'test', %s)", [name, more.get("confirm", False)]
    ).fetchall()
    found: dict[str, Any] = answer[0]
    return found


def refusal(db: Connection, name: str) -> dict[str, Any]:
    with pytest.raises(psycopg.Error) as refused:
        stage(db, name)
    found: dict[str, Any] = json.loads(refused.value.diag.message_detail or "{}")
    return found


def codes(db: Connection, name: str) -> set[str]:
    return {blocker["code"] for blocker in refusal(db, name)["blockers"]}


def percentage(db: Connection, value: object) -> None:
    db.execute(
        "select crossfade.set_cohort('notes', %s::jsonb, 'test')",
        [json.dumps({"percentage": value})],
    )


def prepare(db: Connection, until: str) -> None:
    """Bring a pair with three rows to a stage by its own rules."""
    create_notes(db, mirror=False)
    db.execute("insert into public.notes (id, body) select g, 'n' from generate_series(1, 3) g")
    db.execute(
        "update crossfade.settings set value = '0' "
        "where name in ('shadow_min_reads', 'stage_bake_s')"
    )
    for name in FORWARD[: FORWARD.index(until) + 1]:
        if name == "shadow":
            finish(db, start(db))
            verify(db)
        if name == "rampdown":
            percentage(db, 100)
        stage(db, name, confirm=True)


@pytest.mark.parametrize("until", FORWARD)
def test_every_stage_can_be_reached(db: Connection, until: str) -> None:
    prepare(db, until)
    assert rows(db, "select stage from crossfade.pairs") == [(until,)]


@begins_with(create_notes, mirror=False)
def test_no_stage_can_be_skipped(db: Connection) -> None:
    assert codes(db, "shadow") == {"stage_order"}


@begins_with(prepare, "dualwrite")
def test_shadow_needs_a_finished_backfill(db: Connection) -> None:
    assert codes(db, "shadow") == {"backfill_needed"}
    run = start(db)
    assert codes(db, "shadow") == {"backfill_needed", "backfill_running"}
    finish(db, run)
    assert stage(db, "shadow")["after"] == "shadow"


@begins_with(prepare, "dualwrite")
def test_live_needs_a_clean_verify(db: Connection) -> None:
    finish(db, start(db))
    stage(db, "shadow")
    assert codes(db, "live") == {"verify_needed"}
    behind_the_mirror(db, "update public.notes_v2 set tag = 'x' where id = 1")
    verify(db)
    assert codes(db, "live") == {"verify_needed", "open_mismatches"}
    db.execute("select crossfade.repair('notes')")
    verify(db)
    assert stage(db, "live")["after"] == "live"


@begins_with(prepare, "shadow")
def test_live_needs_a_verify_after_the_last_converter_change(db: Connection) -> None:
    db.execute("""create or replace function public.notes_to_v1(
        new_v2 public.notes_v2, old_v1 public.notes) returns setof public.notes language sql stable
        as $$ select new_v2.id, new_v2.owner_id, new_v2.parts ->> 0, new_v2.tag $$""")
    assert codes(db, "live") == {"verify_needed"}


@begins_with(prepare, "shadow")
def test_live_is_blocked_by_drift_even_when_it_is_repaired(db: Connection) -> None:
    db.execute("insert into public.notes (id, body, tag) values (9, 'a', repeat('x', 30))")
    assert codes(db, "live") == {"open_failures"}
    db.execute("update public.notes set tag = null where id = 9")
    db.execute("select crossfade.repair('notes')")
    assert codes(db, "live") == {"drift_since_verify"}
    verify(db)
    assert stage(db, "live")["after"] == "live"


@begins_with(prepare, "shadow")
def test_live_needs_equal_shadow_reads(db: Connection) -> None:
    db.execute("update crossfade.settings set value = '100' where name = 'shadow_min_reads'")
    record = "select crossfade.record_requests(%s::jsonb)"
    event = {
        "pair": "notes",
        "backend_version": 1,
        "wire_version": 1,
        "latency_ms": 1,
        "outcome": "shadow_match",
    }
    db.execute(record, [json.dumps([event | {"count": 100}])])
    assert crossfade_blockers(db, "live") == set()
    db.execute(record, [json.dumps([event | {"count": 5, "outcome": "shadow_mismatch"}])])
    assert codes(db, "live") == {"shadow_reads"}


def crossfade_blockers(db: Connection, name: str) -> set[str]:
    found = db.execute(
        "select b ->> 'code' from crossfade.pairs p, crossfade_private.stage_blockers(p, %s) b",
        [name],
    ).fetchall()
    return {row[0] for row in found}


@begins_with(prepare, "live")
def test_rampdown_needs_everybody_on_v2(db: Connection) -> None:
    percentage(db, 99.999)
    assert codes(db, "rampdown") == {"percentage"}


@begins_with(prepare, "rampdown")
def test_complete_needs_bake_time_and_a_confirmation(db: Connection) -> None:
    db.execute("update crossfade.settings set value = '3600' where name = 'stage_bake_s'")
    assert codes(db, "complete") == {"bake_time", "v1_written"}
    db.execute("update crossfade.settings set value = '0' where name = 'stage_bake_s'")
    assert refusal(db, "complete")["code"] == "CF013"


def report(db: Connection, *versions: int) -> None:
    """Record a request of each function, with the version of the flags deployed with it."""
    event = {"pair": "notes", "backend_version": 2, "wire_version": 1, "outcome": "ok"}
    events = [event | {"latency_ms": 1, "bundle_version": version} for version in versions]
    db.execute("select crossfade.record_requests(%s)", [json.dumps(events)])


@begins_with(prepare, "rampdown")
def test_complete_needs_functions_that_know_without_the_database(db: Connection) -> None:
    ((now,),) = rows(db, "select crossfade.flags_version()")
    report(db, 3, now)
    assert codes(db, "complete") == {"bundle_old"}
    db.execute("update crossfade_private.bundles set last_at = now() - interval '11 min'")
    assert codes(db, "complete") == {"bundle_old"}, "nothing newer has been heard"
    report(db, now)
    assert refusal(db, "complete")["code"] == "CF013"


@begins_with(prepare, "rampdown")
def test_a_function_that_has_no_bundled_flags_asks_for_none(db: Connection) -> None:
    report(db, 0)
    assert refusal(db, "complete")["code"] == "CF013"


@pytest.mark.parametrize("until", FORWARD[:-1])
@pytest.mark.parametrize("back", ["off", "dualwrite", "shadow", "live"])
def test_going_back_needs_only_a_reason_and_loses_nothing(
    db: Connection, until: str, back: str
) -> None:
    if FORWARD.index(until) <= (["off", *FORWARD].index(back) - 1):
        return
    prepare(db, until)
    assert stage(db, back)["after"] == back
    db.execute("insert into public.notes (id, body) values (50, 'after')")
    if back != "off":
        assert differences(db) == []


@begins_with(prepare, "rampdown")
def test_going_back_takes_no_table_lock(db: Connection, connect: Connect) -> None:
    reader = connect()
    reader.execute("begin")
    reader.execute("lock table public.notes, public.notes_v2 in access share mode")
    db.execute("set lock_timeout = '1s'")
    assert stage(db, "shadow")["after"] == "shadow"
    held = rows(
        db,
        "select count(*) from pg_locks where relation in ('public.notes'::regclass, "
        "'public.notes_v2'::regclass) and mode <> 'AccessShareLock'",
    )
    assert held == [(0,)]
    reader.execute("rollback")


@begins_with(prepare, "live")
def test_going_back_starts_again_at_zero_percent(db: Connection) -> None:
    percentage(db, 75)
    stage(db, "shadow")
    assert rows(db, "select percentage from crossfade.cohorts") == [(0,)]


@begins_with(create_notes, mirror=False)
def test_a_reason_is_required(db: Connection) -> None:
    with pytest.raises(psycopg.Error) as refused:
        db.execute("select crossfade.set_stage('notes', 'dualwrite', '  ')")
    assert '"CF007"' in (refused.value.diag.message_detail or "")


# Complete and the way back ------------------------------------------------------------


@begins_with(prepare, "complete")
def test_complete_makes_v1_a_read_only_archive(db: Connection) -> None:
    with pytest.raises(psycopg.Error) as refused:
        db.execute("insert into public.notes (id, body) values (5, 'a')")
    assert '"CF_ARCHIVED"' in (refused.value.diag.message_detail or "")
    db.execute("""insert into public.notes_v2 (id, parts) values (77, '["only v2"]')""")
    assert rows(db, "select count(*) from public.notes where id = 77") == [(0,)]


@begins_with(prepare, "complete")
def test_way_back_from_complete_needs_a_reverse_backfill_and_a_clean_verify(db: Connection) -> None:
    db.execute("""insert into public.notes_v2 (id, parts) values (77, '["only v2"]')""")
    db.execute("""update public.notes_v2 set parts = '["edited"]' where id = 1""")
    db.execute("delete from public.notes_v2 where id = 2")
    assert codes(db, "rampdown") == {"reverse_backfill"}
    finish(db, start(db, direction="v2_to_v1"))
    assert codes(db, "rampdown") == {"verify_needed"}
    assert verify(db)["mismatches"] == 2  # the edited and the deleted row
    assert codes(db, "rampdown") == {"verify_needed", "open_mismatches"}
    # No record says that version 2 deleted row 2: that is somebody's choice.
    (answer,) = rows(db, "select crossfade.repair('notes')")[0]
    assert (answer["repaired"], answer["undecided"]) == (1, 1)
    db.execute("select crossfade.repair('notes', follower_only => 'delete')")
    verify(db)
    assert stage(db, "rampdown")["after"] == "rampdown"
    assert rows(db, "select id, body from public.notes order by id") == [
        (1, "edited"),
        (3, "n"),
        (77, "only v2"),
    ]
    db.execute("insert into public.notes (id, body) values (80, 'v1 writes again')")
    assert differences(db) == []


# Cohort -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [101, -1, 33.3333, "abc", None])
@begins_with(prepare, "live")
def test_percentages_that_cannot_be_kept_are_refused(db: Connection, value: object) -> None:
    with pytest.raises(psycopg.Error) as refused:
        percentage(db, value)
    assert '"CF004"' in (refused.value.diag.message_detail or "")
    assert rows(db, "select percentage from crossfade.cohorts") == [(0,)]


@begins_with(prepare, "shadow")
def test_raising_is_refused_outside_live_and_while_latched(db: Connection) -> None:
    with pytest.raises(psycopg.Error) as refused:
        percentage(db, 5)
    assert '"CF005"' in (refused.value.diag.message_detail or "")
    stage(db, "live")
    percentage(db, 25)
    db.execute("update crossfade.pairs set latched_at = now(), latch_reason = 'R1'")
    with pytest.raises(psycopg.Error) as refused:
        percentage(db, 75)
    assert '"CF006"' in (refused.value.diag.message_detail or "")
    percentage(db, 5)
    assert rows(db, "select percentage from crossfade.cohorts") == [(5,)]


@begins_with(prepare, "live")
def test_unknown_cohort_field_is_named(db: Connection) -> None:
    with pytest.raises(psycopg.Error, match='Unknown cohort field "percent"'):
        db.execute("select crossfade.set_cohort('notes', '{\"percent\": 5}', 'test')")


@begins_with(prepare, "live")
def test_every_change_raises_the_version_and_is_audited(db: Connection) -> None:
    (before,) = rows(db, "select crossfade.flags_version()")
    percentage(db, 25)
    (after,) = rows(db, "select crossfade.flags_version()")
    assert after > before
    assert rows(
        db, "select action, object, reason from crossfade.audit order by id desc limit 1"
    ) == [("cohort.update", "notes", "test")]
