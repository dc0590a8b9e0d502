"""The embedded Supabase, for Python programs: a handle on the supervisor of a data directory."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from crossfade.local.errors import LocalStackError, StackNotRunningError, StackStartError
from crossfade.local.ports import HOST
from crossfade.local.state import StackFolder, StackInfo, StackOptions, StackState

START_TIMEOUT_S = 900.0  # the first start downloads packages
STOP_TIMEOUT_S = 30.0
_REQUEST_TIMEOUT_S = 120.0


class LocalStack:
    """An embedded Supabase in one data directory.

    As a context manager it runs as long as the block, and never longer than this process.
    ``start(attached=False)`` leaves it running; ``stop`` ends it from any process.
    """

    def __init__(
        self,
        data_dir: Path | str,
        functions: Sequence[str] = ("chat",),
        isolates: int = 2,
        migrations: bool = True,
        pairs: Sequence[str] = ("chat_messages", "chat_features"),
        *,
        env: Mapping[str, str] | None = None,
        postgres_version: int | None = None,
        postgres_bin: Path | None = None,
        durable: bool = True,
        functions_dir: Path | None = None,
        migrations_dir: Path | None = None,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Describe a stack; nothing is touched until ``start``.

        Args:
            data_dir: its folder, made when missing; one stack per folder.
            functions: edge functions to serve.
            isolates: processes of each function.
            migrations: apply the project's migrations at start.
            pairs: files of sql/pairs to apply after them, in order.
            env: more environment for the functions.
            postgres_version: 18 (default) or 16.
            postgres_bin: folder of other PostgreSQL binaries.
            durable: False turns fsync off, for tests.
            functions_dir: where the functions lie, instead of the project's folder.
            migrations_dir: where the migrations lie, instead of the project's folder.
            progress: told what is going on while it starts.
        """
        self._folder = StackFolder(data_dir)
        self._options = StackOptions(
            data_dir=str(self._folder.path),
            functions=tuple(functions),
            isolates=isolates,
            migrations=migrations,
            pairs=tuple(pairs),
            env=dict(env or {}),
            postgres_version=postgres_version,
            postgres_bin=str(postgres_bin) if postgres_bin else None,
            durable=durable,
            functions_dir=str(functions_dir.resolve()) if functions_dir else None,
            migrations_dir=str(migrations_dir.resolve()) if migrations_dir else None,
        )
        self._progress = progress
        self._info: StackInfo | None = None
        self._process: subprocess.Popen[str] | None = None
        # Differs from the process when detached: that one has forked.
        self._daemon: int | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def info(self) -> StackInfo:
        """How to reach the stack.

        Raises:
            StackNotRunningError: it is not started.
        """
        if self._info is None:
            raise StackNotRunningError(f"No stack runs in {self._folder.path}")
        return self._info

    @property
    def supervisor_pid(self) -> int:
        """Process id of the supervisor."""
        return self._state().pid

    def start(self, *, attached: bool = True) -> StackInfo:
        """Start the stack and wait until it is ready.

        Args:
            attached: end it when this process ends; False leaves it running.

        Raises:
            StackStartError: it did not come up; nothing is left running.
        """
        self._folder.create()
        with (self._folder.logs / "supervisor.log").open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "crossfade.local.daemon"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd="/",
                start_new_session=True,  # Ctrl-C reaches us; we stop it in order
            )
        self._daemon = None
        try:
            self._info = self._await_ready(asdict(self._options) | {"attached": attached})
        except BaseException:
            self._end_process()
            raise
        if not attached:
            self._daemon = None
            self._end_process()  # what is left of it: the process that made the detached one
        return self._info

    def stop(self) -> bool:
        """Stop the stack, whoever started it; return whether one ran.

        Raises:
            LocalStackError: it did not end in time.
        """
        ran = stop_stack(self._folder.path)
        self._end_process()
        self._info = None
        return ran

    def spawn_isolate(self, function: str, env: Mapping[str, str] | None = None) -> str:
        """Start one more process of a function, outside the gateway's rotation; return its URL."""
        return str(self._request("spawn_isolate", function=function, env=dict(env or {})))

    def restart_api(self) -> None:
        """Let the Data API read its schema cache again, and wait for that."""
        self._request("restart_api")

    def kill(self, part: str) -> None:
        """Kill "postgres", "gateway" or "isolate:0"; it stays down until ``start_missing``."""
        self._request("kill", name=part)

    def start_missing(self) -> None:
        """Start the parts that are down, and wait for them."""
        self._request("start_missing")

    def parts(self) -> dict[str, bool]:
        """Return the parts by name, and whether each runs."""
        parts: dict[str, bool] = self._request("parts")
        return parts

    def _await_ready(self, options: dict[str, Any]) -> StackInfo:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise StackStartError("The supervisor did not start")
        process.stdin.write(json.dumps(options) + "\n")
        process.stdin.flush()
        for line in process.stdout:
            message: dict[str, Any] = json.loads(line)
            if "pid" in message:
                self._daemon = int(message["pid"])
            if "ready" in message:
                return StackInfo(**message["ready"])
            if "failed" in message:
                raise StackStartError(str(message["failed"]))
            if "progress" in message:
                self._progress(str(message["progress"]))
        raise StackStartError(f"The supervisor ended; see {self._folder.logs}/supervisor.log")

    def _end_process(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._daemon or process.pid, signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _state(self) -> StackState:
        state = self._folder.read_state()
        if state is None:
            raise StackNotRunningError(f"No stack runs in {self._folder.path}")
        return state

    def _request(self, action: str, **arguments: object) -> Any:
        return _send(self._state(), action, arguments)


def running_stack(data_dir: Path | str) -> StackInfo | None:
    """Return how to reach the stack that runs in the folder; None when none is ready there."""
    state = StackFolder(data_dir).read_state()
    return state.info if state else None


def stop_stack(data_dir: Path | str) -> bool:
    """Stop the stack of a folder, whoever started it; return whether one ran.

    Raises:
        LocalStackError: it did not end in time.
    """
    folder = StackFolder(data_dir)
    state = folder.read_state()
    if state is None:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(state.pid, signal.SIGTERM)  # it holds the lock, so the pid is its own
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while folder.is_locked():
        if time.monotonic() > deadline:
            raise LocalStackError(f"The stack in {folder.path} did not end in {STOP_TIMEOUT_S} s")
        time.sleep(0.02)
    return True


def _send(state: StackState, action: str, arguments: Mapping[str, object]) -> Any:
    request = {"token": state.control_token, "action": action, "arguments": dict(arguments)}
    address = (HOST, state.control_port)
    with (
        socket.create_connection(address, timeout=_REQUEST_TIMEOUT_S) as connection,
        connection.makefile("rwb") as stream,
    ):
        stream.write(json.dumps(request).encode() + b"\n")
        stream.flush()
        line = stream.readline()
    if not line:
        raise LocalStackError(f'The supervisor did not answer "{action}"')
    reply: dict[str, Any] = json.loads(line)
    if "error" in reply:
        raise LocalStackError(str(reply["error"]))
    return reply.get("result")
