"""Every kind of statement on either table reaches the other one, in the same transaction."""

from __future__ import annotations

import json
import threading

import psycopg
import pytest

from .conftest import Connect, Connection, begins_with, on_every_version
from .control import backfill, in_background, unmirrored, wait_for_waiters
from .notes_pair import create_notes, differences, rows
from .things_pair import verify

pytestmark = on_every_version

STATEMENTS = {
    "insert": "insert into public.notes (body, tag) values ('a', 'x')",
    "insert of many rows": """
        insert into public.notes (body) select 'n' || g from generate_series(1, 500) g""",
    "insert into v2": """insert into public.notes_v2 (parts, pinned) values ('["a", 1]', true)""",
    "insert of many rows into v2": """
        insert into public.notes_v2 (parts)
        select jsonb_build_array(g::text) from generate_series(1, 500) g""",
    "update": "update public.notes set body = body || '!' where id <= 3",
    "update of every row": "update public.notes set tag = 'all'",
    "update of v2": """update public.notes_v2 set parts = '["edited", 2]' where id <= 3""",
    "update to null": "update public.notes set tag = null",
    "update of a key": "update public.notes set id = id + 1000 where id <= 3",
    "update of every key": "update public.notes set id = id + 1000",
    "update of a v2 key": "update public.notes_v2 set id = id + 1000 where id <= 3",
    "delete": "delete from public.notes where id <= 3",
    "delete of every row": "delete from public.notes",
    "delete from v2": "delete from public.notes_v2 where id <= 3",
    "truncate": "truncate public.notes",
    "truncate of v2": "truncate public.notes_v2",
    "upsert that updates": """
        insert into public.notes (id, body) values (1, 'one'), (900, 'new')
        on conflict (id) do update set body = excluded.body""",
    "upsert that does nothing": """
        insert into public.notes (id, body) values (1, 'one'), (900, 'new')
        on conflict do nothing""",
    "upsert into v2": """
        insert into public.notes_v2 (id, parts) values (1, '["one"]'), (900, '["new"]')
        on conflict (id) do update set parts = excluded.parts""",
    "merge": """
        merge into public.notes n
        using (values (1, 'one'), (2, null), (900, 'new')) s (id, body) on n.id = s.id
        when matched and s.body is null then delete
        when matched then update set body = s.body
        when not matched then insert (id, body) values (s.id, s.body)""",
    "data-modifying cte": """
        with gone as (delete from public.notes where id <= 2 returning body)
        insert into public.notes (body) select body || ' again' from gone""",
}


@pytest.mark.parametrize("name", STATEMENTS)
@begins_with(create_notes)
def test_statement_reaches_the_other_table(db: Connection, name: str) -> None:
    db.execute(
        "insert into public.notes (body, tag) select 'n' || g, 't' from generate_series(1, 20) g"
    )
    before = rows(db, "select * from public.notes order by id")
    db.execute(STATEMENTS[name])
    assert differences(db) == []
    assert rows(db, "select * from public.notes order by id") != before or "nothing" in name
    assert rows(db, "select * from crossfade.mirror_failures") == []


@begins_with(create_notes)
def test_copy_is_mirrored(db: Connection) -> None:
    with db.cursor().copy("copy public.notes (body, tag) from stdin") as copy:
        for number in range(100):
            copy.write_row((f"row {number}", None))
    assert rows(db, "select count(*) from public.notes_v2") == [(100,)]
    assert differences(db) == []


@begins_with(create_notes, mirror=False)
def test_nothing_is_mirrored_while_off(db: Connection) -> None:
    db.execute("insert into public.notes (body) values ('a')")
    assert rows(db, "select count(*) from public.notes_v2") == [(0,)]


@begins_with(create_notes)
def test_an_edit_of_one_format_keeps_what_only_the_other_holds(db: Connection) -> None:
    db.execute(
        """insert into public.notes_v2 (id, parts, pinned) values (1, '["a", {"k": 1}]', true)"""
    )
    db.execute("update public.notes set tag = 'new' where id = 1")
    assert rows(db, "select parts, pinned, tag from public.notes_v2") == [
        (["a", {"k": 1}], True, "new")
    ]


