"""The proof at the end of the demo finds every kind of damage, done here by hand in the tables."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from crossfade.demo.history import HistoryChat, RawConversation, chats, load_history
from crossfade.demo.journal import Entry, Journal
from crossfade.demo.proof import Proof, prove
from crossfade.demo.run import watch_sql
from crossfade.local import PostgresServer
from crossfade.project import resources
from tests.sql.control import backfill

PAIR = "chat_messages"
Connection = psycopg.Connection[tuple[object, ...]]

_TURNS = [
    [{"text": text, "timestamp": "2018-05-02T19:38:15Z", "sender": sender}]
    for sender, text in (("ann", "Hello"), ("bob", ""), ("ann", "Still there?"), ("bob", "Yes"))
]
DATA: dict[str, RawConversation] = {"one": {"messages": _TURNS}}  # type: ignore[typeddict-item]


@pytest.fixture(scope="module")
def url(fresh_dir: Callable[[str], Path]) -> Iterator[str]:
    """A database with crossfade, the chat pair, the demo's own SQL and a history in both tables."""
    with PostgresServer(fresh_dir("proof"), durable=False) as server:
        server.bootstrap()
        address = server.dsn("postgres", "postgres")
        with psycopg.connect(address, autocommit=True) as conn:
            for path in sorted(resources.migrations_dir().glob("*.sql")):
                conn.execute(path.read_bytes())
            conn.execute((resources.pairs_dir() / "chat_messages.sql").read_bytes())
            conn.execute(watch_sql())
            conn.execute("select crossfade.set_stage('chat_messages', 'dualwrite', 'test')")
            load_history(conn, _history())
            backfill(conn, PAIR)  # V2 is closed to API roles until then
        yield address


@pytest.fixture
def conn(url: str) -> Iterator[Connection]:
    """A connection whose transaction is undone."""
    with psycopg.connect(url) as connection:
        yield connection
        connection.rollback()


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """An empty journal."""
    return Journal(tmp_path / "journal.jsonl")


def _history() -> list[HistoryChat]:
    return list(chats(DATA))


CHAT = _history()[0]
FIRST, EMPTY, THIRD, LAST = CHAT.messages


def _prove(conn: Connection, journal: Journal) -> Proof:
    journal.close()
    return prove(conn, journal=journal.path, history=_history(), pair=PAIR)


def _found(proof: Proof) -> dict[tuple[str, str], int]:
    return {(one.promise, one.problem): one.count for one in proof.findings}


def _sql(conn: Connection, query: str, *values: object) -> None:
    conn.execute(query.encode(), values)


def _unmirrored(conn: Connection, query: str, *values: object) -> None:
    """Change one table behind the mirror's back."""
    _sql(conn, "update crossfade_private.mirror_state set mirror = 'off'")
    _sql(conn, query, *values)
    _sql(conn, "update crossfade_private.mirror_state set mirror = 'both'")


def _write(
    conn: Connection, journal: Journal, text: str, *, acknowledged: bool = True
) -> uuid.UUID:
    made = uuid.uuid4()
    _sql(
        conn,
        "insert into public.chat_messages (id, chat_id, user_id, role, content)"
        " values (%s, %s, %s, 'user', %s)",
        made,
        CHAT.id,
        CHAT.user_id,
        text,
    )
    journal.write(Entry("create", made, CHAT.id, 1, acknowledged=acknowledged, plain=text))
    return made


def test_nothing_is_found_when_nothing_is_wrong(conn: Connection, journal: Journal) -> None:
    made = _write(conn, journal, "New")
    _sql(conn, "update public.chat_messages set content = 'Edited' where id = %s", made)
    journal.write(Entry("edit", made, CHAT.id, 1, plain="Edited"))
    _sql(conn, "delete from public.chat_messages_v2 where id = %s", THIRD.id)
    journal.write(Entry("delete", THIRD.id, CHAT.id, 2))
    proof = _prove(conn, journal)
    assert _found(proof) == {}
    assert (proof.history_rows, proof.v1_rows, proof.v2_rows) == (4, 4, 4)


def test_what_looks_wrong_but_is_right(conn: Connection, journal: Journal) -> None:
    """A write whose answer was lost may be there or not; both are right."""
    journal.write(Entry("edit", LAST.id, CHAT.id, 1, acknowledged=False))
    journal.write(Entry("delete", FIRST.id, CHAT.id, 1, acknowledged=False))
    _sql(conn, "delete from public.chat_messages where id = %s", FIRST.id)
    # The server chose the id of this one, and its answer was lost.
    _sql(
        conn,
        "insert into public.chat_messages (chat_id, user_id, role, content)"
        " values (%s, %s, 'user', 'Who knows?')",
        CHAT.id,
        CHAT.user_id,
    )
    journal.write(Entry("create", CHAT.id, CHAT.id, 1, acknowledged=False))
    assert _found(_prove(conn, journal)) == {}


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("chat_messages", "missing in chat_messages"),
        ("chat_messages_v2", "missing in chat_messages_v2"),
    ],
)
def test_a_lost_row_is_found(conn: Connection, journal: Journal, table: str, problem: str) -> None:
    made = _write(conn, journal, "New")
    _unmirrored(conn, f"delete from public.{table} where id = %s", made)
    found = _found(_prove(conn, journal))
    assert found["lost", problem] == 1
    other = {"chat_messages": "chat_messages_v2", "chat_messages_v2": "chat_messages"}[table]
    assert found["mismatches", f"only in {other}"] == 1


