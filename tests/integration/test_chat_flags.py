"""Every flag and every kill switch of the chat function, on and off: what a client sees of it."""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from .chat_project import Json, Project, User, eventually

REPLY_FLAGS = (
    "enable_memory_system",
    "enable_state_management",
    "use_new_tool_framework",
    "enable_streaming_responses",
    "enable_caching",
    "enable_parallel_tools",
    "enable_context_compression",
)
MIGRATION_FLAGS = ("maintain_dual_write", "auto_migrate_messages", "enable_compatibility_mode")


@pytest.fixture(autouse=True)
def as_seeded(project: Project, alice: User) -> Iterator[None]:
    """Every test begins and ends in stage live with the flags as they are installed."""
    project.at("live")
    reset(project)
    alice.catch_up(project)
    yield
    reset(project)
    alice.catch_up(project)


def reset(project: Project) -> None:
    rows = project.sql("select name, enabled from crossfade.flags")
    for row in rows:
        name, enabled = row["name"], row["enabled"]
        if name in REPLY_FLAGS and enabled:
            project.set_flag(name, enabled=False)
        if (name in MIGRATION_FLAGS or name == "use_advanced_messages") and not enabled:
            project.set_flag(name, enabled=True)


def switch(project: Project, user: User, **flags: bool) -> None:
    for name, enabled in flags.items():
        project.set_flag(name, enabled=enabled)
    user.catch_up(project)


@contextmanager
def killed(project: Project, user: User, name: str) -> Iterator[None]:
    project.kill(name)
    try:
        user.catch_up(project)
        yield
    finally:
        project.release(name)
        user.catch_up(project)


def reply(user: User, chat: str, version: int = 2, **body: object) -> Json:
    answer = user.ask("POST", f"/v{version}/reply", {"chat_id": chat, **body})
    assert answer.status_code == 201, answer.text
    message: Json = answer.json()
    return message


def text_of(message: Json) -> str:
    return "".join(block.get("text", "") for block in message["content"])


def answer_to(user: User, said: str, chat: str | None = None) -> Json:
    chat = chat or user.new_chat()
    user.say(chat, said, 2)
    return reply(user, chat)


def roles(user: User, chat: str) -> list[str]:
    listed = user.ask("GET", f"/v2/messages?chat_id={chat}").json()["messages"]
    return [message["role"] for message in listed]


def backend(user: User) -> str:
    return str(user.ask("GET", f"/messages?chat_id={uuid.uuid4()}").headers["x-crossfade-backend"])


def test_use_advanced_messages_lets_backend_2_serve(project: Project, alice: User) -> None:
    assert backend(alice) == "2"
    switch(project, alice, use_advanced_messages=False)
    assert backend(alice) == "1"


def test_memory_remembers_between_chats(project: Project, alice: User) -> None:
    fact = f"my cat is called {uuid.uuid4().hex}"
    assert fact not in text_of(answer_to(alice, "hello"))
    switch(project, alice, enable_memory_system=True)
    answer_to(alice, f"Remember that {fact}")
    assert fact in text_of(answer_to(alice, "hello again"))
    [kept] = [m for m in alice.ask("GET", "/memories").json()["memories"] if m["fact"] == fact]
    switch(project, alice, enable_memory_system=False)
    assert fact not in text_of(answer_to(alice, "hello"))
    assert alice.ask("GET", "/memories").status_code == 404
    # What is kept about a user can be deleted at any time.
    assert alice.ask("DELETE", f"/memories/{kept['id']}").status_code == 204
    assert alice.ask("DELETE", f"/memories/{kept['id']}").status_code == 404


def test_memory_is_the_users_own(project: Project, alice: User, bob: User) -> None:
    switch(project, alice, enable_memory_system=True)
    fact = f"my door code is {uuid.uuid4().hex}"
    answer_to(alice, f"remember that {fact}")
    assert fact not in text_of(answer_to(bob, "hello"))
    assert fact not in bob.ask("GET", "/memories").text


def test_state_counts_the_replies_of_a_chat(project: Project, alice: User) -> None:
    chat = alice.new_chat()
    assert "state" not in answer_to(alice, "one", chat)["metadata"]
    assert alice.ask("GET", f"/chats/{chat}/state").status_code == 404
    switch(project, alice, enable_state_management=True)
    assert answer_to(alice, "two", chat)["metadata"]["state"] == {"turn": 1}
    assert answer_to(alice, "three", chat)["metadata"]["state"] == {"turn": 2}
    assert alice.ask("GET", f"/chats/{chat}/state").json() == {"turn": 2, "state": {}}


def test_a_repeated_reply_is_stored_and_counted_once(project: Project, alice: User) -> None:
    switch(project, alice, enable_state_management=True, use_new_tool_framework=True)
    chat = alice.new_chat()
    alice.say(chat, "calculate 2+3", 2)
    body, key = {"chat_id": chat}, uuid.uuid4().hex
    answers = [alice.ask("POST", "/v2/reply", body, x_idempotency_key=key) for _ in range(3)]
    assert [a.status_code for a in answers] == [201, 201, 201]
    assert len({a.text for a in answers}) == 1
    assert alice.ask("GET", f"/chats/{chat}/state").json()["turn"] == 1
    assert roles(alice, chat) == ["user", "assistant", "tool", "assistant"]


