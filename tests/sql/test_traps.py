"""Traps of dual writing by triggers: each has a test, where TRAPS says.

A trap is a way in which such a mirror is known to lose, repeat or block writes. Comments above the
groups say what goes wrong without care; names of tests are claims about what happens here.
"""

from __future__ import annotations

import ast
from pathlib import Path

import psycopg
import pytest

from tests.sql.conftest import Connect, Connection, begins_with
from tests.sql.control import call, in_background, one, open_v2, refused
from tests.sql.notes_pair import REGISTER, TABLES, create_notes, differences, rows
from tests.sql.things_pair import ADA, LONG, acting_as, failures, pair_of, verify

# Trap -> where it is tested. A name without a file is a test of this one.
TRAPS = {
    "guard: a setting that was never set is null and one that was reset is ''": (
        "test_guard_works_in_a_fresh_session_after_use_and_after_an_error"
    ),
    "guard: trigger depth hides writes of the owner's triggers": (
        "test_mirror::test_write_by_the_owners_trigger_is_mirrored"
    ),
    "guard: deferred triggers loop for ever": "test_pairs::test_registration_refuses",
    "guard: our own triggers are immediate": "test_mirror_triggers_are_immediate_and_ordinary",
    "guard: a deferred trigger that is added later": (
        "test_a_deferred_trigger_added_later_does_not_loop"
    ),
    "guard: a session can forge settings": "test_no_setting_switches_the_mirror_off",
    "guard: one for all pairs hides nested pairs": "test_pairs_that_write_each_other_are_mirrored",
    "guard: rows are older than a nested write": (
        "test_an_owners_trigger_that_writes_the_other_table_is_not_overwritten"
    ),
    "guard: a nested write of a row whose turn comes later": (
        "test_a_trigger_on_mirrored_rows_may_change_rows_whose_turn_comes_later"
    ),
    "guard: mirrored writes that change nothing": "test_an_equal_row_is_not_written_again",
    "locks: two writers of one row": (
        "test_mirror::test_writers_of_both_tables_end_equal_whatever_deadlocks"
    ),
    "locks: the loser of a deadlock": "test_the_loser_of_a_deadlock_is_told_and_nothing_is_lost",
    "locks: DDL behind a long query": "test_registering_lets_readers_pass",
    "locks: removing takes the exclusive lock": "test_only_removing_locks_readers_out",
    "locks: a way back that needs DDL": "test_stages_and_rollback_take_no_lock_on_tables",
    "locks: DDL that waits for ever": "test_statements_that_change_tables_give_up_waiting",
    "backfill: a deleted row rises again": (
        "test_backfill::test_writer_waits_for_the_batch_that_copies_its_row"
    ),
    "backfill: a deleter with an old snapshot": (
        "test_backfill::test_deleter_with_an_old_snapshot_leaves_no_zombie"
    ),
    "backfill: an updater with an old snapshot": (
        "test_an_updater_with_an_old_snapshot_fails_instead_of_leaving_a_stale_copy"
    ),
    "backfill: an update before the copy": (
        "test_backfill::test_backfill_does_not_overwrite_what_v2_holds"
    ),
    "backfill: writers that began before the triggers": (
        "test_backfill::test_batches_wait_for_writers_older_than_the_switch"
    ),
    "backfill: inserts keep it going for ever": (
        "test_backfill::test_rows_inserted_after_the_first_batch_do_not_keep_it_going"
    ),
    "backfill: a crash in the middle": (
        "test_backfill::test_backfill_resumes_after_the_last_committed_batch"
    ),
    "keys: DELETE, TRUNCATE and updates of keys": (
        "test_mirror::test_statement_reaches_the_other_table"
    ),
    "keys: TRUNCATE ... CASCADE": (
        "test_worked_pairs::test_cascades_empty_both_tables_and_report_nothing"
    ),
    "keys: a delete or truncate that the other table refuses": (
        "test_what_the_other_table_refuses_to_delete_is_recorded"
    ),
    "keys: a key change that the other table refuses": (
        "test_a_key_change_that_is_refused_is_recorded_for_both_keys"
    ),
    "keys: an update of a key that is generated always": (
        "test_a_key_that_is_generated_always_can_be_changed_in_v2"
    ),
    "upsert: the loser of ON CONFLICT DO NOTHING": (
        "test_the_loser_of_on_conflict_do_nothing_reaches_no_table"
    ),
    "upsert: MERGE and upserts": "test_mirror::test_statement_reaches_the_other_table",
    "upsert: COPY": "test_mirror::test_copy_is_mirrored",
    "upsert: another unique violation is swallowed": (
        "test_another_unique_violation_is_recorded_and_repaired"
    ),
    "upsert: unique values move in the order of the statements": (
        "test_unique_values_move_in_statement_order"
    ),
    "upsert: unique values are swapped by one statement": (
        "test_unique_values_swapped_by_one_statement"
    ),
    "replication: session_replication_role is replica": (
        "test_mirror::test_a_restore_in_replica_mode_is_not_mirrored_and_verify_finds_it"
    ),
    "replication: a subscription fires no statement triggers": (
        "test_a_table_fed_by_logical_replication_is_refused"
    ),
    "rls: updates that match no row": (
        "test_mirror::test_user_without_rights_on_the_other_table_is_mirrored_past_rls"
    ),
    "rls: FORCE with an owner that it binds": (
        "test_pairs::test_row_level_security_that_binds_the_owner_is_refused_without_bypass"
    ),
    "rls: FORCE with an owner past it": (
        "test_forced_row_level_security_does_not_hide_mirrored_rows"
    ),
    "rls: every role": "test_every_role_is_mirrored_both_ways",
    "rls: who am I inside a definer function": "test_triggers_on_mirrored_rows_know_the_user",
    "rls: search_path of the writer": (
        "test_mirror::test_empty_search_path_of_the_writer_does_not_matter"
    ),
    "rls: internal functions offered as RPC": "test_nobody_may_execute_generated_functions",
    "rls: a write that changed no row": (
        "test_mirror::test_trigger_that_drops_the_mirrored_row_is_recorded"
    ),
    "columns: equal by =, and not the same": (
        "test_traps_columns::test_a_change_that_equality_does_not_see_is_mirrored"
    ),
    "columns: collations that ignore case": (
        "test_traps_columns::test_a_change_of_case_alone_is_mirrored"
    ),
    "columns: one note of a key in any session": (
        "test_traps_columns::test_a_key_is_noted_once_whatever_the_session"
    ),
    "columns: generated": "test_worked_pairs::test_amounts_and_generated_columns_agree",
    "columns: identity always and its sequence": (
        "test_worked_pairs::test_native_rows_of_both_tables_never_collide"
    ),
    "columns: identity always outside the key": (
        "test_traps_columns::test_identity_outside_the_key_is_mirrored"
    ),
    "columns: added after registration": (
        "test_traps_columns::test_a_column_added_later_is_never_silently_lost"
    ),
    "columns: changed while a run goes on": "test_backfill::test_changed_table_stops_the_run",
    "columns: json has no equality": (
        "test_traps_columns::test_json_written_otherwise_in_one_table_is_found"
    ),
    "columns: json that jsonb refuses": (
        "test_traps_columns::test_json_that_jsonb_refuses_can_be_verified"
    ),
    "columns: text of times and floats": (
        "test_traps_columns::test_session_settings_make_no_difference"
    ),
    "columns: keys that travel as text": (
        "test_traps_columns::test_keys_of_any_type_survive_session_settings"
    ),
    "columns: keys whose text no other session reads": (
        "test_traps_columns::test_keys_whose_text_depends_on_the_session_are_refused"
    ),
    "columns: types of extensions": "test_traps_columns::test_types_of_extensions_are_compared",
    "columns: values out of line": (
        "test_traps_columns::test_an_update_keeps_values_that_are_stored_out_of_line"
    ),
    "foreign keys: parent and child": (
        "test_worked_pairs::test_parent_and_children_in_one_transaction"
    ),
    "foreign keys: the child's pair before the parent's": (
        "test_traps_columns::test_a_child_is_not_opened_before_its_parent"
    ),
    "foreign keys: the application defers them": (
        "test_traps_columns::test_a_deferred_foreign_key_lets_the_child_come_first"
    ),
    "foreign keys: backfill of the child first": (
        "test_traps_columns::test_backfill_of_the_child_first_is_refused"
    ),
    "foreign keys: cascades on both sides": (
        "test_worked_pairs::test_cascades_empty_both_tables_and_report_nothing"
    ),
    "foreign keys: cascades behind the fence": (
        "test_traps_columns::test_a_mirrored_cascade_passes_the_fence"
    ),
    "foreign keys: initially deferred": "test_pairs::test_registration_refuses",
    "partitions": "test_pairs::test_registration_refuses",
    "policy: a converter that raises": (
        "test_traps_columns::test_a_converter_that_raises_stops_nobody"
    ),
    "policy: one bad row of many": "test_mirror::test_one_bad_row_of_many_costs_one_failure",
    "policy: a subtransaction for every row": (
        "test_traps_columns::test_many_rows_cost_few_subtransactions"
    ),
    "plans: one for many rows is used for one row": (
        "test_traps_columns::test_single_rows_are_fast_after_many_rows"
    ),
}


