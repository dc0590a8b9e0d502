"""The way back from complete: V2 leads until V1 is current again, whatever the operator tries."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from tests.sql.cases.pairs import (
    PLAIN,
    backfill,
    both,
    create,
    dualwrite,
    register,
    repair,
    to_stage,
)
from tests.sql.conftest import Connect, Connection, begins_with
from tests.sql.control import call, refused
from tests.sql.notes_pair import rows
from tests.sql.test_backfill import wait_until_blocked
from tests.sql.things_pair import failures, verify


def begin(db: Connection) -> None:
    """V1 is an archive of five rows, of which V2 has deleted one and changed another."""
    dualwrite(db)
    db.execute("insert into public.things select g, 'n' from generate_series(1, 5) g")
    to_stage(db, "complete")
    db.execute("delete from public.things_v2 where id = 3")
    db.execute("update public.things_v2 set body = 'new' where id = 4")


@pytest.mark.parametrize("reverse", [False, True], ids=["archive", "on the way back"])
@begins_with(begin)
def test_what_v2_has_deleted_never_comes_back_from_the_archive(
    db: Connection, reverse: bool
) -> None:
    if reverse:
        backfill(db, direction="v2_to_v1")
    before = rows(db, "select * from public.things_v2 order by id")
    with refused("CF005", 409) as refusal:
        call(db, "start_backfill", "things", "v1_to_v2")
    assert "rows that version 2 has deleted since would come back" in refusal.message
    verify(db, "things")
    repair(db)
    assert rows(db, "select * from public.things_v2 order by id") == before


@begins_with(begin)
def test_back_in_rampdown_both_tables_are_what_v2_was(db: Connection) -> None:
    before = rows(db, "select id, body from public.things_v2 order by id")
    backfill(db, direction="v2_to_v1")
    assert verify(db, "things") == 2
    assert repair(db, follower_only="delete")["remaining"] == 0
    assert verify(db, "things") == 0
    call(db, "set_stage", "things", "rampdown", "test")
    assert both(db, "id, body") == before
    backfill(db)
    assert both(db, "id, body") == before


@pytest.mark.parametrize(
    "statement",
    ["update public.things_v2 set body = 'newer' where id = 4",
     "insert into public.things_v2 (id, body) values (9, 'newer')"],
    ids=["update", "insert"],
)  # fmt: skip
@begins_with(begin)
def test_a_writer_of_v2_under_whom_rampdown_is_entered_is_not_refused(
    db: Connection, connect: Connect, statement: str
) -> None:
    backfill(db, direction="v2_to_v1")
    verify(db, "things")
    repair(db, follower_only="delete")
    assert verify(db, "things") == 0
    operator, writer = connect(), connect()
    operator.execute("begin")
    operator.execute("lock table public.things in access exclusive mode")
    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(writer.execute, statement)
        # Its trigger has read that the archive takes whole rows, and waits to write one.
        wait_until_blocked(db, writer.info.backend_pid)
        call(operator, "set_stage", "things", "rampdown", "test")
        operator.execute("commit")
        written.result()
    assert failures(db) == []
    assert both(db, "id, body") == rows(db, "select id, body from public.things_v2 order by id")
    assert len(rows(db, "select from public.things_v2 where body = 'newer'")) == 1


SIBLING = """
  create function public.tell() returns trigger language plpgsql as $$ begin
    update public.things set body = 'told' where id = 1;
    return null;
  end $$;
  create trigger tell after update on public.things for each row
  when (new.id <> 1) execute function public.tell()
