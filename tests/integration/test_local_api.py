"""The Data API, Auth and function gateway of the embedded stack, driven by supabase-py."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psycopg
import pytest
from postgrest import CountMethod
from supabase import Client, ClientOptions, PostgrestAPIError, create_client

from crossfade.local import LocalStack, StackInfo


@pytest.fixture(scope="module")
def info(plain_stack: LocalStack) -> StackInfo:
    return plain_stack.info


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    # Ours, because supabase-py never closes one of its own.
    with httpx.Client(timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def service(info: StackInfo, http: httpx.Client) -> Client:
    return create_client(info.api_url, info.secret_key, _options(http))


@pytest.fixture
def anonymous(info: StackInfo, http: httpx.Client) -> Client:
    return create_client(info.api_url, info.publishable_key, _options(http))


@pytest.fixture
def user(anonymous: Client) -> Client:
    sign_up(anonymous)
    return anonymous


def _options(http: httpx.Client) -> ClientOptions:
    return ClientOptions(auto_refresh_token=False, persist_session=False, httpx_client=http)


def sign_up(client: Client) -> str:
    email = f"{uuid.uuid4()}@example.com"
    answer = client.auth.sign_up({"email": email, "password": "correct horse"})
    assert answer.user is not None
    return answer.user.id


def run(query: Any) -> Any:
    """Return the rows; supabase-py's own type of them is too narrow to index."""
    return query.execute().data


def call(client: Client, function: str, **arguments: Any) -> Any:
    return run(client.schema("crossfade").rpc(function, arguments))


def test_a_row_comes_back_as_it_was_written(service: Client) -> None:
    row = {
        "name": "é ✓",
        "data": {"nested": [1, 2.5, None, {"a": "b"}]},
        "tags": ["a", "b c", 'd"e'],
        "amount": 25.125,
        "big": 2**53 - 1,
    }
    written = run(service.table("items").insert(row))[0]
    read = run(service.table("items").select("*").eq("id", written["id"]).single())
    assert {name: read[name] for name in row} == row
    assert read["created_at"][10] == "T"
    assert read["created_at"].endswith("+00:00")


def test_update_upsert_count_and_delete(service: Client) -> None:
    key = str(uuid.uuid4())
    service.table("items").upsert({"id": key, "name": "first"}).execute()
    service.table("items").upsert({"id": key, "name": "second"}).execute()
    changed = run(service.table("items").update({"data": [1]}).eq("id", key))
    assert [(row["name"], row["data"]) for row in changed] == [("second", [1])]
    assert (
        service.table("items").select("*", count=CountMethod.exact).eq("id", key).execute().count
        == 1
    )
    assert len(run(service.table("items").delete().eq("id", key))) == 1


def test_numeric_columns_are_numbers(service: Client) -> None:
    row = run(service.table("items").insert({"name": "n", "amount": 25}))[0]
    assert row["amount"] == 25
    assert isinstance(row["amount"], int | float)


def test_row_level_security_sees_the_user(user: Client, service: Client) -> None:
    me = user.auth.get_user()
    assert me is not None
    user.table("items").insert({"name": "mine", "owner": me.user.id}).execute()
    service.table("items").insert({"name": "foreign"}).execute()
    assert [row["name"] for row in run(user.table("items").select("name"))] == ["mine"]
    with pytest.raises(PostgrestAPIError) as refused:
        user.table("items").insert({"name": "forged"}).execute()
    assert refused.value.code == "42501"


def test_no_grant_is_401_for_anonymous_callers(anonymous: Client) -> None:
    with pytest.raises(PostgrestAPIError) as refused:
        anonymous.table("items").select("*").execute()
    assert refused.value.code == "42501"


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


def test_the_schema_cache_follows_ddl(plain_stack: LocalStack, service: Client) -> None:
    with psycopg.connect(plain_stack.info.db_url) as connection:
        connection.execute("create table crossfade.fresh (id int primary key)")
        connection.execute("grant all on crossfade.fresh to service_role")
    plain_stack.restart_api()
    service.schema("crossfade").table("fresh").insert({"id": 1}).execute()
    assert run(service.schema("crossfade").table("fresh").select("*")) == [{"id": 1}]


