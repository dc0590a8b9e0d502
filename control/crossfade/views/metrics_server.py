"""Serves metrics over HTTP on loopback, read anew for every scrape."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from crossfade.core.errors import CrossfadeError, UnauthorizedError
from crossfade.views.metrics import CONTENT_TYPE, render
from crossfade.views.overview import Overview
from crossfade.views.port import Overviews

_log = logging.getLogger(__name__)


class Scraper:
    """Reads the overview for scrapes, at most once a second however many ask.

    Args:
        gateway: the project.
        clock: monotonic seconds.
    """

    def __init__(self, gateway: Overviews, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._gateway, self._clock = gateway, clock
        self._lock = threading.Lock()
        self._text, self._read_at = "", float("-inf")

    def scrape(self) -> str:
        """Prometheus text of now; ``crossfade_up 0`` and nothing else when unreachable."""
        with self._lock:
            if self._clock() - self._read_at >= 1:
                self._text = render(self._read())
                self._read_at = self._clock()
            return self._text

    def _read(self) -> Overview | None:
        try:
            # The counters read every minute that is not summed yet: an hour or two of them.
            with suppress(UnauthorizedError):  # a viewer: slower, with the same numbers
                self._gateway.roll_up_requests()
            return self._gateway.overview(totals=True)
        except CrossfadeError as error:
            _log.warning("cannot read metrics: %s", error.line(), extra={"action": "metrics.read"})
            return None


class _Handler(BaseHTTPRequestHandler):
    scraper: Scraper

    def do_GET(self) -> None:
        """Answer /metrics, to names of loopback only: a web page must not get here by DNS."""
        host = (self.headers.get("Host") or "").rsplit(":", 1)[0]
        if self.path != "/metrics" or host not in ("127.0.0.1", "localhost", "[::1]"):
            self.send_error(404)
            return
        body = self.scraper.scrape().encode()
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet: every scrape would be a line."""


def make_server(gateway: Overviews, port: int) -> ThreadingHTTPServer:
    """Listen on 127.0.0.1; ``serve_forever`` answers. Port 0 takes a free one."""
    handler = type("Handler", (_Handler,), {"scraper": Scraper(gateway)})
    return ThreadingHTTPServer(("127.0.0.1", port), handler)
