"""A run gets through: batches begin small, shrink at timeouts, pass rows that nobody can do."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from .conftest import Connect, Connection, begins_with
from .control import call, one, unmirrored
from .notes_pair import create_notes, differences, rows
from .test_backfill import batch, finish, prepare, start

# Slow for one note, and for each note a little, whatever machine this is.
SLOW = """
create or replace function public.slow(id bigint, body text) returns text
language plpgsql stable as $$
begin
  perform pg_catalog.pg_sleep(case id when {slow} then 5 else {each} end);
  return body;
end $$;
create or replace function public.notes_to_v2(new_v1 public.notes, old_v2 public.notes_v2)
returns setof public.notes_v2 language sql stable as $$
  select new_v1.id, new_v1.owner_id, jsonb_build_array(public.slow(new_v1.id, new_v1.body)),
    new_v1.tag, coalesce(old_v2.pinned, false), 0
$$;
"""


def slow_notes(db: Connection, count: int, *, slow: int = 0, each: float = 0) -> None:
    """A pair that is mirrored, with rows that were there before, and a slow converter."""
    create_notes(db, mirror=False)
    db.execute(
        "insert into public.notes (id, body) select g, 'n' || g from generate_series(1, %s) g",
        [count],
    )
    db.execute(SLOW.format(slow=slow, each=each))
    names = ["public.notes", "public.notes_v2", "public.notes_to_v2", "public.notes_to_v1"]
    call(db, "register_pair", "notes", *names)
    call(db, "set_stage", "notes", "dualwrite", "test")


def under_a_timeout(db: Connection, run: int, timeout: str, kind: str) -> list[dict[str, Any]]:
    """Call batches, each its own statement with a timeout, until the run has finished."""
    answers = []
    db.execute(f"set statement_timeout = '{timeout}'")
    for _ in range(200):
        answers.append(call(db, f"{kind}_batch", run))
        if answers[-1]["state"] == "finished":
            break
    db.execute("reset statement_timeout")
    assert answers[-1]["state"] == "finished", answers[-3:]
    return answers


def test_the_first_batch_has_the_rows_of_the_setting_and_the_next_ones_more(
    db: Connection,
) -> None:
    prepare(db, 3000)
    call(db, "set_setting", "batch_first_rows", "20", "test")
    run = start(db)
    assert batch(db, run)["rows_read"] == 20
    assert batch(db, run)["rows_read"] > 20


@pytest.mark.parametrize("kind", ["backfill", "verify"])
@begins_with(slow_notes, 60, each=0.02)
def test_a_batch_that_runs_into_statement_timeout_says_so_and_the_next_is_smaller(
    db: Connection, kind: str
) -> None:
    if kind == "verify":
        finish(db, start(db))
    run = call(db, f"start_{kind}", "notes")["run"]["id"]
    # 100 rows at once take two seconds, which no statement may.
    answers = under_a_timeout(db, run, "700ms", kind)
    assert answers[0]["state"] == "shrunk"
    assert answers[0]["reason"] == (
        "the batch was cancelled or ran into statement_timeout; the next has 50 rows"
    )
    assert next(answer["rows_read"] for answer in answers if answer["state"] == "shrunk") == 0
    assert answers[-1]["run"]["rows_done"] == 60
    assert differences(db) == []


def test_what_a_batch_did_before_the_timeout_is_kept(db: Connection) -> None:
    slow_notes(db, 400, slow=300)
    call(db, "set_setting", "batch_target_ms", "5000", "test")
    run = start(db)
    assert batch(db, run)["rows_read"] == 100
    db.execute("update crossfade.run_ranges set batch_rows = 100")
    db.execute("set statement_timeout = '2s'")
    answer = call(db, "backfill_batch", run)
    db.execute("reset statement_timeout")
    # The first part of the batch got through, the second one holds the slow row.
    assert (answer["state"], answer["rows_read"], answer["rows_written"]) == ("shrunk", 100, 100)
    assert one(db, "select count(*) from public.notes_v2") == 200
    assert rows(db, "select rows_done, timeouts from crossfade.run_ranges") == [(200, 1)]


@pytest.mark.parametrize("kind", ["backfill", "verify"])
@begins_with(slow_notes, 12)
def test_a_row_that_alone_runs_into_a_timeout_twice_is_recorded_and_passed(
    db: Connection, kind: str
) -> None:
    if kind == "verify":
        finish(db, start(db))
    db.execute(SLOW.format(slow=7, each=0))
    names = ["public.notes", "public.notes_v2", "public.notes_to_v2", "public.notes_to_v1"]
    call(db, "register_pair", "notes", *names)  # what a converter calls is a part of it
    call(db, "set_setting", "batch_first_rows", "2", "test")
    run = call(db, f"start_{kind}", "notes")["run"]["id"]
    answers = under_a_timeout(db, run, "600ms", kind)
    assert [a["reason"] for a in answers if a["state"] == "shrunk"][-1] == (
        "the batch was cancelled or ran into statement_timeout; its only row is recorded and passed"
    )
    if kind == "backfill":
        found = "select key, operation, error_code from crossfade.mirror_failures"
        assert rows(db, found) == [({"id": 7}, "BACKFILL", "57014")]
        assert one(db, "select count(*) from public.notes_v2") == 11
    else:
        found = "select key, kind, message from crossfade.mismatches"
        assert rows(db, found) == [
            ({"id": 7}, "different", "57014: the row alone runs into a timeout, twice")
        ]
        assert one(db, "select last_clean_verify_at from crossfade.pairs") is None


def test_a_worker_that_dies_leaves_the_run_as_it_was(db: Connection, connect: Connect) -> None:
    prepare(db, 500)
    run = start(db)
    batch(db, run)
    before = rows(db, "select cursor_key, batch_rows, rows_done from crossfade.run_ranges")
    worker = connect()
    worker.execute("begin")
    call(worker, "backfill_batch", run)
    db.execute("select pg_terminate_backend(%s)", [worker.info.backend_pid])
    with pytest.raises(psycopg.OperationalError):
        worker.execute("commit")
    assert rows(db, "select cursor_key, batch_rows, rows_done from crossfade.run_ranges") == before
    finish(db, run)
    assert differences(db) == []


def test_memory_that_runs_out_makes_the_next_batch_smaller(db: Connection) -> None:
    slow_notes(db, 150)
    db.execute("""
        create or replace function public.slow(id bigint, body text) returns text
        language plpgsql stable as $$
        begin
          if id = 90 and current_setting('test.calm', true) is distinct from 'yes' then
            raise out_of_memory;
          end if;
          return body;
        end $$""")
    names = ["public.notes", "public.notes_v2", "public.notes_to_v2", "public.notes_to_v1"]
    call(db, "register_pair", "notes", *names)
    run = start(db)
    answer = batch(db, run)
    assert (answer["state"], answer["reason"]) == (
        "shrunk",
        "the batch ran out of memory; the next has 50 rows",
    )
    db.execute("set test.calm = 'yes'")
    finish(db, run)
    assert differences(db) == []


def test_few_rows_a_batch_do_not_look_slow_and_make_fewer_of_them(db: Connection) -> None:
    # What a batch costs whatever it does is most of a batch of ten rows.
    prepare(db, 4000)
    call(db, "set_setting", "batch_first_rows", "10", "test")
    call(db, "set_setting", "batch_target_ms", "10", "test")
    run = start(db)
    sizes = [batch_of(db, run)["rows_read"] for _ in range(25)]
    assert max(sizes) >= 30


def batch_of(db: Connection, run: int) -> dict[str, Any]:
    """One batch as the settings want it."""
    answer: dict[str, Any] = call(db, "backfill_batch", run)
    return answer


def test_a_table_without_statistics_is_read_by_its_index(db: Connection) -> None:
    prepare(db, 20_000)
    db.execute("select pg_stat_force_next_flush()")
    reads = (
        "select seq_scan, seq_tup_read from pg_stat_user_tables where relid ="
        " 'public.notes'::regclass"
    )
    before = rows(db, reads)
    assert one(db, "select reltuples from pg_class where oid = 'public.notes'::regclass") <= 0
    call(db, "set_setting", "batch_max_rows", "2000", "test")
    finish(db, start(db))
    db.execute("select pg_stat_force_next_flush()")
    ((scans, read),) = rows(db, reads)
    # Never the whole table for a batch; at most once to count it.
    assert read - before[0][1] <= 20_000, (scans, read, before)
    assert differences(db) == []


def test_a_run_starts_without_reading_the_table(db: Connection) -> None:
    prepare(db, 60_000)
    run = start(db)
    ((total,),) = rows(db, f"select rows_total from crossfade.runs where id = {run}")
    assert 20_000 < total < 180_000
    last = "select last_analyze from pg_stat_user_tables where relid = 'public.notes'::regclass"
    assert one(db, last) is None


@pytest.mark.parametrize("count", [0, 1, 777])
def test_the_rows_of_a_small_table_are_counted(db: Connection, count: int) -> None:
    prepare(db, count)
    run = start(db)
    assert rows(db, f"select rows_total from crossfade.runs where id = {run}") == [(count,)]


# Verification -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ranges", [1, 3])
@begins_with(create_notes)
def test_verify_of_rows_that_only_v2_has_goes_in_batches_too(db: Connection, ranges: int) -> None:
    with unmirrored(db):
        db.execute(
            "insert into public.notes_v2 (id, parts) select g, '[\"x\"]'"
            " from generate_series(1, 500) g"
        )
    call(db, "set_setting", "batch_max_rows", "50", "test")
    run = call(db, "start_verify", "notes", ranges)["run"]["id"]
    found = []
    for _ in range(200):
        answer = call(db, "verify_batch", run)
        found.append(answer["mismatches"])
        if answer["state"] == "finished":
            break
    assert sum(found) == 500
    assert max(found) <= 50
    assert one(db, "select count(*) from crossfade.mismatches where kind = 'missing_v1'") == 500


def test_a_row_for_which_its_converter_gives_none_is_no_difference(db: Connection) -> None:
    db.execute("""
        create table public.a (id bigint primary key, v text);
        create table public.b (id bigint primary key, v text);
        create function public.a_to_b(x public.a, o public.b) returns setof public.b
        language sql stable as $$ select x.id, x.v where x.v <> 'mine' $$;
        create function public.b_to_a(x public.b, o public.a) returns setof public.a
        language sql stable as $$ select x.id, x.v where x.v <> 'yours' $$;
        insert into public.a values (1, 'both'), (2, 'mine');
        insert into public.b values (3, 'yours');
        select crossfade.register_pair(
          'ab', 'public.a', 'public.b', 'public.a_to_b', 'public.b_to_a');
        select crossfade.set_stage('ab', 'dualwrite', 'test');
    """)
    finish(db, call(db, "start_backfill", "ab")["run"]["id"])
    assert rows(db, "select id from public.b order by 1") == [(1,), (3,)]
    run = call(db, "start_verify", "ab")["run"]["id"]
    call(db, "verify_batch", run)
    found = "select key, kind from crossfade.mismatches order by id"
    assert rows(db, found) == []
    # A counterpart that ought not to be there is one, and repair removes it.
    with unmirrored(db):
        db.execute("update public.a set v = 'mine' where id = 1")
    run = call(db, "start_verify", "ab")["run"]["id"]
    call(db, "verify_batch", run)
    assert rows(db, found) == [({"id": 1}, "different")]
    assert call(db, "repair", "ab")["repaired"] == 1
    assert rows(db, "select id from public.b order by 1") == [(3,)]


# Settings and paths -------------------------------------------------------------------------------


def test_rows_are_converted_alike_whatever_the_session_has_set(db: Connection) -> None:
    db.execute("""
        create table public.a (id timestamptz primary key, v bytea, d date, f float8, i interval);
        create table public.b (id timestamptz primary key, v text, d text, f text, i text);
        create function public.a_to_b(x public.a, o public.b) returns setof public.b
        language sql stable as $$
          select x.id, x.v::text, x.d::text, x.f::text, x.i::text $$;
        create function public.b_to_a(x public.b, o public.a) returns setof public.a
        language sql stable as $$
          select x.id, x.v::bytea, x.d::date, x.f::float8, x.i::interval $$;
        insert into public.a select '2026-01-01 00:00+00'::timestamptz + g * interval '1 day',
          decode('00ff', 'hex'), '2026-03-04', 0.1 + g, '1 day 02:00' from generate_series(1, 30) g;
        select crossfade.register_pair(
          'ab', 'public.a', 'public.b', 'public.a_to_b', 'public.b_to_a');
        select crossfade.set_stage('ab', 'dualwrite', 'test');
        set timezone = 'Asia/Tokyo'; set datestyle = 'SQL, DMY'; set intervalstyle = 'iso_8601';
        set extra_float_digits = -10; set bytea_output = 'escape';
    """)
    call(db, "set_setting", "batch_max_rows", "7", "test")
    finish(db, call(db, "start_backfill", "ab", "v1_to_v2", 2)["run"]["id"])
    assert rows(db, "select distinct v, d, i from public.b") == [
        ("\\x00ff", "2026-03-04", "1 day 02:00:00")
    ]
    assert one(db, "select max(length(f)) from public.b") <= 4
    db.execute("set timezone = 'America/Lima'; set intervalstyle = 'sql_standard'")
    run = call(db, "start_verify", "ab", 2)["run"]["id"]
    for _ in range(50):
        answer = call(db, "verify_batch", run)
        if answer["state"] == "finished":
            break
    assert answer["run"]["mismatches"] == 0, rows(db, "select * from crossfade.mismatches")
    with unmirrored(db):
        db.execute("delete from public.b where id = '2026-01-05 00:00+00'")
        db.execute("update public.b set d = '2020-01-01' where id = '2026-01-06 00:00+00'")
    run = call(db, "start_verify", "ab")["run"]["id"]
    for _ in range(50):
        answer = call(db, "verify_batch", run)
        if answer["state"] == "finished":
            break
    assert answer["run"]["mismatches"] == 2
    db.execute("reset all")
    assert call(db, "plan_repair", "ab")["remaining"] == 2
    db.execute("set timezone = 'Asia/Kolkata'; set datestyle = 'German'")
    assert call(db, "repair", "ab")["repaired"] == 2
    assert rows(db, "select distinct d from public.b") == [("2026-03-04",)]
    assert call(db, "check_conversion", "ab")["violations"] == []


PINNED = [
    "backfill_batch",
    "plan_pair",
    "plan_repair",
    "repair",
    "sample_keys",
    "start_backfill",
    "start_verify",
    "verify_batch",
    "verify_some",
]


@pytest.mark.parametrize("name", PINNED)
def test_functions_that_convert_rows_run_with_the_settings_of_the_mirror(
    scratch: Connection, name: str
) -> None:
    found = one(
        scratch, "select proconfig from pg_proc where oid = %s::regproc", f"crossfade.{name}"
    )
    assert set(found) >= {
        "TimeZone=UTC",
        "DateStyle=ISO, MDY",
        "IntervalStyle=postgres",
        "extra_float_digits=1",
        "bytea_output=hex",
    }


OWNERS = """
create schema app;
create table app.log (what text);
create table public.words (word text);
create function app.log_it() returns trigger language plpgsql as $$
begin
  insert into log values (tg_op);  -- as many owners write it: without a schema
  insert into words values (tg_op);
  return null;
