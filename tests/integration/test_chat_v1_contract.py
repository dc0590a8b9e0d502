"""A client that never heard of V2: what it sees in stage off is, to the byte, what it sees later.

The client's whole story is recorded before a migration begins, and told again in every stage, at
percentages, under kill switches and after rollbacks. Compared are the status, the headers, and the
bytes of the body. Only what is drawn anew every time is replaced: ids and times, found by the names
of their fields (an order number is an id), wherever they stand.
"""

import json
import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from .chat_project import PAIR, Project, User

# Diagnostics that no client of the first API knows, and what a server adds to every answer.
UNCOMPARED = re.compile(r"x-crossfade-.*|x-request-id|date|content-length|transfer-encoding")
IDS = re.compile(r'"(id|chat_id|request_id)":"([0-9a-f]{8}-[0-9a-f-]{27})"')
TIMES = re.compile(r'"(created_at|updated_at)":"(\d{4}-\d\d-\d\dT[\d:.]+\+00:00)"')
ORDER = re.compile(r'"sequence_number":(\d+)')
NOBODYS = "00000000-0000-4000-8000-00000000dead"

Step = tuple[str, int, dict[str, str], str]


class Recorder:
    """Sends the requests of one story and writes down the answers."""

    def __init__(self, user: User) -> None:
        self.user = user
        self.steps: list[Step] = []
        self._names: dict[str, str] = {}
        self._first: int | None = None

    def __call__(self, name: str, method: str, path: str, body: Any = None, **more: Any) -> Any:
        headers = {key.replace("_", "-"): value for key, value in more.pop("headers", {}).items()}
        url = self.user.url + path
        client = more.pop("client", self.user.http)
        given = {"json": body} if body is not None else more
        answer: httpx.Response = client.request(method, url, headers=headers, **given)
        seen = {
            key: value for key, value in answer.headers.items() if not UNCOMPARED.fullmatch(key)
        }
        self.steps.append((name, answer.status_code, seen, self._replace(answer.text)))
        return json.loads(answer.text) if answer.text else None

    def _replace(self, text: str) -> str:
        for field, value in IDS.findall(text):
            self._names.setdefault(value, f"<{field} {len(self._names)}>")
        for value, name in self._names.items():
            text = text.replace(value, name)
        text = TIMES.sub(r'"\1":"<time>"', text)
        return ORDER.sub(self._order, text)

    def _order(self, match: re.Match[str]) -> str:
        number = int(match[1])
        self._first = number if self._first is None else self._first
        return f'"sequence_number":<first + {number - self._first}>'


def tell_story(user: User) -> list[Step]:
    """Everything an old client does, right and wrong."""
    do = Recorder(user)
    chat = do("new chat", "POST", "/chats", {"title": "old friends"})["id"]
    mine = {"chat_id": chat, "role": "user"}
    metadata = {
        "agent": "a-1",
        "rating": 5,
        "nested": {"zz": [1, 2.5, None, {"b": True, "a": "x"}], "a": {}},
        "10": "ten",
        "tokens": {"prompt": 3, "completion": 4},
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
        ],
        "attachments": [{"url": "https://files.example.com/a.png", "name": "a", "size": 3}],
        "model": "m",
        "parent_id": NOBODYS,
    }
    plain = do("plain", "POST", "/messages", {**mine, "content": "hello ż😊\n\n  two "})["id"]
    rich = do("rich", "POST", "/messages", {**mine, "content": "", "metadata": metadata})["id"]
    key = {"x_idempotency_key": uuid.uuid4().hex}
    for name in ("with a key", "the same again"):
        do(name, "POST", "/messages", {**mine, "content": "once"}, headers=key)
    do("another with the key", "POST", "/messages", {**mine, "content": "two"}, headers=key)
    do("list", "GET", f"/messages?chat_id={chat}")
    do("page", "GET", f"/messages?chat_id={chat}&limit=1&after={plain}")
    do("get", "GET", f"/messages/{rich}")
    do("edit text", "PATCH", f"/messages/{plain}", {"content": "changed"})
    do("edit metadata", "PATCH", f"/messages/{rich}", {"metadata": {"b": 1, "a": {"d": 1, "c": 2}}})
    do("edit the role", "PATCH", f"/messages/{plain}", {"role": "system"})
    do("reply", "POST", "/reply", {"chat_id": chat})
    do("list all", "GET", f"/messages?chat_id={chat}")
    tell_of_errors(do, {**mine, "content": "x"}, plain)
    do("delete", "DELETE", f"/messages/{plain}")
    do("delete again", "DELETE", f"/messages/{plain}")
    do("what is left", "GET", f"/messages?chat_id={chat}")
    return do.steps


