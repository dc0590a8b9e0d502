"""A run gets through: bad rows are recorded and passed, too large batches become smaller."""

from __future__ import annotations

import itertools

import psycopg
import pytest

from tests.sql.cases.pairs import (
    PLAIN,
    backfill,
    create,
    register,
    repair,
    settled,
    to_stage,
    unseen,
)
from tests.sql.conftest import Connect, Connection
from tests.sql.control import call, one
from tests.sql.notes_pair import rows
from tests.sql.things_pair import failures, verify

PARSE = """
create function public.parse(x text) returns text language plpgsql stable set search_path = '' as $$
begin
  if x like 'bad%' then
    {raise};
  end if;
  return x;
end $$
"""
RAISES = {
    "XX000": "raise exception using errcode = 'XX000', message = 'invalid memory alloc request'",
    "XX001": "raise exception using errcode = 'XX001', message = 'could not read block'",
    "XX002": "raise exception using errcode = 'XX002', message = 'index corrupted'",
    "P0001": "raise exception 'no'",
    "P0004": "assert false, 'no'",
    "22012": "perform 1 / 0",
    "22P02": "perform x::integer",
    "0A000": "raise exception using errcode = '0A000', message = 'not supported'",
    "42501": "raise exception using errcode = '42501', message = 'permission denied'",
    "21000": "perform (select v from (values (1), (2)) t(v))",
    "ABC12": "raise exception using errcode = 'ABC12', message = 'of their own'",
    "F0000": "raise exception using errcode = 'F0000', message = 'configuration file'",
}
PARSED = PLAIN.but(
    v1="id bigint primary key, body text",
    v2="id bigint primary key, body text, pinned boolean",
    to_v2="a.id, public.parse(a.body), o.pinned",
)


def parsed(code: str) -> str:
    return PARSE.replace("{raise}", RAISES[code])


@pytest.mark.parametrize("code", RAISES)
def test_a_row_that_fails_for_any_reason_is_recorded_and_passed(db: Connection, code: str) -> None:
    create(db, PARSED.but(before=parsed(code)))
    db.execute(
        "insert into public.things "
        "select g, case when g in (1, 30, 31, 100) then 'bad' else 'n' end "
        "from generate_series(1, 100) g"
    )
    register(db)
    to_stage(db, "dualwrite")
    assert backfill(db)["rows_done"] == 100
    bad = [1, 30, 31, 100]
    assert one(db, "select count(*) from public.things_v2") == 96
    assert sorted((key["id"], code) for key, _, code in failures(db)) == [(n, code) for n in bad]
    # Live writes of such rows, one and many, are recorded as well.
    db.execute("insert into public.things values (500, 'bad')")
    db.execute(
        "insert into public.things select g, case g when 610 then 'bad' else 'n' end "
        "from generate_series(600, 640) g"
    )
    db.execute("update public.things set body = 'bad' where id = 2")
    assert {key["id"] for key, _, _ in failures(db)} == {*bad, 500, 610, 2}
    assert one(db, "select count(*) from public.things_v2") == 96 + 40
    assert repair(db)["repaired"] == 0
    db.execute(PARSE.replace("create", "create or replace").replace("{raise}", "null"))
    register(db)  # what a converter calls is a part of it
    for _ in range(3):
        repair(db)
    assert len(settled(db)) == 100 + 1 + 41