@begins_with(create_notes)
def test_rolled_back_savepoint_leaves_both_tables_alone(db: Connection) -> None:
    with db.transaction():
        db.execute("insert into public.notes (id, body) values (1, 'kept')")
        db.execute("savepoint before")
        db.execute("update public.notes set body = 'lost'")
        db.execute("insert into public.notes (id, body) values (5, 'lost as well')")
        db.execute("rollback to savepoint before")
        db.execute("insert into public.notes (id, body) values (2, 'after')")
    assert rows(db, "select id, parts ->> 0 from public.notes_v2 order by id") == [
        (1, "kept"),
        (2, "after"),
    ]
    assert differences(db) == []


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
@begins_with(create_notes)
def test_every_isolation_level_is_mirrored(db: Connection, level: str) -> None:
    with db.transaction():
        db.execute(f"set transaction isolation level {level}")
        db.execute("insert into public.notes (id, body) values (1, 'a')")
        db.execute("""update public.notes_v2 set parts = '["b"]' where id = 1""")
    assert rows(db, "select body from public.notes") == [("b",)]
    assert differences(db) == []


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
@begins_with(create_notes, mirror=False)
def test_a_snapshot_older_than_the_switch_does_not_keep_a_write_from_the_mirror(
    db: Connection, connect: Connect, level: str
) -> None:
    writer = connect()
    writer.execute(f"begin isolation level {level}")
    writer.execute("select count(*) from crossfade_private.mirror_state")
    db.execute("select crossfade.set_stage('notes', 'dualwrite', 'test')")
    writer.execute("insert into public.notes (id, body) values (1, 'a')")
    writer.execute("commit")
    assert rows(db, "select id from public.notes_v2") == [(1,)]
    assert differences(db) == []


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
@begins_with(create_notes, mirror=False)
def test_a_statement_that_runs_while_the_mirror_is_switched_on_writes_nothing_past_it(
    db: Connection, connect: Connect, level: str
) -> None:
    # Its transaction has both tables, and the functions as they were, in use already.
    writer = connect()
    writer.execute(f"set default_transaction_isolation = '{level}'")
    loop = """
        do $$ begin
          for i in 1..8 loop
            perform pg_advisory_xact_lock(i);
            insert into public.notes (id, body) values (i, 'n');
          end loop;
        end $$
    """
    db.execute("select pg_advisory_lock(6)")
    with in_background(lambda: writer.execute(loop)):
        wait_for_waiters(db, 1)
        db.execute("select crossfade.set_stage('notes', 'dualwrite', 'test')")
        db.execute("select pg_advisory_unlock(6)")
    assert rows(db, "select count(*) from public.notes") == [(8,)]
    assert rows(db, "select id from public.notes_v2 order by id") == [(6,), (7,), (8,)]


# The owner's own triggers -------------------------------------------------------------------------


@begins_with(create_notes)
def test_write_by_the_owners_trigger_is_mirrored(db: Connection) -> None:
    db.execute("""
        create table public.inbox (body text);
        create function public.file_note() returns trigger language plpgsql as $$
        begin insert into public.notes (body) values (new.body); return null; end $$;
        create trigger file_note after insert on public.inbox
        for each row execute function public.file_note();
        insert into public.inbox values ('from a trigger');
    """)
    assert rows(db, "select parts ->> 0 from public.notes_v2") == [("from a trigger",)]


