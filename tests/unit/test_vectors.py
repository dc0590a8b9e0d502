"""The vectors: Python gives what the specification says. Unknown vector files fail."""

import json
from collections.abc import Mapping
from typing import Any

import mmh3
import pytest
from tests.unit.builders import VECTORS

from crossfade.core.contract import Stage
from crossfade.flags.bucketing import bucket
from crossfade.flags.evaluation import choose_backend, evaluate
from crossfade.flags.model import (
    BackendChoice,
    Cohort,
    Context,
    Evaluation,
    Flag,
    FlagState,
    KillSwitch,
    PairRouting,
    RuleStep,
)
from crossfade.gateway.rows import parse

OURS = {"bucket", "flag_evaluation", "flag_explanation", "backend_choice", "contract"}
NOT_OURS = {
    "flag_changes": "what may be set: the database alone decides",
    "openfeature": "test_openfeature",
    "health_rules": "test_health_vectors",
    "negotiation": "HTTP of the edge function",
    "messages_": "conversion of the worked pair: SQL and TypeScript",
    "tool": "tools of the edge function",
}
Case = Mapping[str, Any]


def test_every_vector_file_is_run_or_named_as_not_ours() -> None:
    unknown = [
        path.stem
        for path in VECTORS.glob("*.json")
        if path.stem not in OURS and not path.stem.startswith(tuple(NOT_OURS))
    ]
    assert unknown == []


def test_every_vector_file_that_is_ours_exists() -> None:
    assert {path.stem for path in VECTORS.glob("*.json")} >= OURS


def load(name: str) -> Any:
    return json.loads((VECTORS / f"{name}.json").read_text("utf-8"))


def cases(name: str) -> list[Any]:
    found = [case for case in load(name)["cases"] if "python" in case.get("applies_to", ["python"])]
    return [pytest.param(case, id=case["name"]) for case in found]


@pytest.mark.parametrize("case", cases("bucket"))
def test_bucket(case: Case) -> None:
    given, expected = case["input"], case["expect"]
    assert bucket(given["cohort_key"], given["unit"]) == expected["bucket"]
    if "hash" in expected:
        text = f"{given['cohort_key']}:{given['unit']}"
        assert mmh3.hash(text.encode("utf-8", "surrogatepass"), signed=False) == expected["hash"]
        assert expected["hash"] % 100 + 1 == expected["unleash"]


@pytest.mark.parametrize("case", cases("flag_evaluation"))
def test_flag_evaluation(case: Case) -> None:
    defaults, given = load("flag_evaluation")["defaults"], case["input"]
    state = state_of(given, defaults)
    stale = given.get("stale", False)
    answer = evaluate(state, given["flag"], context_of(given), stale=stale)
    assert evaluation_json(answer) == case["expect"]


@pytest.mark.parametrize("case", cases("flag_explanation"))
def test_flag_explanation(case: Case) -> None:
    defaults, given = load("flag_explanation")["defaults"], case["input"]
    answer = evaluate(state_of(given, defaults), given["flag"], context_of(given))
    assert [step_json(step) for step in answer.steps] == case["expect"]["steps"]


def step_json(step: RuleStep) -> dict[str, Any]:
    """The step as SQL and the edge give it."""
    names = ("rule", "matched", "value", "decides", "bucket", "threshold", "kill_switch")
    return without_nulls({name: getattr(step, name) for name in (*names, "prerequisite")})


@pytest.mark.parametrize("case", cases("backend_choice"))
def test_backend_choice(case: Case) -> None:
    defaults, given = load("backend_choice")["defaults"], case["input"]
    row = {**defaults["pair"], **given.get("pair", {})}
    cohort = {**defaults["pair"]["cohort"], **(given.get("pair", {}).get("cohort") or {})}
    routing = PairRouting(
        row["name"], Stage(row["stage"]), parse(Cohort, cohort), row.get("gate_flag")
    )
    answer = choose_backend(state_of(given, defaults), routing, context_of(given))
    assert choice_json(answer) == without_nulls(case["expect"])


def state_of(given: Case, defaults: Case) -> FlagState:
    flags = [
        parse(Flag, {"cohort_key": row["name"], **defaults["flag"], **row})
        for row in given.get("flags", [])
    ]
    switches = [
        parse(KillSwitch, {**defaults["kill_switch"], **row})
        for row in given.get("kill_switches", [])
    ]
    return FlagState(7, {flag.name: flag for flag in flags}, tuple(switches))


def context_of(given: Case) -> Context:
    known = ("user_id", "agent_id", "conversation_id")
    return Context(**{name: given["context"].get(name) for name in known})


def evaluation_json(answer: Evaluation) -> dict[str, Any]:
    """The answer as SQL and the edge give it, without flags_version."""
    names = ("rule", "bucket", "threshold", "kill_switch", "prerequisite")
    return without_nulls(
        {
            "flag": answer.flag,
            "value": answer.value,
            "variant": answer.variant,
            "reason": answer.reason.value,
            "error_code": answer.error_code,
            "metadata": without_nulls({name: getattr(answer, name) for name in names}),
        }
    )


def choice_json(answer: BackendChoice) -> dict[str, Any]:
    names = ("backend", "reason", "rule", "bucket", "threshold")
    return without_nulls({name: getattr(answer, name) for name in names})


def without_nulls(value: Mapping[str, Any]) -> dict[str, Any]:
    return {name: item for name, item in value.items() if item is not None}