@pytest.mark.parametrize("how", ["check", "trigger", "foreign key", "not null", "unique"])
@pytest.mark.parametrize("direction", ["v1_to_v2", "v2_to_v1"])
def test_a_row_that_the_other_table_refuses_is_recorded_and_passed(
    db: Connection, direction: str, how: str
) -> None:
    source, target = ("things", "things_v2")[:: 1 if direction == "v1_to_v2" else -1]
    create(db, PLAIN)
    db.execute(
        f"insert into public.{source} (id, body) "
        "select g, case when g % 40 = 3 then 'bad' else 'n' || g end from generate_series(1, 100) g"
    )
    mend = {
        "check": (f"alter table public.{target} add constraint fine check (body <> 'bad')",
                  f"alter table public.{target} drop constraint fine"),
        "trigger": ("create function public.refuse() returns trigger language plpgsql as $$ begin "
                    "if new.body = 'bad' then raise exception using errcode = 'XX000'; end if; "
                    f"return new; end $$; create trigger refuse before insert on public.{target} "
                    "for each row execute function public.refuse()",
                    f"drop trigger refuse on public.{target}"),
        "foreign key": ("create table public.words as select distinct body from "
                        f"public.{source} where body <> 'bad'; "
                        "alter table public.words add primary key (body); "
                        f"alter table public.{target} add constraint fine foreign key (body) "
                        "references public.words",
                        f"alter table public.{target} drop constraint fine"),
        "not null": (f"update public.{source} set body = null where body = 'bad'; "
                     f"alter table public.{target} alter body set not null",
                     f"alter table public.{target} alter body drop not null"),
        "unique": (f"alter table public.{target} add constraint fine unique (body)",
                   f"alter table public.{target} drop constraint fine"),
    }[how]  # fmt: skip
    db.execute(mend[0])
    register(db)
    to_stage(db, "dualwrite")
    assert backfill(db, direction=direction)["rows_done"] == 100
    bad = {43, 83} if how == "unique" else {3, 43, 83}
    assert {key["id"] for key, _, _ in failures(db)} == bad
    assert one(db, f"select count(*) from public.{target}") == 100 - len(bad)
    db.execute(mend[1])
    register(db)  # a column may be null now
    for _ in range(2):
        repair(db)
    assert len(settled(db)) == 100


def test_several_ranges_get_through_with_bad_rows_in_each(db: Connection) -> None:
    create(db, PARSED.but(before=parsed("XX000")))
    db.execute(
        "insert into public.things "
        "select g, case when g % 97 = 0 then 'bad' else 'n' end from generate_series(1, 2000) g"
    )
    db.execute("analyze public.things")
    register(db)
    to_stage(db, "dualwrite")
    run = call(db, "start_backfill", "things", "v1_to_v2", 4)["run"]["id"]
    for _ in range(200):
        if call(db, "backfill_batch", run)["state"] == "finished":
            break
    assert {key["id"] for key, _, _ in failures(db)} == set(range(97, 2001, 97))
    assert one(db, "select count(*) from public.things_v2") == 2000 - 20


@pytest.mark.parametrize("code", ["XX000", "P0004", "22012"])
def test_verify_and_check_get_through_rows_that_cannot_be_converted(
    db: Connection, code: str
) -> None:
    create(db, PARSED.but(before=parsed(code)))
    db.execute("insert into public.things select g, 'n' from generate_series(1, 100) g")
    register(db)
    to_stage(db, "dualwrite")
    backfill(db)
    with unseen(db):
        db.execute("update public.things set body = 'bad' where id in (7, 70)")
    assert verify(db, "things") == 2
    assert {key["id"] for (key,) in rows(db, "select key from crossfade.mismatches")} == {7, 70}
    found = call(db, "check_conversion", "things", 1)["violations"]
    assert {item["key"]["id"] for item in found if item["key"]} == {7, 70}


# Batches ------------------------------------------------------------------------------------------

# Ends a transaction that converts too many rows, as a statement timeout does: a clock that tells
# rows. Its counter is a setting of the transaction, so it starts again with the next batch.
TIMEOUT = """
create function public.parse(x text) returns text language plpgsql stable as $$
declare
  v_rows integer := coalesce(nullif(current_setting('test.rows', true), ''), '0')::integer + 1;
begin
  if v_rows > {limit} then
    raise exception using errcode = '57014', message = 'statement timeout';
  end if;
  perform set_config('test.rows', v_rows::text, true);
  return x;
end $$
"""


def batches(db: Connection, run: int, tries: int) -> list[str]:
    """Call batches as a worker does; a batch that was cancelled is called again."""
    states = []
    for _ in range(tries):
        try:
            states.append(call(db, "backfill_batch", run)["state"])
        except psycopg.errors.QueryCanceled:
            states.append("cancelled")
        if states[-1] == "finished":
            break
    return states


