"""Each known difference of the embedded stack from a hosted project, one test a row.

A test that fails here is good news: take its row out of DIFFERENCES.md.
"""

import base64
import json
import re
import time
import uuid
from collections.abc import Iterator
from importlib import resources
from typing import Any

import httpx
import psycopg
import pytest
from websockets.sync.client import connect
from websockets.sync.connection import Connection

from crossfade.local import LocalStack, StackInfo


@pytest.fixture(scope="module")
def info(plain_stack: LocalStack) -> StackInfo:
    return plain_stack.info


@pytest.fixture(scope="module")
def http(info: StackInfo) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=info.api_url, headers={"apikey": info.secret_key}) as client:
        yield client


@pytest.fixture
def socket(info: StackInfo) -> Iterator[Connection]:
    url = info.api_url.replace("http", "ws") + "/realtime/v1/websocket"
    with connect(f"{url}?apikey={info.publishable_key}&vsn=1.0.0") as connection:
        yield connection


def upsert(http: httpx.Client, row: dict[str, Any]) -> httpx.Response:
    prefer = "resolution=merge-duplicates,return=representation"
    return http.post("/rest/v1/items", headers={"prefer": prefer}, json=row)


def join(socket: Connection, topic: str, config: dict[str, Any]) -> list[dict[str, Any]]:
    """Join, and return the answer and what comes right after it."""
    frame = {"topic": f"realtime:{topic}", "event": "phx_join", "ref": "1", "join_ref": "1"}
    socket.send(json.dumps(frame | {"payload": {"config": config}}))
    frames = [json.loads(socket.recv(timeout=5))]
    for _ in range(3):
        try:
            frames.append(json.loads(socket.recv(timeout=0.2)))
        except TimeoutError:
            break
    return frames


def one(info: StackInfo, sql: str) -> Any:
    with psycopg.connect(info.db_url) as connection:
        row = connection.execute(sql.encode()).fetchone()
    assert row is not None
    return row[0]


def sign_up(http: httpx.Client) -> dict[str, Any]:
    body = {"email": f"{uuid.uuid4()}@example.com", "password": "correct horse"}
    answer: dict[str, Any] = http.post("/auth/v1/signup", json=body).json()
    return answer


def test_every_row_of_the_list_has_a_test_and_every_test_a_row() -> None:
    text = (resources.files("crossfade.local") / "DIFFERENCES.md").read_text("utf-8")
    listed = set(re.findall(r"\| `(\w+)` \|$", text, re.MULTILINE))
    tested = {name.removeprefix("test_different_") for name in globals() if "_different_" in name}
    assert listed == tested


def test_different_jsonb_string_in_an_upsert(http: httpx.Client) -> None:
    assert upsert(http, {"name": "a", "data": "text"}).status_code == 400


def test_different_big_integer_in_an_upsert(http: httpx.Client) -> None:
    assert upsert(http, {"name": "a", "big": 2**53 + 1}).json()[0]["big"] == 2**53


def test_different_openapi_root(http: httpx.Client) -> None:
    assert "paths" not in http.get("/rest/v1/").json()


def test_different_row_cap(info: StackInfo, http: httpx.Client) -> None:
    with psycopg.connect(info.db_url) as connection:
        connection.execute(
            "insert into public.items (name) select 'n' from generate_series(1, 1100)"
        )
    assert len(http.get("/rest/v1/items?limit=5000").json()) == 1000
    http.delete("/rest/v1/items?name=eq.n")


def test_different_serialization_failure(http: httpx.Client) -> None:
    begun = time.monotonic()
    answer = http.post(
        "/rest/v1/rpc/fail", headers={"content-profile": "crossfade"}, json={"code": "40001"}
    )
    assert (answer.status_code, answer.json()["code"]) == (500, "40001")
    assert time.monotonic() - begun < 2


def test_different_signing_keys(http: httpx.Client) -> None:
    header = sign_up(http)["access_token"].split(".")[0]
    assert json.loads(base64.urlsafe_b64decode(header + "=="))["alg"] == "HS256"


def test_different_auth_admin(http: httpx.Client) -> None:
    assert http.get("/auth/v1/admin/users").status_code == 401


def test_different_sign_up_is_confirmed(http: httpx.Client) -> None:
    assert sign_up(http)["user"]["email_confirmed_at"]


def test_different_verify_jwt(info: StackInfo) -> None:
    assert httpx.post(f"{info.functions_url}/echo").status_code == 200


def test_different_broadcast_is_on(info: StackInfo) -> None:
    env = httpx.post(f"{info.functions_url}/echo").json()["env"]
    assert env["CROSSFADE_BROADCAST"] == "on"


def test_different_isolates_live_on(info: StackInfo) -> None:
    def address() -> str:
        return str(httpx.post(f"{info.functions_url}/echo").json()["env"]["DENO_SERVE_ADDRESS"])

    first = {address() for _ in range(4)}
    assert {address() for _ in range(4)} >= first


def test_different_refused_join_is_quick(socket: Connection) -> None:
    begun = time.monotonic()
    answer = join(socket, "room:nobody", {"private": True})[0]
    assert answer["payload"]["status"] == "error"
    assert time.monotonic() - begun < 3


def test_different_rate_limit(http: httpx.Client) -> None:
    message = {"topic": "busy", "event": "e", "payload": {}}
    body = {"messages": [message] * 1000}
    answers = [http.post("/realtime/v1/api/broadcast", json=body) for _ in range(5)]
    assert {answer.status_code for answer in answers} == {202}


def test_different_presence(socket: Connection) -> None:
    frames = join(socket, "room:any", {"presence": {"enabled": True, "key": "me"}})
    states = [frame["payload"] for frame in frames if frame["event"] == "presence_state"]
    assert states == [{}]


def test_different_postgres_changes(socket: Connection) -> None:
    wanted = [{"event": "*", "schema": "public", "table": "items"}]
    answer = join(socket, "room:any", {"postgres_changes": wanted})[0]
    assert answer["payload"] == {"status": "ok", "response": {"postgres_changes": []}}


def test_different_notify_trigger(info: StackInfo) -> None:
    assert one(
        info,
        "select count(*) from pg_trigger where tgrelid = 'realtime.messages'::regclass"
        " and tgname = 'announce_message'",
    )
    assert one(info, "select count(*) from pg_replication_slots") == 0


def test_different_hooks(http: httpx.Client) -> None:
    body = {"topic": "nobody", "message": "bye"}
    assert http.post("/realtime/v1/stand-in/kick", json=body).status_code == 204


def test_different_messages_owner(info: StackInfo) -> None:
    assert one(info, "select pg_has_role('postgres', 'supabase_realtime_admin', 'member')")


def test_different_no_password(info: StackInfo) -> None:
    assert ":@" not in info.db_url
    assert re.match(r"postgresql://postgres@127\.0\.0\.1:\d+/postgres$", info.db_url)
    assert one(info, "select current_user") == "postgres"


def test_different_missing_schemas(info: StackInfo) -> None:
    missing = ("storage", "vault", "cron", "net", "graphql")
    names = ", ".join(f"'{name}'" for name in missing)
    assert one(info, f"select count(*) from pg_namespace where nspname in ({names})") == 0


def test_different_service_timeout(http: httpx.Client) -> None:
    facts = http.post("/rest/v1/rpc/facts", headers={"content-profile": "crossfade"}).json()
    assert (facts["role"], facts["timeout"]) == ("service_role", "1min")
