"""Calls, callers and Auth of the embedded stack's Data API, driven by supabase-py."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from supabase import Client

from crossfade.local import LocalStack, StackInfo

from .api_calls import call, sign_up


@pytest.fixture(scope="module")
def info(plain_stack: LocalStack) -> StackInfo:
    return plain_stack.info


def test_a_function_sees_role_actor_and_request(info: StackInfo, service: Client) -> None:
    answer = httpx.post(
        f"{info.api_url}/rest/v1/rpc/facts",
        headers={
            "apikey": info.secret_key,
            "content-profile": "crossfade",
            "x-crossfade-actor": "somebody",
        },
        json={"value": {"a": 1}},
    )
    facts = answer.json()
    assert answer.status_code == 200
    assert facts["value"] == {"a": 1}
    assert (facts["role"], facts["session"]) == ("service_role", "authenticator")
    assert (facts["actor"], facts["method"], facts["path"]) == ("somebody", "POST", "/rpc/facts")


@pytest.mark.parametrize("value", ["text", 5, [1, "a"], None, True, {"deep": {"er": "é"}}])
def test_jsonb_arguments_come_through_unchanged(service: Client, value: object) -> None:
    assert call(service, "facts", value=value)["value"] == value


def test_big_numbers_of_functions_stay_exact(service: Client) -> None:
    assert call(service, "facts", number=2**63 - 1)["number"] == 2**63 - 1


def test_the_statement_timeout_is_the_role_s(anonymous: Client, service: Client) -> None:
    assert call(anonymous, "facts")["timeout"] == "3s"
    assert call(service, "facts")["timeout"] == "1min"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("PT409", 409),
        ("PT404", 404),
        ("P0001", 400),
        ("CF001", 400),
        ("22023", 400),
        ("23505", 409),
        ("42501", 403),
        ("57014", 500),
    ],
)
def test_a_raised_error_keeps_status_detail_and_hint(
    info: StackInfo, code: str, status: int
) -> None:
    answer = httpx.post(
        f"{info.api_url}/rest/v1/rpc/fail",
        headers={"apikey": info.secret_key, "content-profile": "crossfade"},
        json={"code": code},
    )
    assert answer.status_code == status
    assert answer.json() == {
        "code": code,
        "message": "a; message",
        "details": '{"code": "CF001"}',
        "hint": "a hint",
    }


def test_a_function_sets_status_and_headers(info: StackInfo) -> None:
    answer = httpx.post(
        f"{info.api_url}/rest/v1/rpc/answer_headers",
        headers={"apikey": info.secret_key, "content-profile": "crossfade"},
    )
    assert (answer.status_code, answer.headers["x-own"]) == (201, "yes")


def test_sets_and_void_functions(info: StackInfo, service: Client) -> None:
    assert call(service, "numbers") == [1, 2, 3]
    answer = httpx.post(
        f"{info.api_url}/rest/v1/rpc/nothing",
        headers={"apikey": info.secret_key, "content-profile": "crossfade"},
    )
    assert (answer.status_code, answer.content) == (204, b"")


def test_more_requests_than_sessions_wait_their_turn(info: StackInfo, http: httpx.Client) -> None:
    def ask(_: int) -> int:
        headers = {"apikey": info.secret_key, "content-profile": "crossfade"}
        return http.post(f"{info.api_url}/rest/v1/rpc/facts", headers=headers).status_code

    with ThreadPoolExecutor(30) as pool:
        assert list(pool.map(ask, range(90))) == [200] * 90


@pytest.mark.parametrize("headers", [{}, {"apikey": "sb_secret_wrong"}])
def test_requests_without_a_known_key_are_401(info: StackInfo, headers: dict[str, str]) -> None:
    assert httpx.get(f"{info.api_url}/rest/v1/items", headers=headers).status_code == 401


def test_a_forged_token_is_401(info: StackInfo, anonymous: Client) -> None:
    sign_up(anonymous)
    session = anonymous.auth.get_session()
    assert session is not None
    forged = session.access_token[:-4] + "AAAA"
    headers = {"apikey": info.publishable_key, "authorization": f"Bearer {forged}"}
    answer = httpx.get(f"{info.api_url}/rest/v1/items", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "PGRST301")


def test_users_sign_up_sign_in_and_refresh(anonymous: Client) -> None:
    email = f"{uuid.uuid4()}@example.com"
    anonymous.auth.sign_up({"email": email, "password": "correct horse"})
    anonymous.auth.sign_out()
    answer = anonymous.auth.sign_in_with_password({"email": email, "password": "correct horse"})
    assert answer.user is not None
    assert answer.user.email == email
    refreshed = anonymous.auth.refresh_session()
    assert refreshed.session is not None
