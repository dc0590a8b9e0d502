"""Flags as other programs see them: OFREP's official clients, OpenFeature in Python, exposures."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openfeature import api
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode
from pydantic import SecretStr

from crossfade.flags.bundle import bundle
from crossfade.flags.openfeature import CrossfadeProvider
from crossfade.gateway import SupabaseGateway
from crossfade.local.deno_runtime import deno_bin
from crossfade.project.config import Connection

from .chat_project import Project, User, eventually

ROOT = Path(__file__).resolve().parents[2]
STOP = "disable_memory_system"
FLAGS: dict[str, dict[str, Any]] = {
    "ofrep_on": {"default_value": True},
    "ofrep_split": {"percentage": 50, "cohort_key": "chat-v2"},
    "ofrep_targeted": {"allow_user_ids": ["user-1"]},
    "ofrep_killable": {"default_value": True, "killed_by": [STOP]},
}
USER_2 = {"targetingKey": "user-2"}


@pytest.fixture(scope="module")
def endpoint(project: Project) -> Iterator[str]:
    """Give the base URL of a running function, with flags of these tests."""
    for name, changes in FLAGS.items():
        given = {"create": True, "enabled": True, **changes}
        project.rpc("set_flag", name=name, changes=given, reason="test")
    yield project.stack.spawn_isolate("ofrep")
    project.sql("delete from crossfade.flags where name like 'ofrep_%%'")


@pytest.fixture
def killed(project: Project) -> Iterator[None]:
    project.rpc("engage_kill_switch", name=STOP)
    yield
    project.rpc("release_kill_switch", name=STOP, reason="test over")


def post(endpoint: str, path: str, key: str, context: Any, **headers: str) -> httpx.Response:
    return httpx.post(
        f"{endpoint}/ofrep/v1/evaluate/flags{path}",
        json={"context": context},
        headers={"Authorization": f"Bearer {key}", **headers},
    )


def ask_javascript(endpoint: str, key: str, *asked: tuple[str, dict[str, Any]]) -> Any:
    """Ask through the official JavaScript client; both defaults for each flag."""
    result = subprocess.run(
        [
            str(deno_bin()),
            "run",
            "--quiet",
            "--no-check",
            "--frozen",
            f"--config={ROOT / 'tests' / 'peers' / 'deno.json'}",
            "--allow-net=127.0.0.1",
            "--allow-env",
            "--allow-read",
            str(ROOT / "tests" / "peers" / "ofrep_client.ts"),
            endpoint,
            key,
            json.dumps(asked),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NO_COLOR": "1", "DENO_NO_UPDATE_CHECK": "1"},
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


EXPECTED = [
    ("ofrep_on", {}, True, "on", "STATIC"),
    ("ofrep_split", USER_2, True, "on", "SPLIT"),
    ("ofrep_split", {"targetingKey": "user-1"}, False, "off", "SPLIT"),
    ("ofrep_targeted", {"targetingKey": "user-1"}, True, "on", "TARGETING_MATCH"),
    ("ofrep_targeted", {"targetingKey": "x", "user_id": "user-1"}, True, "on", "TARGETING_MATCH"),
    ("ofrep_killable", {}, False, "off", "DISABLED"),
]


def test_the_official_clients_understand_every_answer(
    project: Project, endpoint: str, killed: None
) -> None:
    key = project.info.secret_key

    def is_killed() -> bool:
        answer = post(endpoint, "/ofrep_killable", key, {})
        return bool(answer.json()["reason"] == "DISABLED")

    eventually(is_killed, "the kill reaches the endpoint")

    api.set_provider_and_wait(
        OFREPProvider(endpoint, headers_factory=lambda: {"Authorization": f"Bearer {key}"}), "py"
    )
    client = api.get_client("py")
    for name, context, value, variant, reason in EXPECTED:
        attributes = {n: v for n, v in context.items() if n != "targetingKey"}
        evaluation = EvaluationContext(context.get("targetingKey"), attributes)
        details = client.get_boolean_details(name, not value, evaluation)
        assert (details.value, details.variant, details.reason) == (value, variant, reason), name
        assert details.error_code is None
    missing = client.get_boolean_details("ofrep_missing", True)
    assert (missing.value, missing.error_code) == (True, ErrorCode.FLAG_NOT_FOUND)
    wrong = client.get_string_details("ofrep_on", "text")
    assert (wrong.value, wrong.error_code) == ("text", ErrorCode.TYPE_MISMATCH)
    api.clear_providers()

    asked = [*((name, context) for name, context, *_ in EXPECTED), ("ofrep_missing", {})]
    found = ask_javascript(endpoint, key, *asked)
    *answers, lost = found["answers"]
    for (name, _, value, variant, reason), answer in zip(EXPECTED, answers, strict=True):
        for details in answer.values():
            given = (details["value"], details["variant"], details["reason"])
            assert given == (value, variant, reason), name
            assert "errorCode" not in details
            assert details["flagMetadata"]["flags_version"] > 0
    assert (lost["off"]["errorCode"], lost["on"]["value"]) == ("FLAG_NOT_FOUND", True)
    assert (found["text"]["errorCode"], found["text"]["value"]) == ("TYPE_MISMATCH", "text")


def test_all_flags_at_once_with_etag(project: Project, endpoint: str) -> None:
    key = project.info.secret_key
    # Another test's change may still be on its way; then the second answer is a new one.
    while True:
        first = post(endpoint, "", key, USER_2)
        again = post(endpoint, "", key, USER_2, **{"If-None-Match": first.headers["etag"]})
        if again.status_code == 304:
            break
    assert again.content == b""
    answers = {flag["key"]: flag for flag in first.json()["flags"]}
    assert {*FLAGS, "use_advanced_messages"} <= set(answers)
    assert answers["ofrep_split"]["value"] is True
    project.rpc("set_flag", name="ofrep_split", changes={"percentage": 0}, reason="test")

    def changed() -> bool:
        answer = post(endpoint, "", key, USER_2, **{"If-None-Match": first.headers["etag"]})
        return answer.status_code == 200

    eventually(changed, "the ETag changes with the flags")
    project.rpc("set_flag", name="ofrep_split", changes={"percentage": 50}, reason="test")


def test_who_may_ask_for_whom(project: Project, endpoint: str, alice: User, bob: User) -> None:
    token = alice.http.headers["authorization"].removeprefix("Bearer ")
    assert post(endpoint, "/ofrep_on", token, {}).status_code == 200
    assert post(endpoint, "/ofrep_on", token, {"user_id": alice.id}).status_code == 200
    assert post(endpoint, "/ofrep_on", token, {"user_id": bob.id}).status_code == 403
    forged = token[: token.rindex(".") + 1] + "A" * 43
    for key in (forged, project.info.publishable_key, "x.y.z"):
        answer = post(endpoint, "/ofrep_on", key, {})
        assert answer.status_code == 401, key
        assert answer.json()["errorDetails"]


def test_exposures_are_stored(project: Project, endpoint: str) -> None:
    key = project.info.secret_key
    for _ in range(3):
        post(endpoint, "/ofrep_targeted", key, {"user_id": "user-1"})

    def stored() -> bool:
        rows = project.sql(
            "select sum(exposures)::int as n from crossfade.flag_exposures"
            " where flag = 'ofrep_targeted' and variant = 'on' and reason = 'TARGETING_MATCH'"
        )
        return (rows[0]["n"] or 0) >= 3

    eventually(stored, "the endpoint reports what it answered")


def test_the_chat_function_reports_exposures(project: Project, alice: User) -> None:
    project.at("live")
    alice.new_chat()

    def stored() -> bool:
        query = "select 1 from crossfade.flag_exposures where flag = 'use_advanced_messages'"
        return project.sql(query) != []

    eventually(stored, "the flag that gates the pair is counted")


def test_python_evaluates_as_the_database_does(
    project: Project, endpoint: str, killed: None
) -> None:
    connection = Connection(project.info.api_url, SecretStr(project.info.secret_key), "test")
    with SupabaseGateway(connection) as gateway:
        provider = CrossfadeProvider(gateway, soft_age_s=3600)
        api.set_provider_and_wait(provider, "own")
        client = api.get_client("own")
        for name in (*FLAGS, "use_advanced_messages"):
            for user in ("user-1", "user-2", "Świętopełk", ""):
                theirs = project.rpc("explain_flag", name=name, context={"user_id": user})
                ours = client.get_boolean_details(name, False, EvaluationContext(user))
                # OpenFeature's word where nothing targets a flag; the engine has none for that.
                word = "STATIC" if name == "ofrep_on" else theirs["reason"]
                assert (ours.value, ours.reason) == (theirs["value"], word), name
                ours_metadata = {**ours.flag_metadata, "flags_version": 0}
                assert ours_metadata == {**theirs["metadata"], "flags_version": 0}
        counted = "select coalesce(sum(exposures), 0)::int as n from crossfade.flag_exposures"
        before = project.sql(counted)[0]["n"]
        assert provider.report()
        # Other processes report too.
        assert project.sql(counted)[0]["n"] >= before + 4 * (len(FLAGS) + 1)
        api.clear_providers()


def test_a_bundle_says_what_the_database_says(project: Project, endpoint: str) -> None:
    connection = Connection(project.info.api_url, SecretStr(project.info.secret_key), "test")
    with SupabaseGateway(connection) as gateway:
        bundled = bundle(gateway.read_flags())
    answer = project.rpc("read_flags", known_version=None)
    assert bundled["flags_version"] == answer["flags_version"]
    assert bundled["settings"] == answer["settings"]
    for kind in ("flags", "kill_switches", "pairs"):
        rows = {row["name"]: row for row in answer[kind]}
        ours: Any = bundled[kind]
        assert [row["name"] for row in ours] == sorted(rows)
        for row in ours:
            cohort, own = rows[row["name"]].get("cohort", {}), row.pop("cohort", {})
            assert own == {name: cohort[name] for name in own}
            assert row == {name: rows[row["name"]][name] for name in row}