def test_a_lost_edit_is_found_in_both_tables(conn: Connection, journal: Journal) -> None:
    made = _write(conn, journal, "New")
    journal.write(Entry("edit", made, CHAT.id, 1, plain="Edited"))
    assert _found(_prove(conn, journal)) == {
        ("lost", "not the acknowledged content in chat_messages"): 1
    }


def test_a_lost_edit_is_found_when_it_only_reached_v1(conn: Connection, journal: Journal) -> None:
    made = _write(conn, journal, "New")
    _unmirrored(conn, "update public.chat_messages set content = 'Edited' where id = %s", made)
    journal.write(Entry("edit", made, CHAT.id, 1, plain="Edited"))
    found = _found(_prove(conn, journal))
    assert found["lost", "not the acknowledged content in chat_messages_v2"] == 1
    assert [key for key in found if key[0] == "mismatches"] != []


def test_blocks_that_are_gone_are_found(conn: Connection, journal: Journal) -> None:
    made = _write(conn, journal, "New")
    blocks: list[dict[str, object]] = [
        {"type": "text", "text": "New"},
        {"type": "tool_call", "name": "x"},
    ]
    journal.write(Entry("edit", made, CHAT.id, 2, plain="New", blocks=blocks))
    assert _found(_prove(conn, journal)) == {
        ("lost", "not the acknowledged blocks in chat_messages_v2"): 1
    }


def test_a_deleted_row_that_came_back_is_found(conn: Connection, journal: Journal) -> None:
    _unmirrored(conn, "delete from public.chat_messages where id = %s", THIRD.id)
    journal.write(Entry("delete", THIRD.id, CHAT.id, 0))
    found = _found(_prove(conn, journal))
    assert found["lost", "deleted, still in chat_messages_v2"] == 1


@pytest.mark.parametrize(
    "change",
    [
        "content = 'Hi'",
        "created_at = created_at + interval '1 microsecond'",
        "role = 'system'",
        "sequence_number = sequence_number + 100",
        'metadata = \'{"model": "m"}\'',
    ],
)
def test_a_changed_row_of_the_history_is_found(
    conn: Connection, journal: Journal, change: str
) -> None:
    _sql(conn, f"update public.chat_messages set {change} where id = %s", FIRST.id)
    found = _found(_prove(conn, journal))
    assert [key for key in found if key[0] in {"history", "lost"}] != []
    assert [key for key in found if key[0] == "mismatches"] == []


def test_rows_nobody_was_told_of_are_found(conn: Connection, journal: Journal) -> None:
    made = _write(conn, journal, "New [0123456789abcdef]")
    _sql(
        conn,
        "insert into public.chat_messages (chat_id, user_id, role, content, metadata)"
        " select chat_id, user_id, role, content, metadata from public.chat_messages where id = %s",
        made,
    )
    assert _found(_prove(conn, journal)) == {
        ("duplicated", "nobody was told of it, in chat_messages"): 1,
        ("duplicated", "nobody was told of it, in chat_messages_v2"): 1,
    }


def test_a_message_acknowledged_under_two_ids_is_found(conn: Connection, journal: Journal) -> None:
    for _ in range(2):
        _write(conn, journal, "Once [0123456789abcdef]")
    assert _found(_prove(conn, journal)) == {("duplicated", "the same message under two ids"): 1}


def test_a_lost_chat_is_found(conn: Connection, journal: Journal) -> None:
    journal.write(Entry("chat", uuid.uuid4(), uuid.uuid4(), 1))
    assert _found(_prove(conn, journal)) == {("lost", "missing in chats"): 1}


def test_a_direct_write_of_v2_after_a_kill_is_found_by_commit_time(
    url: str, journal: Journal
) -> None:
    def write(text: str) -> None:
        with psycopg.connect(url) as writer:
            writer.execute("set local role authenticated")
            claims = f'{{"sub": "{CHAT.user_id}", "role": "authenticated"}}'
            writer.execute("select set_config('request.jwt.claims', %s, true)", (claims,))
            made = uuid.uuid4()
            writer.execute(
                "insert into public.chat_messages_v2 (id, chat_id, role, content)"
                " values (%s, %s, 'user', jsonb_build_array(jsonb_build_object("
                "'type', 'text', 'text', %s::text)))",
                (made, CHAT.id, text),
            )
        journal.write(Entry("create", made, CHAT.id, 2, plain=text))

    with psycopg.connect(url, autocommit=True) as admin:
        write("before")
        admin.execute("select crossfade.engage_kill_switch('disable_v2_messages', 'test')")
        with pytest.raises(psycopg.Error, match="kill switch"):
            write("refused")
        admin.execute("alter table public.chat_messages_v2 disable trigger crossfade_fence")
        write("through the open fence")
        admin.execute("alter table public.chat_messages_v2 enable trigger crossfade_fence")
        admin.execute("select crossfade.release_kill_switch('disable_v2_messages', 'test')")
        write("after")
        proof = _prove(admin, journal)
        assert _found(proof) == {("fenced", "written while disable_v2_messages was engaged"): 1}
        assert proof.direct_v2_writes == 3
        admin.execute("delete from public.chat_messages where created_at > '2020-01-01'")
        admin.execute("delete from crossfade_demo.direct_writes")