def test_tools_are_called_and_their_results_kept(project: Project, alice: User) -> None:
    chat = alice.new_chat()
    assert "[" not in text_of(answer_to(alice, "calculate 2*(3+4)", chat))
    assert roles(alice, chat) == ["user", "assistant"]
    switch(project, alice, use_new_tool_framework=True)
    assert '[{"value":14}]' in text_of(answer_to(alice, "calculate 2*(3+4)", chat))
    assert roles(alice, chat)[2:] == ["user", "assistant", "tool", "assistant"]
    legacy = alice.ask("GET", f"/v1/messages?chat_id={chat}").json()["messages"]
    [call] = legacy[3]["metadata"]["tool_calls"]
    assert call["function"] == {"name": "calculator", "arguments": '{"expression":"2*(3+4)"}'}
    assert legacy[4]["metadata"]["tool_call_id"] == call["id"]
    assert legacy[4]["content"] == '{"value":14}'


def test_the_search_tool_finds_only_own_messages(project: Project, alice: User, bob: User) -> None:
    switch(project, alice, use_new_tool_framework=True)
    word = uuid.uuid4().hex
    alice.say(alice.new_chat(), f"the treasure is {word}")
    assert f"the treasure is {word}" in text_of(answer_to(alice, f'search for "{word}"'))
    assert "the treasure" not in text_of(answer_to(bob, f'search for "{word}"'))


def test_parallel_tools_are_called_in_one_round(project: Project, alice: User) -> None:
    switch(project, alice, use_new_tool_framework=True)
    said = "what time is it and calculate 6*7"
    one_by_one, together = alice.new_chat(), alice.new_chat()
    answer_to(alice, said, one_by_one)
    assert roles(alice, one_by_one) == [
        "user",
        *("assistant", "tool"),
        *("assistant", "tool"),
        "assistant",
    ]
    switch(project, alice, enable_parallel_tools=True)
    answer_to(alice, said, together)
    assert roles(alice, together) == ["user", "assistant", "tool", "tool", "assistant"]


@pytest.mark.parametrize("version", [1, 2])
def test_streaming_sends_the_answer_in_pieces(project: Project, alice: User, version: int) -> None:
    chat = alice.new_chat()
    alice.say(chat, "hello there")
    path, body = f"/v{version}/reply", {"chat_id": chat}
    plain = alice.ask("POST", path, body, accept="text/event-stream")
    assert (plain.status_code, plain.headers["content-type"]) == (
        201,
        "application/json; charset=utf-8",
    )
    switch(project, alice, enable_streaming_responses=True)
    streamed = alice.ask("POST", path, body, accept="text/event-stream")
    assert streamed.headers["content-type"] == "text/event-stream"
    assert streamed.headers["x-api-version"] == str(version)
    names, data = events_of(streamed.text)
    first, piece, last = (
        ("start", "delta", "done")
        if version == 1
        else (
            "message_start",
            "text_delta",
            "message_complete",
        )
    )
    assert (names[0], names[-1], set(names[1:-1])) == (first, last, {piece})
    assert data[0]["api_version"] == str(version)
    said = "".join(item["content" if version == 1 else "text"] for item in data[1:-1])
    stored = alice.ask("GET", f"/v{version}/messages/{data[0]['id']}").json()
    assert data[-1]["message"] == stored
    assert said == (stored["content"] if version == 1 else text_of(stored))


def events_of(text: str) -> tuple[list[str], list[Json]]:
    """Read a stream of events: names, and bodies."""
    parts = [part.split("\n") for part in text.strip().split("\n\n")]
    names = [lines[0].removeprefix("event: ") for lines in parts]
    return names, [json.loads(lines[1].removeprefix("data: ")) for lines in parts]


def test_caching_gives_an_answer_again(project: Project, alice: User, bob: User) -> None:
    said = f"hello {uuid.uuid4().hex}"
    assert "cached" not in answer_to(alice, said)["metadata"]
    switch(project, alice, enable_caching=True)
    first, second = answer_to(alice, said), answer_to(alice, said)
    assert ("cached" in first["metadata"], second["metadata"]["cached"]) == (False, True)
    assert first["content"] == second["content"]
    assert "cached" not in answer_to(bob, said)["metadata"]
    switch(project, alice, enable_caching=False)
    assert "cached" not in answer_to(alice, said)["metadata"]


def test_compression_tells_the_model_a_summary(project: Project, alice: User) -> None:
    switch(project, alice, enable_memory_system=True)
    project.set_setting("chat_context_budget_tokens", 100)
    chat = alice.new_chat()
    for number in range(6):
        alice.say(chat, f"Story {number} begins. " + "And so it goes on. " * 12, 2)
    whole = answer_to(alice, "hello", chat)
    assert "compressed" not in whole["metadata"]
    switch(project, alice, enable_context_compression=True)
    short = answer_to(alice, "hello", chat)
    assert short["metadata"]["compressed"]["turns"] >= 5  # more, when memory takes its part
    assert "Story 4 begins." in text_of(short)
    assert short["usage"]["input_tokens"] < whole["usage"]["input_tokens"] / 2