@pytest.mark.parametrize("limit", [12, 60, 400])
def test_a_batch_that_is_cancelled_is_tried_smaller(db: Connection, limit: int) -> None:
    create(db, PARSED.but(before=TIMEOUT.replace("{limit}", str(limit))))
    db.execute("insert into public.things select g, 'n' from generate_series(1, 1500) g")
    register(db)
    to_stage(db, "dualwrite")
    run = call(db, "start_backfill", "things")["run"]["id"]
    # A batch may convert a row more than once; ten times what is needed is still an end.
    states = batches(db, run, 60 + 10 * 1500 // limit)
    assert states[-1] == "finished", (states[-5:], rows(db, "select * from crossfade.run_ranges"))
    assert failures(db) == []
    assert len(settled(db)) == 1500


def test_a_worker_that_dies_in_a_batch_leaves_the_next_one_a_smaller_batch_or_the_same(
    db: Connection, connect: Connect
) -> None:
    create(db, PARSED.but(before=TIMEOUT.replace("{limit}", "60")))
    db.execute("insert into public.things select g, 'n' from generate_series(1, 500) g")
    register(db)
    to_stage(db, "dualwrite")
    run = call(db, "start_backfill", "things")["run"]["id"]
    # Each call is another worker: a new session that knows nothing of the ones before.
    for _ in range(150):
        worker = connect()
        state = batches(worker, run, 1)[0]
        worker.close()
        if state == "finished":
            break
    assert state == "finished"
    assert len(settled(db)) == 500


def test_the_first_batch_is_small_and_grows(db: Connection) -> None:
    create(db, PLAIN)
    db.execute("insert into public.things select g, 'n' from generate_series(1, 20000) g")
    register(db)
    to_stage(db, "dualwrite")
    run = call(db, "start_backfill", "things")["run"]["id"]
    done = [0]
    for _ in range(200):
        answer = call(db, "backfill_batch", run)
        done.append(int(answer["run"]["rows_done"]))
        if answer["state"] == "finished":
            break
    sizes = [after - before for before, after in itertools.pairwise(done)]
    assert 0 < sizes[0] <= 100
    assert max(sizes) > 500
    assert sum(sizes) == 20_000


def test_the_largest_batch_that_is_allowed_holds_for_the_first_one(db: Connection) -> None:
    create(db, PLAIN)
    db.execute("insert into public.things select g, 'n' from generate_series(1, 500) g")
    register(db)
    to_stage(db, "dualwrite")
    call(db, "set_setting", "batch_max_rows", "20", "test")
    run = call(db, "start_backfill", "things")["run"]["id"]
    before = 0
    for _ in range(100):
        answer = call(db, "backfill_batch", run)
        assert answer["run"]["rows_done"] - before <= 20
        before = answer["run"]["rows_done"]
        if answer["state"] == "finished":
            break
    assert before == 500


def test_a_slow_converter_gets_through_under_a_statement_timeout(db: Connection) -> None:
    create(
        db,
        PARSED.but(
            before="create function public.parse(x text) returns text language plpgsql stable as "
            "$$ begin perform pg_sleep(0.002); return x; end $$"
        ),
    )
    db.execute("insert into public.things select g, 'n' from generate_series(1, 600) g")
    register(db)
    to_stage(db, "dualwrite")
    run = call(db, "start_backfill", "things")["run"]["id"]
    # A few dozen rows a statement are possible, all rows at once are not.
    db.execute("set statement_timeout = '300ms'")
    states = batches(db, run, 150)
    db.execute("reset statement_timeout")
    assert states[-1] == "finished"
    assert len(settled(db)) == 600


# An open failure in the way -----------------------------------------------------------------------


def test_an_open_failure_makes_no_batch_smaller(db: Connection) -> None:
    sizes = []
    for bad in (False, True):
        if bad:
            call(db, "set_stage", "things", "off", "test")
            call(db, "unregister_pair", "things", "test")
            db.execute("drop table public.things, public.things_v2 cascade")
        create(db, PLAIN.but(after="alter table public.things_v2 add constraint fine "
                                   "check (body <> 'bad')"))  # fmt: skip
        db.execute("insert into public.things select g, 'n' from generate_series(1, 3000) g")
        register(db)
        to_stage(db, "dualwrite")
        if bad:
            db.execute("insert into public.things values (100000, 'bad')")
        call(db, "set_setting", "batch_target_ms", "60000", "test")
        run = call(db, "start_backfill", "things")["run"]["id"]
        calls = 0
        while call(db, "backfill_batch", run)["state"] != "finished":
            calls += 1
        sizes.append(calls)
        assert one(db, "select count(*) from public.things_v2") == 3000
    assert sizes[1] <= sizes[0] + 1