def named_tests(path: Path) -> set[str]:
    return {
        node.name
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_every_trap_has_its_test() -> None:
    folder = Path(__file__).parent
    missing = []
    for trap, place in TRAPS.items():
        file, _, name = place.rpartition("::")
        if name not in named_tests(folder / f"{file or Path(__file__).stem}.py"):
            missing.append((trap, place))
    assert missing == []
    listed = {place.rpartition("::")[2] for place in TRAPS.values()}
    files = folder.glob("test_traps*.py")
    here = set().union(*map(named_tests, files)) - {"test_every_trap_has_its_test"}
    assert here <= listed, "a trap without a line in the table"


@pytest.fixture
def notes(scratch: Connection) -> Connection:
    """The notes pair, mirrored both ways, in a transaction that is rolled back."""
    create_notes(scratch)
    return scratch


# 6.1 Guards against echo. Without one, two triggers write each other for ever; with a bad one some
# writes are not mirrored at all.


@pytest.mark.parametrize("table", ["notes", "notes_v2"])
@begins_with(create_notes, options='{"failure_policy": "raise"}')
def test_guard_works_in_a_fresh_session_after_use_and_after_an_error(
    db: Connection, connect: Connect, table: str
) -> None:
    column, value = ("body", "'a'") if table == "notes" else ("parts", "'[\"a\"]'")
    insert = f"insert into public.{table} ({column}) values ({value})"
    session = connect()
    session.execute(insert)  # never set
    session.execute(insert)  # reset by the end of a transaction
    with session.transaction():
        with pytest.raises(psycopg.errors.CheckViolation), session.transaction():
            session.execute("insert into public.notes (body, tag) values ('b', %s)", [LONG])
        session.execute(insert)  # restored by the savepoint
        other = "notes_v2" if table == "notes" else "notes"
        session.execute(f"update public.{other} set tag = 'back'")
    assert one(db, "select count(*) from public.notes where tag = 'back'") == 3
    assert differences(db) == []


def test_mirror_triggers_are_immediate_and_ordinary(notes: Connection) -> None:
    found = rows(
        notes,
        "select distinct tgdeferrable, tgenabled::text from pg_trigger "
        "where tgname like 'crossfade\\_mirror%'",
    )
    assert found == [(False, "O")]


@begins_with(create_notes)
def test_a_deferred_trigger_added_later_does_not_loop(db: Connection) -> None:
    db.execute("""
        create function public.late() returns trigger language plpgsql as $$
        begin
          update public.notes_v2 set tag = 'late' where id = new.id and tag is null;
          return null;
        end $$;
        create constraint trigger late after insert or update on public.notes
        deferrable initially deferred for each row execute function public.late();
        set statement_timeout = '5s'
    """)
    db.execute("insert into public.notes (body) select 'n' from generate_series(1, 20)")
    assert rows(db, "select distinct tag from public.notes") == [("late",)]
    assert differences(db) == []


SETTINGS = """
select distinct m[1] from pg_proc p
cross join lateral regexp_matches(p.prosrc, '(crossfade\\.[a-z0-9_]+)''', 'g') m
where p.pronamespace = 'crossfade_private'::regnamespace
"""
"""Every setting of ours that a function of the engine or of a pair's mirror names."""


@pytest.mark.parametrize("value", ["on", "1", "engine", "2", '{"1": {"id": 2}}'])
def test_no_setting_switches_the_mirror_off(notes: Connection, value: str) -> None:
    # Whoever may run SQL may set any of them.
    names = {name for (name,) in rows(notes, SETTINGS)} | {"crossfade.echo_notes_v1"}
    assert {"crossfade.mark_notes", "crossfade.moves_notes_v1"} <= names
    for name in names:
        for setting in (name, *(f"{name}{depth}" for depth in range(4))):
            notes.execute("select set_config(%s, %s, true)", [setting, value])
    notes.execute("insert into public.notes (id, body) select g, 'n' from generate_series(1, 9) g")
    notes.execute("insert into public.notes_v2 (id, parts) values (11, '[\"n\"]')")
    notes.execute("update public.notes set body = 'edited' where id < 5")
    notes.execute("update public.notes_v2 set parts = '[\"by v2\"]' where id between 3 and 7")
    notes.execute("update public.notes set id = id + 100 where id in (1, 3)")
    notes.execute("update public.notes_v2 set id = id + 100 where id in (2, 4)")
    notes.execute("delete from public.notes where id in (6, 101)")
    notes.execute("delete from public.notes_v2 where id in (7, 102)")
    assert rows(notes, "select id, body from public.notes order by id") == [
        (5, "by v2"), (8, "n"), (9, "n"), (11, "n"), (103, "by v2"), (104, "by v2"),
    ]  # fmt: skip
    assert differences(notes) == []
    assert failures(notes) == []


def test_pairs_that_write_each_other_are_mirrored(notes: Connection) -> None:
    pair_of(
        notes,
        "id bigint primary key, body text",
        "id bigint primary key, body jsonb",
        "a.id, to_jsonb(a.body)",
        "b.id, b.body #>> '{}'",
    )
    # On the V2 table: it fires inside the mirrored write of the first pair.
    notes.execute("""
        create function public.count_it() returns trigger language plpgsql as $$
        begin
          insert into public.things values (new.id, 'from ' || tg_table_name);
          update public.things_v2 set body = '"changed"' where id = new.id and new.id % 2 = 0;
          return null;
        end $$;
        create trigger count_it after insert on public.notes_v2
        for each row execute function public.count_it();
        insert into public.notes (id, body) select g, 'n' from generate_series(1, 12) g
    """)
    for table, body in {"things": "body", "things_v2": "body #>> '{}'"}.items():
        assert rows(
            notes, f"select {body}, count(*) from public.{table} group by 1 order by 1"
        ) == [
            ("changed", 6),
            ("from notes_v2", 6),
        ]
    assert differences(notes) == []


@pytest.mark.parametrize("count", [1, 3, 30])
def test_an_owners_trigger_that_writes_the_other_table_is_not_overwritten(
    notes: Connection, count: int
) -> None:
    notes.execute(
        "insert into public.notes (id, body) select g, 'n' from generate_series(1, %s) g", [count]
    )
    notes.execute("""
        create function public.pin_it() returns trigger language plpgsql as $$
        begin
          update public.notes_v2 set pinned = true, tag = 'pinned' where id = new.id;
          return null;
        end $$;
        create trigger pin_it after update of body on public.notes
        for each row when (new.body <> old.body) execute function public.pin_it();
        update public.notes set body = 'edited'
    """)
    both = "select distinct a.tag, b.tag, a.body, b.parts ->> 0, b.pinned "
    assert rows(notes, f"{both} from public.notes a join public.notes_v2 b using (id)") == [
        ("pinned", "pinned", "edited", "edited", True)
    ]
    assert differences(notes) == []


@pytest.mark.parametrize("count", [3, 30])
def test_a_trigger_on_mirrored_rows_may_change_rows_whose_turn_comes_later(
    notes: Connection, count: int
) -> None:
    notes.execute(
        "insert into public.notes (id, body) select g, 'n' from generate_series(1, %s) g", [count]
    )
    notes.execute("""
        create function public.mark_next() returns trigger language plpgsql as $$
        begin
          update public.notes set tag = 'after ' || new.id where id = new.id + 1;
          return null;
        end $$;
        create trigger mark_next after update of body on public.notes
        for each row when (new.body <> old.body) execute function public.mark_next();
        update public.notes_v2 set parts = '["edited"]'
    """)
    assert differences(notes) == []
    assert one(notes, "select tag from public.notes where id = %s", count) == f"after {count - 1}"
    assert rows(notes, "select distinct body from public.notes") == [("edited",)]


@pytest.mark.parametrize("count", [1, 30])
@begins_with(create_notes)
def test_an_equal_row_is_not_written_again(db: Connection, count: int) -> None:
    db.execute("insert into public.notes (body) select 'n' from generate_series(1, %s)", [count])
    before = rows(db, "select id, xmin::text from public.notes_v2 order by id")
    db.execute("update public.notes set body = body")
    assert rows(db, "select id, xmin::text from public.notes_v2 order by id") == before


# 6.2 Locks. A mirror writes two tables, so it can deadlock or queue where one write could not.


@begins_with(create_notes)
def test_the_loser_of_a_deadlock_is_told_and_nothing_is_lost(
    db: Connection, connect: Connect
) -> None:
    # Recorded instead, its write would be committed in one table and undo the winner's in repair.
    db.execute("insert into public.notes (id, body) values (1, 'n'), (2, 'n')")
    first, second = connect(), connect()
    writes = {
        first: "update public.notes set body = 'by v1' where id = {}",
        second: "update public.notes_v2 set parts = '[\"by v2\"]' where id = {}",
    }
    losers = []

    def write(connection: Connection, key: int) -> None:
        try:
            connection.execute(writes[connection].format(key))
            connection.execute("commit")
        except psycopg.errors.DeadlockDetected:
            losers.append(connection)

    for connection, key in ((first, 1), (second, 2)):
        connection.execute("begin")
        connection.execute(writes[connection].format(key))
    with in_background(lambda: write(first, 2)), in_background(lambda: write(second, 1)):
        pass
    assert len(losers) == 1
    won = "by v2" if losers == [first] else "by v1"
    assert rows(db, "select distinct body from public.notes") == [(won,)]
    assert differences(db) == []
    assert rows(db, "select * from crossfade.mirror_failures") == []


def locks(db: Connection) -> set[tuple[str, str]]:
    """Modes that this session holds on the tables of the pair."""
    found = rows(
        db,
        "select c.relname::text, l.mode from pg_locks l join pg_class c on c.oid = l.relation "
        "where l.pid = pg_backend_pid() and l.granted and c.relname in ('notes', 'notes_v2')",
    )
    return {(table, mode) for table, mode in found}


@begins_with(create_notes)
def test_registering_lets_readers_pass(db: Connection, connect: Connect) -> None:
    reader = connect()
    reader.execute("begin")
    reader.execute("select from public.notes, public.notes_v2")
    with db.transaction(force_rollback=True):
        db.execute(REGISTER, ["{}"])
        strongest = {mode for _, mode in locks(db)} - {"AccessShareLock"}
        assert strongest == {"ShareRowExclusiveLock"}
        reader.execute("select from public.notes, public.notes_v2")


@begins_with(create_notes, mirror=False)
def test_only_removing_locks_readers_out(db: Connection) -> None:
    with db.transaction(force_rollback=True):
        call(db, "unregister_pair", "notes", "over")
        for table in ("notes", "notes_v2"):
            assert (table, "AccessExclusiveLock") in locks(db)


@begins_with(create_notes)
def test_stages_and_rollback_take_no_lock_on_tables(db: Connection) -> None:
    db.execute("update crossfade.settings set value = '0' where name = 'shadow_min_reads'")
    weak = {"AccessShareLock", "RowShareLock"}
    for act in (
        "select crossfade.rollback('EMERGENCY', 'notes', 'test')",
        "select crossfade.engage_kill_switch('disable_v2_messages', 'test')",
        "select crossfade.set_stage('notes', 'off', 'test')",
    ):
        with db.transaction():
            db.execute(act)
            assert {mode for _, mode in locks(db)} <= weak, act


def test_statements_that_change_tables_give_up_waiting(notes: Connection) -> None:
    found = rows(
        notes,
        "select p.proname::text from pg_proc p where p.proname in ('install_mirror', "
        "'remove_mirror') and 'lock_timeout=2s' = any (p.proconfig) order by 1",
    )
    assert found == [("install_mirror",), ("remove_mirror",)]


# 6.3 Backfill beside live writers.


@begins_with(create_notes, mirror=False)
def test_an_updater_with_an_old_snapshot_fails_instead_of_leaving_a_stale_copy(
    db: Connection, connect: Connect
) -> None:
    db.execute("insert into public.notes (id, body) select g, 'n' from generate_series(1, 5) g")
    call(db, "set_stage", "notes", "dualwrite", "test")
    run = call(db, "start_backfill", "notes")["run"]["id"]
    updater = connect()
    updater.execute("begin isolation level repeatable read")
    updater.execute("select count(*) from public.notes_v2")
    assert call(db, "backfill_batch", run)["rows_written"] == 5
    with pytest.raises(psycopg.errors.UniqueViolation):
        updater.execute("update public.notes set body = 'edited' where id = 1")
    updater.execute("rollback")
    updater.execute("update public.notes set body = 'edited' where id = 1")
    assert differences(db) == []


# 6.4 Deletes and keys.


@pytest.mark.parametrize("statement", ["delete from public.notes", "truncate public.notes"])
def test_what_the_other_table_refuses_to_delete_is_recorded(
    notes: Connection, statement: str
) -> None:
    notes.execute("""
        insert into public.notes (id, body) values (1, 'referenced'), (2, 'free');
        create table public.comments (note bigint references public.notes_v2);
        insert into public.comments values (1)
    """)
    notes.execute(statement)
    assert one(notes, "select count(*) from public.notes") == 0
    # A truncate is one statement: nothing of it reached the other table.
    left = [1] if statement.startswith("delete") else [1, 2]
    assert rows(notes, "select id from public.notes_v2 order by 1") == [(key,) for key in left]
    assert failures(notes) == [({"id": key}, statement.split()[0].upper(), "23503") for key in left]
    notes.execute("delete from public.comments")
    assert call(notes, "repair", "notes")["repaired"] == len(left)
    assert differences(notes) == []


@pytest.mark.parametrize("count", [1, 30])
def test_a_key_change_that_is_refused_is_recorded_for_both_keys(
    notes: Connection, count: int
) -> None:
    # Under the new key alone, repair would make a second row and leave the old one for ever.
    notes.execute(
        "insert into public.notes (id, body) select g, 'n' from generate_series(1, %s) g", [count]
    )
    notes.execute("update public.notes_v2 set pinned = true")
    notes.execute("alter table public.notes_v2 add constraint low check (id < 1000)")
    notes.execute("update public.notes set id = id + 1000")
    assert one(notes, "select count(*) from public.notes") == count
    notes.execute("alter table public.notes_v2 drop constraint low")
    assert call(notes, "repair", "notes")["remaining"] == 0
    assert differences(notes) == []
    assert verify(notes, "notes") == 0


IDENTITY = (
    "id bigint generated always as identity primary key, body text",
    "id bigint primary key default nextval('public.things_id_seq'), body text, extra text",
    "a.id, a.body, o.extra",
    "b.id, b.body",
)


@pytest.mark.parametrize("count", [1, 30])
def test_a_key_that_is_generated_always_can_be_changed_in_v2(
    scratch: Connection, count: int
) -> None:
    pair_of(scratch, *IDENTITY)
    scratch.execute(
        "insert into public.things_v2 (body, extra) select 'n', 'x' from generate_series(1, %s)",
        [count],
    )
    scratch.execute("update public.things_v2 set id = id + 1000")
    assert failures(scratch) == []
    assert verify(scratch, "things") == 0
    assert one(scratch, "select min(id) from public.things") == 1001


# 6.5 Upserts and unique values.


def test_the_loser_of_on_conflict_do_nothing_reaches_no_table(notes: Connection) -> None:
    notes.execute("insert into public.notes (id, body) values (1, 'first')")
    notes.execute("insert into public.notes (id, body) values (1, 'loser') on conflict do nothing")
    notes.execute(
        """insert into public.notes_v2 (id, parts) values (1, '["loser"]') on conflict do nothing"""
    )
    assert rows(notes, "select body from public.notes") == [("first",)]
    assert rows(notes, "select parts from public.notes_v2") == [(["first"],)]


@pytest.mark.parametrize("count", [1, 30])
def test_another_unique_violation_is_recorded_and_repaired(notes: Connection, count: int) -> None:
    notes.execute("create unique index one_tag on public.notes_v2 (tag)")
    notes.execute("insert into public.notes (id, body, tag) values (100, 'n', 't1')")
    notes.execute(
        "insert into public.notes (id, body, tag) "
        "select g, 'n', 't' || g from generate_series(1, %s) g on conflict (id) do nothing",
        [count],
    )
    assert failures(notes) == [({"id": 1}, "INSERT", "23505")]
    assert one(notes, "select count(*) from public.notes_v2") == count
    notes.execute("update public.notes set tag = 'free' where id = 100")
    assert call(notes, "repair", "notes")["repaired"] == 1
    assert differences(notes) == []


def test_unique_values_move_in_statement_order(notes: Connection) -> None:
    notes.execute("create unique index one_tag on public.notes_v2 (tag)")
    notes.execute("insert into public.notes (id, body, tag) values (1, 'n', 'a'), (2, 'n', 'b')")
    for number, tag in ((1, None), (2, "a"), (1, "b")):
        notes.execute("update public.notes set tag = %s where id = %s", [tag, number])
    assert rows(notes, "select id, tag from public.notes_v2 order by 1") == [(1, "b"), (2, "a")]
    assert failures(notes) == []


@pytest.mark.parametrize("count", [2, 30])
@pytest.mark.parametrize("checked", ["at the end", "at once"])
def test_unique_values_swapped_by_one_statement(
    notes: Connection, count: int, checked: str
) -> None:
    deferrable = "deferrable" if checked == "at the end" else ""
    notes.execute(f"alter table public.notes_v2 add constraint one_tag unique (tag) {deferrable}")
    notes.execute(
        "insert into public.notes (id, body, tag) "
        "select g, 'n', 't' || g from generate_series(1, %s) g",
        [count],
    )
    notes.execute("update public.notes set tag = 't' || (%s + 1 - id)", [count])
    if checked == "at the end":
        # Deferrable is what lets one statement pass through values that are double for a moment.
        assert failures(notes) == []
        assert differences(notes) == []
    else:
        # No order of single updates could do it: every row says so, none is lost in silence.
        assert len(failures(notes)) == len(differences(notes)) == count


# 6.6 Replication.


def test_a_table_fed_by_logical_replication_is_refused(db: Connection, database: str) -> None:
    db.execute(TABLES)
    admin_url = database.replace("postgres@", "supabase_admin@")
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute("set allow_system_table_mods = on")
        admin.execute("insert into pg_subscription_rel values (1, 'public.notes'::regclass, 'r')")
    with refused("CF008", 400) as refusal:
        db.execute(REGISTER, ["{}"])
    assert "logical replication" in refusal.detail["problems"][0]


# 6.7 Row-level security and rights.


def test_forced_row_level_security_does_not_hide_mirrored_rows(notes: Connection) -> None:
    notes.execute("""
        alter table public.notes force row level security;
        alter table public.notes_v2 force row level security
    """)
    open_v2(notes, "notes")
    with acting_as(notes, "authenticated"):
        notes.execute("insert into public.notes (id, body, owner_id) values (1, 'a', %s)", [ADA])
        notes.execute("""update public.notes_v2 set parts = '["b"]'""")
    assert rows(notes, "select body from public.notes") == [("b",)]
    assert differences(notes) == []


@pytest.mark.parametrize("table", ["notes", "notes_v2"])
@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role", "postgres"])
def test_every_role_is_mirrored_both_ways(notes: Connection, role: str, table: str) -> None:
    notes.execute(f"""
        grant select, insert, update, delete on public.{table} to anon;
        grant usage on sequence public.notes_id to anon;
        create policy "anon" on public.{table} to anon using (true) with check (true);
        revoke all on public.{"notes_v2" if table == "notes" else "notes"}
        from anon, authenticated, service_role
    """)
    open_v2(notes, "notes")
    column, values = ("body", ("a", "b")) if table == "notes" else ("parts", ('["a"]', '["b"]'))
    with acting_as(notes, role):
        insert = f"insert into public.{table} (id, owner_id, {column}) values (%s, %s, %s)"
        notes.execute(insert, [1, ADA, values[0]])
        notes.execute(insert, [2, ADA, values[0]])
        assert notes.execute(f"update public.{table} set {column} = %s", [values[1]]).rowcount == 2
        assert notes.execute(f"delete from public.{table} where id = 1").rowcount == 1
    assert rows(notes, "select id, body from public.notes") == [(2, "b")]
    assert rows(notes, "select id, parts ->> 0 from public.notes_v2") == [(2, "b")]


def test_triggers_on_mirrored_rows_know_the_user(notes: Connection) -> None:
    notes.execute("""
        create function public.sign() returns trigger language plpgsql as $$
        begin new.pinned := auth.uid() is not null; return new; end $$;
        create trigger sign before insert on public.notes_v2
        for each row execute function public.sign()
    """)
    with acting_as(notes, "authenticated"):
        notes.execute("insert into public.notes (body, owner_id) values ('a', %s)", [ADA])
    assert rows(notes, "select pinned from public.notes_v2") == [(True,)]


def test_nobody_may_execute_generated_functions(notes: Connection) -> None:
    generated = (
        "p.pronamespace = 'crossfade_private'::regnamespace and p.proname like 'mirror_notes%'"
    )
    assert one(notes, f"select count(*) from pg_proc p where {generated}") >= 20
    assert (
        rows(
            notes,
            f"select p.proname, r from pg_proc p, unnest(array['public', 'anon', 'authenticated', "
            f"'service_role']) r where {generated} and has_function_privilege(r, p.oid, 'execute')",
        )
        == []
    )
    # Two constants a side, which run nothing, are with their caller's rights.
    definers = rows(
        notes,
        f"select p.proname from pg_proc p where {generated} and not p.prosecdef order by 1",
    )
    assert [name for (name,) in definers] == [
        f"mirror_notes_v{side}_{name}" for side in (1, 2) for name in ("change", "state")
    ]
    assert rows(
        notes, f"select distinct p.proowner::regrole::text from pg_proc p where {generated}"
    ) == [("postgres",)]
