"""Child processes that cannot outlive the process that started them."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from crossfade.local.system_user import SystemUser

_PR_SET_PDEATHSIG = 1
# Loaded at import: a child between fork and exec must not load libraries.
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildOptions:
    """How a child runs.

    Attributes:
        env: whole environment of the child; None inherits ours.
        cwd: working directory.
        log: file that gets stderr, and stdout unless that is piped.
        user: run as this user; None keeps ours.
        death_signal: what the kernel sends the child when its parent dies (Linux only).
        pipe_stdin: keep the child's stdin open as long as we live, so that it sees our end.
        pipe_stdout: let the parent read the child's stdout.
    """

    env: Mapping[str, str] | None = None
    cwd: Path | None = None
    log: Path | None = None
    user: SystemUser | None = None
    death_signal: int = signal.SIGKILL
    pipe_stdin: bool = False
    pipe_stdout: bool = False


@dataclass(slots=True)
class Child:
    """A started child process."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path | None = None

    @property
    def pid(self) -> int:
        """Process id."""
        return self.process.pid

    def is_alive(self) -> bool:
        """Return whether the child still runs (and reap it when it does not)."""
        return self.process.poll() is None

    def stop(self, *, first: int = signal.SIGTERM, timeout_s: float = 5.0) -> None:
        """End the child: the polite signal first, SIGKILL after the timeout."""
        if not self.is_alive():
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(first)
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def log_tail(self, lines: int = 5) -> str:
        """Return the last lines of the child's log, for an error message."""
        if self.log is None or not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def spawn(name: str, command: Sequence[str | Path], options: ChildOptions) -> Child:
    """Start a child process in its own session, so that Ctrl-C reaches only its supervisor."""
    log = options.log.open("ab") if options.log is not None else None
    user = options.user
    try:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE if options.pipe_stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE if options.pipe_stdout else log or subprocess.DEVNULL,
            stderr=log or subprocess.DEVNULL,
            env=dict(options.env) if options.env is not None else None,
            cwd=options.cwd,
            user=user.uid if user else None,
            group=user.gid if user else None,
            extra_groups=[] if user else None,
            start_new_session=True,
            preexec_fn=_die_with_parent(options.death_signal),
        )
    finally:
        if log is not None:
            log.close()
    return Child(name, process, options.log)


def _die_with_parent(death_signal: int) -> Callable[[], None] | None:
    # The kernel watches the *thread* that forked: a short-lived one would kill the child.
    if _LIBC is None or threading.current_thread() is not threading.main_thread():
        return None
    parent = os.getpid()

    def run_in_child() -> None:
        # SAFETY: runs after the change of uid, which would clear the setting.
        _LIBC.prctl(_PR_SET_PDEATHSIG, death_signal)
        if os.getppid() != parent:  # the parent died between fork and prctl
            os._exit(1)

    return run_in_child
