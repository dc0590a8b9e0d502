"""Listening on the real stack with the official client, while the server misbehaves."""

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from crossfade.gateway import SupabaseGateway
from crossfade.gateway.realtime import open_session
from crossfade.monitor.listening import Listener, Notice
from crossfade.project.config import Connection

from .cli_project import Project, running_project

WAIT_S = 15.0


@pytest.fixture(scope="module")
def project(fresh_dir: Callable[[str], Path]) -> Iterator[Project]:
    with running_project(fresh_dir("events")) as found:
        yield found


class Ears:
    """A listener in a thread."""

    def __init__(self, project: Project, *, poll_every_s: float = 0.2) -> None:
        info = project.stack.info
        self._project = project
        self._heard: list[Notice] = []
        self._changed = threading.Condition()
        connection = Connection(info.api_url, SecretStr(info.secret_key), "tester")
        self._gateway = SupabaseGateway(connection)
        self._loop = asyncio.new_event_loop()
        listener = Listener(
            lambda: open_session(connection),
            self._gateway.read_flags,
            self._hear,
            probe_every_s=1,
            answer_within_s=1,
            poll_every_s=poll_every_s,
            longest_pause_s=0.2,
        )
        self._task = self._loop.create_task(listener.run())
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        # As asyncio.run() does for the command: the tasks of a client that was cancelled while
        # it said goodbye end with the loop.
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._until_stopped())

    async def _until_stopped(self) -> None:
        await asyncio.gather(self._task, return_exceptions=True)

    def _hear(self, notice: Notice) -> None:
        with self._changed:
            self._heard.append(notice)
            self._changed.notify_all()

    def wait(self, matches: Callable[[Notice], bool], *, count: int = 1) -> list[Notice]:
        deadline = time.monotonic() + WAIT_S
        with self._changed:
            while len(found := [n for n in self._heard if matches(n)]) < count:
                left = deadline - time.monotonic()
                assert left > 0, self._heard
                self._changed.wait(left)
            return found

    def wait_joined(self, times: int = 1) -> None:
        self.wait(lambda n: n.event == "joined", count=times)

    def wait_kill(self, name: str, source: str) -> None:
        self.wait(lambda n: n.event == "kill" and n.source == source and n.payload["name"] == name)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(10)
        assert not self._thread.is_alive()
        self._gateway.close()


@pytest.fixture
def ears(project: Project) -> Iterator[Ears]:
    found = Ears(project, poll_every_s=60)
    found.wait_joined()
    yield found
    found.close()


@pytest.fixture(autouse=True)
def released(project: Project) -> Iterator[None]:
    yield
    project.ok("kill", "release", "disable_new_tools", "--reason", "t", "--yes")
    stand_in(project, "allow")


def stand_in(project: Project, action: str, **body: str) -> None:
    info = project.stack.info
    httpx.post(
        f"{info.api_url}/realtime/v1/stand-in/{action}",
        headers={"apikey": info.secret_key},
        json={"topic": "crossfade:flags", **body},
    ).raise_for_status()


def engage(project: Project) -> None:
    project.ok("kill", "engage", "disable_new_tools", "--wait", "0")


def test_doctor_finds_a_fresh_project_healthy_and_joins_realtime(project: Project) -> None:
    found = {row["check"]: row for row in project.data("doctor")}
    assert found["realtime"]["state"] == "ok"
    assert found["key"]["state"] == "ok"
    assert [name for name, row in found.items() if row["state"] == "fail"] == []
    stand_in(project, "refuse", message="Unauthorized: no")
    found = {row["check"]: row for row in project.data("doctor")}
    assert found["realtime"]["state"] == "warn"
    assert "Unauthorized" in found["realtime"]["what"]


def test_a_kill_is_heard(project: Project, ears: Ears) -> None:
    engage(project)
    ears.wait_kill("disable_new_tools", "broadcast")


@pytest.mark.parametrize("damage", ["drop", "kick"])
def test_a_kill_is_heard_after_the_server_ended_socket_or_channel(
    project: Project, ears: Ears, damage: str
) -> None:
    # A kick (system error and close) is what neither official client recovers from.
    stand_in(project, damage, message="Too many messages per second")
    ears.wait_joined(2)
    engage(project)
    ears.wait_kill("disable_new_tools", "broadcast")


def test_a_refused_join_is_tried_until_it_is_allowed(project: Project, ears: Ears) -> None:
    stand_in(project, "refuse", message="Unauthorized: no")
    stand_in(project, "drop")
    ears.wait(lambda n: n.event == "not_joined", count=3)
    stand_in(project, "allow")
    ears.wait_joined(2)
    engage(project)
    ears.wait_kill("disable_new_tools", "broadcast")


def test_a_kill_that_was_never_broadcast_is_noticed_by_reading(project: Project) -> None:
    stand_in(project, "refuse", message="Unauthorized: no")
    ears = Ears(project)
    try:
        ears.wait(lambda n: n.event == "not_joined")
        engage(project)
        ears.wait_kill("disable_new_tools", "polling")
    finally:
        ears.close()


def test_the_command_prints_one_json_object_an_event_and_stops_by_itself(
    project: Project,
) -> None:
    engage(project)
    done = subprocess.run(
        [sys.executable, "-m", "crossfade", "kill", "watch", "--json", "--seconds", "3"],
        env={**project.env, "PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert found[0]["payload"]["name"] == "disable_new_tools"
    assert "joined" in done.stderr
