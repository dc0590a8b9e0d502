"""The backfill copies what was there before, beside live writers, and resumes after any crash."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest

from .conftest import Connect, Connection, begins_with
from .control import in_background, unmirrored
from .notes_pair import create_notes, differences, rows


def prepare(db: Connection, count: int) -> None:
    create_notes(db, mirror=False)
    db.execute(
        "insert into public.notes (id, body) select g, 'n' || g from generate_series(1, %s) g",
        [count],
    )
    db.execute("select crossfade.set_stage('notes', 'dualwrite', 'test')")


def start(db: Connection, *, ranges: int = 1, direction: str = "v1_to_v2") -> int:
    (answer,) = rows(db, f"select crossfade.start_backfill('notes', '{direction}', {ranges})")
    return int(answer[0]["run"]["id"])


def batch(db: Connection, run: int) -> dict[str, Any]:
    (answer,) = rows(db, f"select crossfade.backfill_batch({run}, 500)")
    found: dict[str, Any] = answer[0]
    return found


def finish(db: Connection, run: int) -> dict[str, Any]:
    for _ in range(5000):
        answer = batch(db, run)
        if answer["state"] == "finished":
            return answer
    raise AssertionError(f"not finished: {answer}")


def small_batches(db: Connection) -> None:
    db.execute("update crossfade.settings set value = '10' where name = 'batch_max_rows'")


@pytest.mark.parametrize("ranges", [1, 4])
@begins_with(prepare, 3000)
def test_backfill_copies_every_row(db: Connection, ranges: int) -> None:
    answer = finish(db, start(db, ranges=ranges))
    assert answer["run"]["rows_written"] == answer["run"]["rows_done"] == 3000
    assert answer["run"]["ranges"] == ranges
    assert differences(db) == []


def test_backfill_of_an_empty_table_finishes(db: Connection) -> None:
    prepare(db, 0)
    assert finish(db, start(db))["run"]["rows_done"] == 0


@begins_with(create_notes, mirror=False)
def test_backfill_is_refused_while_nothing_is_mirrored(db: Connection) -> None:
    with pytest.raises(psycopg.Error) as refused:
        start(db)
    assert refused.value.sqlstate == "PT409"


def test_starting_twice_is_the_same_run(db: Connection) -> None:
    prepare(db, 10)
    assert start(db) == start(db)


def test_backfill_resumes_after_the_last_committed_batch(db: Connection, connect: Connect) -> None:
    prepare(db, 100)
    small_batches(db)
    run = start(db)
    batch(db, run)
    crashed = connect()
    crashed.execute("begin")
    batch(crashed, run)
    crashed.close()
    assert rows(db, "select count(*) from public.notes_v2") == [(10,)]
    answer = finish(db, run)
    assert answer["run"]["rows_done"] == 100
    assert differences(db) == []


@begins_with(prepare, 20)
def test_backfill_does_not_overwrite_what_v2_holds(db: Connection) -> None:
    run = start(db)
    db.execute("update public.notes set body = 'edited' where id = 5")
    db.execute("""update public.notes_v2 set parts = '["by v2", 1]', pinned = true where id = 5""")
    finish(db, run)
    assert rows(db, "select parts, pinned from public.notes_v2 where id = 5") == [
        (["by v2", 1], True)
    ]
    assert differences(db) == []


@begins_with(prepare, 30)
def test_rows_inserted_after_the_first_batch_do_not_keep_it_going(db: Connection) -> None:
    small_batches(db)
    run = start(db)
    batch(db, run)
    db.execute(
        "insert into public.notes (id, body) select g, 'late' from generate_series(1000, 1100) g"
    )
    assert finish(db, run)["run"]["rows_done"] == 30
    assert differences(db) == []


def blocked(db: Connection, pid: int) -> bool:
    return rows(db, f"select count(*) from pg_locks where pid = {pid} and not granted") != [(0,)]


def wait_until_blocked(db: Connection, pid: int) -> None:
    for _ in range(2000):
        if blocked(db, pid):
            return
    raise AssertionError("the writer was never blocked")


@pytest.mark.parametrize(
    "sql",
    ["delete from public.notes where id = 5", "update public.notes set body = 'new' where id = 5"],
)
@begins_with(prepare, 20)
def test_writer_waits_for_the_batch_that_copies_its_row(
    db: Connection, connect: Connect, sql: str
) -> None:
    # Without the row lock a deleted row would rise again in V2, or an edited one stay stale.
    run = start(db)
    worker, writer = connect(), connect()
    worker.execute("begin")
    batch(worker, run)
    thread = threading.Thread(target=writer.execute, args=(sql,))
    thread.start()
    wait_until_blocked(db, writer.info.backend_pid)
    worker.execute("commit")
    thread.join()
    finish(db, run)
    assert differences(db) == []


@begins_with(prepare, 20)
def test_a_counterpart_written_while_the_batch_waits_is_left_alone(
    db: Connection, connect: Connect
) -> None:
    # When the batch looks, V2 has no row of its range; when it copies, an edit has made one.
    run = start(db)
    # The first batch settles which writers are older than the switch; this one shall not be.
    db.execute("update crossfade.run_ranges set batch_rows = 1")
    batch(db, run)
    db.execute("update crossfade.run_ranges set batch_rows = 100")
    writer, worker = connect(), connect()
    writer.execute("begin")
    writer.execute("update public.notes set body = 'edited' where id = 5")
    writer.execute("update public.notes_v2 set pinned = true where id = 5")
    with in_background(lambda: batch(worker, run)) as answer:
        wait_until_blocked(db, worker.info.backend_pid)
        writer.execute("commit")
    assert (answer[0]["rows_read"], answer[0]["rows_written"]) == (19, 18)
    assert rows(db, "select parts, pinned from public.notes_v2 where id = 5") == [
        (["edited"], True)
    ]
    assert rows(db, "select count(*) from crossfade.mirror_failures") == [(0,)]
    assert differences(db) == []


@begins_with(prepare, 20)
def test_deleter_with_an_old_snapshot_leaves_no_zombie(db: Connection, connect: Connect) -> None:
    run = start(db)
    deleter = connect()
    deleter.execute("begin isolation level repeatable read")
    deleter.execute("select count(*) from public.notes")
    small_batches(db)
    db.execute("update crossfade.run_ranges set batch_rows = 10")
    batch(db, run)
    deleter.execute("delete from public.notes where id = 5")
    deleter.execute("commit")
    assert rows(db, "select id from public.notes_v2 where id = 5") == [(5,)]
    # Verify leaves it to the sweep, and still sees what nobody has promised to remove.
    db.execute("insert into public.notes (id, body) values (500, 'x')")
    with unmirrored(db):
        db.execute("delete from public.notes where id = 500")
    (started,) = rows(db, "select crossfade.start_verify('notes')")
    for _ in range(3):
        db.execute("select crossfade.verify_batch(%s, 60000)", [started[0]["run"]["id"]])
    found = rows(db, "select key, kind from crossfade.mismatches where kind = 'missing_v1'")
    assert found == [({"id": 500}, "missing_v1")]
    db.execute("delete from public.notes_v2 where id = 500")
    answer = finish(db, run)
    assert answer["run"]["swept_rows"] == 1
    assert differences(db) == []


@begins_with(create_notes, mirror=False)
def test_batches_wait_for_writers_older_than_the_switch(db: Connection, connect: Connect) -> None:
    writer = connect()
    writer.execute("begin")
    writer.execute("insert into public.notes (id, body) values (1, 'unmirrored')")
    db.execute("select crossfade.set_stage('notes', 'dualwrite', 'test')")
    run = start(db)
    assert batch(db, run)["state"] == "waiting"
    writer.execute("commit")
    finish(db, run)
    assert differences(db) == []
    assert rows(db, "select count(*) from public.notes_v2") == [(1,)]


@pytest.mark.parametrize("ranges", [1, 3])
@pytest.mark.parametrize("count", [0, 5])
def test_what_an_older_writer_added_above_all_others_is_copied(
    db: Connection, connect: Connect, count: int, ranges: int
) -> None:
    create_notes(db, mirror=False)
    db.execute(
        f"insert into public.notes (id, body) select g, 'n' from generate_series(1, {count}) g"
    )
    older = connect()
    with older.transaction():
        older.execute("insert into public.notes (id, body) values (500, 'not to be seen yet')")
        db.execute("select crossfade.set_stage('notes', 'dualwrite', 'test')")
        run = start(db, ranges=ranges)
        assert batch(db, run)["state"] == "waiting"
        # On this one its constants say nothing yet; the row of the state does.
        older.execute("insert into public.notes (id, body) values (501, 'mirrored')")
    db.execute("insert into public.notes (id, body) values (502, 'mirrored as well')")
    finish(db, run)
    assert differences(db) == []
    assert rows(db, "select count(*) from public.notes_v2") == [(count + 3,)]


def test_workers_share_a_run_without_doing_a_row_twice(db: Connection, connect: Connect) -> None:
    prepare(db, 4000)
    db.execute("update crossfade.settings set value = '100' where name = 'batch_max_rows'")
    run = start(db, ranges=4)
    threads = [threading.Thread(target=finish, args=(connect(), run)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (found,) = rows(db, f"select crossfade.run_status({run})")
    assert found[0]["run"]["rows_done"] == found[0]["run"]["rows_written"] == 4000
    assert differences(db) == []


def test_pause_resume_and_cancel(db: Connection) -> None:
    prepare(db, 50)
    small_batches(db)
    run = start(db)
    batch(db, run)
    db.execute("select crossfade.control_run(%s, 'pause', 'lunch')", [run])
    assert (batch(db, run)["state"], batch(db, run)["reason"]) == ("paused", "lunch")
    db.execute("select crossfade.control_run(%s, 'resume')", [run])
    assert batch(db, run)["state"] == "running"
    db.execute("select crossfade.control_run(%s, 'cancel', 'enough')", [run])
    assert batch(db, run)["state"] == "cancelled"
    with pytest.raises(psycopg.Error) as refused:
        db.execute("select crossfade.control_run(%s, 'resume')", [run])
    assert '"CF010"' in (refused.value.diag.message_detail or "")


@begins_with(prepare, 20)
def test_busy_database_throttles_with_a_reason(db: Connection, connect: Connect) -> None:
    run = start(db)
    db.execute("update crossfade.settings set value = '0' where name = 'throttle_lock_waits'")
    holder, waiter = connect(), connect()
    holder.execute("begin")
    holder.execute("update public.notes set body = 'held' where id = 1")
    thread = threading.Thread(
        target=waiter.execute, args=("update public.notes set body = 'x' where id = 1",)
    )
    thread.start()
    wait_until_blocked(db, waiter.info.backend_pid)
    answer = batch(db, run)
    holder.execute("commit")
    thread.join()
    assert answer["state"] == "throttled"
    assert "wait for a lock" in answer["reason"]
    assert finish(db, run)["state"] == "finished"


@begins_with(prepare, 20)
def test_changed_table_stops_the_run(db: Connection) -> None:
    run = start(db)
    db.execute("alter table public.notes_v2 add column extra text")
    with pytest.raises(psycopg.Error) as refused:
        batch(db, run)
    assert '"CF011"' in (refused.value.diag.message_detail or "")


@pytest.mark.parametrize(("target_ms", "expected"), [("null", 200), ("300", 300)])
@begins_with(prepare, 2000)
def test_the_target_time_is_a_setting_unless_it_is_said(
    db: Connection, target_ms: str, expected: int
) -> None:
    db.execute("update crossfade.settings set value = '200' where name = 'batch_target_ms'")
    run = start(db)
    # One millisecond a row nine times: whatever this batch takes, the p90 of ten stays.
    db.execute("update crossfade.run_ranges set ms_per_1000_rows = array_fill(1000, array[9])")
    db.execute("update crossfade.run_ranges set batch_rows = 1000")
    db.execute(f"select crossfade.backfill_batch({run}, {target_ms})")
    # Less what a batch costs whatever its rows.
    ((found,),) = rows(db, "select batch_rows from crossfade.run_ranges")
    assert expected / 2 <= found < expected


def test_batch_size_follows_the_target_time(db: Connection) -> None:
    next_rows = "select crossfade_private.next_batch_rows(%s, %s::numeric[], 500)"
    assert db.execute(next_rows, [1000, [1.0]]).fetchone() == (1501,)  # growth at most 1.5x
    assert db.execute(next_rows, [1000, [1000.0]]).fetchone() == (500,)  # 1 ms a row
    assert db.execute(next_rows, [1000, [1.0] * 8 + [5000.0, 5000.0]]).fetchone() == (100,)  # p90
    assert db.execute(next_rows, [1000, [10_000_000.0]]).fetchone() == (10,)  # floor


@begins_with(create_notes, mirror=False)
def test_backfill_works_backwards(db: Connection) -> None:
    db.execute(
        "insert into public.notes_v2 (parts) "
        "select jsonb_build_array(g::text) from generate_series(1, 100) g"
    )
    db.execute("select crossfade.set_stage('notes', 'dualwrite', 'test')")
    finish(db, start(db, direction="v2_to_v1"))
    assert rows(db, "select count(*) from public.notes") == [(100,)]
    assert differences(db) == []


def test_composite_and_text_keys(db: Connection) -> None:
    db.execute("""
        create table public.a (k text, n integer, v text, primary key (k, n));
        create table public.b (n integer, k text, v jsonb, primary key (k, n));
        create function public.a_to_b(x public.a, o public.b) returns setof public.b
        language sql stable as $$ select x.n, x.k, to_jsonb(x.v) $$;
        create function public.b_to_a(x public.b, o public.a) returns setof public.a
        language sql stable as $$ select x.k, x.n, x.v #>> '{}' $$;
        insert into public.a
        select chr(96 + g % 20) || 'é"''\\', g, 'v' || g from generate_series(1, 500) g;
        select crossfade.register_pair(
          'notes', 'public.a', 'public.b', 'public.a_to_b', 'public.b_to_a');
        select crossfade.set_stage('notes', 'dualwrite', 'test');
    """)
    small_batches(db)
    finish(db, start(db, ranges=3))
    assert rows(
        db, "select count(*) from public.a join public.b using (k, n) where a.v = b.v #>> '{}'"
    ) == [(500,)]
    db.execute("update public.a set n = n + 1000, v = 'moved' where k like 'c%'")
    assert rows(
        db, "select count(*) from public.a join public.b using (k, n) where a.v = b.v #>> '{}'"
    ) == [(500,)]


@begins_with(create_notes, mirror=False)
def test_row_that_v2_refuses_is_recorded_and_does_not_stop_the_run(db: Connection) -> None:
    db.execute(
        "insert into public.notes (id, body, tag) "
        "select g, 'n', case g when 7 then repeat('x', 30) end from generate_series(1, 40) g"
    )
    db.execute("select crossfade.set_stage('notes', 'dualwrite', 'test')")
    answer = finish(db, start(db))
    assert answer["run"]["rows_written"] == 39
    assert rows(
        db, "select key, written_side, operation, error_code from crossfade.mirror_failures"
    ) == [({"id": 7}, 1, "BACKFILL", "23514")]
    db.execute("update public.notes set tag = null where id = 7")
    db.execute("select crossfade.repair('notes')")
    assert differences(db) == []


@pytest.mark.parametrize("committed", [True, False])
@begins_with(prepare, 30)
def test_backfill_does_not_undo_a_delete_that_could_not_be_mirrored(
    db: Connection, connect: Connect, committed: bool
) -> None:
    small_batches(db)
    # The edit makes a counterpart; the child keeps V1's row from being deleted.
    db.execute("update public.notes set body = 'edited' where id = 15")
    db.execute("create table public.stars (note bigint references public.notes)")
    db.execute("insert into public.stars values (15)")
    deleter, worker = connect(), connect()
    run = 0
    if not committed:
        # The first batch waits for writers that are older; this one is to be younger.
        run = start(db)
        assert batch(db, run)["rows_written"] == 10
    deleter.execute("begin")
    deleter.execute("delete from public.notes_v2 where id = 15")
    if committed:
        run = start(db)  # not held up by the failure that the open transaction has recorded
        assert batch(db, run)["state"] == "waiting"
        deleter.execute("commit")
        finish(db, run)
    else:
        thread = threading.Thread(target=finish, args=(worker, run))
        thread.start()
        wait_until_blocked(db, worker.info.backend_pid)
        deleter.execute("commit")
        thread.join()
    assert rows(db, "select operation, error_code from crossfade.mirror_failures") == [
        ("DELETE", "23503")
    ]
    db.execute("truncate public.stars")
    db.execute("select crossfade.repair('notes')")
    assert rows(db, "select count(*) from public.notes where id = 15") == [(0,)]
    assert differences(db) == []
