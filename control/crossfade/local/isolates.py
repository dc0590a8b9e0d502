"""The function processes of a stack."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from crossfade.local.errors import StackStartError
from crossfade.local.functions import FunctionRunner
from crossfade.local.ports import HOST, free_port, is_listening
from crossfade.local.processes import Child

START_TIMEOUT_S = 180.0  # the first run of a function downloads its packages
_ATTEMPTS = 3


@dataclass(slots=True)
class Isolate:
    """A place for a function process, whether one runs there now or not."""

    function: str
    label: str
    port: int
    env: Mapping[str, str] = field(default_factory=dict)
    routed: bool = True
    child: Child | None = None

    @property
    def url(self) -> str:
        """Base URL of the process."""
        return f"http://{HOST}:{self.port}"

    def is_alive(self) -> bool:
        """Return whether its process runs."""
        return self.child is not None and self.child.is_alive()


class IsolatePool:
    """All isolates; those with ``routed`` take requests from the gateway."""

    def __init__(
        self, functions: Sequence[str], count: int, announce: Callable[[dict[str, list[str]]], None]
    ) -> None:
        """Plan the isolates; nothing runs yet.

        Args:
            functions: names of the functions.
            count: processes for each.
            announce: called with the URLs of living routed processes whenever they change.
        """
        self.all = [
            Isolate(name, f"{name}-{number}", 0) for name in functions for number in range(count)
        ]
        self._functions = tuple(functions)
        self._announce = announce
        self._announced: dict[str, list[str]] | None = None
        self.runner: FunctionRunner | None = None

    def launch(self, isolate: Isolate) -> None:
        """Start its process without waiting; on the same port when that is free."""
        if self.runner is None:
            raise StackStartError("The stack is not started")
        isolate.port = free_port(isolate.port or None)
        isolate.child = self.runner.start(
            isolate.function, label=isolate.label, port=isolate.port, env=isolate.env
        )

    def launch_missing(self) -> None:
        """Start the processes that do not run, without waiting."""
        for isolate in self.all:
            if not isolate.is_alive():
                self.launch(isolate)

    def wait_all(self) -> None:
        """Wait until every isolate serves.

        Raises:
            StackStartError: one of them did not come up.
        """
        for isolate in self.all:
            self.wait(isolate)
        self.announce()

    def wait(self, isolate: Isolate) -> None:
        """Wait until the isolate serves; another port is tried when its own was taken."""
        for _ in range(_ATTEMPTS):
            if self._wait_once(isolate):
                return
            if not is_listening(isolate.port):
                break
            self.launch(isolate)
        tail = isolate.child.log_tail(8) if isolate.child else ""
        raise StackStartError(f"Function process {isolate.label} did not start: {tail or 'no log'}")

    @staticmethod
    def _wait_once(isolate: Isolate) -> bool:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and isolate.is_alive():
            if is_listening(isolate.port):
                return isolate.is_alive()
            time.sleep(0.02)
        return False

    def add(self, function: str, env: Mapping[str, str]) -> Isolate:
        """Start one more process outside the rotation, and wait for it."""
        isolate = Isolate(function, f"{function}-extra-{len(self.all)}", 0, env, routed=False)
        self.launch(isolate)
        self.wait(isolate)
        self.all.append(isolate)
        return isolate

    def announce(self) -> None:
        """Tell the gateway which processes live, if that changed."""
        urls: dict[str, list[str]] = {name: [] for name in self._functions}
        for isolate in self.all:
            if isolate.routed and isolate.is_alive() and is_listening(isolate.port):
                urls[isolate.function].append(isolate.url)
        if urls != self._announced:
            self._announced = urls
            self._announce(urls)

    def announce_again(self) -> None:
        """Tell a new gateway."""
        self._announced = None
        self.announce()

    def begin_stop(self) -> None:
        """Ask all processes to end, without waiting."""
        for isolate in self.all:
            if isolate.child is not None and isolate.child.is_alive():
                isolate.child.process.terminate()

    def stop(self) -> None:
        """End all processes."""
        self.begin_stop()
        for isolate in self.all:
            if isolate.child is not None:
                isolate.child.stop(timeout_s=2)
