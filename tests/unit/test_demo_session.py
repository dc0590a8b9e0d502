"""A client of the demo is silent at a right server and notices every way to be wrong."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from tests.unit.demo_chat_server import ChatServer, Spoil

from crossfade.demo.client import Dialect
from crossfade.demo.journal import Journal
from crossfade.demo.meter import RequestMeter
from crossfade.demo.session import Desk, Visit

STEPS = 150


def _work(
    tmp_path: Path, spoil: Spoil | None = None
) -> tuple[RequestMeter, ChatServer, list[dict[str, object]]]:
    server = ChatServer(spoil)
    desk = Desk(Journal(tmp_path / "journal.jsonl"), RequestMeter())
    dialects = (Dialect(1, "default"), Dialect(1, "url"))
    session = Visit(server.client(), dialects, desk=desk, rng=random.Random(3))
    for _ in range(STEPS):
        session.step()
    desk.journal.close()
    lines = (tmp_path / "journal.jsonl").read_text(encoding="utf-8").splitlines()
    return desk.meter, server, [json.loads(line) for line in lines]


def test_a_right_server_gives_nothing_to_complain_about(tmp_path: Path) -> None:
    meter, server, _ = _work(tmp_path)
    assert meter.samples == []
    assert meter.total() == server.asked >= STEPS


def test_the_journal_alone_tells_what_the_server_must_hold(tmp_path: Path) -> None:
    _, server, lines = _work(tmp_path)
    must: dict[object, object] = {}
    for line in lines:
        assert line["ok"]
        if line["op"] == "delete":
            del must[line["id"]]
        elif line["op"] != "chat":
            must[line["id"]] = line["plain"]
    assert must == {made: row["content"] for made, row in server.rows.items()}
    assert {line["op"] for line in lines} == {"chat", "create", "edit", "delete", "reply"}
    assert [line["n"] for line in lines] == list(range(1, len(lines) + 1))


def _json(change: Callable[[dict[str, object]], object]) -> Spoil:
    """Change every message of an answer."""

    def spoil(_: httpx.Request, answer: httpx.Response) -> httpx.Response:
        if answer.status_code >= 400 or not answer.content:
            return answer
        body = answer.json()
        for message in body.get("messages", [body]):
            if "content" in message:
                change(message)
        headers = {k: v for k, v in answer.headers.items() if k.lower() != "content-length"}
        return httpx.Response(answer.status_code, json=body, headers=headers)

    return spoil


def _header(name: str, value: str) -> Spoil:
    def spoil(_: httpx.Request, answer: httpx.Response) -> httpx.Response:
        answer.headers[name] = value
        return answer

    return spoil


def _status(method: str, status: int) -> Spoil:
    def spoil(request: httpx.Request, answer: httpx.Response) -> httpx.Response:
        return httpx.Response(status, json={}) if request.method == method else answer

    return spoil


def _timeout(request: httpx.Request, answer: httpx.Response) -> httpx.Response:
    if request.method == "PATCH":
        raise httpx.ReadTimeout("too late", request=request)
    return answer


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (_json(lambda m: m.update(seq=1)), "contract"),
        (_json(lambda m: m.pop("sequence_number")), "contract"),
        (_json(lambda m: m.update(content="something else")), "content"),
        (_json(lambda m: m.update(metadata={})), "content"),
        (_header("X-API-Version", "2"), "contract"),
        (_header("Content-Type", "text/plain"), "contract"),
        (_status("PATCH", 500), "status"),
        (_status("DELETE", 200), "status"),
        (_timeout, "transport"),
    ],
)
def test_every_way_to_be_wrong_is_noticed(tmp_path: Path, spoil: Spoil, kind: str) -> None:
    meter, _, _ = _work(tmp_path, spoil)
    assert kind in {problem.kind for problem in meter.samples}
    assert meter.errors_of(1) > 0


def test_a_row_that_is_lost_later_is_noticed(tmp_path: Path) -> None:
    server: list[ChatServer] = []

    def forget(_: httpx.Request, answer: httpx.Response) -> httpx.Response:
        rows = server[0].rows
        if len(rows) > 10:
            del rows[next(iter(rows))]
        return answer

    fresh = ChatServer(forget)
    server.append(fresh)
    meter = RequestMeter()
    journal = Journal(tmp_path / "journal.jsonl")
    session = Visit(
        fresh.client(),
        (Dialect(1, "default"),),
        desk=Desk(journal, meter),
        rng=random.Random(3),
    )
    for _ in range(STEPS):
        session.step()
    journal.close()
    assert {problem.kind for problem in meter.samples} >= {"status", "content"}


def test_a_write_without_an_answer_is_journalled_as_unknown(tmp_path: Path) -> None:
    _, _, lines = _work(tmp_path, _timeout)
    unknown = [line for line in lines if not line["ok"]]
    assert {line["op"] for line in unknown} == {"edit"}
    touched_after = [
        line
        for line in lines
        for one in unknown
        if line["id"] == one["id"] and line["n"] > one["n"]  # type: ignore[operator]
    ]
    assert touched_after == []
