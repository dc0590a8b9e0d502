"""A proxy between the chat function and the Data API that makes trouble when a test says so."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

ERROR_PAGE = b"<html><body>Bad gateway</body></html>"
ERROR = (
    b"HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\n"
    b"content-length: " + str(len(ERROR_PAGE)).encode() + b"\r\n\r\n" + ERROR_PAGE
)


class TcpProxy:
    """Passes bytes on, late, or not at all.

    Attributes:
        delay_s: wait before each part of a request is passed on.
        fault: "error" answers every request with a proxy's page, "drop" closes connections,
            "lose" passes requests on and closes the connection instead of answering.
    """

    def __init__(self, target: str) -> None:
        address = urlsplit(target)
        self._target = (address.hostname or "", address.port or 80)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self.delay_s = 0.0
        self.fault: str | None = None
        self.passed = 0
        self._ended = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._ended.set()
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def heal(self) -> None:
        """Pass on as if nothing had been."""
        self.delay_s, self.fault = 0.0, None

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(self._target) as server:
            threading.Thread(target=self._answers, args=(server, client), daemon=True).start()
            while part := client.recv(65536):
                if self.delay_s:
                    time.sleep(self.delay_s)
                if self.fault == "drop":
                    return
                if self.fault == "error":
                    client.sendall(ERROR)
                    continue
                self.passed += 1
                server.sendall(part)

    def _answers(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while part := server.recv(65536):
                if self.fault == "lose":
                    break
                client.sendall(part)
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)


@contextmanager
def tcp_proxy(target: str) -> Iterator[TcpProxy]:
    """Run one on a free port."""
    proxy = TcpProxy(target)
    try:
        yield proxy
    finally:
        proxy.close()
