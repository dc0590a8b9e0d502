"""The chat function while the database is away, slow, or answers errors; and right afterwards.

Nothing is restarted but what was killed. Times are printed (`pytest -s`) and not asserted.
"""

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from .chat_project import Project, User, eventually
from .tcp_proxy import TcpProxy, tcp_proxy

TIMEOUT_MS = 600
SLOW_S = 5.0
ALWAYS = ("x-api-version", "x-api-supported-versions", "x-request-id", "vary")


@pytest.fixture(scope="module")
def proxy(project: Project) -> Iterator[TcpProxy]:
    with tcp_proxy(project.info.api_url) as running:
        yield running


@pytest.fixture(scope="module")
def distant(project: Project, sign_up: Callable[..., User], proxy: TcpProxy) -> User:
    """A user of a process that reaches the Data API through the proxy."""
    project.at("live")
    env = {
        "SUPABASE_URL": proxy.url,
        "CROSSFADE_TIMEOUT_MS": str(TIMEOUT_MS),
        "CROSSFADE_SOFT_AGE_MS": "100",
        "CROSSFADE_BROADCAST": "off",
    }
    url = project.stack.spawn_isolate("chat", env=env)
    user = sign_up(url=f"{url.rstrip('/')}/chat")
    user.catch_up(project)
    return user


@pytest.fixture(autouse=True)
def healed(project: Project, proxy: TcpProxy) -> Iterator[None]:
    project.at("live")
    yield
    proxy.heal()