"""


@pytest.mark.parametrize("policy", ["record", "raise"])
def test_what_the_archive_refuses_on_the_way_back_fails_no_writer_of_v2(
    db: Connection, policy: str
) -> None:
    create(db, PLAIN)
    db.execute(SIBLING)
    register(db, failure_policy=policy)
    db.execute("insert into public.things select g, 'n' from generate_series(1, 5) g")
    call(db, "ignore_dependents", "things", '{"tell on public.things"}', "only V1 needs it")
    to_stage(db, "complete")
    backfill(db, direction="v2_to_v1")
    db.execute("update public.things_v2 set body = 'by v2' where id = 2")
    assert failures(db) == [({"id": 2}, "UPDATE", "PT409")]
    assert repair(db)["remaining"] == 0
    verify(db, "things")
    assert repair(db)["remaining"] == 0
    assert verify(db, "things") == 0
    call(db, "set_stage", "things", "rampdown", "test")
    assert both(db, "id, body")[:2] == [(1, "n"), (2, "by v2")]


SIBLINGS = PLAIN.but(
    v1="id bigint primary key, body text, edited timestamptz",
    v2="id bigint primary key, body text, edited timestamptz, pinned boolean",
    to_v2="a.id, a.body, a.edited, o.pinned",
    to_v1="b.id, b.body, b.edited",
    after="""
      create function public.touch() returns trigger language plpgsql as $$ begin
        new.edited := clock_timestamp(); return new;
      end $$;
      create trigger touch before insert or update on public.things
        for each row execute function public.touch();
      create function public.tell_siblings() returns trigger language plpgsql as $$ begin
        if pg_trigger_depth() < 5 then
          update public.things set body = body || '+' where id <> coalesce(new.id, old.id);
          insert into public.things values (coalesce(new.id, old.id) + 100, 'made')
            on conflict (id) do nothing;
          delete from public.things where id > 250;
        end if;
        return null;
      end $$;
      create trigger tell_siblings after insert or update or delete on public.things
        for each row execute function public.tell_siblings();
    """,
)


def siblings(db: Connection) -> None:
    """As begin, and each row of V1 that is written writes the others."""
    create(db, SIBLINGS)
    db.execute("alter table public.things disable trigger tell_siblings")
    db.execute("insert into public.things values (1, 'a'), (2, 'b'), (3, 'c')")
    register(db)
    to_stage(db, "complete")
    db.execute("alter table public.things enable trigger tell_siblings")
    db.execute("update public.things_v2 set body = 'new' where id < 3")
    db.execute("delete from public.things_v2 where id = 3")
    db.execute("insert into public.things_v2 (id, body) values (4, 'four')")


@pytest.mark.parametrize("late", [False, True], ids=["before", "on the way back as well"])
@begins_with(siblings)
def test_triggers_of_v1_that_write_v1_do_not_bar_the_way_back(db: Connection, late: bool) -> None:
    wanted = [(1, "new"), (2, "new"), (4, "four")]
    backfill(db, direction="v2_to_v1")
    if late:  # a writer of V2 is told of nothing; a repair brings it to V1
        db.execute("update public.things_v2 set body = 'late' where id = 1")
        wanted[0] = (1, "late")
    assert verify(db, "things") == 3
    repair(db, follower_only="delete")
    assert verify(db, "things") == 0
    assert both(db, "id, body, edited") == rows(
        db, "select id, body, edited from public.things_v2 order by id"
    )
    assert rows(db, "select id, body from public.things order by id") == wanted
    assert failures(db) == []
    call(db, "set_stage", "things", "rampdown", "test")
    # From here on they are news, as before.
    db.execute("update public.things_v2 set body = 'again' where id = 1")
    both(db, "id, body, edited")
    found = rows(db, "select body from public.things_v2 where id = 4")
    assert found[0][0].startswith("four+")


def test_a_trigger_of_v1_that_writes_v2_does_not_edit_the_leader_on_the_way_back(
    db: Connection,
) -> None:
    create(db, PLAIN)
    db.execute("insert into public.things values (1, 'a'), (2, 'b')")
    register(db)
    to_stage(db, "complete")
    db.execute("""
      create function public.tell_v2() returns trigger language plpgsql as $$ begin
        update public.things_v2 set body = body || '+' where id = new.id;
        return null;
      end $$;
      create trigger tell_v2 after insert or update on public.things
        for each row execute function public.tell_v2()""")
    db.execute("update public.things_v2 set body = 'new' where id = 1")
    db.execute("insert into public.things_v2 (id, body) values (3, 'three')")
    backfill(db, direction="v2_to_v1")
    verify(db, "things")
    assert repair(db)["remaining"] == 0
    assert verify(db, "things") == 0
    call(db, "set_stage", "things", "rampdown", "test")
    assert both(db, "id, body") == [(1, "new"), (2, "b"), (3, "three")]
    call(db, "set_stage", "things", "off", "test")
    call(db, "unregister_pair", "things", "test")
    left = """select tgname from pg_trigger
      where tgrelid in ('public.things'::regclass, 'public.things_v2'::regclass)"""
    assert rows(db, left) == [("tell_v2",)]


@begins_with(begin)
def test_what_the_archive_refused_is_recorded_also_when_the_stage_has_changed_since(
    db: Connection,
) -> None:
    backfill(db, direction="v2_to_v1")
    verify(db, "things")
    repair(db, follower_only="delete")
    assert verify(db, "things") == 0
    call(db, "set_stage", "things", "rampdown", "test")
    # Between the refusal and this call another session has left the way back.
    db.execute("update crossfade_private.mirror_state set failure_policy = 'raise'")
    refuse = """select crossfade_private.refuse_or_record(
      'things', 2, '{"id": 1}', 'UPDATE', 'PT409', 'Cannot write', %s)"""
    db.execute(refuse, ["crossfade_archive"])
    assert failures(db) == [({"id": 1}, "UPDATE", "PT409")]
    with pytest.raises(psycopg.Error, match="Cannot write"):
        db.execute(refuse, ["somebody_elses"])


@pytest.mark.parametrize("action", ["cascade", "set null"])
def test_foreign_keys_of_the_archive_do_their_work_on_the_way_back(
    db: Connection, action: str
) -> None:
    parent = f"parent bigint references public.{{t}} on delete {action}"
    columns = "id bigint primary key, body text, "
    create(
        db,
        PLAIN.but(
            v1=columns + parent.format(t="things"),
            v2=columns + parent.format(t="things_v2"),
            to_v2="a.*",
            to_v1="b.*",
        ),
    )
    db.execute("insert into public.things values (1, 'a', null), (2, 'b', 1), (3, 'c', 2)")
    register(db)
    to_stage(db, "complete")
    db.execute("delete from public.things_v2 where id = 1")
    backfill(db, direction="v2_to_v1")
    for _ in range(3):
        verify(db, "things")
        repair(db, follower_only="delete")
    assert verify(db, "things") == 0
    assert both(db, "id, body, parent") == (
        [] if action == "cascade" else [(2, "b", None), (3, "c", 2)]
    )
    call(db, "set_stage", "things", "rampdown", "test")
