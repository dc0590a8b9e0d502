"""The chat function on a whole project: every stage, both formats, two users."""

import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from .chat_project import (
    SERVED_BY,
    STAGES,
    Json,
    Project,
    User,
    content_of,
    eventually,
)

NOBODYS = (
    "00000000-0000-4000-8000-00000000dead"  # fixed: test processes must collect the same names
)
EVERY_ANSWER = (
    "x-api-version",
    "x-api-version-source",
    "x-api-supported-versions",
    "vary",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "x-request-id",
)


@pytest.mark.parametrize("wire", [1, 2])
@pytest.mark.parametrize("stage", STAGES[:-1])
def test_every_operation_works(project: Project, alice: User, stage: str, wire: int) -> None:
    project.at(stage)
    alice.catch_up(project)
    run_every_operation(project, alice, stage, wire)


def run_every_operation(project: Project, user: User, stage: str, wire: int) -> None:
    chat = user.new_chat()
    made = user.say(chat, "hello ż😊", wire)
    assert made.status_code == 201, made.text
    message = made.json()
    assert message["content"] == content_of("hello ż😊", wire)
    path = f"/v{wire}/messages/{message['id']}"

    got = user.ask("GET", path)
    edited = user.ask("PATCH", path, {"content": content_of("changed", wire)})
    replied = user.ask("POST", f"/v{wire}/reply", {"chat_id": chat})
    listed = user.ask("GET", f"/v{wire}/messages?chat_id={chat}")

    assert got.json() == message
    assert edited.json()["content"] == content_of("changed", wire)
    assert edited.json()["updated_at"] is not None
    assert replied.status_code == 201, replied.text
    assert replied.json()["content"] == content_of("You said: changed", wire)
    assert listed.json()["messages"] == [edited.json(), replied.json()]
    both = stage in ("dualwrite", "shadow", "live", "rampdown")
    for version in (1, 2):
        present = both or version == SERVED_BY[stage]
        assert (project.row(version, message["id"]) is not None) == present

    removed = user.ask("DELETE", path)
    assert removed.status_code == 204
    assert user.ask("GET", path).status_code == 404
    assert project.row(1, message["id"]) is None
    assert project.row(2, message["id"]) is None
    for answer in (made, got, edited, replied, listed, removed):
        assert answer.headers["x-crossfade-backend"] == str(SERVED_BY[stage])
        assert answer.headers["x-api-version"] == str(wire)
        assert answer.headers["x-api-version-source"] == "url"


@pytest.mark.parametrize("stage", ["dualwrite", "live"])
def test_rows_belong_to_their_user(project: Project, alice: User, bob: User, stage: str) -> None:
    project.at(stage)
    alice.catch_up(project)
    chat = alice.new_chat()
    message = alice.say(chat).json()["id"]
    path = f"/messages/{message}"
    assert bob.ask("GET", path).status_code == 404
    assert bob.ask("GET", f"/messages?chat_id={chat}").json()["messages"] == []
    assert bob.ask("PATCH", path, {"content": "mine"}).status_code == 404
    assert bob.ask("DELETE", path).status_code == 404
    for version in (1, 2):
        intruding = bob.say(chat, "let me in", version)
        # The same words as for a chat that nobody has.
        assert (intruding.status_code, intruding.json()["detail"]) == (404, "There is no such chat")
    row = project.row(1, message)
    assert row is not None
    assert (row["content"], str(row["user_id"])) == ("hello", alice.id)


def test_the_body_cannot_choose_the_owner(project: Project, alice: User, bob: User) -> None:
    project.at("live")
    chat = alice.new_chat()
    body = {"chat_id": chat, "role": "user", "content": "hello", "user_id": bob.id}
    message = alice.ask("POST", "/messages", body).json()["id"]
    row = project.row(2, message)
    assert row is not None
    assert str(row["user_id"]) == alice.id


