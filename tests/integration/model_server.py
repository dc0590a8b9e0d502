"""A small server that speaks as OpenAI-compatible ones do, under the command of a test."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = dict[str, Any]


@dataclass
class ModelServer:
    """What it was asked, and what it answers next.

    Attributes:
        pieces: the words of the next answers.
        tool_calls: (name, arguments) that the first answer of a conversation calls.
        fault: "status", "hang", "cut" or "garbage" instead of an answer.
        gate: when set to an event, the stream waits for it after its first piece.
    """

    url: str = ""
    requests: list[Json] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    pieces: tuple[str, ...] = ("Hello", " from", " outside.")
    tool_calls: tuple[tuple[str, str], ...] = ()
    fault: str | None = None
    gate: threading.Event | None = None
    ended: threading.Event = field(default_factory=threading.Event)

    def message(self, asked: Json) -> tuple[list[str], list[Json]]:
        """Return the pieces of the text, and the calls."""
        wants_tools = self.tool_calls and asked.get("tools")
        if wants_tools and asked["messages"][-1]["role"] != "tool":
            calls = [
                {"index": i, "id": f"call_{i}", "type": "function", "name": n, "arguments": a}
                for i, (n, a) in enumerate(self.tool_calls)
            ]
            return [], calls
        return list(self.pieces), []


def _handler(model: ModelServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            model.requests.append(asked)
            model.keys.append(self.headers.get("authorization", ""))
            if self.path != "/v1/chat/completions":
                self._send(404, {"error": "not found"})
            elif model.fault == "status":
                self._send(500, {"error": {"message": "out of order"}})
            elif model.fault == "hang":
                model.ended.wait(20)
            elif model.fault == "garbage":
                self._send(200, {"choices": [{"message": {"content": None}}]})
            elif asked.get("stream"):
                self._stream(asked)
            else:
                pieces, calls = model.message(asked)
                self._send(200, _whole(pieces, calls))

        def _send(self, status: int, body: Json) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _stream(self, asked: Json) -> None:
            self.close_connection = True
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("connection", "close")
            self.end_headers()
            pieces, calls = model.message(asked)
            try:
                for number, piece in enumerate(pieces):
                    self._event({"choices": [{"delta": {"content": piece}}]})
                    if number == 0 and model.fault == "cut":
                        return
                    if number == 0 and model.gate is not None:
                        model.gate.wait(20)
                for call in calls:
                    for part in _fragments(call):
                        self._event({"choices": [{"delta": {"tool_calls": [part]}}]})
                reason = "tool_calls" if calls else "stop"
                self._event({"choices": [{"delta": {}, "finish_reason": reason}]})
                usage = {"prompt_tokens": 7, "completion_tokens": 3}
                self._event({"choices": [], "usage": usage, "model": "outside-1"})
                self.wfile.write(b"data: [DONE]\n\n")
            except (BrokenPipeError, ConnectionResetError):
                model.ended.set()

        def _event(self, body: Json) -> None:
            self.wfile.write(f"data: {json.dumps(body)}\n\n".encode())
            self.wfile.flush()

    return Handler


def _fragments(call: Json) -> list[Json]:
    """Cut a call as servers do: first the name, then the arguments bit by bit."""
    index, arguments = call["index"], call["arguments"]
    half = len(arguments) // 2
    first = {"index": index, "id": call["id"], "type": "function"}
    return [
        {**first, "function": {"name": call["name"], "arguments": ""}},
        {"index": index, "function": {"arguments": arguments[:half]}},
        {"index": index, "function": {"arguments": arguments[half:]}},
    ]


def _whole(pieces: list[str], calls: list[Json]) -> Json:
    message: Json = {"role": "assistant", "content": "".join(pieces) if pieces else None}
    if calls:
        message["tool_calls"] = [
            {
                "id": call["id"],
                "type": "function",
                "function": {"name": call["name"], "arguments": call["arguments"]},
            }
            for call in calls
        ]
    reason = "tool_calls" if calls else "stop"
    return {
        "model": "outside-1",
        "choices": [{"message": message, "finish_reason": reason}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3},
    }


@contextmanager
def model_server() -> Iterator[ModelServer]:
    """Run one on a free port."""
    model = ModelServer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(model))
    server.daemon_threads = True
    server.block_on_close = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    model.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield model
    finally:
        model.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()