def refusal(answer: Any) -> tuple[int, str]:
    """Hold an error against the rules of all errors; return status and code."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    missing = [name for name in ALWAYS if name not in answer.headers]
    assert missing == []
    problem = answer.json()
    assert problem["error"] == problem["detail"]
    for secret in ("postgres", "127.0.0.1", "fetch", "sb_secret"):
        assert secret not in answer.text
    return answer.status_code, problem["code"]


def everything(user: User, chat: str, key: str) -> list[tuple[str, Any]]:
    """Requests that read and write, with the answers."""
    body = {"chat_id": chat, "role": "user", "content": "hello"}
    return [
        ("create V1", user.ask("POST", "/v1/messages", body, x_idempotency_key=key)),
        ("create V2", user.say(chat, "hello", 2)),
        ("list", user.ask("GET", f"/messages?chat_id={chat}")),
        ("edit", user.ask("PATCH", f"/messages/{uuid.uuid4()}", {"content": "x"})),
        ("reply", user.ask("POST", "/reply", {"chat_id": chat})),
    ]


def test_without_a_database_every_request_is_refused_and_nothing_acknowledged_is_lost(
    project: Project, alice: User
) -> None:
    chat, key = alice.new_chat(), uuid.uuid4().hex
    acknowledged = [alice.say(chat, f"kept {n}").json()["id"] for n in range(5)]
    project.flush()
    project.stack.kill("postgres")
    try:
        started = time.perf_counter()
        told = everything(alice, chat, key)
        refused_s = (time.perf_counter() - started) / len(told)
        for name, answer in told:
            assert refusal(answer) == (503, "UPSTREAM_UNAVAILABLE"), name
            assert answer.headers["retry-after"] == "1"
    finally:
        project.stack.start_missing()
    back = time.perf_counter()
    body = {"chat_id": chat, "role": "user", "content": "hello"}

    def works() -> bool:
        answer = alice.ask("POST", "/v1/messages", body, x_idempotency_key=key)
        return bool(answer.status_code == 201)

    eventually(works, "the function works again")
    print(
        f"\ndatabase killed: refused in {refused_s * 1000:.0f} ms,"
        f" works {(time.perf_counter() - back) * 1000:.0f} ms after the database is back"
    )
    listed = alice.ask("GET", f"/messages?chat_id={chat}").json()["messages"]
    # The request with the key was refused and repeated: it is there once.
    assert [m["id"] for m in listed][:5] == acknowledged
    assert [m["content"] for m in listed][5:] == ["hello"]
    alice.catch_up(project)


@pytest.mark.parametrize("fault", ["slow", "error", "drop"])
def test_an_unusable_api_is_refused_in_time_and_used_again_at_once(
    distant: User, proxy: TcpProxy, fault: str
) -> None:
    chat, key = distant.new_chat(), uuid.uuid4().hex
    if fault == "slow":
        proxy.delay_s = SLOW_S
    else:
        proxy.fault = fault
    started = time.perf_counter()
    told = everything(distant, chat, key)
    each_s = (time.perf_counter() - started) / len(told)
    for name, answer in told:
        assert refusal(answer) == (503, "UPSTREAM_UNAVAILABLE"), name
    proxy.heal()
    back = time.perf_counter()
    again = distant.say(chat, x_idempotency_key=key)
    print(
        f"\nAPI {fault}: refused in {each_s * 1000:.0f} ms,"
        f" works {(time.perf_counter() - back) * 1000:.0f} ms after it is well"
    )
    assert again.status_code == 201, again.text
    listed = distant.ask("GET", f"/messages?chat_id={chat}").json()["messages"]
    assert [m["id"] for m in listed].count(again.json()["id"]) == 1


def test_a_lost_answer_is_no_lost_and_no_double_message(
    project: Project, distant: User, proxy: TcpProxy
) -> None:
    """The statement was carried out and nobody heard of it; the client repeats with its key."""
    chat, key = distant.new_chat(), uuid.uuid4().hex
    proxy.fault = "lose"
    body = {"chat_id": chat, "role": "user", "content": "once"}
    lost = distant.ask("POST", "/messages", body, x_idempotency_key=key)
    assert refusal(lost) == (503, "UPSTREAM_UNAVAILABLE")
    proxy.heal()
    again = distant.ask("POST", "/messages", body, x_idempotency_key=key)
    assert again.status_code == 201
    for table in ("chat_messages", "chat_messages_v2"):
        rows = project.sql(f"select id from public.{table} where chat_id = %s", chat)
        assert [str(row["id"]) for row in rows] == [again.json()["id"]]


def test_reads_of_a_locked_v2_are_served_from_v1(project: Project, distant: User) -> None:
    chat = distant.new_chat()
    message = distant.say(chat).json()
    with psycopg.connect(project.info.db_url) as blocker:
        blocker.execute("lock table public.chat_messages_v2 in access exclusive mode")
        started = time.perf_counter()
        listed = distant.ask("GET", f"/messages?chat_id={chat}")
        took_s = time.perf_counter() - started
        got = distant.ask("GET", f"/messages/{message['id']}")
    print(f"\nV2 locked: V1 serves after {took_s * 1000:.0f} ms (limit {TIMEOUT_MS} ms)")
    for answer in (listed, got):
        assert answer.headers["x-crossfade-backend"] == "1"
        assert answer.headers["x-crossfade-reason"] == "ERROR"
    assert (listed.json()["messages"], got.json()) == ([message], message)
    after = distant.ask("GET", f"/messages?chat_id={chat}")
    assert after.headers["x-crossfade-backend"] == "2"


def test_a_v2_that_refuses_everything_is_replaced_by_v1(project: Project, distant: User) -> None:
    chat = distant.new_chat()
    project.sql("revoke all on public.chat_messages_v2 from authenticated")
    try:
        for version in (1, 2):
            said = distant.say(chat, "hello", version)
            assert said.status_code == 201, said.text
            assert said.headers["x-crossfade-backend"] == "1"
            assert said.headers["x-api-version"] == str(version)
            path = f"/v{version}/messages/{said.json()['id']}"
            assert distant.ask("GET", path).json() == said.json()
            edited = distant.ask("PATCH", path, {"content": said.json()["content"]})
            assert (edited.status_code, edited.headers["x-crossfade-backend"]) == (200, "1")
            assert distant.ask("DELETE", path).status_code == 204
        replied = distant.ask("POST", "/reply", {"chat_id": chat})
        assert (replied.status_code, replied.headers["x-crossfade-backend"]) == (201, "1")
    finally:
        grant = "grant select, insert, update, delete on public.chat_messages_v2 to authenticated"
        project.sql(grant)
    assert distant.say(chat).headers["x-crossfade-backend"] == "2"
