"""The chat function as apps reach it: supabase-js in Deno and supabase-py, in V1 and in V2."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from supabase import Client, ClientOptions, FunctionsHttpError, create_client

from .chat_project import Json, Project, User, content_of
from .deno_scripts import told_by

SCRIPT = Path(__file__).parent / "fixtures" / "chat_client.ts"


@pytest.fixture(scope="module", autouse=True)
def streaming(project: Project, alice: User) -> Iterator[None]:
    project.at("live")
    project.set_flag("enable_streaming_responses", enabled=True)
    alice.catch_up(project)
    yield
    project.set_flag("enable_streaming_responses", enabled=False)


def in_javascript(project: Project, version: int) -> Json:
    """Let supabase-js tell its story."""
    info = project.info
    told: Json = told_by(SCRIPT, info.api_url, info.publishable_key, str(version))
    return told


class PythonApp:
    """supabase-py, signed in, with headers made anew for each call."""

    def __init__(self, project: Project, version: int) -> None:
        self._headers = {} if version == 1 else {"x-api-version": str(version)}
        self.http = httpx.Client(timeout=30)
        options = ClientOptions(
            auto_refresh_token=False, persist_session=False, httpx_client=self.http
        )
        url, key = project.info.api_url, project.info.publishable_key
        self.client: Client = create_client(url, key, options)

    def sign_in(self) -> None:
        email, password = f"{uuid.uuid4().hex}@example.com", "correct horse battery"
        self.client.auth.sign_up({"email": email, "password": password})
        self.client.auth.sign_in_with_password({"email": email, "password": password})

    def call(self, method: str, path: str, body: Json | None = None) -> Json:
        options: Json = {"method": method, "headers": dict(self._headers)}
        if body is not None:
            options["body"] = body
        try:
            data: Any = self.client.functions.invoke(f"chat{path}", options)
        except FunctionsHttpError as error:
            return {"status": error.status, "problem": {"error": error.message}}
        return {"status": 200, "data": json.loads(data) if data else None}

    def stream(self, chat: str) -> Json:
        headers = {**self._headers, "accept": "text/event-stream"}
        options = {"headers": headers, "body": {"chat_id": chat}}
        data: Any = self.client.functions.invoke("chat/reply", options)
        return {"text": data.decode()}


def in_python(project: Project, version: int) -> Json:
    """The same story with supabase-py."""
    app = PythonApp(project, version)
    told: Json = {"stranger": app.call("GET", f"/messages?chat_id={uuid.uuid4()}")}
    app.sign_in()
    chat = app.call("POST", "/chats", {"title": "from Python"})["data"]["id"]
    mine = {"chat_id": chat, "role": "user", "content": content_of("hello ż😊", version)}
    told["said"] = app.call("POST", "/messages", mine)
    message = f"/messages/{told['said']['data']['id']}"
    told["listed"] = app.call("GET", f"/messages?chat_id={chat}")
    told["edited"] = app.call("PATCH", message, {"content": content_of("changed", version)})
    told["replied"] = app.call("POST", "/reply", {"chat_id": chat})
    told["streamed"] = app.stream(chat)
    told["wrong"] = app.call("POST", "/messages", {**mine, "role": "robot"})
    told["removed"] = app.call("DELETE", message)
    told["gone"] = app.call("GET", message)
    app.http.close()
    return told


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("tell", [in_javascript, in_python], ids=["javascript", "python"])
def test_an_app_signs_in_talks_streams_and_meets_errors(
    project: Project, tell: Any, version: int
) -> None:
    told = tell(project, version)

    said = told["said"]["data"]
    assert said["content"] == content_of("hello ż😊", version)
    assert told["listed"]["data"] == {"messages": [said]}
    assert told["edited"]["data"]["content"] == content_of("changed", version)
    assert told["replied"]["data"]["content"] == content_of("You said: changed", version)
    first = "event: start" if version == 1 else "event: message_start"
    assert told["streamed"]["text"].startswith(first)
    assert f'"api_version":"{version}"' in told["streamed"]["text"]
    last = told["streamed"]["text"].strip().rpartition("data: ")[2]
    assert json.loads(last)["message"]["role"] == "assistant"
    assert told["removed"]["data"] in (None, "")
    refused = {name: told[name]["status"] for name in ("stranger", "wrong", "gone")}
    assert refused == {"stranger": 401, "wrong": 422, "gone": 404}
    assert "robot" not in told["wrong"]["problem"]["error"]
    assert "is not one of" in told["wrong"]["problem"]["error"]