end $$;
create table app.a (id bigint primary key, v text);
create table app.b (id bigint primary key, v text);
create function app.a_to_b(x app.a, o app.b) returns setof app.b
language sql stable as $$ select x.id, x.v $$;
create function app.b_to_a(x app.b, o app.a) returns setof app.a
language sql stable as $$ select x.id, x.v $$;
insert into app.a select g, 'v' from generate_series(1, 5) g;
create trigger log_it after insert or update or delete on app.b
for each row execute function app.log_it();
select crossfade.register_pair('ab', 'app.a', 'app.b', 'app.a_to_b', 'app.b_to_a');
select crossfade.set_stage('ab', 'dualwrite', 'test');
"""


def test_triggers_of_the_owner_find_their_tables_in_a_batch_and_in_a_repair(
    db: Connection,
) -> None:
    db.execute(OWNERS)
    path = one(db, "show search_path")
    finish(db, call(db, "start_backfill", "ab")["run"]["id"])
    assert one(db, "select count(*) from app.b") == 5
    with unmirrored(db):
        db.execute("update app.b set v = 'x' where id = 1; delete from app.b where id = 2")
        db.execute("insert into app.b values (9, 'only here')")
    run = call(db, "start_verify", "ab")["run"]["id"]
    call(db, "verify_batch", run)
    assert call(db, "repair", "ab", follower_only="delete")["repaired"] == 3
    wanted = [("DELETE", 1), ("INSERT", 6), ("UPDATE", 1)]
    for table, column in (("app.log", "what"), ("public.words", "word")):
        found = rows(db, f"select {column}, count(*) from {table} group by 1 order by 1")
        assert found == wanted
    assert one(db, "show search_path") == path