def test_a_forged_token_reads_and_writes_nothing(project: Project, alice: User) -> None:
    chat = alice.new_chat()
    token = alice.http.headers["authorization"]
    forged = token[: token.rindex(".") + 1] + "A" * 43
    body = {"chat_id": chat, "role": "user", "content": "forged"}
    for method, path, payload in (
        ("POST", "/messages", body),
        ("GET", f"/messages?chat_id={chat}", None),
    ):
        answer = alice.ask(method, path, payload, authorization=forged)
        assert answer.status_code == 401, answer.text
        assert answer.json()["code"] == "UNAUTHORIZED"
    assert project.sql("select 1 from public.chat_messages where content = 'forged'") == []


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/messages?chat_id={chat}", None, 200),
        ("POST", "/messages", {"chat_id": "{chat}", "role": "user", "content": "x"}, 201),
        ("POST", "/messages", {"chat_id": "{chat}", "role": "robot", "content": "x"}, 422),
        ("POST", "/messages", {"chat_id": NOBODYS, "role": "user", "content": "x"}, 404),
        ("GET", f"/messages/{NOBODYS}", None, 404),
        ("GET", "/nothing", None, 404),
        ("PUT", "/messages", {}, 405),
        ("GET", "/v7/messages", None, 404),
    ],
)
def test_every_answer_has_the_headers(
    project: Project, alice: User, method: str, path: str, body: Json | None, status: int
) -> None:
    project.at("live")
    chat = alice.new_chat()
    if body is not None:
        body = {k: chat if v == "{chat}" else v for k, v in body.items()}
    answer = alice.ask(method, path.format(chat=chat), body)
    assert answer.status_code == status, answer.text
    missing = [name for name in EVERY_ANSWER if name not in answer.headers]
    assert missing == []
    if status >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["error"] == answer.json()["detail"]


@pytest.mark.parametrize(
    ("headers", "version", "source"),
    [
        ({}, "1", "default"),
        ({"x_api_version": "2"}, "2", "header"),
        ({"accept": "application/json;version=2"}, "2", "accept"),
        ({"accept": "application/vnd.crossfade.v2+json"}, "2", "accept"),
    ],
)
def test_the_client_chooses_its_format(
    project: Project, alice: User, headers: dict[str, str], version: str, source: str
) -> None:
    project.at("live")
    chat = alice.new_chat()
    alice.say(chat)
    answer = alice.ask("GET", f"/messages?chat_id={chat}", **headers)
    assert answer.headers["x-api-version"] == version
    assert answer.headers["x-api-version-source"] == source
    [message] = answer.json()["messages"]
    assert message["content"] == content_of("hello", int(version))


RICH = [
    {"type": "reasoning", "text": "need weather", "signature": "EqQB+/=="},
    {"type": "text", "text": "Let me check."},
    {
        "type": "tool_call",
        "tool_call_id": "call_1",
        "name": "get_weather",
        "input": {"city": "Łódź"},
        "state": "complete",
    },
]


@pytest.mark.parametrize("stage", ["shadow", "live"])
def test_an_edit_by_a_v1_client_keeps_the_v2_parts(
    project: Project, alice: User, stage: str
) -> None:
    project.at("live")
    alice.catch_up(project)
    chat = alice.new_chat()
    body = {"chat_id": chat, "role": "assistant", "content": RICH, "model": "m-1"}
    made = alice.ask("POST", "/v2/messages", body)
    assert made.headers["x-crossfade-backend"] == "2"
    project.at(stage)
    alice.catch_up(project)
    path = f"/v1/messages/{made.json()['id']}"
    assert alice.ask("GET", path).json()["content"] == "Let me check."
    edited = alice.ask("PATCH", path, {"content": "I looked."})
    assert edited.json()["content"] == "I looked."
    assert edited.headers["x-crossfade-backend"] == str(SERVED_BY[stage])
    row = project.row(2, made.json()["id"])
    assert row is not None
    assert row["content"] == [RICH[0], {"type": "text", "text": "I looked."}, RICH[2]]
    assert row["model"] == "m-1"


