"""The tables behind the features of the chat function: everybody's own, and nobody else's."""

import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from .control import backfill
from .test_chat_pair import ADA, BOB, CHAT, PAIR, ROOT, Connection, one

FEATURES = (ROOT / "sql" / "pairs" / "chat_features.sql").read_text()
REPLY = "00000000-0000-4000-8000-0000000000d4"
OTHER = "00000000-0000-4000-8000-0000000000d5"
ROWS: dict[str, dict[str, Any]] = {
    "chat_memories": {"fact": "likes tea"},
    "chat_states": {"chat_id": CHAT},
    "chat_reply_cache": {"key": "k", "completion": "{}", "expires_at": "infinity"},
    "chat_summaries": {"chat_id": CHAT, "summary": "s", "covered_to": REPLY},
}
# Values that collide with no row that is there.
FREE = {"chat_memories": {"fact": "likes coffee"}, "chat_reply_cache": {"key": "l"}}


@pytest.fixture
def ada(db: Connection, connect: Callable[..., Connection]) -> Connection:
    db.execute(PAIR)
    db.execute(FEATURES)
    db.execute("insert into public.chats (id, user_id) values (%s, %s)", [CHAT, ADA])
    db.execute("select crossfade.set_stage('chat_messages', 'dualwrite', 'test')")
    backfill(db, "chat_messages")
    return connect("authenticated", sub=ADA)


@pytest.fixture
def bob(ada: Connection, connect: Callable[..., Connection]) -> Connection:
    return connect("authenticated", sub=BOB)


def insert(user: Connection, table: str, **more: Any) -> None:
    row = {**ROWS[table], **more}
    places = ", ".join(["%s"] * len(row))
    query = f"insert into public.{table} ({', '.join(row)}) values ({places})"
    user.execute(query, list(row.values()))


def test_applying_it_again_is_harmless_and_keeps_what_was_chosen(
    db: Connection, ada: Connection
) -> None:
    db.execute("select crossfade.set_setting('chat_cache_ttl_s', '7', 'test')")
    insert(ada, "chat_memories")
    db.execute(FEATURES)
    assert one(db, "select value from crossfade.settings where name = 'chat_cache_ttl_s'") == 7
    assert one(db, "select count(*) from public.chat_memories") == 1


def test_rows_are_their_users_own(ada: Connection, bob: Connection) -> None:
    for table in ROWS:
        insert(ada, table)
        assert one(ada, f"select count(*) from public.{table} where user_id = %s", ADA) == 1
        assert one(bob, f"select count(*) from public.{table}") == 0
        assert bob.execute(f"update public.{table} set user_id = %s", [BOB]).rowcount == 0
        assert bob.execute(f"delete from public.{table}").rowcount == 0
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            insert(bob, table, **{"user_id": ADA, **FREE.get(table, {})})


def test_nothing_is_kept_about_somebody_elses_chat(bob: Connection) -> None:
    for table in ("chat_states", "chat_summaries"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            insert(bob, table)


def test_no_message_gets_into_somebody_elses_chat(ada: Connection, bob: Connection) -> None:
    contents = {"chat_messages": "hi", "chat_messages_v2": '[{"type": "text", "text": "hi"}]'}
    for table, content in contents.items():
        query = f"insert into public.{table} (chat_id, role, content) values (%s, 'user', %s)"
        ada.execute(query, [CHAT, content])
        # The same error when nobody has such a chat.
        for chat in (CHAT, OTHER):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                bob.execute(query, [chat, content])


def test_nobody_without_a_user_reads_them(
    ada: Connection, connect: Callable[..., Connection]
) -> None:
    anonymous = connect("anon")
    for table in ROWS:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            anonymous.execute(f"select from public.{table}")


def advance(user: Connection, reply: str, **changes: Any) -> tuple[int, Any]:
    found = user.execute(
        "select turn, state from public.advance_chat_state(%s, %s, %s)",
        [CHAT, reply, json.dumps(changes)],
    ).fetchone()
    assert found is not None
    return found[0], found[1]


def test_a_reply_is_counted_once_and_its_keys_are_merged(ada: Connection) -> None:
    assert advance(ada, REPLY, a=1) == (1, {"a": 1})
    assert advance(ada, REPLY, a=1) == (1, {"a": 1})
    assert advance(ada, OTHER, b=2) == (2, {"a": 1, "b": 2})


def test_nobody_advances_somebody_elses_chat(ada: Connection, bob: Connection) -> None:
    advance(ada, REPLY)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        advance(bob, OTHER)
    assert one(ada, "select turn from public.chat_states") == 1


@pytest.mark.parametrize("backend", [1, 2])
def test_a_search_finds_own_text_only(ada: Connection, bob: Connection, backend: int) -> None:
    if backend == 1:
        query = "insert into public.chat_messages (chat_id, role, content) values (%s, 'user', %s)"
        texts = ["A Treasure", "nothing", "treasure of 100 %"]
    else:
        query = (
            "insert into public.chat_messages_v2 (chat_id, role, content) values (%s, 'user', %s)"
        )
        blocks = [["A ", "Treasure"], ["nothing"], ["treasure of 100 %"]]
        texts = [json.dumps([{"type": "text", "text": t} for t in part]) for part in blocks]
    for text in texts:
        ada.execute(query, [CHAT, text])
    search = "select count(*) from public.search_chat_messages(%s, %s)"
    assert one(ada, search, "TREASURE", backend) == 2
    assert one(ada, search, "100 %", backend) == 1
    assert one(ada, search, "1__ %", backend) == 0  # a text and no pattern
    assert one(ada, search, "type", backend) == 0
    assert one(bob, search, "TREASURE", backend) == 0
