"""A proxy before the Data API that makes trouble with the reads of flags, and with nothing else."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing: processes that are killed leave connections behind."""


class FlagsProxy:
    """Passes requests on; ``mode`` says what happens to those that read flags.

    Attributes:
        mode: "well", "slow", "away", "nonsense" or "lagging", which repeats the last good answer.
        delay_s: how long a slow read takes.
        reads: when each read began, in seconds of a clock that never goes back.
    """

    def __init__(self, target: str) -> None:
        self.mode = "well"
        self.delay_s = 0.0
        self.reads: list[float] = []
        self._target = target
        self._known = b"{}"
        self._http = httpx.Client(timeout=30)
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass_on(self) -> None:
                proxy.handle(self)

            do_GET = do_POST = do_PATCH = do_DELETE = _pass_on  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Say nothing."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        body = request.rfile.read(int(request.headers.get("content-length") or 0))
        is_read = request.path.endswith("/rpc/read_flags")
        if is_read:
            self.reads.append(time.monotonic())
        if is_read and self.mode == "slow":
            time.sleep(self.delay_s)
        if is_read and self.mode in ("away", "nonsense", "lagging"):
            answers = {"away": b"<html>", "nonsense": b'{"flags":5}', "lagging": self._known}
            status = 502 if self.mode == "away" else 200
            _answer(request, status, answers[self.mode])
            return
        # A fresh copy each time: `unchanged` would be nothing to repeat later.
        content = b'{"known_version":null}' if is_read else body
        kept = ("host", "content-length", "connection", "accept-encoding")
        headers = {n: v for n, v in request.headers.items() if n.lower() not in kept}
        url = f"{self._target}{request.path}"
        answer = self._http.request(request.command, url, content=content, headers=headers)
        if is_read and answer.status_code == 200:
            self._known = answer.content
        _answer(request, answer.status_code, answer.content)

    def close(self) -> None:
        """Take no more requests."""
        self._server.shutdown()
        self._server.server_close()
        self._http.close()


def _answer(request: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
    request.send_response(status)
    request.send_header("content-type", "application/json")
    request.send_header("content-length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


@contextmanager
def flags_proxy(target: str) -> Iterator[FlagsProxy]:
    """Run a proxy before an API."""
    proxy = FlagsProxy(target)
    try:
        yield proxy
    finally:
        proxy.close()