def test_requests_survive_changes_of_the_schema(info: StackInfo, service: Client) -> None:
    query = service.table("items").select("*").limit(1)
    run(query)
    with psycopg.connect(info.db_url, autocommit=True) as connection:
        for number in range(5):
            # The prepared statement's rows change their shape before any cache can know.
            connection.execute(f"alter table public.items add column extra_{number} int".encode())
            run(query)
            connection.execute(f"alter table public.items drop column extra_{number}".encode())
            run(query)


def test_more_requests_than_sessions_wait_their_turn(info: StackInfo, http: httpx.Client) -> None:
    def ask(_: int) -> int:
        headers = {"apikey": info.secret_key, "content-profile": "crossfade"}
        return http.post(f"{info.api_url}/rest/v1/rpc/facts", headers=headers).status_code

    with ThreadPoolExecutor(30) as pool:
        assert list(pool.map(ask, range(90))) == [200] * 90


def test_an_unexposed_schema_is_refused(service: Client) -> None:
    with pytest.raises(PostgrestAPIError) as refused:
        service.schema("auth").table("users").select("*").execute()
    assert refused.value.code == "PGRST106"


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


def test_functions_get_the_hosted_environment_and_few_rights(info: StackInfo) -> None:
    answer = httpx.post(f"{info.functions_url}/echo/v1/x?y=1", content=b"body")
    told = answer.json()
    env = told.pop("env")
    assert told == {
        "method": "POST",
        "path": "/echo/v1/x?y=1",
        "body": "body",
        "permissions": {"run": "prompt", "write": "prompt", "outside": "prompt"},
    }
    assert answer.headers["x-function"] == "echo"
    assert env["SUPABASE_URL"] == info.api_url
    assert info.secret_key in env["SUPABASE_SECRET_KEYS"]
    assert info.publishable_key in env["SUPABASE_PUBLISHABLE_KEYS"]
    assert env["SUPABASE_DB_URL"] == info.db_url
    assert "CROSSFADE_DATA_DIR" not in env


def test_requests_take_turns_over_isolates_and_skip_dead_ones(plain_stack: LocalStack) -> None:
    url = f"{plain_stack.info.functions_url}/echo"

    def addresses() -> set[str]:
        return {httpx.post(url).json()["env"]["DENO_SERVE_ADDRESS"] for _ in range(4)}

    assert len(addresses()) == 2
    plain_stack.kill("isolate:0")
    assert len(addresses()) == 1
    plain_stack.start_missing()
    assert len(addresses()) == 2


def test_a_crash_at_work_is_told_and_the_work_is_not_done_twice(plain_stack: LocalStack) -> None:
    url = f"{plain_stack.info.functions_url}/echo"
    answer = httpx.post(f"{url}/crash")
    assert (answer.status_code, answer.json()["code"]) == (500, "WORKER_ERROR")
    assert list(plain_stack.parts().values()).count(False) <= 1
    assert httpx.post(url).status_code == 200
    plain_stack.start_missing()


def test_preflight_and_streams_reach_the_function(info: StackInfo) -> None:
    preflight = httpx.options(f"{info.functions_url}/echo")
    assert preflight.headers["access-control-allow-origin"] == "https://a.test"
    with httpx.stream("GET", f"{info.functions_url}/echo/stream") as answer:
        assert answer.read() == b"one,two,three"


def test_an_unknown_function_is_404(info: StackInfo) -> None:
    assert httpx.post(f"{info.functions_url}/nobody").status_code == 404


def test_a_spawned_isolate_has_its_own_environment(plain_stack: LocalStack) -> None:
    url = plain_stack.spawn_isolate("echo", {"MODEL_NAME": "own"})
    assert httpx.post(f"{url}/echo").json()["env"]["MODEL_NAME"] == "own"