@pytest.mark.parametrize("count", [1, 50])
@begins_with(create_notes)
def test_trigger_that_changes_the_row_again_leaves_the_newest_version(
    db: Connection, count: int
) -> None:
    db.execute("""
        create function public.stamp() returns trigger language plpgsql as $$
        begin
          update public.notes set body = body || ' (stamped)'
          where id = new.id and body not like '%stamped%';
          return null;
        end $$;
        create trigger stamp after insert or update on public.notes
        for each row execute function public.stamp();
    """)
    db.execute(
        "insert into public.notes (body) select 'n' || g from generate_series(1, %s) g", [count]
    )
    db.execute("update public.notes set body = 'edited'")
    assert rows(db, "select distinct body from public.notes") == [("edited (stamped)",)]
    assert differences(db) == []


@begins_with(create_notes)
def test_trigger_on_v2_that_writes_v2_is_mirrored_back(db: Connection) -> None:
    db.execute("""
        create function public.shout() returns trigger language plpgsql as $$
        begin
          update public.notes_v2 set tag = upper(tag) where id = new.id and tag <> upper(tag);
          return null;
        end $$;
        create trigger shout after insert on public.notes_v2
        for each row execute function public.shout();
        insert into public.notes (body, tag) values ('a', 'quiet');
    """)
    assert rows(
        db, "select n.tag, v.tag from public.notes n join public.notes_v2 v using (id)"
    ) == [("QUIET", "QUIET")]


@begins_with(create_notes)
def test_trigger_that_drops_the_mirrored_row_is_recorded(db: Connection) -> None:
    db.execute("""
        create function public.drop_it() returns trigger language plpgsql as $$
        begin return null; end $$;
        create trigger drop_it before insert on public.notes_v2
        for each row execute function public.drop_it();
        insert into public.notes (id, body) values (1, 'a');
    """)
    assert rows(db, "select key, written_side, error_code from crossfade.mirror_failures") == [
        ({"id": 1}, 1, "CF017")
    ]


@begins_with(create_notes)
def test_cascade_from_a_parent_table_is_mirrored(db: Connection) -> None:
    db.execute("""
        create table public.people (id uuid primary key);
        alter table public.notes
          add foreign key (owner_id) references public.people on delete cascade;
        insert into public.people values ('00000000-0000-4000-8000-000000000001');
        insert into public.notes (body, owner_id)
        select 'n', '00000000-0000-4000-8000-000000000001' from generate_series(1, 20);
        delete from public.people;
    """)
    assert rows(db, "select count(*) from public.notes_v2") == [(0,)]


@pytest.mark.parametrize("table", ["notes", "notes_v2"])
@begins_with(create_notes)
def test_a_restore_in_replica_mode_is_not_mirrored_and_verify_finds_it(
    db: Connection, table: str
) -> None:
    # A dump brings both tables itself: mirrored, the second one would meet its rows already there.
    db.execute("insert into public.notes (id, body) values (1, 'a'), (2, 'b'), (3, 'c')")
    text = {"notes": "body", "notes_v2": "parts"}[table]
    with unmirrored(db):
        db.execute(f"delete from public.{table} where id = 1")
        db.execute(f"update public.{table} set tag = 'imported' where id = 2")
        db.execute(f"insert into public.{table} (id, {text}) values (4, '[]')")
    assert differences(db) == [
        (1, table == "notes", table == "notes_v2"),
        (2, False, False),
        (4, table == "notes_v2", table == "notes"),
    ]
    assert rows(db, "select * from crossfade.mirror_failures") == []
    assert verify(db, "notes") == 3


# Rights -------------------------------------------------------------------------------------------

USER = "00000000-0000-4000-8000-000000000001"


@begins_with(create_notes)
def test_user_without_rights_on_the_other_table_is_mirrored_past_rls(
    db: Connection, connect: Connect
) -> None:
    db.execute("revoke all on public.notes_v2 from authenticated")
    user = connect("authenticated", sub=USER)
    user.execute("insert into public.notes (body, owner_id) values ('mine', %s)", [USER])
    user.execute("update public.notes set body = 'edited'")
    assert rows(db, "select parts ->> 0, owner_id::text from public.notes_v2") == [("edited", USER)]
    user.execute("delete from public.notes")
    assert rows(db, "select count(*) from public.notes_v2") == [(0,)]


