"""The same story on any Supabase project: the embedded one, or the one the environment names.

`make test-hosted` runs this file against `supabase start`. So it uses what a hosted project offers
and nothing else: the Data API, Auth, the chat function, and the `crossfade` command with a key.
"""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

PAIR = "chat_messages"


@dataclass(frozen=True)
class Project:
    """A project's address and keys."""

    url: str
    publishable_key: str
    secret_key: str

    def crossfade(self, *arguments: str) -> str:
        """Run a command that must succeed; return what it printed."""
        environment = os.environ | {
            "SUPABASE_URL": self.url,
            "SUPABASE_SECRET_KEY": self.secret_key,
        }
        result = subprocess.run(
            [sys.executable, "-m", "crossfade", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert result.returncode == 0, f"crossfade {' '.join(arguments)}: {result.stderr}"
        return result.stdout

    def stage(self, stage: str) -> None:
        """Set the stage of the pair."""
        self.crossfade("stage", "set", PAIR, stage, "--reason", "test", "--yes")


@dataclass(frozen=True)
class User:
    """A signed-up user who talks to the chat function."""

    http: httpx.Client
    chat: str

    def post(self, text: str, *, wire: int = 1) -> httpx.Response:
        """Write a message."""
        content: Any = text if wire == 1 else [{"type": "text", "text": text}]
        body = {"chat_id": self.chat, "role": "user", "content": content}
        answer = self.http.post(f"/v{wire}/messages", json=body)
        assert answer.status_code == 201, answer.text
        return answer

    def read(self, *, wire: int) -> dict[str, Any]:
        """Return the chat's messages by their id."""
        answer = self.http.get(f"/v{wire}/messages", params={"chat_id": self.chat})
        assert answer.status_code == 200, answer.text
        return {message["id"]: message["content"] for message in answer.json()["messages"]}


@pytest.fixture(scope="module")
def project(request: pytest.FixtureRequest) -> Project:
    """The project of the environment when it is asked for, else the embedded one."""
    if os.environ.get("CROSSFADE_TEST_PROJECT") == "environment":
        return Project(
            os.environ["SUPABASE_URL"],
            os.environ["SUPABASE_PUBLISHABLE_KEY"],
            os.environ["SUPABASE_SECRET_KEY"],
        )
    info = request.getfixturevalue("stack_info")
    return Project(info.api_url, info.publishable_key, info.secret_key)


@pytest.fixture
def user(project: Project) -> Iterator[User]:
    """A new user with an empty chat."""
    key = {"apikey": project.publishable_key}
    email = f"{uuid.uuid4()}@example.com"
    session = httpx.post(
        f"{project.url}/auth/v1/signup",
        json={"email": email, "password": str(uuid.uuid4())},
        headers=key,
    ).raise_for_status()
    headers = key | {"Authorization": f"Bearer {session.json()['access_token']}"}
    base = f"{project.url}/functions/v1/chat"
    with httpx.Client(base_url=base, headers=headers, timeout=30) as http:
        chat = http.post("/chats", json={"title": "test"})
        assert chat.status_code == 201, chat.text
        yield User(http, chat.json()["id"])


@pytest.fixture
def pair(project: Project) -> Iterator[None]:
    """The chat pair before anything was done with it, and again afterwards."""
    project.stage("off")
    project.crossfade("settings", "set", "shadow_min_reads", "0", "--reason", "test", "--yes")
    yield
    project.crossfade("kill", "release", "disable_v2_messages", "--reason", "test", "--yes")
    project.stage("off")
    project.crossfade("settings", "set", "shadow_min_reads", "1000", "--reason", "test", "--yes")


def rows(project: Project, table: str, chat: str) -> set[str]:
    """Return the ids of a chat's rows in a table, past row-level security."""
    answer = httpx.get(
        f"{project.url}/rest/v1/{table}",
        params={"select": "id", "chat_id": f"eq.{chat}"},
        headers={"apikey": project.secret_key, "Authorization": f"Bearer {project.secret_key}"},
    ).raise_for_status()
    return {row["id"] for row in answer.json()}


@pytest.mark.usefixtures("pair")
def test_a_pair_goes_live_is_stopped_and_goes_back_with_nothing_lost(
    project: Project, user: User
) -> None:
    old = user.post("before the mirror")
    assert old.headers["x-crossfade-backend"] == "1"
    assert rows(project, "chat_messages_v2", user.chat) == set()

    project.stage("dualwrite")
    user.post("mirrored from V1")
    assert len(rows(project, "chat_messages_v2", user.chat)) == 1
    project.crossfade("backfill", "run", PAIR, "--yes")
    assert rows(project, "chat_messages_v2", user.chat) == rows(project, PAIR, user.chat)

    project.stage("shadow")
    project.crossfade("verify", "run", PAIR)
    project.stage("live")
    project.crossfade("cohort", "set", PAIR, "--percentage", "100", "--reason", "test", "--yes")
    served = wait_for_backend(user, "2")
    assert served.json()["content"] == "served by 2", "a V1 client reads V1, whoever serves"
    assert user.read(wire=2)[served.json()["id"]][0]["text"] == "served by 2"

    project.crossfade("kill", "engage", "disable_v2_messages")
    stopped = user.post("after the kill", wire=2)
    assert stopped.headers["x-crossfade-backend"] == "1", "the database refuses V2 from the kill on"

    project.stage("shadow")
    assert rows(project, "chat_messages_v2", user.chat) == rows(project, PAIR, user.chat)
    texts = list(user.read(wire=1).values())
    assert {"before the mirror", "mirrored from V1", "served by 2", "after the kill"} <= set(texts)
    project.crossfade("verify", "run", PAIR)


def wait_for_backend(user: User, backend: str) -> httpx.Response:
    """Write until a backend serves: an isolate may use its copy of the flags for some seconds."""
    deadline = time.monotonic() + 70
    while time.monotonic() < deadline:
        answer = user.post(f"served by {backend}")
        if answer.headers["x-crossfade-backend"] == backend:
            return answer
        time.sleep(0.2)
    raise AssertionError(f"backend {backend} never served")
