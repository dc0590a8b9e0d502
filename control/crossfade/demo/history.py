"""The V1 history: the messages of `chitchat-dataset`, as a chat system would have stored them.

Everything is derived from the data set alone (ids are UUID v5), so the proof at the end can build
the same rows again without looking at a table the engine has touched.
"""

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import TypedDict

import psycopg

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "chitchat-dataset")
TITLE_LENGTH = 60


class RawMessage(TypedDict):
    """One message as the data set has it."""

    text: str
    timestamp: str
    sender: str


class RawConversation(TypedDict):
    """One conversation as the data set has it: turns of messages (other keys are not used)."""

    messages: list[list[RawMessage]]


@dataclass(frozen=True, slots=True)
class HistoryMessage:
    """One row of `public.chat_messages`.

    Attributes:
        sequence_number: Runs over the whole history, so that it orders the messages of a chat and
            new messages, numbered by the shared sequence, come after all of them.
    """

    id: uuid.UUID
    chat_id: uuid.UUID
    user_id: uuid.UUID
    role: str
    content: str
    created_at: str
    sequence_number: int


@dataclass(frozen=True, slots=True)
class HistoryChat:
    """One row of `public.chats` with its messages, oldest first."""

    id: uuid.UUID
    user_id: uuid.UUID
    title: str
    created_at: str
    messages: tuple[HistoryMessage, ...]


def read_dataset() -> Mapping[str, RawConversation]:
    """Read the installed data set (about one second, 200 MB while it is held)."""
    # Its file and not its class, which leaves the file open.
    source = resources.files("chitchat_dataset").joinpath("dataset.json")
    conversations: Mapping[str, RawConversation] = json.loads(source.read_bytes())
    return conversations


def user_of(sender: str) -> uuid.UUID:
    """Return the user id that stands for a sender of the data set."""
    return uuid.uuid5(NAMESPACE, f"user:{sender}")


def chats(
    conversations: Mapping[str, RawConversation],
    *,
    rows: int | None = None,
    owners: Mapping[str, uuid.UUID] | None = None,
) -> Iterator[HistoryChat]:
    """Yield the history as chats, in the order of the data set.

    The first to speak owns the chat and has the role `user`; the other one is the `assistant`.

    Args:
        conversations: The data set.
        rows: Stop after so many messages; the last chat is cut short.
        owners: Accounts that exist and stand for a sender (first to speak of their chats).
    """
    number = 0
    accounts = owners or {}
    for name, conversation in conversations.items():
        raw = [message for turn in conversation["messages"] for message in turn]
        if rows is not None:
            raw = raw[: rows - number]
        if not raw:
            continue
        yield _chat(name, raw, first_number=number + 1, accounts=accounts)
        number += len(raw)
        if rows is not None and number >= rows:
            return


def _chat(
    name: str, raw: list[RawMessage], *, first_number: int, accounts: Mapping[str, uuid.UUID]
) -> HistoryChat:
    first = raw[0]["sender"]
    owner = accounts.get(first) or user_of(first)
    chat_id = uuid.uuid5(NAMESPACE, f"chat:{name}")
    messages = tuple(
        HistoryMessage(
            id=uuid.uuid5(NAMESPACE, f"message:{name}:{index}"),
            chat_id=chat_id,
            user_id=owner,
            role="user" if message["sender"] == first else "assistant",
            content=message["text"],
            created_at=message["timestamp"],
            sequence_number=first_number + index,
        )
        for index, message in enumerate(raw)
    )
    title = raw[0]["text"][:TITLE_LENGTH] or "Untitled"
    return HistoryChat(chat_id, owner, title, raw[0]["timestamp"], messages)


def returning_senders(
    conversations: Mapping[str, RawConversation], *, count: int, rows: int | None = None
) -> tuple[str, ...]:
    """Choose senders whose accounts come back during the demo: one own chat of a handy length.

    Few messages, so that a client can hold them all and check every answer against them.
    """
    owned: dict[str, list[int]] = {}
    number = 0
    for conversation in conversations.values():
        raw = [message for turn in conversation["messages"] for message in turn]
        number += len(raw)
        if rows is not None and number > rows:
            break
        if raw:
            owned.setdefault(raw[0]["sender"], []).append(len(raw))
    chosen = [sender for sender, sizes in owned.items() if len(sizes) == 1 and 15 <= sizes[0] <= 80]
    return tuple(chosen[:count])


def load_history(conn: psycopg.Connection, history: Iterable[HistoryChat]) -> int:
    """Copy the history into `public.chats` and `public.chat_messages`; return the messages copied.

    Order matters: the chats go first (foreign key), and the sequence continues after the last
    number, so that a new message in an old chat sorts behind the old ones.
    """
    held = list(history)
    with conn.transaction(), conn.cursor() as cur:
        with cur.copy("copy public.chats (id, user_id, title, created_at) from stdin") as copy:
            for chat in held:
                copy.write_row((chat.id, chat.user_id, chat.title, chat.created_at))
        with cur.copy(f"copy public.chat_messages ({MESSAGE_COLUMNS}) from stdin") as copy:
            for chat in held:
                for message in chat.messages:
                    copy.write_row(message_row(message))
        total = sum(len(chat.messages) for chat in held)
        cur.execute("select setval('public.chat_messages_seq', greatest(%s, 1))", (total,))
    conn.execute("analyze public.chats, public.chat_messages")
    return total


MESSAGE_COLUMNS = "id, chat_id, user_id, role, content, created_at, sequence_number"


def message_row(message: HistoryMessage) -> tuple[object, ...]:
    """Return the message in the order of `MESSAGE_COLUMNS`."""
    return (
        message.id,
        message.chat_id,
        message.user_id,
        message.role,
        message.content,
        message.created_at,
        message.sequence_number,
    )
