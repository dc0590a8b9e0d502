"""Replies by a model behind an OpenAI-compatible server, whole and streamed, and its failures."""

import json
import threading
from collections.abc import Callable, Iterator

import httpx
import pytest

from .chat_project import Json, Project, User, eventually
from .model_server import ModelServer, model_server

KEY = "sk-test-2f9c1d7e"
TIMEOUT_MS = 700


@pytest.fixture(scope="module")
def running_model() -> Iterator[ModelServer]:
    with model_server() as model:
        yield model


@pytest.fixture(scope="module")
def writer(
    project: Project, sign_up: Callable[..., User], running_model: ModelServer
) -> Iterator[User]:
    """A user of a process of the function that asks the server."""
    project.at("live")
    flags = ("enable_streaming_responses", "use_new_tool_framework", "enable_parallel_tools")
    for name in flags:
        project.set_flag(name, enabled=True)
    env = {
        "MODEL_URL": running_model.url,
        "MODEL_KEY": KEY,
        "MODEL_NAME": "outside",
        "MODEL_TIMEOUT_MS": str(TIMEOUT_MS),
        "CROSSFADE_SOFT_AGE_MS": "100",
        "VERBOSE_LOGGING": "true",
    }
    url = project.stack.spawn_isolate("chat", env=env)
    user = sign_up(url=f"{url.rstrip('/')}/chat")
    user.catch_up(project)
    yield user
    for name in flags:
        project.set_flag(name, enabled=False)


@pytest.fixture
def model(running_model: ModelServer) -> ModelServer:
    """The server as at its start."""
    running_model.requests.clear()
    running_model.keys.clear()
    running_model.pieces = ("Hello", " from", " outside.")
    running_model.tool_calls = ()
    running_model.fault = None
    running_model.gate = None
    running_model.ended.clear()
    return running_model


def test_the_model_is_asked_once_with_the_conversation(writer: User, model: ModelServer) -> None:
    chat = writer.new_chat()
    writer.say(chat, "hi ż😊")
    answer = writer.ask("POST", "/v2/reply", {"chat_id": chat})
    assert answer.status_code == 201, answer.text
    assert answer.json()["content"] == [{"type": "text", "text": "Hello from outside."}]
    assert answer.json()["model"] == "outside-1"
    assert answer.json()["usage"] == {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}
    [asked] = model.requests
    assert asked["messages"] == [{"role": "user", "content": "hi ż😊"}]
    assert (asked["model"], "stream" in asked) == ("outside", False)
    assert model.keys == [f"Bearer {KEY}"]


@pytest.mark.parametrize("stream", [False, True])
def test_its_tool_calls_are_run_and_told_back(
    writer: User, model: ModelServer, stream: bool
) -> None:
    model.tool_calls = (
        ("calculator", '{"expression": "6*7"}'),
        ("calculator", '{"expression": "constructor"}'),
        ("nothing", "{}"),
        ("clock", "{not JSON"),
    )
    chat = writer.new_chat()
    writer.say(chat, "how much?")
    answer = writer.ask("POST", "/v2/reply", {"chat_id": chat, "stream": stream})
    assert answer.status_code == (200 if stream else 201), answer.text
    first, second = model.requests
    offered = {tool["function"]["name"] for tool in first["tools"]}
    assert offered == {"clock", "calculator", "search_messages"}
    assert first["parallel_tool_calls"] is True
    results = {m["tool_call_id"]: m["content"] for m in second["messages"] if m["role"] == "tool"}
    assert results["call_0"] == '{"value":42}'
    assert results["call_1"] == '"c" is not a number'
    assert results["call_2"] == 'There is no tool "nothing"'
    assert results["call_3"] == "The arguments are not a JSON object"
    listed = writer.ask("GET", f"/v2/messages?chat_id={chat}").json()["messages"]
    calls = listed[1]["content"]
    assert [call["state"] for call in calls] == ["complete", "error", "error", "error"]
    # What is no JSON is kept as it was written.
    assert (calls[3]["input"], calls[3]["arguments_raw"]) == (None, "{not JSON")
    assert calls[0]["arguments_raw"] == '{"expression": "6*7"}'
    assert [m["role"] for m in listed] == ["user", "assistant", *["tool"] * 4, "assistant"]


@pytest.mark.parametrize("version", [1, 2])
def test_pieces_arrive_while_the_model_speaks(
    writer: User, model: ModelServer, version: int
) -> None:
    """The server waits in the middle until the client has seen the first piece."""
    model.gate = threading.Event()
    chat = writer.new_chat()
    writer.say(chat, "hi")
    body = {"chat_id": chat, "stream": True}
    with writer.http.stream("POST", f"{writer.url}/v{version}/reply", json=body) as answer:
        text = ""
        for piece in answer.iter_text():
            text += piece
            if '"Hello"' in text and not model.gate.is_set():
                assert "outside" not in text
                model.gate.set()
    assert text.count("event: ") == 5
    assert "Hello from outside." in text


def test_a_client_that_goes_away_keeps_what_it_read(writer: User, model: ModelServer) -> None:
    model.gate = threading.Event()
    chat = writer.new_chat()
    writer.say(chat, "hi")
    body = {"chat_id": chat, "stream": True}
    with (
        httpx.Client(headers=writer.http.headers) as leaving,
        leaving.stream("POST", f"{writer.url}/v2/reply", json=body) as answer,
    ):
        text = ""
        for piece in answer.iter_text():
            text += piece
            if '"Hello"' in text:
                break

    def stored() -> list[Json]:
        found: list[Json] = writer.ask("GET", f"/v2/messages?chat_id={chat}").json()["messages"]
        return found

    eventually(lambda: len(stored()) == 2, "the half answer is stored")
    model.gate.set()
    half = stored()[1]
    assert (half["status"], half["finish_reason"]) == ("cancelled", "cancelled")
    assert half["content"] == [{"type": "text", "text": "Hello"}]


