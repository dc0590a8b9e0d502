"""The supervisor's process: holds the data directory, answers ``LocalStack``, watches the parts.

Started with its options as one JSON line on stdin; tells its progress as JSON lines on stdout
until the stack is ready. Ends on SIGTERM, on the request "stop", and, when attached, with its
parent (end of stdin). It has one thread, which is the one that must start the children.
"""

import contextlib
import hmac
import json
import os
import secrets
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from crossfade.local.errors import LocalStackError
from crossfade.local.ports import HOST
from crossfade.local.state import StackFolder, StackOptions, StackState
from crossfade.local.supervisor import Supervisor

_CHECK_EVERY_S = 0.1
_REQUEST_TIMEOUT_S = 5.0


class _Stopped(BaseException):
    """Ends the process in an orderly way, wherever it is."""


def main() -> int:
    """Run a stack until told to stop; return the exit code."""
    options = StackOptions(**json.loads(sys.stdin.readline()))
    if not options.attached and os.fork() > 0:
        os._exit(0)  # a detached stack is nobody's child: whoever started it need not reap it
    _tell({"pid": os.getpid()})
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _on_signal)
    folder = StackFolder(options.data_dir)
    try:
        folder.create()
        with folder.lock():
            return _run(folder, options)
    except (LocalStackError, OSError) as error:
        _tell({"failed": str(error)})
        return 1
    except _Stopped:
        return 0


def _run(folder: StackFolder, options: StackOptions) -> int:
    after_crash = folder.clear_state()
    supervisor = Supervisor(options, lambda text: _tell({"progress": text}))
    with socket.create_server((HOST, 0)) as server:
        state = StackState(
            pid=os.getpid(),
            control_port=server.getsockname()[1],
            control_token=secrets.token_hex(16),
        )
        try:
            folder.write_state(state)
            info = supervisor.start(after_crash=after_crash)
            folder.write_state(StackState(**{**_fields(state), "info": info}))
            _tell({"ready": info.as_dict()})
            _serve(server, state.control_token, supervisor, watch_stdin=options.attached)
        finally:
            _ignore_signals()
            supervisor.stop()
            folder.clear_state()
    return 0


def _serve(server: socket.socket, token: str, supervisor: Supervisor, *, watch_stdin: bool) -> None:
    selector = selectors.DefaultSelector()
    selector.register(server, selectors.EVENT_READ)
    if watch_stdin:
        selector.register(sys.stdin, selectors.EVENT_READ)
    next_check = time.monotonic()
    while True:
        for key, _ in selector.select(max(0.0, next_check - time.monotonic())):
            if key.fileobj is server:
                _answer(server, token, supervisor)
            elif os.read(sys.stdin.fileno(), 4096) == b"":
                return  # the parent is gone
        if time.monotonic() >= next_check:
            supervisor.check()
            next_check = time.monotonic() + _CHECK_EVERY_S


def _answer(server: socket.socket, token: str, supervisor: Supervisor) -> None:
    """Serve one request; a broken client must not end the stack."""
    connection, _ = server.accept()
    with connection, contextlib.suppress(OSError):
        connection.settimeout(_REQUEST_TIMEOUT_S)
        with connection.makefile("rwb") as stream:
            reply = _reply(stream.readline(), token, supervisor)
            stream.write(json.dumps(reply).encode() + b"\n")


def _reply(line: bytes, token: str, supervisor: Supervisor) -> dict[str, Any]:
    try:
        request: dict[str, Any] = json.loads(line)
    except ValueError:
        return {"error": "not JSON"}
    if not hmac.compare_digest(str(request.get("token")), token):
        return {"error": "wrong token"}
    arguments = request.get("arguments", {})
    actions: dict[str, Callable[..., object]] = {
        "parts": supervisor.parts,
        "kill": supervisor.kill,
        "start_missing": supervisor.start_missing,
        "spawn_isolate": supervisor.spawn_isolate,
        "restart_api": supervisor.restart_api,
        "stop": _raise_stopped,
    }
    try:
        return {"result": actions[request["action"]](**arguments)}
    except LocalStackError as error:
        return {"error": str(error)}
    except Exception as error:
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}


def _fields(state: StackState) -> dict[str, Any]:
    return {name: getattr(state, name) for name in StackState.__slots__}


def _tell(message: dict[str, object]) -> None:
    line = json.dumps(message)
    for stream in (sys.stderr, sys.stdout):
        with contextlib.suppress(OSError, ValueError):  # a detached stack's starter is gone
            stream.write(line + "\n")
            stream.flush()


def _raise_stopped() -> NoReturn:
    raise _Stopped


def _on_signal(*_: object) -> NoReturn:
    _ignore_signals()  # a second one must not interrupt the clean-up
    raise _Stopped


def _ignore_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main())
