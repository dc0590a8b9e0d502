"""One user at an app: writes, reads back, and believes only what is exactly as it was written."""

import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace

from crossfade.demo import answers
from crossfade.demo.answers import Answer, Json
from crossfade.demo.beliefs import (
    CHAT_LENGTH,
    Kept,
    OpenChat,
    content_problems,
    list_problems,
)
from crossfade.demo.client import ChatClient, Dialect
from crossfade.demo.exchange import Exchange
from crossfade.demo.journal import Entry, Journal, Operation
from crossfade.demo.meter import RequestMeter
from crossfade.demo.texts import DraftMessage, compose, with_text

PAGE = 200
WEIGHTS = {"create": 34, "read": 22, "list": 10, "edit": 16, "delete": 8, "reply": 10}


@dataclass(frozen=True, slots=True)
class Desk:
    """Where sessions report to."""

    journal: Journal
    meter: RequestMeter


class Visit:
    """Act as one user, one request a step.

    Args:
        client: HTTP client of the user's account.
        dialects: Wire versions the user's apps speak; with both, each checks the other's writes.
        desk: Journal and meter.
        rng: Random source.
        chat: A chat that exists already (history); the session stays in it.
    """

    def __init__(
        self,
        client: ChatClient,
        dialects: Sequence[Dialect],
        *,
        desk: Desk,
        rng: random.Random,
        chat: OpenChat | None = None,
    ) -> None:
        self._exchange = Exchange(client, desk.meter)
        self._dialects = dialects
        self._journal_file = desk.journal
        self._rng = rng
        self._chat = chat
        self._stays = chat is not None

    def step(self) -> None:
        """Do one thing a user does."""
        dialect = self._rng.choice(self._dialects)
        chat = self._chat
        if chat is None or (chat.written >= CHAT_LENGTH and not self._stays):
            self._open_chat(dialect)
            return
        operation = self._choose(chat)
        if operation == "create":
            self._create(chat, dialect)
        elif operation == "read":
            self._read(chat, dialect)
        elif operation == "list":
            self._list(chat, dialect)
        elif operation == "edit":
            self._edit(chat, dialect)
        elif operation == "delete":
            self._delete(chat, dialect)
        else:
            self._reply(chat, dialect)

    def probe(self, dialect: Dialect, *, writes: bool) -> Answer | None:
        """Write a message or read the last one; None when a chat had to be opened first."""
        chat = self._chat
        if chat is None or chat.written >= CHAT_LENGTH:
            self._open_chat(dialect)
            return None
        if writes or not chat.kept:
            return self._create(chat, dialect)
        kept = chat.kept[-1]
        answer = self._exchange.send(dialect, "GET", f"/messages/{kept.id}")
        message = self._exchange.accept(answer, dialect, status=200)
        if message is not None:
            self._compare(kept, message, dialect)
        return answer

    def _choose(self, chat: OpenChat) -> str:
        if not chat.kept:
            return "create"
        weights = dict(WEIGHTS)
        if chat.written >= CHAT_LENGTH:  # a history chat: no longer than one page
            weights["create"] = weights["reply"] = 0
        if len(chat.kept) < 4:
            weights["delete"] = 0
        return self._rng.choices(list(weights), list(weights.values()))[0]

    def _open_chat(self, dialect: Dialect) -> None:
        chat = OpenChat(uuid.uuid4())
        body = {"id": str(chat.id), "title": "Demo \u2013 a chat"}
        answer = self._exchange.send(dialect, "POST", "/chats", body=body)
        if self._exchange.accept(answer, dialect, status=201) is None:
            return
        if answer.message.get("id") != str(chat.id):
            self._exchange.problem(
                dialect, "content", f"chat {chat.id} came back as {answer.message}"
            )
        self._journal_file.write(Entry("chat", chat.id, chat.id, dialect.wire))
        self._chat = chat

    def _create(self, chat: OpenChat, dialect: Dialect) -> Answer:
        """Write a message, half of them with a key that lets the request be repeated."""
        draft = compose(self._rng, wire=dialect.wire)
        body = {"chat_id": str(chat.id), "role": "user", **_fields(draft)}
        key = str(uuid.uuid4()) if self._rng.random() < 0.5 else None
        message_id = uuid.uuid4()
        if key is None:
            body["id"] = str(message_id)
        headers = {"X-Idempotency-Key": key} if key else {}
        answer = self._exchange.send(dialect, "POST", "/messages", body=body, headers=headers)
        message = self._exchange.accept(answer, dialect, status=201)
        chat.written += 1
        if message is None:
            # Without an id from us the row is known by its chat alone.
            self._journal("create", message_id if key is None else chat.id, chat, dialect, None)
            return answer
        kept = Kept(uuid.UUID(str(message["id"])), draft.plain, draft.blocks, draft.metadata)
        self._acknowledge("create", kept, chat, dialect, message, answer)
        chat.kept.append(kept)
        if key and self._rng.random() < 0.15:
            self._repeat(dialect, body, headers, kept)
        return answer

    def _repeat(
        self, dialect: Dialect, body: dict[str, object], headers: dict[str, str], kept: Kept
    ) -> None:
        answer = self._exchange.send(dialect, "POST", "/messages", body=body, headers=headers)
        message = self._exchange.accept(answer, dialect, status=(200, 201))
        if message is not None and message.get("id") != str(kept.id):
            self._exchange.problem(
                dialect, "content", f"a repeated request made a second row of {kept.id}"
            )

    def _read(self, chat: OpenChat, dialect: Dialect) -> None:
        if chat.deleted and self._rng.random() < 0.2:
            gone = self._rng.choice(chat.deleted)
            answer = self._exchange.send(dialect, "GET", f"/messages/{gone}")
            self._exchange.accept(answer, dialect, status=404, shape=False)
            return
        kept = self._rng.choice(chat.kept)
        answer = self._exchange.send(dialect, "GET", f"/messages/{kept.id}")
        message = self._exchange.accept(answer, dialect, status=200)
        if message is not None:
            self._compare(kept, message, dialect)

    def _list(self, chat: OpenChat, dialect: Dialect) -> None:
        answer = self._exchange.send(dialect, "GET", f"/messages?chat_id={chat.id}&limit={PAGE}")
        if self._exchange.accept(answer, dialect, status=200, shape=False) is None:
            return
        listed = answer.message.get("messages")
        if not isinstance(listed, list):
            self._exchange.problem(dialect, "contract", "the list has no messages")
            return
        for message in listed:
            self._exchange.check_shape(dialect, message)
        for text in list_problems(chat, listed):
            self._exchange.problem(dialect, "content", text)
        by_id = {message.get("id"): message for message in listed}
        for kept in chat.kept:
            if str(kept.id) in by_id:
                self._compare(kept, by_id[str(kept.id)], dialect)

    def _edit(self, chat: OpenChat, dialect: Dialect) -> None:
        index = self._rng.randrange(len(chat.kept))
        kept = chat.kept[index]
        draft = compose(self._rng, wire=dialect.wire)
        body = {"content": draft.plain if draft.blocks is None else draft.blocks}
        answer = self._exchange.send(dialect, "PATCH", f"/messages/{kept.id}", body=body)
        message = self._exchange.accept(answer, dialect, status=200)
        if message is None:
            chat.kept.pop(index)  # unknown from now on
            self._journal("edit", kept.id, chat, dialect, None)
            return
        chat.kept[index] = edited(kept, draft)
        self._acknowledge("edit", chat.kept[index], chat, dialect, message, answer)

    def _delete(self, chat: OpenChat, dialect: Dialect) -> None:
        kept = chat.kept.pop(self._rng.randrange(len(chat.kept)))
        answer = self._exchange.send(dialect, "DELETE", f"/messages/{kept.id}")
        if self._exchange.accept(answer, dialect, status=204, shape=False) is None:
            self._journal("delete", kept.id, chat, dialect, None)
            return
        self._journal("delete", kept.id, chat, dialect, answer)
        chat.deleted.append(kept.id)

    def _reply(self, chat: OpenChat, dialect: Dialect) -> None:
        answer = self._exchange.send(dialect, "POST", "/reply", body={"chat_id": str(chat.id)})
        message = self._exchange.accept(answer, dialect, status=201)
        chat.written += 1
        if message is None:
            self._journal("reply", chat.id, chat, dialect, None)
            return
        if message.get("role") != "assistant":
            self._exchange.problem(
                dialect, "content", f"a reply has the role {message.get('role')!r}"
            )
        blocks = answers.blocks_of(message) if dialect.wire == 2 else None
        plain = str(message["content"]) if blocks is None else answers.plain_text(blocks)
        kept = Kept(uuid.UUID(str(message["id"])), plain, blocks)
        self._acknowledge("reply", kept, chat, dialect, message, answer)
        chat.kept.append(kept)

    def _compare(self, kept: Kept, message: Json, dialect: Dialect) -> None:
        for text in content_problems(kept, message, dialect.wire):
            self._exchange.problem(dialect, "content", f"message {kept.id}: {text}")

    def _acknowledge(
        self,
        operation: Operation,
        kept: Kept,
        chat: OpenChat,
        dialect: Dialect,
        message: Json,
        answer: Answer,
    ) -> None:
        self._compare(kept, message, dialect)
        self._journal(operation, kept.id, chat, dialect, answer, kept=kept)

    def _journal(
        self,
        operation: Operation,
        message_id: uuid.UUID,
        chat: OpenChat,
        dialect: Dialect,
        answer: Answer | None,
        kept: Kept | None = None,
    ) -> None:
        self._journal_file.write(
            Entry(
                operation=operation,
                message_id=message_id,
                chat_id=chat.id,
                wire=dialect.wire,
                acknowledged=answer is not None,
                plain=kept.plain if kept else None,
                blocks=kept.blocks if kept else None,
                backend=answer.backend if answer else None,
            )
        )


def edited(kept: Kept, draft: DraftMessage) -> Kept:
    """Return what must be there after an edit: an old app's edit leaves the other blocks alone."""
    if draft.blocks is not None:
        # A tool call shows in V1's metadata as well.
        return replace(kept, plain=draft.plain, blocks=draft.blocks, metadata=None)
    blocks = None if kept.blocks is None else with_text(kept.blocks, draft.plain)
    return replace(kept, plain=draft.plain, blocks=blocks)


def _fields(draft: DraftMessage) -> dict[str, object]:
    if draft.blocks is not None:
        return {"content": draft.blocks}
    return {"content": draft.plain, "metadata": draft.metadata}
