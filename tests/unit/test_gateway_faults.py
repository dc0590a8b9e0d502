"""What an operator sees when a project is wrong: one line with the way out, never the key."""

import json
from collections.abc import Callable

import httpx
import pytest
import respx
from pydantic import SecretStr

from crossfade.core.contract import Event, Stage
from crossfade.core.errors import (
    CrossfadeError,
    FencedError,
    LatchedError,
    NotInstalledError,
    RefusedError,
    ServerFailedError,
    StageRefusedError,
    UnauthorizedError,
    UnexpectedAnswerError,
    UnknownNameError,
    UnreachableError,
)
from crossfade.gateway import SupabaseGateway
from crossfade.gateway.api import ATTEMPTS
from crossfade.project.config import Connection

URL = "https://abcdefgh.supabase.co"
KEY = "sb_secret_0123456789abcdefghijkl_01234567"
RPC = f"{URL}/rest/v1/rpc"
FLAGS = {"flags_version": 3, "flags": [], "kill_switches": [], "pairs": [], "settings": {}}


def gateway(waits: list[float] | None = None) -> SupabaseGateway:
    connection = Connection(URL, SecretStr(KEY), "Zoë")
    return SupabaseGateway(connection, sleep=(waits if waits is not None else []).append)


def body(code: str | None, message: str = "no", **more: object) -> dict[str, object]:
    return {"code": code, "message": message, "details": None, "hint": None, **more}


@pytest.mark.parametrize(
    ("status", "answer", "kind", "way_out"),
    [
        (406, body("PGRST106"), NotInstalledError, "exposed schemas"),
        (404, body("PGRST202"), NotInstalledError, "crossfade install"),
        (404, body("42883"), NotInstalledError, "crossfade install"),
        (401, {"message": "Invalid API key"}, UnauthorizedError, "SUPABASE_SECRET_KEY"),
        (401, body("PGRST301"), UnauthorizedError, "SUPABASE_SECRET_KEY"),
        (403, body("42501"), UnauthorizedError, "publishable"),
        (401, body("42501"), UnauthorizedError, "publishable"),
        (500, body("57014", "canceling statement"), ServerFailedError, "canceling statement"),
        (400, body("22P02", "invalid input"), UnexpectedAnswerError, "invalid input"),
    ],
)
@respx.mock
def test_a_refusing_project_is_one_line_with_the_way_out(
    status: int, answer: dict[str, object], kind: type[CrossfadeError], way_out: str
) -> None:
    respx.post(f"{RPC}/read_flags").respond(status, json=answer)
    with pytest.raises(kind) as caught:
        gateway().read_flags()
    line = caught.value.line()
    assert way_out in line
    assert URL in line or "crossfade.read_flags" in line
    assert "\n" not in line
    assert KEY not in line


@respx.mock
def test_a_proxy_page_instead_of_json_is_a_server_failure() -> None:
    respx.post(f"{RPC}/read_flags").respond(502, text="<html>Bad gateway</html>")
    with pytest.raises(ServerFailedError) as caught:
        gateway().read_flags()
    assert "<html>" not in caught.value.line()


@respx.mock
def test_a_page_that_is_no_supabase_project_is_named() -> None:
    respx.post(f"{RPC}/read_flags").respond(404, text="not found")
    with pytest.raises(NotInstalledError, match="No Data API"):
        gateway().read_flags()


@respx.mock
def test_a_web_page_with_status_200_is_not_taken_for_an_answer() -> None:
    respx.post(f"{RPC}/read_flags").respond(200, json="hello")
    with pytest.raises(UnexpectedAnswerError, match="JSON object"):
        gateway().read_flags()


@respx.mock
def test_an_answer_of_another_version_is_named_by_its_field() -> None:
    respx.post(f"{RPC}/read_flags").respond(json={**FLAGS, "flags_version": "many"})
    with pytest.raises(UnexpectedAnswerError, match="flags_version"):
        gateway().read_flags()


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (httpx.ConnectError("refused"), UnreachableError, "Nothing answers at"),
        (httpx.ReadTimeout("slow"), ServerFailedError, "did not answer in time"),
        (httpx.RemoteProtocolError("cut"), UnreachableError, "broke"),
    ],
)
@respx.mock
def test_a_broken_network_is_tried_again_and_then_named(
    error: Exception, kind: type[CrossfadeError], text: str
) -> None:
    waits: list[float] = []
    route = respx.post(f"{RPC}/read_flags").mock(side_effect=error)
    with pytest.raises(kind, match=text):
        gateway(waits).read_flags()
    assert route.call_count == ATTEMPTS
    assert len(waits) == ATTEMPTS - 1


