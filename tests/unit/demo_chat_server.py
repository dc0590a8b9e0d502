"""A chat function in memory, for tests of the demo's clients: right, or wrong in one chosen way."""

import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

import httpx

from crossfade.demo.client import Account, ChatClient

ACCOUNT = Account(str(uuid.uuid4()), "ann@example.com", "token")
Spoil = Callable[[httpx.Request, httpx.Response], httpx.Response]


class ChatServer:
    """Answer like backend 1 with V1 messages; `spoil` may change any answer."""

    def __init__(self, spoil: Spoil | None = None) -> None:
        self.rows: dict[str, dict[str, object]] = {}
        self.asked = 0
        self._spoil = spoil

    def client(self) -> ChatClient:
        """Return a client whose requests come here."""
        http = httpx.Client(transport=httpx.MockTransport(self._handle))
        return ChatClient(http, base_url="http://chat", key="key", account=ACCOUNT)

    def _handle(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        answer = self._answer(request)
        answer.headers.update({"X-API-Version": "1", "X-Crossfade-Backend": "1"})
        return self._spoil(request, answer) if self._spoil else answer

    def _answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/v1")
        body = json.loads(request.content or b"{}")
        if path == "/chats":
            return httpx.Response(201, json=body)
        if path == "/reply":
            return self._store({**body, "content": "You said so."}, "assistant", uuid.uuid4())
        if path == "/messages" and request.method == "POST":
            key = request.headers.get("X-Idempotency-Key")
            made = uuid.UUID(key) if key else uuid.UUID(body["id"])
            return self._store(body, "user", made)
        if path == "/messages":
            chat = request.url.params["chat_id"]
            found = [row for row in self.rows.values() if row["chat_id"] == chat]
            return httpx.Response(200, json={"messages": found})
        return self._one(request.method, path.rsplit("/", 1)[1], body)

    def _store(self, body: dict[str, object], role: str, made: uuid.UUID) -> httpx.Response:
        row = {
            "id": str(made),
            "chat_id": body["chat_id"],
            "role": role,
            "content": body["content"],
            "metadata": body.get("metadata", {}),
            "created_at": datetime.now(UTC).isoformat(),
            "updated_at": None,
            "sequence_number": len(self.rows) + 1,
        }
        return httpx.Response(201, json=self.rows.setdefault(str(made), row))

    def _one(self, method: str, message_id: str, body: dict[str, object]) -> httpx.Response:
        row = self.rows.get(message_id)
        if row is None:
            problem = {"code": "NOT_FOUND"}
            kind = {"Content-Type": "application/problem+json"}
            return httpx.Response(404, json=problem, headers=kind)
        if method == "DELETE":
            del self.rows[message_id]
            return httpx.Response(204)
        row.update(body)
        return httpx.Response(200, json=row)
