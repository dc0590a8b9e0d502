"""The official Realtime clients behind one interface, so that each test runs with both."""

import asyncio
import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol

from supabase import AsyncClient, AsyncClientOptions, acreate_client

from crossfade.local import StackInfo
from crossfade.local.deno_runtime import deno_bin, deno_environment

WAIT_S = 10.0
_SCRIPT = Path(__file__).parent / "fixtures" / "realtime_client.ts"


class Inbox:
    """What a client heard, in order; waiting is bounded."""

    def __init__(self) -> None:
        self._items: list[dict[str, Any]] = []
        self._changed = threading.Condition()

    def put(self, item: dict[str, Any]) -> None:
        with self._changed:
            self._items.append({**item, "heard_at": time.perf_counter()})
            self._changed.notify_all()

    def all(self, kind: str) -> list[dict[str, Any]]:
        with self._changed:
            return [item for item in self._items if item["kind"] == kind]

    def wait(
        self, matches: Callable[[dict[str, Any]], bool], *, count: int = 1
    ) -> list[dict[str, Any]]:
        """Return the first ``count`` matching items, or fail after ``WAIT_S``."""
        deadline = time.monotonic() + WAIT_S
        with self._changed:
            while True:
                found = [item for item in self._items if matches(item)]
                if len(found) >= count:
                    return found[:count]
                left = deadline - time.monotonic()
                assert left > 0, f"nothing like it arrived; heard: {self._items}"
                self._changed.wait(left)

    def clear(self) -> None:
        with self._changed:
            self._items.clear()


class RealtimeClient(Protocol):
    """One client with one socket."""

    inbox: Inbox

    def subscribe(self, topic: str, *, private: bool = False, self_: bool = False) -> None: ...
    def send(self, topic: str, event: str, payload: dict[str, Any]) -> None: ...
    def http_send(self, topic: str, event: str, payload: dict[str, Any]) -> None: ...
    def set_auth(self, token: str) -> None: ...
    def unsubscribe(self, topic: str) -> None: ...
    def close(self) -> None: ...


def wait_status(client: RealtimeClient, topic: str, status: str, *, count: int = 1) -> str:
    """Wait until the channel had the status so many times; return the error told with the last."""
    found = client.inbox.wait(
        lambda item: (
            item["kind"] == "status" and item["topic"] == topic and item["status"] == status
        ),
        count=count,
    )
    return str(found[-1]["error"])


def wait_message(client: RealtimeClient, event: str) -> dict[str, Any]:
    """Wait for a broadcast of that event."""
    return client.inbox.wait(lambda item: item["kind"] == "message" and item["event"] == event)[0]


class PythonClient:
    """supabase-py; its event loop runs in a thread."""

    def __init__(self, info: StackInfo, key: str) -> None:
        self.inbox = Inbox()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._client: AsyncClient = self._run(
            acreate_client(
                info.api_url,
                key,
                AsyncClientOptions(auto_refresh_token=False, persist_session=False),
            )
        )

    def subscribe(self, topic: str, *, private: bool = False, self_: bool = False) -> None:
        self._run(self._subscribe(topic, private, self_))

    async def _subscribe(self, topic: str, private: bool, self_: bool) -> None:
        options: Any = {"config": {"private": private, "broadcast": {"ack": True, "self": self_}}}
        channel = self._client.channel(topic, options)
        channel.on_broadcast("*", lambda message: self._hear(topic, message))
        await channel.subscribe(
            lambda status, error: self.inbox.put(
                {
                    "kind": "status",
                    "topic": topic,
                    "status": str(getattr(status, "value", status)),
                    "error": None if error is None else str(error),
                }
            )
        )

    def _hear(self, topic: str, message: Any) -> None:
        self.inbox.put(
            {
                "kind": "message",
                "topic": topic,
                "event": message["event"],
                "payload": message["payload"],
            }
        )

    def send(self, topic: str, event: str, payload: dict[str, Any]) -> None:
        self._run(self._client.channel(topic).send_broadcast(event, payload))

    def http_send(self, topic: str, event: str, payload: dict[str, Any]) -> None:
        self._run(self._client.channel(topic).http_send(event, payload))

    def set_auth(self, token: str) -> None:
        self._run(self._client.realtime.set_auth(token))

    def unsubscribe(self, topic: str) -> None:
        self._run(self._client.channel(topic).unsubscribe())

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._run(self._client.remove_all_channels())
        self._run(_cancel_the_rest())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_S)
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(WAIT_S)


async def _cancel_the_rest() -> None:
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class JavaScriptClient:
    """supabase-js in a Deno process."""

    def __init__(self, info: StackInfo, key: str) -> None:
        self.inbox = Inbox()
        self._number = 0
        self._process = subprocess.Popen(
            [
                str(deno_bin()),
                *("run", "--quiet", "--no-prompt", "--no-config", "--no-lock", "-A"),
                *(str(_SCRIPT), info.api_url, key),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=deno_environment(),
            text=True,
        )
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.inbox.put(json.loads(line))

    def subscribe(self, topic: str, *, private: bool = False, self_: bool = False) -> None:
        self._do("subscribe", topic=topic, options={"private": private, "self": self_})

    def send(self, topic: str, event: str, payload: dict[str, Any]) -> None:
        self._do("send", topic=topic, event=event, payload=payload)

    def http_send(self, topic: str, event: str, payload: dict[str, Any]) -> None:
        self._do("httpSend", topic=topic, event=event, payload=payload)

    def set_auth(self, token: str) -> None:
        self._do("setAuth", topic="", token=token)

    def unsubscribe(self, topic: str) -> None:
        self._do("unsubscribe", topic=topic)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(WAIT_S)
        self._thread.join(WAIT_S)
        self._process.stdout.close()

    def _do(self, what: str, /, **more: object) -> None:
        assert self._process.stdin is not None
        self._number += 1
        number = self._number
        self._process.stdin.write(json.dumps({"id": number, "do": what, **more}) + "\n")
        self._process.stdin.flush()
        self.inbox.wait(lambda item: item["kind"] == "done" and item["id"] == number)