@respx.mock
def test_a_call_that_works_the_second_time_is_no_error() -> None:
    route = respx.post(f"{RPC}/read_flags")
    route.side_effect = [
        httpx.Response(503, json=body("PGRST001")),
        httpx.Response(200, json=FLAGS),
    ]
    assert gateway().read_flags().flags_version == 3


@respx.mock
def test_a_kill_is_tried_again_because_engaging_twice_is_harmless() -> None:
    route = respx.post(f"{RPC}/engage_kill_switch").mock(side_effect=httpx.ReadError("cut"))
    with pytest.raises(UnreachableError):
        gateway().engage_kill_switch("disable_v2_messages", reason=None)
    assert route.call_count == ATTEMPTS


@pytest.mark.parametrize(
    "call",
    [
        lambda g: g.set_stage("notes", Stage.LIVE, reason="x", confirm=False),
        lambda g: g.take_snapshot(reason="x"),
        lambda g: g.record_verdicts("notes", ()),
    ],
)
@respx.mock
def test_a_call_that_may_have_been_committed_is_not_sent_again(
    call: Callable[[SupabaseGateway], object],
) -> None:
    route = respx.post(url__startswith=RPC).mock(side_effect=httpx.ReadError("cut"))
    with pytest.raises(UnreachableError):
        call(gateway())
    assert route.call_count == 1


@respx.mock
def test_a_call_that_never_left_is_sent_again_whatever_it_does() -> None:
    route = respx.post(f"{RPC}/take_snapshot").mock(side_effect=httpx.ConnectError("refused"))
    with pytest.raises(UnreachableError):
        gateway().take_snapshot(reason="x")
    assert route.call_count == ATTEMPTS


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("CF001", UnknownNameError),
        ("CF006", LatchedError),
        ("CF_FENCED", FencedError),
        ("CF999", RefusedError),
    ],
)
@respx.mock
def test_a_refusal_of_ours_becomes_its_class(code: str, kind: type[RefusedError]) -> None:
    answer = body("PT409", "Cannot do it", details=json.dumps({"code": code}), hint="Do this.")
    route = respx.post(f"{RPC}/pair_status").respond(409, json=answer)
    with pytest.raises(RefusedError) as caught:
        gateway().pair_status("notes")
    assert type(caught.value) is kind
    assert caught.value.line() == f"Cannot do it [{code}]. Do this."
    assert route.call_count == 1


@respx.mock
def test_blockers_of_a_stage_come_along() -> None:
    blockers = [{"code": "backfill", "message": "no backfill", "hint": "crossfade backfill run"}]
    details = json.dumps({"code": "CF005", "blockers": blockers})
    respx.post(f"{RPC}/set_stage").respond(409, json=body("PT409", details=details))
    with pytest.raises(StageRefusedError) as caught:
        gateway().set_stage("notes", Stage.SHADOW, reason="x", confirm=False)
    assert [item.message for item in caught.value.blockers] == ["no backfill"]


@respx.mock
def test_an_older_schema_is_refused_before_anything_is_done() -> None:
    row = [{"flags_version": 1, "schema_version": 0}]
    respx.get(url__startswith=f"{URL}/rest/v1/control").respond(json=row)
    with pytest.raises(NotInstalledError, match="older"):
        gateway().check_schema()


@respx.mock
def test_every_request_names_schema_actor_and_key() -> None:
    route = respx.post(f"{RPC}/read_flags").respond(json=FLAGS)
    gateway().read_flags()
    sent = route.calls[0].request.headers
    assert sent["content-profile"] == "crossfade"
    assert sent["x-crossfade-actor"] == "Zo?"
    assert sent["apikey"] == KEY


@respx.mock
def test_the_broadcast_is_private_and_needs_202() -> None:
    route = respx.post(f"{URL}/realtime/v1/api/broadcast").respond(202)
    gateway().broadcast(Event.KILL, {"name": "x", "flags_version": 4, "engaged": True})
    sent = json.loads(route.calls[0].request.content)["messages"][0]
    assert (sent["topic"], sent["event"], sent["private"]) == ("crossfade:flags", "kill", True)
    route.respond(429)
    with pytest.raises(UnreachableError, match="429"):
        gateway().broadcast(Event.KILL, {})


def test_the_key_is_in_no_repr() -> None:
    connection = Connection(URL, SecretStr(KEY), "me")
    assert KEY not in repr(connection)
    assert KEY not in CrossfadeError(f"it was {KEY} and eyJa.eyJb.c").line()
    assert "eyJ" not in CrossfadeError("token eyJhbGci.eyJyb2xl.c2ln").line()
