"""The gateway process, seen from the supervisor: lines of JSON on its stdin and stdout."""

import json
import os
import select
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crossfade.local.deno_runtime import deno_bin, deno_environment
from crossfade.local.errors import StackStartError
from crossfade.local.processes import Child, ChildOptions, spawn

START_TIMEOUT_S = 60.0
RELOAD_TIMEOUT_S = 30.0


class GatewayProcess:
    """One run of stack.ts."""

    def __init__(self, sources: Path, log: Path, config: Mapping[str, object]) -> None:
        """Start the process; ``wait_ready`` tells when it serves.

        Args:
            sources: folder of stack.ts.
            log: file for its stderr.
            config: the first line it reads.
        """
        environment = {
            **deno_environment(),
            # Hashing passwords as slowly as production would only slow tests down.
            "LITE_AUTH_BCRYPT_COST": os.environ.get("LITE_AUTH_BCRYPT_COST", "4"),
        }
        command: list[str | Path] = [
            deno_bin(),
            "run",
            "--quiet",
            "--no-prompt",
            "-A",
            sources / "stack.ts",
        ]
        options = ChildOptions(
            env=environment, cwd=sources, log=log, pipe_stdin=True, pipe_stdout=True
        )
        self.child: Child = spawn("gateway", command, options)
        self._buffer = b""
        self._reloads = 0
        self._tell(config)

    def wait_ready(self) -> None:
        """Wait until it serves.

        Raises:
            StackStartError: it ended, or took too long.
        """
        self._wait_for("ready", START_TIMEOUT_S)

    def set_functions(self, urls: Mapping[str, Sequence[str]]) -> None:
        """Tell it which function processes take requests."""
        self._tell({"kind": "functions", "urls": urls})

    def set_database_pid(self, pid: int) -> None:
        """Tell it which server to end, should the supervisor die without a chance to do that."""
        self._tell({"kind": "database", "pid": pid})

    def reload(self) -> None:
        """Let it read the schema cache again, and wait for that."""
        self._reloads += 1
        self._tell({"kind": "reload", "id": self._reloads})
        self._wait_for("reloaded", RELOAD_TIMEOUT_S)

    def stop(self) -> None:
        """Close its stdin, which it takes as the end, and make sure."""
        if self.child.process.stdin is not None:
            self.child.process.stdin.close()
        self.child.stop(first=signal.SIGTERM, timeout_s=2)

    def _tell(self, message: Mapping[str, object]) -> None:
        stdin = self.child.process.stdin
        if stdin is None:
            return
        try:
            stdin.write(json.dumps(message).encode() + b"\n")
            stdin.flush()
        except (BrokenPipeError, ValueError):
            return  # it is dead; whoever waits for an answer will see that

    def _wait_for(self, kind: str, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while (message := self._next_message(deadline)) is not None:
            if message.get("kind") == kind:
                return
        tail = self.child.log_tail(8)
        raise StackStartError(f"The gateway did not become {kind}: {tail or 'no log'}")

    def _next_message(self, deadline: float) -> dict[str, Any] | None:
        """Return the next line of its stdout; None at its end or after the deadline."""
        stdout = self.child.process.stdout
        if stdout is None:
            return None
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([stdout], [], [], left)[0]:
                return None
            chunk = os.read(stdout.fileno(), 65536)
            if not chunk:
                return None
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message