def test_one_idempotency_key_is_one_row(project: Project, alice: User) -> None:
    for stage in ("dualwrite", "live"):
        project.at(stage)
        alice.catch_up(project)
        chat, key = alice.new_chat(), uuid.uuid4().hex
        answers = [alice.say(chat, x_idempotency_key=key) for _ in range(3)]
        assert [a.status_code for a in answers] == [201, 201, 201]
        assert len({a.json()["id"] for a in answers}) == 1
        other = alice.say(chat, "something else", x_idempotency_key=key)
        assert other.status_code == 409
        assert len(alice.ask("GET", f"/messages?chat_id={chat}").json()["messages"]) == 1


@pytest.mark.parametrize("stage", ["dualwrite", "live"])
def test_pages_lose_nothing_at_equal_times(project: Project, alice: User, stage: str) -> None:
    project.at(stage)
    alice.catch_up(project)
    chat = alice.new_chat()
    project.sql(
        """
        insert into public.chat_messages
          (chat_id, user_id, role, content, created_at, sequence_number)
        select %s, %s, 'user', n::text, '2026-05-01T10:00:00.123456Z', nullif(n, 2)
        from generate_series(1, 7) n
        """,
        chat,
        alice.id,
    )
    seen: list[str] = []
    after = ""
    while True:
        page = alice.ask("GET", f"/messages?chat_id={chat}&limit=2{after}").json()["messages"]
        if not page:
            break
        seen += [message["content"] for message in page]
        # Microseconds survive: no part of the way turns a timestamp into a JavaScript date.
        assert {message["created_at"] for message in page} == {"2026-05-01T10:00:00.123456+00:00"}
        after = f"&after={page[-1]['id']}"
    assert seen == ["2", "1", "3", "4", "5", "6", "7"]


def test_a_cohort_is_served_from_v2_and_others_from_v1(
    project: Project, alice: User, bob: User
) -> None:
    project.at("live")
    project.set_cohort(percentage=0, enabled_user_ids=[alice.id])
    try:
        alice.catch_up(project)
        backends = {
            user.id: user.say(user.new_chat()).headers["x-crossfade-backend"]
            for user in (alice, bob)
        }
        assert backends == {alice.id: "2", bob.id: "1"}
    finally:
        project.set_cohort(percentage=100, enabled_user_ids=[])


def test_a_stale_isolate_cannot_write_v2_after_the_kill(
    project: Project, sign_up: Callable[..., User]
) -> None:
    project.at("live")
    env = {"CROSSFADE_SOFT_AGE_MS": "600000", "CROSSFADE_HARD_AGE_MS": "900000"}
    url = project.stack.spawn_isolate("chat", env={**env, "CROSSFADE_BROADCAST": "off"})
    user = sign_up(url=url if url.rstrip("/").endswith("/chat") else f"{url.rstrip('/')}/chat")
    chat = user.new_chat()
    before = user.say(chat)
    assert before.headers["x-crossfade-backend"] == "2"
    fallbacks, served = project.requests("fallback"), project.requests("ok")
    project.rpc("engage_kill_switch", name="disable_v2_messages", reason="test")
    try:
        after = user.say(chat, "after the kill")
        assert after.status_code == 201, after.text
        assert after.headers["x-crossfade-backend"] == "1"
        assert after.headers["x-crossfade-reason"] == "DISABLED"
        assert (
            after.headers["x-crossfade-flags-version"]
            == before.headers["x-crossfade-flags-version"]
        )
        row = project.row(1, after.json()["id"])
        assert row is not None
        assert row["content"] == "after the kill"
        eventually(lambda: project.requests("ok") > served, "the request is counted")
        # Stopped on purpose is no failure of version 2: the monitor must not see one.
        assert project.requests("fallback") == fallbacks
        explicit = user.say(chat, "in V2", version=2)
        assert explicit.status_code == 201
        assert explicit.headers["x-api-version"] == "2"
        assert explicit.headers["x-crossfade-backend"] == "1"
        assert explicit.json()["content"] == content_of("in V2", 2)
    finally:
        project.rpc("release_kill_switch", name="disable_v2_messages", reason="test")


