"""What the chat function offers operators: a health report and the ways back.

Who is an operator the database says: the function passes the caller's own key and token on.
"""

import time
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from .chat_project import PAIR, Project, User, eventually


def operator(project: Project, method: str, path: str, body: Any = None) -> httpx.Response:
    """Ask with the project's secret key."""
    url = f"{project.info.api_url}/functions/v1/chat{path}"
    headers = {"apikey": project.info.secret_key}
    return project.http.request(method, url, json=body, headers=headers)


def test_an_operator_reads_how_the_pair_fares(project: Project, alice: User) -> None:
    project.at("shadow")
    project.at("live")  # a new step, of which nothing is known yet
    project.set_cohort(percentage=100)
    alice.catch_up(project)
    report = operator(project, "GET", "/health").json()
    assert (report["pair"], report["stage"], report["percentage"]) == (PAIR, "live", 100)
    assert report["suggestion"] is None
    assert report["sample"]["stage"] == "live"
    settings = {
        row["name"]: row["value"]
        for row in project.sql("select name, value from crossfade.settings")
    }
    # The numbers are the database's: one place says from when on a level is meant.
    assert report["thresholds"]["complete_error_rate"] == settings["r1_error_rate"]
    assert report["thresholds"]["emergency_streak"] == settings["r1k_streak"]
    project.set_setting("r1k_streak", 9)
    try:
        alice.catch_up(project)
        assert operator(project, "GET", "/health").json()["thresholds"]["emergency_streak"] == 9
    finally:
        project.set_setting("r1k_streak", settings["r1k_streak"])
    actions = {action for level in report["procedures"] for action in level["actions"]}
    assert len(actions) == 7


@pytest.mark.parametrize(("method", "path"), [("GET", "/health"), ("POST", "/rollback")])
def test_nobody_else_is_let_in(project: Project, alice: User, method: str, path: str) -> None:
    project.at("live")
    body = {"level": "EMERGENCY", "reason": "mischief", "dry_run": False}
    given = body if method == "POST" else None
    assert alice.ask(method, path, given).status_code == 403
    forged = alice.ask(method, path, given, authorization="Bearer e30.e30.")
    assert forged.status_code in (401, 403)
    url = f"{project.info.api_url}/functions/v1/chat{path}"
    anonymous = {"apikey": project.info.publishable_key}
    for headers in ({}, anonymous, {"apikey": "sb_secret_guessed"}):
        answer = project.http.request(method, url, json=given, headers=headers)
        assert answer.status_code in (401, 403), answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] in ("UNAUTHORIZED", "FORBIDDEN")
    assert project.sql("select stage from crossfade.pairs where name = %s", PAIR) == [
        {"stage": "live"}
    ]
    engaged = "select 1 from crossfade.kill_switches where engaged"
    assert project.sql(engaged) == []


def test_an_operator_sees_a_plan_and_carries_it_out(project: Project, alice: User) -> None:
    project.at("live")
    alice.catch_up(project)
    body = {"level": "COMPLETE", "reason": "test"}
    plan = operator(project, "POST", "/rollback", body).json()
    assert (plan["dry_run"], plan["snapshot"]) == (True, None)
    planned = [step["action"] for step in plan["plan"]]
    assert planned == ["set_stage", "set_percentage"]
    assert (
        project.sql("select stage from crossfade.pairs where name = %s", PAIR)[0]["stage"] == "live"
    )
    done = operator(project, "POST", "/rollback", {**body, "dry_run": False}).json()
    assert (done["dry_run"], done["plan"]) == (False, plan["plan"])
    assert done["snapshot"] is not None
    alice.catch_up(project)
    assert alice.say(alice.new_chat()).headers["x-crossfade-backend"] == "1"


def test_a_signed_in_operator_may_what_the_role_allows(
    project: Project, sign_up: Callable[..., User]
) -> None:
    project.at("live")
    person = sign_up()
    body = {"level": "COMPLETE", "reason": "test", "dry_run": True}
    seen = {}
    for role in (None, "viewer", "operator"):
        if role is not None:
            change = "add_operator" if role == "viewer" else "set_operator_role"
            project.rpc(change, who=person.id, role=role, reason="test")
        answers = (person.ask("GET", "/health"), person.ask("POST", "/rollback", body))
        seen[role] = [answer.status_code for answer in answers]
    project.rpc("remove_operator", who=person.id, reason="test")
    assert person.ask("GET", "/health").status_code == 403
    assert seen == {None: [403, 403], "viewer": [200, 403], "operator": [200, 200]}


def test_each_level_does_what_its_procedure_says(project: Project, alice: User) -> None:
    project.at("live")
    alice.catch_up(project)
    for procedure in operator(project, "GET", "/health").json()["procedures"]:
        scope = {"flag": "enable_compatibility_mode", "pair": PAIR}[procedure["scope"]]
        body = {"level": procedure["level"], "scope": scope, "reason": "test"}
        plan = operator(project, "POST", "/rollback", body).json()["plan"]
        assert plan != []
        assert {step["action"] for step in plan} <= set(procedure["actions"])


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"level": "TOTAL", "reason": "x"}, 422),
        ({"level": "COMPLETE"}, 422),
        ({"level": "COMPLETE", "reason": "", "dry_run": False}, 422),
        ({"level": "COMPLETE", "reason": "x", "scope": 1}, 422),
        ({"level": "COMPLETE", "reason": "x", "scope": "nothing"}, 404),
        ({"level": "FEATURE", "reason": "x", "scope": "nothing"}, 404),
        ({"level": "COMPLETE", "reason": "x", "dry_run": "no"}, 422),
    ],
)
def test_a_wrong_rollback_is_refused(project: Project, body: Any, status: int) -> None:
    answer = operator(project, "POST", "/rollback", body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_operators_requests_are_no_traffic_of_the_migration(
    project: Project, sign_up: Callable[..., User]
) -> None:
    """A process of its own counts one request of a user, and none of ten of an operator."""
    project.at("live")
    url = project.stack.spawn_isolate("chat", env={"CROSSFADE_BROADCAST": "off"})
    user = sign_up(url=f"{url.rstrip('/')}/chat")
    user.catch_up(project)
    quiet = counted(project)
    for _ in range(5):
        for method, path, body in (("GET", "/health", None), ("POST", "/rollback", {})):
            headers = {"apikey": project.info.secret_key}
            project.http.request(method, user.url + path, json=body, headers=headers)
    assert user.ask("GET", f"/messages?chat_id={uuid.uuid4()}").status_code == 200
    eventually(lambda: total(project) > quiet, "the user's request is counted")
    assert counted(project) == quiet + 1


def total(project: Project) -> int:
    query = "select coalesce(sum(requests), 0)::int as n from crossfade.request_minutes"
    return int(project.sql(query)[0]["n"])


def counted(project: Project) -> int:
    """Return how many requests are counted once no more arrive from what was before."""
    seen = [-1, total(project)]

    def settled() -> bool:
        time.sleep(0.5)  # longer than a batch of counts is held back
        seen.append(total(project))
        return seen[-1] == seen[-2]

    eventually(settled, "all is counted")
    return seen[-1]
