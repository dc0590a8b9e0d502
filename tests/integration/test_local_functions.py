"""Edge functions behind the embedded stack's gateway."""

import httpx
import pytest

from crossfade.local import LocalStack, StackInfo


@pytest.fixture(scope="module")
def info(plain_stack: LocalStack) -> StackInfo:
    return plain_stack.info


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
    # A kill is to be seen at once, and the demo is not the only one that wants that.
    assert env["CROSSFADE_BROADCAST"] == "on"


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