@begins_with(create_notes)
def test_empty_search_path_of_the_writer_does_not_matter(db: Connection) -> None:
    db.execute("set search_path = ''")
    db.execute("insert into public.notes (body) values ('a')")
    assert differences(db) == []


# Failures -----------------------------------------------------------------------------------------

LONG = "x" * 30


@begins_with(create_notes)
def test_failed_mirror_is_recorded_and_the_write_succeeds(db: Connection) -> None:
    db.execute("insert into public.notes (id, body, tag) values (1, 'a', %s)", [LONG])
    assert rows(
        db, "select key, written_side, operation, error_code from crossfade.mirror_failures"
    ) == [({"id": 1}, 1, "INSERT", "23514")]


@begins_with(create_notes)
def test_one_bad_row_of_many_costs_one_failure(db: Connection) -> None:
    db.execute(
        "insert into public.notes (id, body, tag) "
        "select g, 'n', case g when 7 then %s end from generate_series(1, 100) g",
        [LONG],
    )
    assert rows(db, "select key from crossfade.mirror_failures") == [({"id": 7},)]
    assert differences(db) == [(7, False, True)]


def test_policy_raise_refuses_the_write(db: Connection) -> None:
    create_notes(db, options='{"failure_policy": "raise"}')
    with pytest.raises(psycopg.errors.CheckViolation):
        db.execute("insert into public.notes (body, tag) values ('a', %s)", [LONG])
    assert rows(db, "select count(*) from public.notes") == [(0,)]


@begins_with(create_notes)
def test_repeated_failure_of_a_key_stays_one_open_row(db: Connection) -> None:
    db.execute("insert into public.notes (id, body, tag) values (1, 'a', %s)", [LONG])
    db.execute("update public.notes set body = 'b' where id = 1")
    assert rows(db, "select attempts, operation from crossfade.mirror_failures") == [(2, "UPDATE")]


# Two writers --------------------------------------------------------------------------------------