def test_dual_write_keeps_what_only_v2_can_hold(project: Project, alice: User) -> None:
    """In stage shadow backend 1 serves; a message that V1 cannot hold goes to both tables."""
    project.at("shadow")
    alice.catch_up(project)
    content = [{"type": "reasoning", "text": "hm", "signature": "EqQB+/=="}]
    body = {"chat_id": alice.new_chat(), "role": "assistant", "content": content}
    kept = alice.ask("POST", "/v2/messages", body)
    assert (kept.headers["x-crossfade-backend"], kept.json()["content"]) == ("2", content)
    switch(project, alice, maintain_dual_write=False)
    shown = alice.ask("POST", "/v2/messages", body)
    assert shown.headers["x-crossfade-backend"] == "1"
    assert shown.json()["content"] == [{"type": "reasoning", "text": "hm"}]


def test_auto_migration_copies_an_old_message_when_it_is_read(
    project: Project, alice: User
) -> None:
    def lost_by_v2() -> str:
        message = str(alice.say(alice.new_chat(), "an old one").json()["id"])
        project.unmirrored(2, "delete from {table} where id = %s", message)
        return message

    def served(message: str) -> str:
        answer = alice.ask("GET", f"/messages/{message}")
        assert (answer.status_code, answer.json()["content"]) == (200, "an old one")
        return str(answer.headers["x-crossfade-backend"])

    switch(project, alice, auto_migrate_messages=False)
    old = lost_by_v2()
    assert [served(old) for _ in range(3)] == ["1", "1", "1"]
    assert project.row(2, old) is None
    switch(project, alice, auto_migrate_messages=True)
    assert served(old) == "1"
    eventually(lambda: served(old) == "2", "the message is served from V2")
    row = project.row(2, old)
    assert row is not None
    assert row["content"] == [{"type": "text", "text": "an old one"}]


def test_without_compatibility_v1_clients_are_told_that_v1_has_gone(
    project: Project, alice: User
) -> None:
    chat = alice.new_chat()
    assert alice.ask("GET", f"/messages?chat_id={chat}").status_code == 200
    switch(project, alice, enable_compatibility_mode=False)
    gone = alice.ask("GET", f"/messages?chat_id={chat}")
    assert (gone.status_code, gone.json()["code"]) == (410, "VERSION_RETIRED")
    assert gone.headers["x-api-version"] == "1"
    assert alice.ask("GET", f"/v2/messages?chat_id={chat}").status_code == 200


# Kill switches --------------------------------------------------------------------------------


def test_disable_v2_messages_moves_reads_and_writes_to_backend_1(
    project: Project, alice: User
) -> None:
    assert backend(alice) == "2"
    with killed(project, alice, "disable_v2_messages"):
        assert backend(alice) == "1"
        said = alice.say(alice.new_chat(), "still here", 2)
        assert (said.status_code, said.headers["x-crossfade-backend"]) == (201, "1")
        assert said.headers["x-api-version"] == "2"
    assert backend(alice) == "2"


@pytest.mark.parametrize(
    ("name", "flag", "sign"),
    [
        ("disable_memory_system", "enable_memory_system", "remembered"),
        ("disable_state_management", "enable_state_management", "state"),
    ],
)
def test_a_feature_stops_with_its_switch(
    project: Project, alice: User, name: str, flag: str, sign: str
) -> None:
    switch(project, alice, **{flag: True})
    said = "remember that I like tea"
    assert sign in answer_to(alice, said)["metadata"]
    with killed(project, alice, name):
        assert sign not in answer_to(alice, said)["metadata"]
        assert backend(alice) == "2"
    assert sign in answer_to(alice, said)["metadata"]


def test_disable_new_tools_stops_tools(project: Project, alice: User) -> None:
    switch(project, alice, use_new_tool_framework=True)
    assert "[" in text_of(answer_to(alice, "calculate 1+1"))
    with killed(project, alice, "disable_new_tools"):
        assert "[" not in text_of(answer_to(alice, "calculate 1+1"))


def test_an_emergency_stops_all_features_and_keeps_v1_clients(
    project: Project, alice: User
) -> None:
    switch(project, alice, enable_state_management=True, use_new_tool_framework=True)
    with killed(project, alice, "emergency_rollback"):
        chat = alice.new_chat()
        assert alice.say(chat, "calculate 1+1").status_code == 201
        answer = alice.ask("POST", "/v1/reply", {"chat_id": chat})
        assert answer.status_code == 201
        assert answer.headers["x-crossfade-backend"] == "1"
        assert answer.json()["content"] == "You said: calculate 1+1"
        assert "state" not in answer.json()["metadata"]