def test_a_broadcast_alone_moves_an_isolate(project: Project, sign_up: Callable[..., User]) -> None:
    """Neither age nor an answer of the database can tell this isolate: only the broadcast."""
    project.at("live")
    env = {"CROSSFADE_SOFT_AGE_MS": "600000", "CROSSFADE_HARD_AGE_MS": "900000"}
    more = {"CROSSFADE_BROADCAST": "on", "CAPTURE_METRICS": "off"}
    url = project.stack.spawn_isolate("chat", env={**env, **more})
    user = sign_up(url=f"{url.rstrip('/').removesuffix('/chat')}/chat")
    path = f"/messages?chat_id={uuid.uuid4()}"
    assert user.ask("GET", path).headers["x-crossfade-backend"] == "2"
    # Joining takes a moment; a change made before it would be seen by the read after the join.
    project.rpc("engage_kill_switch", name="disable_v2_messages", reason="test")
    try:
        moved = "the isolate serves V1"
        eventually(lambda: user.ask("GET", path).headers["x-crossfade-backend"] == "1", moved)
    finally:
        project.rpc("release_kill_switch", name="disable_v2_messages", reason="test")
    back = "the isolate serves V2 again"
    eventually(lambda: user.ask("GET", path).headers["x-crossfade-backend"] == "2", back)


def test_shadow_reads_are_compared_and_counted(project: Project, alice: User) -> None:
    project.at("shadow")
    project.rpc("set_setting", name="shadow_sample_rate", value="1", reason="test")
    alice.catch_up(project)
    chat = alice.new_chat()
    message = alice.say(chat).json()["id"]
    matches, mismatches = project.requests("shadow_match"), project.requests("shadow_mismatch")

    def look() -> None:
        assert alice.ask("GET", f"/messages/{message}").status_code == 200

    def counted(outcome: str, before: int) -> Callable[[], bool]:
        def check() -> bool:
            look()
            return project.requests(outcome) > before

        return check

    eventually(counted("shadow_match", matches), "a match is counted")
    assert project.requests("shadow_mismatch") == mismatches
    project.unmirrored(2, "update {table} set content = '[]' where id = %s", message)
    eventually(counted("shadow_mismatch", mismatches), "a mismatch is counted")
    assert alice.ask("DELETE", f"/messages/{message}").status_code == 204


def test_a_preflight_allows_the_version_header(project: Project) -> None:
    answer = httpx.options(
        f"{project.info.api_url}/functions/v1/chat/messages",
        headers={
            "Origin": "https://app.example.com",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,x-api-version,x-idempotency-key",
        },
    )
    assert answer.status_code in (200, 204)
    allowed = answer.headers["access-control-allow-headers"].lower()
    for name in ("authorization", "x-api-version", "x-idempotency-key"):
        assert name in allowed


def test_supabase_py_can_call_the_function_and_read_its_errors(
    project: Project, alice: User
) -> None:
    client = project.client(project.info.publishable_key)
    token = alice.http.headers["authorization"].removeprefix("Bearer ")
    client.functions.set_auth(token)
    chat: Any = client.functions.invoke(
        "chat/chats", {"body": {"title": "from python"}, "responseType": "json"}
    )
    assert chat["title"] == "from python"
    with pytest.raises(Exception, match="not a field") as caught:
        client.functions.invoke(
            "chat/messages",
            {"body": {"chat_id": chat["id"], "role": "user", "content": "x", "mood": 1}},
        )
    assert "mood" in str(caught.value)


def test_complete_serves_v2_alone(project: Project, alice: User) -> None:
    project.at("complete")
    alice.catch_up(project)
    for wire in (1, 2):
        run_every_operation(project, alice, "complete", wire)
