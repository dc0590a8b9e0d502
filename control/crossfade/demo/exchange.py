"""One request and what is wrong with its answer: counted, and judged by its wire version."""

from collections.abc import Mapping

from crossfade.demo import answers
from crossfade.demo.answers import Answer, Json
from crossfade.demo.client import ChatClient, Dialect
from crossfade.demo.meter import RequestMeter


class Exchange:
    """Send the requests of one account and report every broken promise to the meter."""

    def __init__(self, client: ChatClient, meter: RequestMeter) -> None:
        self._client = client
        self._meter = meter

    def send(
        self,
        dialect: Dialect,
        method: str,
        resource: str,
        *,
        body: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request and count it."""
        answer = self._client.call(dialect, method, resource, body=body, headers=headers)
        self._meter.request(wire=dialect.wire, backend=answer.backend, latency_ms=answer.latency_ms)
        if answer.fell_back:
            self._meter.fallback()
        return answer

    def accept(
        self,
        answer: Answer,
        dialect: Dialect,
        *,
        status: int | tuple[int, ...],
        shape: bool = True,
    ) -> Json | None:
        """Return the body when the request is acknowledged, None when it is not."""
        wanted = (status,) if isinstance(status, int) else status
        if answer.status == 0:
            self.problem(dialect, "transport", answer.failure or "no answer")
            return None
        if answer.status not in wanted:
            code = answer.message.get("code") or answer.message.get("error") or answer.body
            self.problem(dialect, "status", f"{answer.status} instead of {status}: {code}")
            return None
        for text in answers.header_problems(answer, dialect.wire):
            self.problem(dialect, "contract", text)
        if shape and "content" in answer.message:
            self.check_shape(dialect, answer.message)
        return answer.message

    def check_shape(self, dialect: Dialect, message: Json) -> None:
        """Hold one message against the contract of the wire version."""
        check = answers.v1_problems if dialect.wire == 1 else answers.v2_problems
        for text in check(message):
            self.problem(dialect, "contract", text)

    def problem(self, dialect: Dialect, kind: str, text: str) -> None:
        """Report a broken promise."""
        self._meter.problem(wire=dialect.wire, kind=kind, text=text)