@pytest.mark.parametrize("fault", ["status", "hang", "garbage"])
def test_a_model_that_fails_is_asked_once_and_nothing_is_stored(
    writer: User, model: ModelServer, fault: str
) -> None:
    model.fault = fault
    chat = writer.new_chat()
    writer.say(chat, "hi")
    answer = writer.ask("POST", "/v1/reply", {"chat_id": chat})
    assert (answer.status_code, answer.json()["code"]) == (503, "UPSTREAM_UNAVAILABLE")
    assert answer.headers["retry-after"] == "5"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert len(model.requests) == 1
    assert len(writer.ask("GET", f"/messages?chat_id={chat}").json()["messages"]) == 1
    model.fault = None
    model.ended.set()
    assert writer.ask("POST", "/v1/reply", {"chat_id": chat}).status_code == 201


@pytest.mark.parametrize("version", [1, 2])
def test_a_stream_that_breaks_off_keeps_what_arrived(
    writer: User, model: ModelServer, version: int
) -> None:
    """The client is told the message as it is stored, and that it is not whole."""
    model.fault = "cut"
    chat = writer.new_chat()
    writer.say(chat, "hi")
    answer = writer.ask("POST", f"/v{version}/reply", {"chat_id": chat, "stream": True})
    last = answer.text.strip().split("\n\n")[-1].split("\n")
    assert last[0] == f"event: {'done' if version == 1 else 'message_complete'}"
    told = json.loads(last[1].removeprefix("data: "))["message"]
    _, stored = writer.ask("GET", f"/v2/messages?chat_id={chat}").json()["messages"]
    assert (stored["status"], stored["finish_reason"]) == ("incomplete", "error")
    assert stored["content"] == [{"type": "text", "text": "Hello"}]
    assert stored["error"]["code"] == "stream_ended"
    shown = told["metadata"]["error"] if version == 1 else told["error"]["message"]
    assert shown == stored["error"]["message"]


def test_what_was_said_before_is_told_in_order(
    project: Project, writer: User, model: ModelServer
) -> None:
    """Two calls, a word of the user, both results in one late message, and a refusal."""
    project.set_flag("enable_memory_system", enabled=True)
    writer.catch_up(project)
    chat = writer.new_chat()
    writer.say(chat, "two things")

    def tell(role: str, *content: Json) -> None:
        body = {"chat_id": chat, "role": role, "content": list(content)}
        answer = writer.ask("POST", "/v2/messages", body)
        assert answer.status_code == 201, answer.text

    def call(number: int) -> Json:
        name = {"type": "tool_call", "name": "clock", "input": {}, "state": "complete"}
        return {**name, "tool_call_id": f"call:{number}"}

    def result(number: int) -> Json:
        output = {"type": "tool_result", "output": {"at": number}, "is_error": False}
        return {**output, "tool_call_id": f"call:{number}"}

    tell("assistant", call(1), call(2))
    writer.say(chat, "well?")
    tell("tool", result(2), result(1))
    tell("assistant", {"type": "refusal", "text": "I cannot."})
    writer.say(chat, "go on")
    answer = writer.ask("POST", "/v2/reply", {"chat_id": chat})
    project.set_flag("enable_memory_system", enabled=False)
    writer.catch_up(project)
    assert answer.status_code == 201, answer.text
    [asked] = model.requests
    function = {"name": "clock", "arguments": "{}"}
    calls = [{"id": f"call_{n}", "type": "function", "function": function} for n in (1, 2)]
    assert asked["messages"] == [
        {"role": "user", "content": "two things"},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "call_1", "content": '{"at":1}'},
        {"role": "tool", "tool_call_id": "call_2", "content": '{"at":2}'},
        {"role": "user", "content": "well?"},
        {"role": "assistant", "content": "I cannot."},
        {"role": "user", "content": "go on"},
    ]


@pytest.mark.parametrize("fault", ["status", "hang"])
def test_a_stream_that_fails_ends_with_an_error_event(
    writer: User, model: ModelServer, fault: str
) -> None:
    model.fault = fault
    chat = writer.new_chat()
    writer.say(chat, "hi")
    answer = writer.ask("POST", "/v1/reply", {"chat_id": chat, "stream": True})
    assert answer.status_code == 200
    last = answer.text.strip().split("\n\n")[-1].split("\n")
    assert last[0] == "event: error"
    problem = json.loads(last[1].removeprefix("data: "))
    assert (problem["status"], problem["code"]) == (503, "UPSTREAM_UNAVAILABLE")
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert len(writer.ask("GET", f"/messages?chat_id={chat}").json()["messages"]) == 1


def test_no_log_holds_a_secret_or_what_was_said(
    project: Project, writer: User, model: ModelServer
) -> None:
    """Even with VERBOSE_LOGGING: one line a request, with its id, and nothing of its content."""
    model.fault = "status"
    chat = writer.new_chat()
    said = "my deepest secret"
    writer.say(chat, said)
    answer = writer.ask("POST", "/v1/reply", {"chat_id": chat})
    assert answer.status_code == 503
    logs = project.logs()
    token = writer.http.headers["authorization"].removeprefix("Bearer ")
    for secret in (KEY, token, said, project.info.secret_key, project.info.publishable_key):
        assert secret not in logs
    assert "POST /chat/v1/reply 503 V1 backend 2" in logs
    assert answer.headers["x-request-id"] in logs