@begins_with(create_notes)
@pytest.mark.usefixtures("quick_deadlocks")
def test_writers_of_both_tables_end_equal_whatever_deadlocks(
    db: Connection, connect: Connect
) -> None:
    db.execute("insert into public.notes (id, body) select g, 'n' from generate_series(1, 3) g")
    deadlocks = []

    def write(connection: Connection, sql: str) -> None:
        for number in range(150):
            try:
                connection.execute(sql, [f"{number}", number % 3 + 1])
            except psycopg.errors.DeadlockDetected:
                deadlocks.append(number)

    threads = [
        threading.Thread(target=write, args=(connect(), sql))
        for sql in (
            "update public.notes set body = %s where id = %s",
            "update public.notes_v2 set parts = jsonb_build_array(%s::text) where id = %s",
        )
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    db.execute("select crossfade.repair('notes')")
    assert differences(db) == []
    assert rows(db, "select * from crossfade.mirror_failures where resolved_at is null") == []


# The fence ----------------------------------------------------------------------------------------


@begins_with(create_notes, opened=True)
def test_fence_refuses_api_writes_of_v2_and_nothing_else(db: Connection, connect: Connect) -> None:
    db.execute("select crossfade.engage_kill_switch('disable_v2_messages', 'test')")
    user = connect("authenticated", sub=USER)
    with pytest.raises(psycopg.Error) as refused:
        user.execute(
            """insert into public.notes_v2 (parts, owner_id) values ('["a"]', %s)""", [USER]
        )
    assert refused.value.sqlstate == "PT409"
    assert '"CF_FENCED"' in (refused.value.diag.message_detail or "")
    user.execute("insert into public.notes (body, owner_id) values ('by v1', %s)", [USER])
    db.execute("""insert into public.notes_v2 (parts) values ('["by the owner"]')""")
    assert rows(db, "select count(*) from public.notes_v2") == [(2,)]
    db.execute("select crossfade.release_kill_switch('disable_v2_messages', 'over')")
    user.execute("""insert into public.notes_v2 (parts, owner_id) values ('["b"]', %s)""", [USER])
    assert differences(db) == []


@begins_with(create_notes, opened=True)
def test_fence_holds_inside_a_definer_function_of_the_project(
    db: Connection, connect: Connect
) -> None:
    db.execute("""
        create function public.write_v2() returns void language sql security definer
        set search_path = '' as $$ insert into public.notes_v2 (parts) values ('["a"]') $$;
        select crossfade.engage_kill_switch('emergency_rollback', 'test');
    """)
    with pytest.raises(psycopg.Error) as refused:
        connect("service_role").execute("select public.write_v2()")
    assert refused.value.sqlstate == "PT409"
    assert '"CF_FENCED"' in (refused.value.diag.message_detail or "")


@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role"])
@begins_with(create_notes, mirror=False)
def test_v2_is_closed_to_api_roles_until_a_backfill_has_finished(
    db: Connection, connect: Connect, role: str
) -> None:
    # Who inserts the key of a row that V2 has not yet would take it over.
    db.execute("insert into public.notes (id, body) values (1, 'somebody else''s')")
    db.execute(
        "grant all on public.notes_v2 to anon; create policy p on public.notes_v2 to anon"
        " using (true)"
    )
    db.execute("""
        create function public.write_v2() returns void language sql security definer
        set search_path = '' as $$ insert into public.notes_v2 (id, parts) values (7, '["a"]') $$
    """)
    api = connect(role)
    statements = [
        """insert into public.notes_v2 (id, parts) values (1, '["mine"]')""",
        "update public.notes_v2 set tag = 'x'",
        "delete from public.notes_v2",
        "select public.write_v2()",
    ]

    def codes() -> set[str]:
        found = set()
        for statement in statements:
            with pytest.raises(psycopg.Error) as refused:
                api.execute(statement)
            assert refused.value.sqlstate == "PT409"
            found.add(json.loads(refused.value.diag.message_detail or "{}")["code"])
        return found

    assert codes() == {"CF_CLOSED"}
    db.execute("select crossfade.set_stage('notes', 'dualwrite', 'test')")
    assert codes() == {"CF_CLOSED"}
    # The other way first: that rows of V2 are in V1 does not say that those of V1 are in V2.
    backfill(db, "notes", direction="v2_to_v1")
    assert codes() == {"CF_CLOSED"}
    assert rows(db, "select last_backfill_at from crossfade.pairs") == [(None,)]
    backfill(db, "notes")
    api.execute("select public.write_v2()")
    assert rows(db, "select id from public.notes order by id") == [(1,), (7,)]
    assert differences(db) == []
    db.execute("select crossfade.set_stage('notes', 'off', 'test')")
    assert codes() == {"CF_CLOSED"}


@begins_with(create_notes, opened=True)
def test_rows_that_v2_kept_in_stage_off_open_nothing_before_a_verify_pass_is_clean(
    db: Connection, connect: Connect
) -> None:
    db.execute("insert into public.notes (id, body, tag) values (1, 'a', 'theirs'), (2, 'b', 'x')")
    db.execute("select crossfade.set_stage('notes', 'off', 'test')")
    # Nobody mirrors this: the key belongs to somebody else by now, and one row is gone.
    db.execute("update public.notes set tag = 'mine' where id = 1")
    db.execute("delete from public.notes where id = 2")
    with pytest.raises(psycopg.Error, match="are not mirrored"):
        db.execute("select crossfade.repair('notes')")
    db.execute("select crossfade.set_stage('notes', 'dualwrite', 'test')")
    backfill(db, "notes")
    api = connect("service_role")

    def is_open() -> bool:
        try:
            api.execute("update public.notes_v2 set pinned = true where tag = 'theirs'")
        except psycopg.Error as error:
            return '"CF_CLOSED"' not in (error.diag.message_detail or "")
        return True

    assert not is_open()
    assert verify(db, "notes") == 2
    db.execute("select crossfade.repair('notes', 500, 'test', 'delete')")
    assert not is_open()
    assert verify(db, "notes") == 0
    assert is_open()
    assert differences(db) == []


@begins_with(create_notes, opened=True)
def test_v2_is_closed_while_keys_are_only_noted_and_until_they_are_drained(
    db: Connection, connect: Connect
) -> None:
    api = connect("service_role")
    api.execute("""insert into public.notes_v2 (id, parts) values (1, '["a"]')""")

    def is_closed() -> bool:
        try:
            api.execute("update public.notes_v2 set pinned = true")
        except psycopg.Error as error:
            return '"CF_CLOSED"' in (error.diag.message_detail or "")
        return False

    assert not is_closed()
    db.execute("select crossfade.set_mirror('notes', 'log_only', 'test')")
    db.execute("insert into public.notes (id, body) values (2, 'b')")
    assert is_closed()
    db.execute("select crossfade.set_mirror('notes', 'both', 'test')")
    assert is_closed()
    db.execute("select crossfade.repair('notes')")
    assert not is_closed()
    assert differences(db) == []


@begins_with(create_notes, opened=True)
def test_no_v2_write_that_began_before_a_kill_commits_after_it(
    db: Connection, connect: Connect
) -> None:
    writer = connect("authenticated", sub=USER)
    writer.execute("begin")
    writer.execute("""insert into public.notes_v2 (parts, owner_id) values ('["a"]', %s)""", [USER])
    killer = connect()
    engaged = threading.Event()

    def engage() -> None:
        killer.execute("update crossfade.settings set value = '5000' where name = 'kill_wait_ms'")
        killer.execute("select crossfade.engage_kill_switch('disable_v2_messages', 'test')")
        engaged.set()

    thread = threading.Thread(target=engage)
    thread.start()
    assert not engaged.wait(0.3)
    writer.execute("commit")
    thread.join()
    with pytest.raises(psycopg.Error):
        writer.execute(
            """insert into public.notes_v2 (parts, owner_id) values ('["b"]', %s)""", [USER]
        )


LEVELS = ["read committed", "repeatable read", "serializable"]


@pytest.mark.parametrize("level", LEVELS)
@begins_with(create_notes, opened=True)
def test_kill_does_not_wait_longer_than_its_setting(
    db: Connection, connect: Connect, level: str
) -> None:
    writer = connect("authenticated", sub=USER)
    writer.execute(f"begin isolation level {level}")
    writer.execute("""insert into public.notes_v2 (parts, owner_id) values ('["a"]', %s)""", [USER])
    db.execute("update crossfade.settings set value = '100' where name = 'kill_wait_ms'")
    # Not a limit on speed: without one a kill that waits for the writer would wait for ever.
    db.execute("set statement_timeout = '10s'")
    (answer,) = rows(db, "select crossfade.engage_kill_switch('disable_v2_messages', 'test')")
    assert answer[0]["in_flight"] is True
    assert answer[0]["kill_switch"]["engaged"] is True
    writer.execute("rollback")


@pytest.mark.parametrize("level", LEVELS[1:])
@begins_with(create_notes, opened=True)
def test_a_snapshot_older_than_a_kill_cannot_write_past_it(
    db: Connection, connect: Connect, level: str
) -> None:
    writer = connect("authenticated", sub=USER)
    writer.execute(f"begin isolation level {level}")
    writer.execute("select count(*) from public.notes_v2")
    db.execute("select crossfade.engage_kill_switch('disable_v2_messages', 'test')")
    with pytest.raises(psycopg.errors.SerializationFailure):
        writer.execute(
            """insert into public.notes_v2 (parts, owner_id) values ('["b"]', %s)""", [USER]
        )
    writer.execute("rollback")
    assert rows(db, "select count(*) from public.notes_v2") == [(0,)]
