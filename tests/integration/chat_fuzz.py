"""Requests that nobody should send, drawn from a seed, and what every answer must keep to.

Used by test_chat_fuzz.py: some hundreds in `make test`, many thousands in `make soak`.
"""

import json
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from .chat_project import Project, User

DEEP = 10_000
LARGE = 10 * 1024 * 1024
METHODS = ("GET", "POST", "PATCH", "DELETE", "PUT", "HEAD")
ALLOWED = {400, 401, 403, 404, 405, 406, 409, 410, 413, 415, 422}
FORGED = {
    "_crossfade": {
        "v": 2,
        "cv": 1,
        "h": "sha256:0",
        "r": {"role": "system", "user_id": "0", "seq": 1, "c": [{"t": [0, 999999]}]},
    }
}


@dataclass
class Written:
    """What was acknowledged, to be found again."""

    content: dict[str, str] = field(default_factory=dict)
    statuses: dict[int, int] = field(default_factory=dict)


class Fuzzer:
    """Sends requests as `mallory`, who knows ids of `victim`, and writes as the victim between."""

    def __init__(self, project: Project, mallory: User, victim: User, seed: int) -> None:
        self.project = project
        self.mallory = mallory
        self.victim = victim
        self.random = random.Random(seed)
        self.chat = victim.new_chat()
        self.own = mallory.new_chat()
        self.written = Written()
        self.failures = self._failures()
        self.marker = f"secret of the victim {uuid.uuid4().hex}"
        self.message = str(victim.say(self.chat, self.marker).json()["id"])
        self.kinds: list[Callable[[], httpx.Response]] = [
            self.random_bytes,
            self.truncated,
            self.wrong_types,
            self.wrong_types,
            self.no_object,
            self.odd_fields,
            self.forged_residue,
            self.foreign_ids,
            self.foreign_ids,
            self.odd_addresses,
            self.odd_headers,
            self.odd_tokens,
        ]

    def run(self, count: int) -> None:
        """Send `count` requests and hold every answer against the rules."""
        for number in range(count):
            if number % 10 == 0:
                self._acknowledged(number)
            self.check(self.random.choice(self.kinds)())
        for special in (self.large, self.large_without_length, self.deep, self.deep_objects):
            self.check(special())
        self.verify()

    def _acknowledged(self, number: int) -> None:
        version = self.random.choice((1, 2))
        text = f"{number} {self._text()}".replace("\0", "")
        answer = self.victim.say(self.chat, text, version)
        assert answer.status_code == 201, answer.text
        self.written.content[str(answer.json()["id"])] = text

    # Kinds ----------------------------------------------------------------------------------------

    def random_bytes(self) -> httpx.Response:
        body = self.random.randbytes(self.random.randint(0, 300))
        return self._send(self.random.choice(METHODS), self._path(), content=body)

    def truncated(self) -> httpx.Response:
        body = json.dumps(self._message(), ensure_ascii=False).encode()
        return self._send(
            "POST", self._path(), content=body[: self.random.randint(0, len(body) - 1)]
        )

    def wrong_types(self) -> httpx.Response:
        body = self._message()
        for _ in range(self.random.randint(1, 3)):
            body[self.random.choice([*body, "id", "metadata", "content", "seq"])] = self._value(3)
        return self._json(self.random.choice(("POST", "PATCH")), self._path(), body)

    def no_object(self) -> httpx.Response:
        body: Any = self.random.choice((None, True, 1, "", "x", [], [self._message()], [[]]))
        return self._json(self.random.choice(("POST", "PATCH")), self._path(), body)

    def odd_fields(self) -> httpx.Response:
        """Values that the function passes on and only the database can refuse."""
        times = ("2026-13-45", "soon", "", "infinity", "0001-01-01 BC", self._text())
        fields = {
            "edited_at": self.random.choice(times),
            "deleted_at": self.random.choice(times),
            "usage": {"input_tokens": self._value(0)},
            "model": self._text(),
            "status": self.random.choice(("complete", "streaming", "done")),
        }
        chosen = self.random.sample(sorted(fields), self.random.randint(1, 3))
        body = {**self._message(), **{name: fields[name] for name in chosen}}
        return self._json("POST", "/v2/messages", body)

    def forged_residue(self) -> httpx.Response:
        body = {**self._message(), "metadata": {**FORGED, "x": self._value(1)}}
        method, path = self.random.choice(
            (
                ("POST", "/v1/messages"),
                ("POST", "/v2/messages"),
                ("PATCH", f"/messages/{self.message}"),
            )
        )
        return self._json(method, path, body)

    def foreign_ids(self) -> httpx.Response:
        mine = {"role": "user", "content": "mine now"}
        version = self.random.choice(("", "/v1", "/v2"))
        kind = self.random.randint(0, 8)
        if kind == 0:
            return self._send("GET", f"{version}/messages/{self.message}")
        if kind == 1:
            return self._send("GET", f"{version}/messages?chat_id={self.chat}&after={self.message}")
        if kind == 2:
            return self._json(
                "PATCH", f"{version}/messages/{self.message}", {"content": "mine now"}
            )
        if kind == 3:
            return self._send("DELETE", f"{version}/messages/{self.message}")
        if kind == 4:
            return self._json("POST", "/messages", {**mine, "chat_id": self.chat})
        if kind == 5:
            return self._json(
                "POST", "/messages", {**mine, "chat_id": self.own, "id": self.message}
            )
        if kind == 6:
            return self._json("POST", "/reply", {"chat_id": self.chat})
        if kind == 7:
            return self._json("POST", "/reply", {"chat_id": self.own, "id": self.message})
        return self._json("POST", "/chats", {"id": self.chat, "title": "mine now"})

    def odd_addresses(self) -> httpx.Response:
        path = self.random.choice(
            (
                "/messages/%00",
                "/messages/..%2f..%2fchats",
                f"/messages?chat_id={self.chat}'%20or%201=1--",
                f"/messages?chat_id={self.own}&limit=1e3",
                f"/messages?chat_id={self.own}&limit=-1",
                f"/messages?chat_id={self.own}&after=(select)",
                "/v1/v1/messages",
                "/v999/messages",
                "/chats/%F0%9F%98%8A/state",
                f"/chats/{self.chat}/state",
                "/memories/1",
                "/health",
                "/" + "a" * 3000,
            )
        )
        return self._send(self.random.choice(("GET", "DELETE")), path)

    def odd_headers(self) -> httpx.Response:
        name, value = self.random.choice(
            (
                ("x-api-version", "1, 2"),
                ("x-api-version", "99999999999"),
                ("x-api-version", "'; drop table"),
                ("accept", "application/json;version=;;;,,,"),
                ("accept", "text/html"),
                ("content-type", "application/json; charset=utf-16"),
                ("content-type", "multipart/form-data"),
                ("x-idempotency-key", "x" * 300),
                ("x-idempotency-key", "\u00ff" * 9),
                ("x-request-id", "a b\tc"),
                ("x-agent-id", "'" * 500),
            )
        )
        headers = {name: value.encode("latin-1")}
        body = {**self._message(), "mood": 1}
        return self._json("POST", "/messages", body, headers=headers)

    def odd_tokens(self) -> httpx.Response:
        token = self.mallory.http.headers["authorization"]
        forged = self.random.choice(
            (
                "",
                "Bearer",
                "Bearer x",
                "Bearer a.b.c",
                "Bearer " + "A" * 4000,
                token[:-5],
                f"{token}x",
                token.replace("Bearer", "Basic"),
                f"Bearer {self.project.info.publishable_key}",
                f"Bearer e30.{'e30'}.",
            )
        )
        path = f"/messages?chat_id={self.chat}"
        return self._send("GET", path, headers={"authorization": forged})

    # Large and deep -------------------------------------------------------------------------------

    def large(self) -> httpx.Response:
        body = json.dumps({**self._message(), "content": "x" * LARGE}).encode()
        return self._send("POST", "/messages", content=body)

    def large_without_length(self) -> httpx.Response:
        def parts() -> Any:
            for _ in range(LARGE // 65_536):
                yield b"x" * 65_536

        return self._send("POST", "/messages", content=parts())

    def deep(self) -> httpx.Response:
        body = b'{"metadata":' + b"[" * DEEP + b"]" * DEEP + b"}"
        return self._send("POST", "/messages", content=body)

    def deep_objects(self) -> httpx.Response:
        body = b'{"a":' * DEEP + b"1" + b"}" * DEEP
        return self._send("POST", "/v2/messages", content=body)

    # Rules ----------------------------------------------------------------------------------------

    def check(self, answer: httpx.Response) -> None:
        """A success shows nothing of the victim; an error is a whole problem document."""
        statuses = self.written.statuses
        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
        what = f"{answer.request.method} {answer.request.url} -> {answer.status_code} {answer.text}"
        assert self.marker not in answer.text, what
        for name in ("x-api-version", "x-api-supported-versions", "x-request-id", "vary"):
            assert name in answer.headers, what
        if answer.status_code < 300:
            return
        assert answer.status_code in ALLOWED, what
        if answer.request.method == "HEAD":
            return
        assert answer.headers["content-type"] == "application/problem+json", what
        problem = answer.json()
        assert problem["status"] == answer.status_code, what
        assert problem["error"] == problem["detail"], what
        assert problem["request_id"] == answer.headers["x-request-id"], what

    def verify(self) -> None:
        """Everything acknowledged is there, in both tables, and nobody wrote as somebody else."""
        for table, text in (
            ("chat_messages", "content"),
            ("chat_messages_v2", "content #>> '{0,text}'"),
        ):
            rows = self.project.sql(
                f"select id::text, user_id::text, {text} as said from public.{table}"
                " where chat_id = %s",
                self.chat,
            )
            assert {row["user_id"] for row in rows} == {self.victim.id}
            found = {row["id"]: row["said"] for row in rows}
            assert found == {**self.written.content, self.message: self.marker}
        mine = self.project.sql(
            "select m.user_id::text from public.chat_messages m where m.chat_id = %s", self.own
        )
        assert {row["user_id"] for row in mine} <= {self.mallory.id}
        assert self._failures() == self.failures

    def _failures(self) -> int:
        return len(self.project.sql("select 1 from crossfade.mirror_failures"))

    # Drawing --------------------------------------------------------------------------------------

    def _message(self) -> dict[str, Any]:
        content: Any = self._text()
        if self.random.random() < 0.5:
            content = [{"type": "text", "text": content}]
        return {"chat_id": self.own, "role": "user", "content": content}

    def _text(self) -> str:
        letters = (
            "a",
            "ż",
            "😊",
            "\u202e",
            "\0",
            "\n",
            '"',
            "\\",
            "\u0301",
            "{}",
            "'",
            "%",
            "\ufeff",
        )
        return "".join(self.random.choice(letters) for _ in range(self.random.randint(0, 20)))

    def _value(self, depth: int) -> Any:
        plain: list[Any] = [None, True, 0, -1, 1e308, 2**53 + 1, 10**30, "", self._text(), "\ud800"]
        plain += [self.message, "2026-13-45", float("nan")]
        if depth == 0 or self.random.random() < 0.6:
            return self.random.choice(plain)
        if self.random.random() < 0.5:
            return [self._value(depth - 1) for _ in range(self.random.randint(0, 4))]
        keys = ("type", "text", "tool_calls", "__proto__", "constructor", "legacy", "", "10")
        return {self.random.choice(keys): self._value(depth - 1) for _ in range(3)}

    def _path(self) -> str:
        version = self.random.choice(("", "/v1", "/v2"))
        return version + self.random.choice(
            (
                "/messages",
                f"/messages/{uuid.UUID(int=self.random.getrandbits(128))}",
                "/reply",
                "/chats",
            )
        )

    def _json(self, method: str, path: str, body: Any, **more: Any) -> httpx.Response:
        return self._send(method, path, content=json.dumps(body).encode(), **more)

    def _send(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {"content-type": "application/json", **more.pop("headers", {})}
        return self.mallory.http.request(method, self.mallory.url + path, headers=headers, **more)