def tell_of_errors(do: Recorder, good: dict[str, str], message: str) -> None:
    wrong: list[tuple[str, Any]] = [
        ("an unknown role", {**good, "role": "robot"}),
        ("no content", {"chat_id": good["chat_id"], "role": "user"}),
        ("blocks", {**good, "content": [{"type": "text", "text": "x"}]}),
        ("an unknown field", {**good, "mood": 1}),
        ("nobody's chat", {**good, "chat_id": NOBODYS}),
        ("no id", {**good, "chat_id": "1"}),
        ("a list", [good]),
        ("another version", {**good, "schema_version": 2}),
        ("half a letter", {**good, "content": "\ud83d"}),
    ]
    for name, body in wrong:
        content = json.dumps(body).encode()
        do(name, "POST", "/messages", content=content, headers={"content_type": "application/json"})
    do("no JSON", "POST", "/messages", content=b"{", headers={"content_type": "application/json"})
    do("no type", "POST", "/messages", content=b"x", headers={"content_type": "text/plain"})
    do("edits nothing", "PATCH", f"/messages/{message}", {})
    do("edits the id", "PATCH", f"/messages/{message}", {"id": NOBODYS})
    do("edits nobody's", "PATCH", f"/messages/{NOBODYS}", {"content": "x"})
    do("a bad limit", "GET", f"/messages?chat_id={good['chat_id']}&limit=0")
    do("an unknown anchor", "GET", f"/messages?chat_id={good['chat_id']}&after={NOBODYS}")
    do("nobody's message", "GET", f"/messages/{NOBODYS}")
    do("nowhere", "GET", "/nothing")
    do("no such method", "PUT", "/messages", {})
    with httpx.Client(timeout=30) as stranger:
        do("a stranger", "GET", f"/messages?chat_id={good['chat_id']}", client=stranger)
        ask = {"origin": "https://a.example.com", "access_control_request_method": "POST"}
        do("may I", "OPTIONS", "/messages", client=stranger, headers=ask)


@pytest.fixture(scope="module")
def recorded(project: Project, alice: User) -> list[Step]:
    """The contract as it is before anything is migrated."""
    project.at("off")
    alice.catch_up(project)
    return tell_story(alice)


def situations(project: Project) -> Iterator[tuple[str, Callable[[], None]]]:
    """Everything that happens in a migration, in its order, and what undoes it."""

    def nothing() -> None:
        pass

    def switched(name: str) -> Callable[[], None]:
        project.kill(name)
        return lambda: project.release(name)

    for stage in ("dualwrite", "shadow", "live"):
        project.at(stage)
        yield stage, nothing
    for percentage in (0, 5, 50, 100):
        project.set_cohort(percentage=percentage)
        yield f"live at {percentage} %", nothing
    for name in ("disable_v2_messages", "emergency_rollback", "disable_new_tools"):
        yield f"live, {name}", switched(name)
    for level in ("PARTIAL", "COMPLETE", "EMERGENCY"):
        project.at("live")
        project.rpc("rollback", level=level, scope=PAIR, reason="test")
        release = level == "EMERGENCY"
        yield (
            f"after a rollback {level}",
            (lambda: project.release("emergency_rollback")) if release else nothing,
        )
    project.at("rampdown")
    yield "rampdown", nothing
    yield "rampdown, disable_v2_messages", switched("disable_v2_messages")
    project.at("complete")
    yield "complete", nothing
    project.at("shadow")
    yield "back in shadow", nothing


def test_a_v1_client_sees_the_same_bytes_through_the_whole_migration(
    project: Project, alice: User, recorded: list[Step]
) -> None:
    for name, undo in situations(project):
        try:
            alice.catch_up(project)
            told = tell_story(alice)
        finally:
            undo()
        for before, now in zip(recorded, told, strict=True):
            assert now == before, name


def test_the_recorder_notices_a_change(recorded: list[Step]) -> None:
    """The story is long, and what is replaced is only what is drawn anew."""
    assert len(recorded) > 35
    text = json.dumps(recorded)
    assert "hello" in text
    assert not re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-", text.replace(NOBODYS, ""))
    statuses = [status for _, status, _, _ in recorded]
    assert {200, 201, 204, 400, 401, 404, 405, 409, 415, 422} <= set(statuses)
    assert 500 not in statuses
